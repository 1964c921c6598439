"""What an explainer finds: one frozen object that shows and saves itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torchvision.utils import save_image

from gan_lib.core.sheets import neutral_table
from gan_lib.core.storage import atomic_path, save_tensors
from gan_lib.figures import map_grid, overlay
from gan_lib.metrics import judge

PICTURES = ("image", "overlay", "map")


@dataclass(frozen=True, eq=False)
class Explanation:
    """Images, maps, and the classes that the maps explain.

        found = explainer.explain(images)                 # of the predicted classes
        found.show()                                      # a figure: images and overlays
        found[:4].table()                                 # class, probability and area of the first four
        found.save("out")                                 # PNG, safetensors and CSV

    Attributes:
        images: (N, 3, H, W) in [0, 1].
        maps: (N, 1, H, W) in [0, 1].
        targets: (N,) int64, the class that each map explains.
        probabilities: (N,), what the CNN gives that class.
        class_names: one per class.
        method: what made the maps.
        explainer: the same as an object, where it is at hand: :meth:`scores` asks its CNN.

    Raises:
        ValueError: not as many images, maps, targets and probabilities.
    """

    images: Tensor
    maps: Tensor
    targets: Tensor
    probabilities: Tensor
    class_names: tuple[str, ...]
    method: str
    explainer: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        counts = [len(self.images), len(self.maps), len(self.targets), len(self.probabilities)]
        if len(set(counts)) > 1:
            raise ValueError(f"images, maps, targets and probabilities must be equally many, not {counts}")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: int | slice | Sequence[int] | Tensor) -> Explanation:
        """Some of the images, by number, slice, numbers or mask; also of one image an explanation."""
        chosen = torch.arange(len(self))[rows.cpu() if isinstance(rows, Tensor) else rows].reshape(-1)
        tensors = {name: own for name, own in vars(self).items() if isinstance(own, Tensor)}
        taken: dict[str, Any] = {name: own[chosen.to(own.device)] for name, own in tensors.items()}
        return replace(self, **taken)

    @property
    def titles(self) -> list[str]:
        """Names of the explained classes."""
        return [self.class_names[target] for target in self.targets.tolist()]

    def table(self) -> pd.DataFrame:
        """One row per image: ``method``, ``class`` (its number), ``target`` (its name), ``probability`` and
        ``area``, the map's mean."""
        made = pd.DataFrame({"class": self.targets.tolist(), "target": self.titles})
        made.insert(0, "method", self.method)
        measured = {"probability": self.probabilities, "area": self.maps.mean((1, 2, 3))}
        return made.assign(**{name: own.tolist() for name, own in measured.items()})

    def scores(self, **settings: Any) -> pd.DataFrame:
        """What the maps are worth, image by image: one row each, a column per measure.

        Average drop and increase on black and on blur, the same for the highest 10 % of the pixels
        (``drop_black@10``), areas under the insertion and deletion curves, ROAD, entropy and area
        (:data:`gan_lib.MEASURES`); ``settings`` are those of :func:`gan_lib.judge`. To compare methods, and
        for intervals and controls: :func:`gan_lib.compare`.

        Raises:
            ValueError: no explainer at hand.
        """
        if self.explainer is None:
            raise ValueError("these maps have no explainer at hand, whose CNN could be asked: gan_lib.judge")
        given: Any = {"areas": [0.1], "steps": 10, "road": (0.3, 0.7), **settings}
        maps = {(self.method, 0): self.maps}
        table = judge(self.explainer.cnn, self.images, maps, self.targets, **given).scores
        return table.drop(columns="seed")

    def show(self, columns: Sequence[str] = ("image", "overlay")) -> Figure:
        """One row per image: the class, its probability, and pictures, of which there are :data:`PICTURES`;
        others, and no image, raise ``ValueError``."""
        pictures = {"image": self.images, "overlay": overlay(self.images, self.maps), "map": self.maps}
        if not len(self) or not columns or not set(columns) <= set(PICTURES):
            raise ValueError(f"columns {list(columns)} of {len(self)} images: choose from {PICTURES}")
        told = zip(self.titles, self.probabilities.tolist(), strict=True)
        labels = [f"{title} {100 * probability:.0f} %" for title, probability in told]
        return map_grid({column: pictures[column] for column in columns}, labels)

    def save(self, folder: str | Path, names: Sequence[str] | None = None) -> Path:
        """Write ``NAME_overlay.png`` per image, ``maps.safetensors`` and ``explanations.csv`` to a folder.

        Names are by default ``0000``, ``0001``, ...; a wrong number of them, or one that appears twice,
        raises ``ValueError``.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        stems = [f"{number:04d}" for number in range(len(self))] if names is None else list(names)
        if len(set(stems)) != len(self) or len(stems) != len(self):
            raise ValueError(f"{len(self)} images need as many different names")
        for stem, picture in zip(stems, overlay(self.images, self.maps), strict=True):
            with atomic_path(folder / f"{stem}_overlay.png") as temporary:
                save_image(picture, temporary, format="png")
        save_tensors(folder / "maps.safetensors", {"maps": self.maps})
        table = self.table()
        table.insert(0, "name", stems)
        with atomic_path(folder / "explanations.csv") as temporary:
            neutral_table(table).to_csv(temporary, index=False)
        return folder
