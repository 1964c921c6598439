"""Measures of an explanation, one score per image first, then a summary with an interval.

All are :class:`torchmetrics.Metric`: ``update`` with batches, ``compute`` for the summary, states
that add up over processes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
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
    if fill == "black":
        return images * maps
    if fill == "blur":
        sigma = max(images.shape[-2:]) / 10
        blurred = gaussian_blur(images, kernel_size=[2 * int(2 * sigma) + 1] * 2, sigma=[sigma, sigma])
        return images * maps + blurred * (1 - maps)
    raise ValueError(f"fill is one of {FILLS}, not {fill!r}")


def class_probability(cnn: nn.Module, images: Tensor, target: Tensor) -> Tensor:
    """Probability (B,) that the CNN gives class ``target`` (B,) on images (B, 3, H, W)."""
    with evaluation_mode(cnn), torch.no_grad():
        probabilities = cnn(images).float().softmax(1)  # (B, K)
    return probabilities.gather(1, target[:, None])[:, 0]
