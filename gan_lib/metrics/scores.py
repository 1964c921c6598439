"""All measures of several methods' maps, image by image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from gan_lib.masking import FILLS, blend, filling, top_share
from gan_lib.metrics.base import PerImageMetric
from gan_lib.metrics.faithfulness import AverageDrop, IncreaseInConfidence, class_probability
from gan_lib.metrics.localisation import Dice, DiceAtArea, DistinctValues, MeanArea, PointingGame

TOLERANCE = 0.03  # of the image's side: the pointing game's 15 pixels on images of about 500


def explanation_scores(
    cnn: nn.Module,
    images: Tensor,
    maps: Mapping[tuple[str, int], Tensor],
    explained: Tensor,
    reference: Tensor | None = None,
    evidence: Tensor | None = None,
    areas: Sequence[float] = (),
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
        batch_size: images per pass over the CNN.

    Returns:
        One row per method, seed and image: ``method``, ``seed``, ``image``; ``area`` (the map's mean);
        for each fill ``drop_black``, ``increase_black``, ``drop_blur``, ``increase_blur``, in per
        cent, and at matched area ``drop_black@5`` and so on; with a reference ``dice``; with evidence
        ``evidence_dice``, ``pointing`` (the highest pixel may miss by 3 % of the side, as published),
        ``pointing_exact`` and ``distinct_values``.
    """
    own: dict[tuple[str, int], dict[str, PerImageMetric]] = {key: {} for key in maps}
    device = next(cnn.parameters()).device

    def metric(key: tuple[str, int], name: str, kind: Callable[[], PerImageMetric]) -> Any:
        return own[key].setdefault(name, kind())

    for rows in torch.arange(len(images)).split(batch_size):
        pictures, target = images[rows].to(device), explained[rows].to(device)
        before = class_probability(cnn, pictures, target)
        hidden = {fill: filling(pictures, fill) for fill in FILLS}
        for key, all_maps in maps.items():
            here = all_maps[rows]
            metric(key, "area", MeanArea).update(here)
            if reference is not None:
                metric(key, "dice", Dice).update(here, reference[rows])
            if evidence is not None:
                metric(key, "evidence_dice", DiceAtArea).update(here, evidence[rows])
                near = partial(PointingGame, round(TOLERANCE * max(here.shape[-2:])))
                metric(key, "pointing", near).update(here, evidence[rows])
                metric(key, "pointing_exact", PointingGame).update(here, evidence[rows])
                metric(key, "distinct_values", DistinctValues).update(here, evidence[rows])
            shown = {"": here} | {f"@{100 * area:g}": top_share(here, area).float() for area in areas}
            for suffix, masks in shown.items():
                for fill in FILLS:
                    seen = blend(pictures, hidden[fill], masks.to(device))
                    after = class_probability(cnn, seen, target)
                    metric(key, f"drop_{fill}{suffix}", AverageDrop).update(before, after)
                    metric(key, f"increase_{fill}{suffix}", IncreaseInConfidence).update(before, after)
    tables = []
    for (method, seed), metrics in own.items():
        scores = {name: one.per_image.numpy() for name, one in metrics.items()}
        tables.append(pd.DataFrame({"method": method, "seed": seed, "image": range(len(images)), **scores}))
    return pd.concat(tables, ignore_index=True)
