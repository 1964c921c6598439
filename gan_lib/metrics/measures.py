"""The measures that explanations are judged by, one score per image: a registry.

A measure of one's own is a function from what it wants to see, named as in :data:`GIVEN`, to scores (B,),
NaN where they are not defined:

    def brightest(maps: Tensor, evidence: Tensor) -> Tensor:
        return maps.where(evidence, 0).amax((1, 2, 3))

    MEASURES.register("brightest", Measure(brightest, "brightest\nof the evidence"))

Published ones say in their own docstrings where they are from; insertion and deletion, here by their areas
alone, are RISE's (Petsiuk et al., BMVC 2018), the pointing game is that of Zhang et al. (ECCV 2016).

From then on it is a column of :func:`gan_lib.metrics.judge`'s table wherever there is what it wants, and of
the tables made from it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gan_lib.core.registry import Registry
from gan_lib.metrics import counterfactuals, faithfulness, localisation, quality
from gan_lib.metrics.curves import area_under
from gan_lib.metrics.road import road_score

TOLERANCE = 0.03  # of the image's side: the pointing game's 15 pixels on images of about 500
GIVEN = {
    "images": "(B, 3, H, W) in [0, 1]",
    "maps": "(B, 1, H, W) in [0, 1]",
    "target": "(B,) the explained classes",
    "before": "(B,) their probability",
    "evidence": "(B, 1, H, W) bool, where there is some",
    "reference": "(B, 1, H, W) maps to compare with, where there are some",
    "shown": "(B, 3, H, W) what maps show of the images, on every fill and at every area: a column each",
    "after": "(B,) probability of the classes on it",
    "curves": "gan_lib.metrics.curves.Curves, of insertion and deletion",
    "road": "two (B, S), as gan_lib.metrics.road_curves gives them",
    "counterfactuals": "(B, 3, H, W) the images without what the class hangs on, where there are some",
    "differing": "(B, 1, H, W) bool, where the images differ from these",
    "rerendered_curves": "as curves, with the counterfactuals' pixels in place of hidden ones",
    "explain": "from images and classes to maps; costly, so batches are small",
    "maps_of_shown": "(B, 1, H, W) maps of what the maps show; with them, as with explain, that is on black",
}
SEEN, AGAIN = {"shown", "after"}, {"explain", "maps_of_shown"}
RANKED = {"curves", "road", "rerendered_curves"}


@dataclass(frozen=True)
class Measure:
    """A measure of explanations.

    Attributes:
        score: from things of :data:`GIVEN` to scores (B,); arguments with a default are its own.
        label: what a table's column is headed.
        higher_is_better: the direction in which tables rank it.
        main: whether a paper's main table has it.

    Raises:
        ValueError: ``score`` asks for anything else.
    """

    score: Callable[..., Tensor]
    label: str
    higher_is_better: bool = True
    main: bool = True

    def __post_init__(self) -> None:
        if unknown := self.needs - GIVEN.keys():
            raise ValueError(f"{self.label!r} asks for {sorted(unknown)}; there are {list(GIVEN)}")

    @cached_property
    def needs(self) -> frozenset[str]:
        """Names of the arguments of ``score`` that have no default."""
        arguments = inspect.signature(self.score).parameters.values()
        return frozenset(own.name for own in arguments if own.default is own.empty)

    @property
    def stage(self) -> int:
        """When it is asked: 0 at once, 1 for every fill and area, 2 with curves, 3 when explained again."""
        stages = enumerate((SEEN, RANKED, AGAIN), 1)
        return max((number for number, names in stages if names & self.needs), default=0)


def pointing(maps: Tensor, evidence: Tensor) -> Tensor:
    """The pointing game (B,) with the published tolerance, a share of the image's side."""
    return localisation.pointing_game(maps, evidence, round(TOLERANCE * max(maps.shape[-2:])))


def _defined_mass(maps: Tensor, evidence: Tensor) -> Tensor:
    """The mass inside (B,); NaN where there is no evidence, and not 0: no map could have any there."""
    scores = localisation.mass_inside(maps, evidence)
    return torch.where(evidence.flatten(1).any(1), scores, torch.nan)


MEASURES: Registry[Measure] = Registry("measure")
for _name, _measure in {
    "area": Measure(lambda maps: maps.mean((1, 2, 3)), "area", higher_is_better=False, main=False),
    "entropy": Measure(quality.entropy, "entropy", higher_is_better=False),
    "dice": Measure(localisation.dice, "Dice with\nthe reference", main=False),
    "evidence_dice": Measure(localisation.dice_at_area, "Dice"),
    "evidence_iou": Measure(localisation.iou_at_area, "IoU", main=False),
    "mass": Measure(localisation.mass_inside, "mass"),
    "pointing": Measure(pointing, "pointing"),
    "pointing_exact": Measure(localisation.pointing_game, "pointing\nexactly", main=False),
    "distinct_values": Measure(localisation.distinct_values, "distinct\nvalues", main=False),
    "drop": Measure(faithfulness.average_drop, "drop", higher_is_better=False),
    "increase": Measure(faithfulness.increase_in_confidence, "increase"),
    "insertion": Measure(lambda curves: area_under(curves.insertion, curves.shares), "insertion"),
    "deletion": Measure(
        lambda curves: area_under(curves.deletion, curves.shares), "deletion", higher_is_better=False
    ),
    "insertion - deletion": Measure(
        lambda curves: area_under(curves.insertion - curves.deletion, curves.shares), "insertion\n- deletion"
    ),
    "road": Measure(road_score, "ROAD"),
    "differing_pointing": Measure(
        lambda maps, differing: pointing(maps, differing), "pointing\nat what differs"
    ),
    "differing_mass": Measure(
        lambda maps, differing: _defined_mass(maps, differing), "mass on\nwhat differs"
    ),
    "differing_precision": Measure(
        lambda maps, differing: counterfactuals.average_precision(maps, differing),
        "average precision\nof what differs",
    ),
    "insertion_rerendered": Measure(
        lambda rerendered_curves: area_under(rerendered_curves.insertion, rerendered_curves.shares),
        "insertion\nrerendered",
        main=False,
    ),
    "deletion_rerendered": Measure(
        lambda rerendered_curves: area_under(rerendered_curves.deletion, rerendered_curves.shares),
        "deletion\nrerendered",
        higher_is_better=False,
        main=False,
    ),
    "insertion - deletion_rerendered": Measure(
        lambda rerendered_curves: area_under(
            rerendered_curves.insertion - rerendered_curves.deletion, rerendered_curves.shares
        ),
        "insertion - deletion\nrerendered",
    ),
    "adcc": Measure(quality.adcc, "ADCC"),
    "sensitivity": Measure(quality.max_sensitivity, "sensitivity", higher_is_better=False),
}.items():
    MEASURES.register(_name, _measure)


def column(name: str) -> tuple[Measure, str]:
    """The measure that a column of scores is of, and its heading: ``drop_black@10`` has ``drop black @10``.

    Raises:
        KeyError: a column of no registered measure.
    """
    if name in list(MEASURES):
        return MEASURES[name], MEASURES[name].label
    found = [own for own, measure in MEASURES.items() if measure.stage == 1 and name.startswith(f"{own}_")]
    if found:
        own = max(found, key=len)  # drop_squared_black is of drop_squared, not of drop
        return MEASURES[own], f"{MEASURES[own].label}\n{name.removeprefix(f'{own}_').replace('@', ' @')}"
    raise KeyError(f"{name!r} is a column of none of the measures {', '.join(MEASURES)}")


def headings(columns: Iterable[str], variants: Collection[str] = ()) -> dict[str, tuple[str, bool]]:
    """Heading of columns of scores, and whether higher is better: for :func:`gan_lib.figures.ranked_table`.

        headings(results["measure"].unique(), ["drop_black", "drop_black@10", "increase_blur"])

    Args:
        columns: of registered measures; those that are not for the main table are left out.
        variants: of measures with a column for each fill and area, those to be shown; by default all.
    """
    return {
        name: (label, measure.higher_is_better)
        for name in columns
        for measure, label in [column(name)]
        if measure.main and (measure.stage != 1 or not variants or name in variants)
    }
