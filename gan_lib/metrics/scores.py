"""All measures of several methods' maps, image by image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from gan_lib.core.masking import blend, filling, pixel_ranks
from gan_lib.core.options import positive
from gan_lib.metrics.base import PerImage
from gan_lib.metrics.curves import Curves, Probe, perturbation_curves
from gan_lib.metrics.faithfulness import class_probability
from gan_lib.metrics.measures import MEASURES
from gan_lib.metrics.road import road_curves

EXPLAINED_AT_ONCE = 32  # images
Key = tuple[str, int]
Explain = Callable[[Tensor, Tensor], Tensor]


class Judgement(NamedTuple):
    """What became of several methods' maps.

    Attributes:
        scores: one row per method, seed and image: ``method``, ``seed``, ``image``, and a column for each
            measure, NaN where it is not defined.
        curves: the mean insertion and deletion curves: ``method``, ``seed``, ``share`` of the pixels,
            ``insertion``, ``deletion``; empty where none were asked for.
    """

    scores: pd.DataFrame
    curves: pd.DataFrame


@dataclass
class _Case:
    """A batch of images with one method's maps; attributes are those that a measure may ask for."""

    probe: Probe
    ask: Callable[[Tensor, Tensor], Tensor]  # the classes' probability on images
    images: Tensor
    target: Tensor
    before: Tensor
    maps: Tensor
    shown: Tensor
    evidence: Tensor | None
    reference: Tensor | None
    explain: Explain | None
    steps: int
    shares: Sequence[float]

    @cached_property
    def after(self) -> Tensor:
        return self.ask(self.shown, self.target)

    @cached_property
    def curves(self) -> Curves:
        return perturbation_curves(self.probe, self.images, self.maps, self.target, self.steps)

    @cached_property
    def road(self) -> tuple[Tensor, Tensor]:
        return road_curves(self.probe, self.images, self.maps, self.target, self.shares)

    @property
    def maps_of_shown(self) -> Tensor | None:
        return self.explain and self.explain(self.shown, self.target)

    def score(self, names: Iterable[str], columns: dict[str, PerImage], variant: str = "") -> None:
        """Score by these measures, in columns of their names with the variant's behind."""
        for name in names:
            column = columns.setdefault(f"{name}{variant}", PerImage(MEASURES[name].score))
            column.update(**{given: getattr(self, given) for given in MEASURES[name].needs})


def judge(
    cnn: nn.Module,
    images: Tensor,
    maps: Mapping[Key, Tensor],
    explained: Tensor,
    *,
    evidence: Tensor | None = None,
    reference: Tensor | None = None,
    explain: Mapping[Key, Explain] | None = None,
    fills: Sequence[str] = ("black", "blur"),
    areas: Sequence[float] = (),
    steps: int = 0,
    road: Sequence[float] = (),
    first: Mapping[str, int] | None = None,
    batch_size: int = 128,
) -> Judgement:
    """Every registered measure (:data:`gan_lib.metrics.MEASURES`) of several methods' maps.

        explain = {key: explainer.attribute for key, explainer in explainers.items()}
        scores, curves = judge(cnn, images, maps, classes, evidence=masks, explain=explain, steps=20)
        results = summarise(scores)

    Args:
        cnn: the CNN that the maps explain.
        images: (N, 3, H, W) in [0, 1].
        maps: by method and training seed, (N, 1, H, W) in [0, 1].
        explained: (N,) the class that the maps explain.
        evidence: (N, 1, H, W) bool, where the evidence is known to be: for ``evidence_dice`` (the relevance
            rank accuracy), ``mass`` (the relevance mass accuracy), ``pointing`` (the highest pixel may miss
            by 3 % of the side, as published), ``pointing_exact`` and others.
        reference: (N, 1, H, W) in [0, 1], maps that the column ``dice`` compares with.
        explain: by method and seed, from images (B, 3, H, W) and classes (B,) to maps (B, 1, H, W): for
            measures that explain again, ``adcc`` and ``sensitivity``.
        fills: what stands in place of what a map hides (:func:`gan_lib.core.masking.filling`); for each
            there are ``drop_black``, ``increase_black``, ..., in per cent.
        areas: shares of the image. At each, all maps are reduced to their highest pixels, equally many, and
            measured again, ``drop_black@5``: drops are comparable at matched area only.
        steps: of the insertion and deletion curves, on black; with 0 they are left out.
        road: shares of the pixels that ROAD removes; with none it is left out.
        first: for measures that explain again, how many images they look at, the first ones; 0 leaves a
            measure out. By default all.
        batch_size: images per pass.

    Raises:
        ValueError: no image, no map or maps of another number, a batch of none, a count below 0, or an area
            that is not between 0 and 1.
        KeyError: an unknown fill, or in ``first`` an unknown measure.
    """
    positive(images=len(images), maps=len(maps), batch_size=batch_size)
    limits = {MEASURES.name(name): count for name, count in (first or {}).items()}
    if min(0, steps, *limits.values()) < 0 or not all(0 <= share <= 1 for share in (*areas, *road)):
        raise ValueError(f"steps {steps} and {limits} are from 0, areas {areas} and road {road} in 0..1")
    if wrong := [key for key, own in maps.items() if len(own) != len(images)]:
        raise ValueError(f"{len(images)} images, but not as many maps of {wrong}")
    device, probe = next(cnn.parameters()).device, Probe(cnn)
    there = {"evidence": evidence is not None, "reference": reference is not None, "curves": steps > 0}
    there |= {"road": bool(road), "explain": bool(explain), "maps_of_shown": bool(explain)}
    lacking = {name for name, given in there.items() if not given}
    stages: list[list[str]] = [[], [], [], []]
    for name, measure in MEASURES.items():
        if not measure.needs & lacking:
            stages[measure.stage].append(name)
    plain, seen, ranked, again = stages
    columns: dict[Key, dict[str, PerImage]] = {key: {} for key in maps}
    curves: dict[Key, list[Curves]] = {}

    def cases(rows: Tensor, ask: Callable[[Tensor, Tensor], Tensor]) -> Iterator[tuple[Key, _Case]]:
        pictures, target = images[rows].to(device), explained[rows].to(device)
        before, black = ask(pictures, target), filling(pictures, "black")
        masks, others = (None if own is None else own[rows].to(device) for own in (evidence, reference))
        for key, all_maps in maps.items():
            own, call = all_maps[rows].to(device), explain[key] if explain else None
            given = (pictures, target, before, own, blend(pictures, black, own), masks, others, call)
            yield key, _Case(probe, ask, *given, steps, road)

    for rows in torch.arange(len(images)).split(batch_size):
        hidden = {fill: filling(images[rows].to(device), fill) for fill in fills}
        for key, case in cases(rows, probe):
            case.score(plain, columns[key])
            ranks, pixels = pixel_ranks(case.maps), case.maps.shape[1:].numel()
            top = {f"@{100 * area:g}": (ranks < round(area * pixels)).float() for area in areas}
            for suffix, own in {"": case.maps, **top}.items():
                for fill in fills:
                    varied = replace(case, maps=own, shown=blend(case.images, hidden[fill], own))
                    varied.score(seen, columns[key], f"_{fill}{suffix}")
            case.score(ranked, columns[key])
            if steps:
                curves.setdefault(key, []).append(case.curves)
    for name in again:
        count = min(limits.get(name, len(images)), len(images))
        for rows in torch.arange(count).split(EXPLAINED_AT_ONCE) if count else ():
            for key, case in cases(rows, partial(class_probability, cnn)):
                case.score([name], columns[key])
    tables = [_table(key, own, len(images)) for key, own in columns.items()]
    return Judgement(pd.concat(tables, ignore_index=True), _mean_curves(curves, len(images)))


def _table(key: Key, columns: Mapping[str, PerImage], count: int) -> pd.DataFrame:
    """A row per image; a measure of fewer images is NaN for the others."""
    scores = {name: pd.Series(column.per_image.numpy()) for name, column in columns.items()}
    return pd.DataFrame({"method": key[0], "seed": key[1], "image": range(count), **scores})


def _mean_curves(curves: Mapping[Key, Sequence[Curves]], count: int) -> pd.DataFrame:
    """Of the batches of so many images."""
    tables = [pd.DataFrame()]
    for (method, seed), own in curves.items():
        means = {
            name: sum(getattr(batch, name).sum(0).cpu() for batch in own) / count
            for name in ("insertion", "deletion")
        }
        tables.append(pd.DataFrame({"method": method, "seed": seed, "share": own[0].shares.cpu(), **means}))
    return pd.concat(tables, ignore_index=True)
