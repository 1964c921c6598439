"""Localisation: does the map lie where the evidence is known to be?"""

from __future__ import annotations

import torch
from scipy.stats import rankdata
from torch import Tensor

from gan_lib.core.masking import top_share
from gan_lib.metrics.base import PerImageMetric


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


class IoU(PerImageMetric):
    """Intersection over union of two maps, both thresholded; arguments as for :class:`Dice`."""

    higher_is_better = True

    def __init__(self, threshold: float = 0.5, seed: int = 0) -> None:
        super().__init__(seed)
        self.threshold = threshold

    def update(self, maps: Tensor, target: Tensor) -> None:
        """Maps and target (B, 1, H, W) in [0, 1]; a boolean mask is a target as well."""
        region = maps > self.threshold
        other = target if target.dtype == torch.bool else target > self.threshold
        either = (region | other).sum((1, 2, 3))
        self.append(torch.where(either > 0, (region & other).sum((1, 2, 3)).float() / either, torch.nan))


class DiceAtArea(PerImageMetric):
    """Dice of the evidence and of the map's highest pixels, as many as the evidence has.

    No threshold is involved, so that it asks for the order of the pixels only: the *relevance rank
    accuracy* of Arras et al. (Information Fusion 2022). An image without evidence does not count.

    Args:
        share: of the image, 0..1; with it the evidence may be another map, of which the highest
            pixels are taken as well.
        seed: of the bootstrap.
    """

    higher_is_better = True

    def __init__(self, share: float | None = None, seed: int = 0) -> None:
        super().__init__(seed)
        self.share = share

    def update(self, maps: Tensor, evidence: Tensor) -> None:
        """Maps (B, 1, H, W), and evidence (B, 1, H, W): bool, or a map where a share was given.

        Raises:
            ValueError: evidence that is no mask, and no share.
        """
        top, other = self.regions(maps, evidence)
        both, total = (top & other).sum((1, 2, 3)).float(), (top.sum((1, 2, 3)) + other.sum((1, 2, 3))) / 2
        self.append(torch.where(total > 0, both / total, torch.nan))

    def regions(self, maps: Tensor, evidence: Tensor) -> tuple[Tensor, Tensor]:
        """Both as bool (B, 1, H, W), with equally many pixels."""
        if self.share is not None and evidence.dtype != torch.bool:
            return top_share(maps, self.share), top_share(evidence, self.share)
        if evidence.dtype != torch.bool:
            raise ValueError("evidence is a boolean mask; to compare with another map, give a share")
        return top_share(maps, evidence.float().mean((1, 2, 3))), evidence


class IoUAtArea(DiceAtArea):
    """Intersection over union in place of Dice; see :class:`DiceAtArea`."""

    def update(self, maps: Tensor, evidence: Tensor) -> None:
        """Maps (B, 1, H, W), and evidence (B, 1, H, W): bool, or a map where a share was given.

        Raises:
            ValueError: evidence that is no mask, and no share.
        """
        top, other = self.regions(maps, evidence)
        either = (top | other).sum((1, 2, 3))
        self.append(torch.where(either > 0, (top & other).sum((1, 2, 3)).float() / either, torch.nan))


class PointingGame(PerImageMetric):
    """Whether the map's highest pixel lies on the evidence (Zhang et al., ECCV 2016): 0 or 1.

    A map without any highest pixel, a constant one, does not hit; an image without evidence does not
    count.

    Args:
        tolerance: pixels by which the highest pixel may miss.
        seed: of the bootstrap.
    """

    higher_is_better = True

    def __init__(self, tolerance: int = 0, seed: int = 0) -> None:
        super().__init__(seed)
        self.tolerance = tolerance

    def update(self, maps: Tensor, evidence: Tensor) -> None:
        """Maps (B, 1, H, W) and evidence (B, 1, H, W) bool."""
        size = 2 * self.tolerance + 1
        near = torch.nn.functional.max_pool2d(evidence.float(), size, stride=1, padding=self.tolerance)
        flat = maps.flatten(1)  # (B, H * W)
        hit = near.flatten(1).gather(1, flat.argmax(1, keepdim=True))[:, 0]
        hit = torch.where(flat.amax(1) > flat.amin(1), hit, 0.0)
        self.append(torch.where(evidence.flatten(1).any(1), hit, torch.nan))


class MassInside(PerImageMetric):
    """Share of the map's mass that lies inside a region, 0..1; a map of zeros does not count.

    With the evidence as the region, this is the *relevance mass accuracy* (Arras et al., 2022).

    Args:
        top: look at the highest pixels only, as many as the region has.
        seed: of the bootstrap.
    """

    higher_is_better = True

    def __init__(self, top: bool = False, seed: int = 0) -> None:
        super().__init__(seed)
        self.top = top

    def update(self, maps: Tensor, region: Tensor) -> None:
        """Maps (B, 1, H, W) and region (B, 1, H, W) bool."""
        region = region.expand_as(maps)
        if self.top:
            maps = maps * top_share(maps, region.float().mean((1, 2, 3)))
        total = maps.sum((1, 2, 3))
        self.append(torch.where(total > 0, (maps * region).sum((1, 2, 3)) / total, torch.nan))


class MeanArea(PerImageMetric):
    """A map's mean, 0..1: how much of the image it shows. Neither high nor low is better as such."""

    higher_is_better = False

    def update(self, maps: Tensor) -> None:
        """Maps (B, 1, H, W) in [0, 1]."""
        self.append(maps.mean((1, 2, 3)))


class DistinctValues(PerImageMetric):
    """How many different values, in 256 steps, a map has inside a region: 1 for a flat or binary map."""

    higher_is_better = True

    def update(self, maps: Tensor, region: Tensor) -> None:
        """Maps (B, 1, H, W) in [0, 1] and region (B, 1, H, W) bool; empty regions do not count."""
        steps = (maps * 255).round().int()
        counts = [own[inside].unique().numel() for own, inside in zip(steps, region, strict=True)]
        scores = torch.tensor(counts, dtype=torch.float32)
        self.append(torch.where(scores > 0, scores, torch.nan))


class RankCorrelation(PerImageMetric):
    """Spearman's correlation of the pixels of two maps, -1..1; constant maps do not count.

    After the CNN's weights were randomised it should be low: a map that stays the same does not
    explain the CNN (Adebayo et al., NeurIPS 2018).
    """

    higher_is_better = False

    def update(self, maps: Tensor, others: Tensor) -> None:
        """Maps (B, 1, H, W) each."""
        first, second = centred_ranks(maps), centred_ranks(others)  # (B, H * W)
        norms = first.norm(dim=1) * second.norm(dim=1)
        self.append(torch.where(norms > 0, (first * second).sum(1) / norms, torch.nan))


def centred_ranks(maps: Tensor) -> Tensor:
    """Ranks (B, H * W) of the pixels of maps (B, 1, H, W), minus their mean; equal values share theirs."""
    ranks = torch.from_numpy(rankdata(maps.flatten(1).cpu().numpy(), axis=1))  # (B, H * W)
    return ranks - ranks.mean(1, keepdim=True)
