"""All measures of several methods' maps, image by image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from gan_lib.core.inputs import weight_of
from gan_lib.core.masking import blend, filling, pixel_ranks
from gan_lib.core.options import positive
from gan_lib.metrics.base import PerImage
from gan_lib.metrics.checks import check_images, check_maps, check_masks
from gan_lib.metrics.counterfactuals import RERENDERED, differing
from gan_lib.metrics.curves import Curves, Probe, perturbation_curves
from gan_lib.metrics.faithfulness import class_probability
from gan_lib.metrics.measures import MEASURES
from gan_lib.metrics.road import road_curves

EXPLAINED_AT_ONCE = 32  # images
RANKED_BY = ("probe", "images", "maps", "target")
Key = tuple[str, int]
Explain = Callable[[Tensor, Tensor], Tensor]


class Judgement(NamedTuple):
    """Scores of several methods' maps, NaN where a measure is not defined; mean curves, if asked for."""

    scores: pd.DataFrame  # a row per ``method``, ``seed`` and ``image``, a column for each measure
    curves: pd.DataFrame  # ``method``, ``seed``, ``share`` of the pixels, ``insertion``, ``deletion``


class _Case(dict[str, Any]):
    """A batch of images with one method's maps: what measures ask for, which is made when they do."""

    def __missing__(self, name: str) -> Any:
        self[name] = MADE[name](self)
        return self[name]


MADE: dict[str, Callable[[_Case], Any]] = {
    "after": lambda own: own["ask"](own["shown"], own["target"]),
    "curves": lambda own: perturbation_curves(*(own[name] for name in (*RANKED_BY, "steps"))),
    "differing": lambda own: differing(own["images"], own["counterfactuals"]),
    "rerendered_curves": lambda own: perturbation_curves(
        *(own[name] for name in (*RANKED_BY, "steps", "counterfactuals"))
    ),
    "road": lambda own: road_curves(*(own[name] for name in (*RANKED_BY, "shares"))),
    "maps_of_shown": lambda own: own["explain"](own["shown"], own["target"]),
}


def judge(
    cnn: nn.Module,
    images: Tensor,
    maps: Mapping[Key, Tensor],
    explained: Tensor,
    *,
    evidence: Tensor | None = None,
    reference: Tensor | None = None,
    counterfactuals: Tensor | None = None,
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
        cnn, images: what the maps explain, (N, 3, H, W) in [0, 1]; explained: (N,) the class of each.
        maps: by method and training seed, (N, 1, H, W) in [0, 1].
        evidence: (N, 1, H, W) bool, where the evidence is known to be: for ``evidence_dice``, ``mass``,
            ``pointing`` (the highest pixel may miss by 3 % of the side, as published) and others.
        reference: (N, 1, H, W) in [0, 1], maps that the column ``dice`` compares with.
        counterfactuals: (N, 3, H, W) in [0, 1], the same images without what the class hangs on
            (:mod:`gan_lib.data.counterfactuals`): for measures of where they differ, ``differing_mass`` and
            others, and as one more fill, for drops, ``drop_rerendered``, and curves, ``deletion_rerendered``.
        explain: by method and seed, from images (B, 3, H, W) and classes (B,) to maps (B, 1, H, W): for
            measures that explain again, ``adcc`` and ``sensitivity``.
        fills: what stands in place of what a map hides (:data:`gan_lib.core.masking.FILLS`); for each there
            are ``drop_black``, ``increase_black``, ..., in per cent.
        areas: shares of the image. At each, all maps are reduced to their highest pixels, equally many, and
            measured again, ``drop_black@5``: drops are comparable at matched area only.
        steps: of the insertion and deletion curves, on black; with 0 they are left out.
        road: shares of the pixels that ROAD removes; with none it is left out.
        first: for measures that explain again, how many images they look at, the first ones; 0 leaves a
            measure out. By default all.
        batch_size: images per pass.

    Raises:
        ValueError: no image, no map or anything of another number or size, maps with NaN or outside [0, 1],
            evidence that is no mask, a count or a share out of its range, or in ``first`` a measure that does
            not explain again.
        KeyError: an unknown fill, in ``first`` an unknown measure, or nothing that explains one of the maps.
    """
    positive(images=len(images), maps=len(maps), batch_size=batch_size)
    limits = {MEASURES.name(name): count for name, count in (first or {}).items()}
    if min(0, steps, *limits.values()) < 0 or not all(0 <= share <= 1 for share in (*areas, *road)):
        raise ValueError(f"steps {steps} and {limits} are from 0, areas {areas} and road {road} in 0..1")
    if wrong := [key for key, own in maps.items() if len(own) != len(images)]:
        raise ValueError(f"{len(images)} images, but not as many maps of {wrong}")
    masks = {"evidence": evidence, "reference": reference, "counterfactuals": counterfactuals}
    given = {"explained": explained, **masks}
    if short := [name for name, own in given.items() if own is not None and len(own) != len(images)]:
        raise ValueError(f"{len(images)} images, but not as many of {', '.join(short)}")
    check_images(images)
    check_maps(images, {f"maps of {key}": own for key, own in maps.items()})
    check_maps(images, {"reference": reference})
    check_masks(images, evidence)
    if counterfactuals is not None:
        check_images(counterfactuals)
        differing(images[:1], counterfactuals[:1])  # of the same size
    if explain and (lacking := [key for key in maps if key not in explain]):
        raise KeyError(f"nothing that explains again: {lacking}")
    if useless := [name for name in limits if MEASURES[name].stage != 3]:
        raise ValueError(f"{', '.join(useless)} in first: only for measures that explain again")
    device, probe = weight_of(cnn).device, Probe(cnn, size=(images.shape[-2], images.shape[-1]))
    there = {name: own is not None for name, own in masks.items()} | {"curves": steps > 0, "road": bool(road)}
    there |= {
        "differing": there["counterfactuals"],
        "rerendered_curves": there["counterfactuals"] and steps > 0,
    }
    there |= dict.fromkeys(("explain", "maps_of_shown"), bool(explain))
    asked = [name for name, own in MEASURES.items() if all(there.get(given, True) for given in own.needs)]
    plain, seen, ranked, again = ([name for name in asked if MEASURES[name].stage == i] for i in range(4))
    columns: dict[Key, dict[str, PerImage]] = {key: {} for key in maps}
    curves: dict[Key, list[Curves]] = {}

    def cases(rows: Tensor, ask: Callable[[Tensor, Tensor], Tensor]) -> Iterator[tuple[Key, _Case]]:
        pictures, target = images[rows].to(device), explained[rows].to(device)
        shared = {"images": pictures, "target": target, "before": ask(pictures, target), "ask": ask}
        shared |= {name: own[rows].to(device) for name, own in masks.items() if own is not None}
        shared |= {"probe": probe, "steps": steps, "shares": road}
        black = filling(pictures, "black")
        for key, all_maps in maps.items():
            own, call = all_maps[rows].to(device), explain[key] if explain else None
            yield key, _Case(shared, maps=own, shown=blend(pictures, black, own), explain=call)

    def score(names: Iterable[str], key: Key, case: _Case, variant: str = "") -> None:
        for name in names:
            column = columns[key].setdefault(f"{name}{variant}", PerImage(MEASURES[name].score))
            column.update(**{given: case[given] for given in MEASURES[name].needs})

    for rows in torch.arange(len(images)).split(batch_size):
        hidden = {fill: filling(images[rows].to(device), fill) for fill in fills}
        if counterfactuals is not None:
            hidden[RERENDERED] = counterfactuals[rows].to(device)
        for key, case in cases(rows, probe):
            score(plain, key, case)
            ranks, pixels = pixel_ranks(case["maps"]), case["maps"].shape[1:].numel()
            top = {f"@{100 * area:g}": (ranks < round(area * pixels)).float() for area in areas}
            for suffix, own in {"": case["maps"], **top}.items():
                for fill, behind in hidden.items():
                    shown = blend(case["images"], behind, own)
                    score(seen, key, _Case({**case, "maps": own, "shown": shown}), f"_{fill}{suffix}")
            score(ranked, key, case)
            if steps:
                curves.setdefault(key, []).append(case["curves"])
    for name in again:
        count = min(limits.get(name, len(images)), len(images))
        for rows in torch.arange(count).split(EXPLAINED_AT_ONCE) if count else ():
            for key, case in cases(rows, partial(class_probability, cnn)):
                score([name], key, case)
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
