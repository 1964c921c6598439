"""What a sweep over cells CNN x data set asks for: which are learned from, which are new, and how."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from gan_lib.core.options import options

TRAVELLED = ["dice", "drop_black", "drop_black@10", "drop_blur", "increase_black", "won", "lost", "won@10"]
TRAVELLED += ["area"]
FIXED = ("data.name", "cnn.architecture", "cnn.seed")  # of a cell: no recipe may change them
KNOWN = {
    (False, True): "unseen CNN",
    (True, False): "unseen data",
    (False, False): "unseen CNN and data",
}


@options
class UnseenOptions:
    """``options`` of the sweep's file.

    Attributes:
        seen_architectures, seen_data_sets: of the cells that generators are trained on.
        unseen_architectures, unseen_data_sets: further ones; a data set that is not at hand is left out.
        images, test_images: of each cell.
        adapter_steps, adapter_learning_rate: of a contrastive generator on CNNs that it has not seen.
        adapted_data_sets: on which that is tried.
        recipes: changes of the recipe for a CNN, for a data set, or for a cell, ``CNN x data set``, in this
            order; a cell whose files are not at hand is left out.
        published: what the authors report, by measure; published_as: where.
    """

    seen_architectures: list[str]
    unseen_architectures: list[str]
    seen_data_sets: list[str]
    unseen_data_sets: list[str]
    images: int = 500
    test_images: int = 200
    adapter_steps: list[int] | tuple[int, ...] = (1, 10, 100)
    adapter_learning_rate: float = 0.01
    adapted_data_sets: list[str] | tuple[str, ...] = ()
    recipes: dict[str, dict[str, Any]] = field(default_factory=dict)
    published: dict[str, float] = field(default_factory=dict)
    published_as: str = "published"

    def __post_init__(self) -> None:
        cnns = [*self.seen_architectures, *self.unseen_architectures]
        data = [*self.seen_data_sets, *self.unseen_data_sets]
        known = [*cnns, *data, *(f"{cnn} x {own}" for cnn in cnns for own in data)]
        if unknown := [name for name in self.recipes if name not in known]:
            raise ValueError(f"recipes: {unknown[0]!r} is no CNN, data set or cell of this sweep")
        if fixed := [own for own in FIXED if any(own in changes for changes in self.recipes.values())]:
            raise ValueError(f"recipes: {fixed[0]} is what the cells differ in")
        if unknown := [name for name in self.published if name not in TRAVELLED]:
            raise ValueError(f"published: {unknown[0]!r} is none of {', '.join(TRAVELLED)}")

    def changes(self, cnn: str, data: str) -> dict[str, Any]:
        """Of the recipe, for a cell."""
        made: dict[str, Any] = {"data.name": data, "cnn.architecture": cnn}
        for part in (cnn, data, f"{cnn} x {data}"):
            made |= self.recipes.get(part, {})
        return made


def seen_before(cell: str, asked: UnseenOptions) -> str:
    """What a generator knows of a cell, ``CNN x data set``, that it is tested on: ``seen``, or a value of
    :data:`KNOWN`; generators are trained on all pairs of the options' seen CNNs and data sets."""
    architecture, _, data = cell.partition(" x ")
    cnn, images = architecture in asked.seen_architectures, data in asked.seen_data_sets
    return "seen" if cnn and images else KNOWN[cnn, images]
