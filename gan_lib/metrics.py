"""Measures of an explanation, one score per image first, then a summary with an interval.

The measures are :class:`torchmetrics.Metric`: ``update`` with batches, ``compute`` for the summary,
states that add up over processes. :func:`explanation_scores` applies all of them to a method's maps,
:func:`summarise` states the result over images and seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat
from torchvision.transforms.functional import gaussian_blur

from gan_lib.capture import evaluation_mode

RESAMPLES = 1000
FILLS = ("black", "blur")


class Summary(NamedTuple):
    """Mean of the per-image scores.

    Attributes:
        mean: over the images that count; NaN when none does.
        low, high: seeded bootstrap 95 % interval of the mean.
        n: images that count.
        skipped: images for which the score is not defined.
    """

    mean: float
    low: float
    high: float
    n: int
    skipped: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(scores: Tensor, seed: int = 0, resamples: int = RESAMPLES) -> tuple[float, float]:
    """Percentile bootstrap 95 % interval of the mean of scores (N,)."""
    rng = np.random.default_rng(seed)
    values = scores.double().numpy()
    means = np.array([values[rng.integers(0, len(values), len(values))].mean() for _ in range(resamples)])
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


class PerImageMetric(Metric):
    """Base of all measures: ``update`` appends one score per image; NaN means not defined.

    Args:
        seed: of the bootstrap.
    """

    scores: list[Tensor]
    higher_is_better: bool
    full_state_update = False

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed
        self.add_state("scores", default=[], dist_reduce_fx="cat")

    def append(self, scores: Tensor) -> None:
        """Append the scores (B,) of a batch."""
        self.scores.append(scores.detach().float().cpu())

    @property
    def per_image(self) -> Tensor:
        """All scores (N,), in the order of the updates."""
        return dim_zero_cat(self.scores) if len(self.scores) else torch.empty(0)

    def compute(self) -> Summary:
        """Mean, interval and counts of all scores."""
        scores = self.per_image
        counted = scores[~scores.isnan()]
        skipped = len(scores) - len(counted)
        if not len(counted):
            return Summary(float("nan"), float("nan"), float("nan"), 0, skipped)
        return Summary(float(counted.mean()), *bootstrap(counted, self.seed), len(counted), skipped)


class Dice(PerImageMetric):
    """Sorensen-Dice overlap ``2 |A and B| / (|A| + |B|)`` of two maps, both thresholded.

    An image on which both thresholded maps are empty does not count.

    Args:
        threshold: a pixel belongs to the region when its value exceeds this.
        seed: of the bootstrap.
    """

    higher_is_better = True

    def __init__(self, threshold: float = 0.5, seed: int = 0) -> None:
        super().__init__(seed)
        self.threshold = threshold

    def update(self, maps: Tensor, target: Tensor) -> None:
        """Maps and target (B, 1, H, W) in [0, 1]; a boolean mask is a target as well."""
        region = (maps > self.threshold).flatten(1)  # (B, H * W)
        other = (target if target.dtype == torch.bool else target > self.threshold).flatten(1)
        both = (region & other).sum(1).float()
        total = region.sum(1) + other.sum(1)
        self.append(torch.where(total > 0, 2 * both / total, torch.nan))


class AverageDrop(PerImageMetric):
    """Average drop in per cent: ``100 max(0, Y - O) / Y`` (Chattopadhay et al., WACV 2018).

    Y is the probability of the explained class on the image, O on the image masked by the map.
    """

    higher_is_better = False

    def update(self, before: Tensor, after: Tensor) -> None:
        """Probabilities (B,) of the explained class, on the image and on the masked image."""
        self.append(100 * (before - after).clamp(min=0) / before)


class IncreaseInConfidence(PerImageMetric):
    """Share, in per cent, of images whose masked form is more probable: ``O > Y``."""

    higher_is_better = True

    def update(self, before: Tensor, after: Tensor) -> None:
        """Probabilities (B,) of the explained class, on the image and on the masked image."""
        self.append(100.0 * (after > before).float())


def masked_images(images: Tensor, maps: Tensor, fill: str = "black") -> Tensor:
    """Explained images ``x * m + fill * (1 - m)``.

    Args:
        images: (B, 3, H, W) in [0, 1].
        maps: (B, 1, H, W) in [0, 1].
        fill: ``black``, or ``blur`` for the image under a Gaussian whose sigma is a tenth of its side.

    Raises:
        ValueError: an unknown fill.
    """
    return _blend(images, filling(images, fill), maps)


def filling(images: Tensor, fill: str) -> Tensor:
    """What stands in place of the hidden parts of images (B, 3, H, W); see :func:`masked_images`."""
    if fill == "black":
        return torch.zeros_like(images)
    if fill == "blur":
        sigma = max(images.shape[-2:]) / 10
        return gaussian_blur(images, kernel_size=[2 * int(2 * sigma) + 1] * 2, sigma=[sigma, sigma])
    raise ValueError(f"fill is one of {FILLS}, not {fill!r}")


def _blend(images: Tensor, hidden: Tensor, maps: Tensor) -> Tensor:
    return images * maps + hidden * (1 - maps)


def class_probability(cnn: nn.Module, images: Tensor, target: Tensor) -> Tensor:
    """Probability (B,) that the CNN gives class ``target`` (B,) on images (B, 3, H, W)."""
    with evaluation_mode(cnn), torch.no_grad():
        probabilities = cnn(images).float().softmax(1)  # (B, K)
    return probabilities.gather(1, target[:, None])[:, 0]


def explanation_scores(
    cnn: nn.Module,
    images: Tensor,
    maps: Mapping[tuple[str, int], Tensor],
    explained: Tensor,
    reference: Tensor,
    batch_size: int = 128,
) -> pd.DataFrame:
    """Every measure of several methods' maps, image by image.

    Args:
        cnn: the CNN that the maps explain.
        images: (N, 3, H, W) in [0, 1].
        maps: by method and training seed, (N, 1, H, W) in [0, 1].
        explained: (N,) the class that the maps explain.
        reference: (N, 1, H, W) in [0, 1], the maps that Dice compares with.
        batch_size: images per pass over the CNN.

    Returns:
        One row per method, seed and image: ``method``, ``seed``, ``image``, ``dice``, and for each
        fill ``drop_black``, ``increase_black``, ``drop_blur``, ``increase_blur``, in per cent.
    """
    metrics = {key: _metrics() for key in maps}
    device = next(cnn.parameters()).device
    for rows in torch.arange(len(images)).split(batch_size):
        pictures, target = images[rows].to(device), explained[rows].to(device)
        before = class_probability(cnn, pictures, target)
        hidden = {fill: filling(pictures, fill) for fill in FILLS}
        for key, own in metrics.items():
            own["dice"].update(maps[key][rows], reference[rows])
            shown = maps[key][rows].to(device)
            for fill in FILLS:
                after = class_probability(cnn, _blend(pictures, hidden[fill], shown), target)
                own[f"drop_{fill}"].update(before, after)
                own[f"increase_{fill}"].update(before, after)
    tables = []
    for (method, seed), own in metrics.items():
        scores = {name: metric.per_image.numpy() for name, metric in own.items()}
        tables.append(pd.DataFrame({"method": method, "seed": seed, "image": range(len(images)), **scores}))
    return pd.concat(tables, ignore_index=True)


def _metrics() -> dict[str, PerImageMetric]:
    metrics: dict[str, PerImageMetric] = {"dice": Dice()}
    for fill in FILLS:
        metrics[f"drop_{fill}"] = AverageDrop()
        metrics[f"increase_{fill}"] = IncreaseInConfidence()
    return metrics


def summarise(scores: pd.DataFrame, by: str = "method", resamples: int = RESAMPLES) -> pd.DataFrame:
    """Means with bootstrap 95 % intervals, over images and, for what was learned, over seeds.

    The bootstrap has two levels: it draws seeds, then images, the same images for all drawn seeds, so
    that the interval covers both another training run and other images.

    Args:
        scores: one row per image and seed; columns ``by``, ``seed``, ``image``, and the measures.
            Methods without a seed carry one and the same value.
        by: the column that names the methods.
        resamples: bootstrap resamples.

    Returns:
        One row per method and measure: ``mean``, ``low``, ``high``, ``n`` (images that count),
        ``skipped`` and ``seeds``.
    """
    rows = []
    measures = [name for name in scores.columns if name not in (by, "seed", "image")]
    for method, own in scores.groupby(by, sort=False):
        for measure in measures:
            table = own.pivot(index="seed", columns="image", values=measure).to_numpy()  # (S, N)
            counted = table[:, ~np.isnan(table).any(axis=0)]
            low, high = _two_level_interval(counted, resamples)
            row = {by: method, "measure": measure, "mean": counted.mean(), "low": low, "high": high}
            rows.append(
                {
                    **row,
                    "n": counted.shape[1],
                    "skipped": table.shape[1] - counted.shape[1],
                    "seeds": len(table),
                }
            )
    return pd.DataFrame(rows)


def _two_level_interval(scores: np.ndarray, resamples: int) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    seeds, images = scores.shape
    means = [
        scores[rng.integers(0, seeds, seeds)][:, rng.integers(0, images, images)].mean()
        for _ in range(resamples)
    ]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
