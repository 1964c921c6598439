"""All measures of several methods' maps, image by image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from gan_lib.core.masking import blend, filling, pixel_ranks
from gan_lib.metrics.base import PerImageMetric
from gan_lib.metrics.curves import Deletion, Insertion, Probe, perturbation_curves
from gan_lib.metrics.faithfulness import AverageDrop, IncreaseInConfidence, class_probability
from gan_lib.metrics.localisation import (
    Dice,
    DiceAtArea,
    DistinctValues,
    IoUAtArea,
    MassInside,
    MeanArea,
    PointingGame,
)
from gan_lib.metrics.quality import ADCC, Entropy, MaxSensitivity
from gan_lib.metrics.road import ROAD, SHARES, road_curves

TOLERANCE = 0.03  # of the image's side: the pointing game's 15 pixels on images of about 500


def explanation_scores(
    cnn: nn.Module,
    images: Tensor,
    maps: Mapping[tuple[str, int], Tensor],
    explained: Tensor,
    reference: Tensor | None = None,
    evidence: Tensor | None = None,
    areas: Sequence[float] = (),
    fills: Sequence[str] = ("black", "blur"),
    batch_size: int = 128,
) -> pd.DataFrame:
    """Every measure of several methods' maps, image by image.

        scores = explanation_scores(cnn, images, {("Grad-CAM", 0): maps}, classes, areas=[0.05, 0.2])

    Args:
        cnn: the CNN that the maps explain.
        images: (N, 3, H, W) in [0, 1].
        maps: by method and training seed, (N, 1, H, W) in [0, 1].
        explained: (N,) the class that the maps explain.
        reference: (N, 1, H, W) in [0, 1], maps that the column ``dice`` compares with.
        evidence: (N, 1, H, W) bool, where the evidence is known to be.
        areas: shares of the image. At each, all maps are reduced to their highest pixels, equally
            many, and measured again: drops are comparable at matched area only.
        fills: what stands in place of what a map hides (:func:`gan_lib.core.masking.filling`).
        batch_size: images per pass over the CNN.

    Returns:
        One row per method, seed and image: ``method``, ``seed``, ``image``; ``area`` (the map's mean);
        ``entropy``; for each fill ``drop_black``, ``increase_black``, ..., in per cent, and at matched
        area ``drop_black@5`` and so on; with a reference ``dice``; with evidence
        ``evidence_dice`` (which is also the relevance rank accuracy), ``evidence_iou``, ``mass`` (the
        relevance mass accuracy), ``pointing`` (the highest pixel may miss by 3 % of the side, as
        published), ``pointing_exact`` and ``distinct_values``.
    """
    own: dict[tuple[str, int], dict[str, PerImageMetric]] = {key: {} for key in maps}
    device, probe = next(cnn.parameters()).device, Probe(cnn)

    def metric(key: tuple[str, int], name: str, kind: Callable[[], PerImageMetric]) -> Any:
        return own[key].setdefault(name, kind())

    for rows in torch.arange(len(images)).split(batch_size):
        pictures, target = images[rows].to(device), explained[rows].to(device)
        before = probe(pictures, target)
        hidden = {fill: filling(pictures, fill) for fill in fills}
        for key, all_maps in maps.items():
            here = all_maps[rows]
            metric(key, "area", MeanArea).update(here)
            metric(key, "entropy", Entropy).update(here)
            if reference is not None:
                metric(key, "dice", Dice).update(here, reference[rows])
            if evidence is not None:
                metric(key, "evidence_dice", DiceAtArea).update(here, evidence[rows])
                metric(key, "evidence_iou", IoUAtArea).update(here, evidence[rows])
                metric(key, "mass", MassInside).update(here, evidence[rows])
                near = partial(PointingGame, round(TOLERANCE * max(here.shape[-2:])))
                metric(key, "pointing", near).update(here, evidence[rows])
                metric(key, "pointing_exact", PointingGame).update(here, evidence[rows])
                metric(key, "distinct_values", DistinctValues).update(here, evidence[rows])
            ranks, pixels = pixel_ranks(here), here.shape[1:].numel()
            shown = {"": here} | {
                f"@{100 * area:g}": (ranks < round(area * pixels)).float() for area in areas
            }
            for suffix, masks in shown.items():
                for fill in fills:
                    seen = blend(pictures, hidden[fill], masks.to(device))
                    after = probe(seen, target)
                    metric(key, f"drop_{fill}{suffix}", AverageDrop).update(before, after)
                    metric(key, f"increase_{fill}{suffix}", IncreaseInConfidence).update(before, after)
    return pd.concat([per_image_table(key, metrics) for key, metrics in own.items()], ignore_index=True)


def per_image_table(key: tuple[str, int], metrics: Mapping[str, PerImageMetric]) -> pd.DataFrame:
    """Scores of one method and seed: a row per image, ``method``, ``seed``, ``image`` and the measures."""
    scores = {name: metric.per_image.numpy() for name, metric in metrics.items()}
    count = max(map(len, scores.values()), default=0)
    return pd.DataFrame({"method": key[0], "seed": key[1], "image": range(count), **scores})


def ranking_scores(
    cnn: nn.Module,
    images: Tensor,
    maps: Mapping[tuple[str, int], Tensor],
    explained: Tensor,
    steps: int = 20,
    road: Sequence[float] = SHARES,
    batch_size: int = 128,
    mixed_precision: bool = False,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measures that remove and restore pixels in the order of a map: insertion, deletion, ROAD.

    Args:
        cnn, images, maps, explained: as for :func:`explanation_scores`.
        steps: of the insertion and deletion curves, on black.
        road: shares of the pixels that ROAD removes; with none it is left out.
        batch_size: images at a time.
        mixed_precision: ask the CNN in bfloat16 (:class:`gan_lib.metrics.Probe`).

    Returns:
        Per image ``method``, ``seed``, ``image``, ``insertion``, ``deletion``, ``insertion - deletion``
        and ``road``; and the mean curves, ``method``, ``seed``, ``share`` of the pixels, ``insertion``,
        ``deletion``.
    """
    device = next(cnn.parameters()).device
    probe, tables, means = Probe(cnn, mixed_precision=mixed_precision), [], []
    for key, all_maps in maps.items():
        metrics: dict[str, PerImageMetric] = {
            "insertion": Insertion(),
            "deletion": Deletion(),
            "insertion - deletion": Insertion(),
        }
        if road:
            metrics["road"] = ROAD()
        sums: dict[str, Tensor | float] = {"insertion": 0.0, "deletion": 0.0}
        for rows in torch.arange(len(images)).split(batch_size):
            pictures, ranked, target = (given[rows].to(device) for given in (images, all_maps, explained))
            curves = perturbation_curves(probe, pictures, ranked, target, steps)
            own = {"insertion": curves.insertion, "deletion": curves.deletion}
            for name, curve in own.items():
                metrics[name].update(curve, curves.shares)
                sums[name] = sums[name] + curve.sum(0).cpu()
            metrics["insertion - deletion"].update(curves.insertion - curves.deletion, curves.shares)
            if road:
                metrics["road"].update(*road_curves(probe, pictures, ranked, target, road))
        tables.append(per_image_table(key, metrics))
        mean = {name: total / len(images) for name, total in sums.items()}
        means.append(pd.DataFrame({"method": key[0], "seed": key[1], "share": curves.shares.cpu(), **mean}))
    return pd.concat(tables, ignore_index=True), pd.concat(means, ignore_index=True)


def quality_scores(
    cnn: nn.Module,
    images: Tensor,
    maps: Mapping[tuple[str, int], Tensor],
    explained: Tensor,
    explain: Mapping[tuple[str, int], Callable[[Tensor, Tensor], Tensor]],
    noisy_images: int = 32,
    batch_size: int = 32,
) -> pd.DataFrame:
    """Measures that explain again: ADCC (the image under its map), and sensitivity to noise.

    Args:
        cnn, images, maps, explained: as for :func:`explanation_scores`.
        explain: by method and seed, from images (B, 3, H, W) and classes (B,) to maps (B, 1, H, W).
        noisy_images: so many of the images, the first, are explained with noise on them.
        batch_size: images at a time.

    Returns:
        Per image ``method``, ``seed``, ``image``, ``adcc``, and ``sensitivity``, NaN for all but the
        first images.
    """
    tables, device = [], next(cnn.parameters()).device
    for key, own in maps.items():
        adcc, sensitivity = ADCC(), MaxSensitivity()
        for rows in torch.arange(len(images)).split(batch_size):
            pictures, target = images[rows].to(device), explained[rows].to(device)
            shown = blend(pictures, filling(pictures, "black"), own[rows].to(pictures))
            before, after = (class_probability(cnn, some, target) for some in (pictures, shown))
            adcc.update(own[rows].to(pictures), explain[key](shown, target), before, after)
        few = slice(0, min(noisy_images, len(images)))
        sensitivity.update(explain[key], images[few].to(device), explained[few].to(device))
        table = per_image_table(key, {"adcc": adcc})
        moved = sensitivity.per_image.numpy()
        table.loc[: len(moved) - 1, "sensitivity"] = moved
        tables.append(table)
    return pd.concat(tables, ignore_index=True)
