"""Localisation: does the map lie where the evidence is known to be? One score per image, (B,)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from gan_lib.core.masking import top_share
from gan_lib.metrics.checks import check_maps, check_masks, check_pair


def dice(maps: Tensor, reference: Tensor, threshold: float = 0.5) -> Tensor:
    """Sorensen-Dice overlap ``2 |A and B| / (|A| + |B|)`` of two maps, of their pixels above a threshold
    (Dice, 1945; Sorensen, 1948).

    Maps (B, 1, H, W) in [0, 1], reference the same or bool; (B,) in 0..1, NaN where both regions are empty.
    """
    check_maps(maps, {"maps": maps, "reference": None if reference.dtype == torch.bool else reference})
    if reference.dtype == torch.bool:
        check_masks(maps, reference)
    region = (maps > threshold).flatten(1)  # (B, H * W)
    other = (reference if reference.dtype == torch.bool else reference > threshold).flatten(1)
    total = region.sum(1) + other.sum(1)
    return torch.where(total > 0, 2 * (region & other).sum(1).float() / total, torch.nan)


def dice_at_area(maps: Tensor, evidence: Tensor) -> Tensor:
    """Dice (B,) of the evidence and of the map's highest pixels, as many as the evidence has.

    No threshold is involved, so that it asks for the order of the pixels only: the *relevance rank
    accuracy* of Arras et al. (Information Fusion 2022). Maps and evidence as for :func:`mass_inside`.

    Raises:
        ValueError: evidence that is no boolean mask.
    """
    both, size = _at_area(maps, evidence)
    return both / size


def iou_at_area(maps: Tensor, evidence: Tensor) -> Tensor:
    """Intersection over union (B,) (Jaccard, 1912) in place of Dice; see :func:`dice_at_area`."""
    both, size = _at_area(maps, evidence)
    return both / (2 * size - both)


def _at_area(maps: Tensor, evidence: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels (B,) that the evidence shares with as many of the map's highest, and its size; NaN for none."""
    check_pair(maps, evidence)
    top, size = top_share(maps, evidence.float().mean((1, 2, 3))), evidence.sum((1, 2, 3))
    return (top & evidence).sum((1, 2, 3)), torch.where(size > 0, size, torch.nan)


def pointing_game(maps: Tensor, evidence: Tensor, tolerance: int = 0) -> Tensor:
    """Whether the map's highest pixel lies on the evidence (Zhang et al., ECCV 2016): 0 or 1, (B,).

    A map without any highest pixel, a constant one, does not hit. Maps and evidence as for
    :func:`mass_inside`; the highest pixel may miss by ``tolerance`` pixels.
    """
    check_pair(maps, evidence)
    near = F.max_pool2d(evidence.expand_as(maps).float(), 2 * tolerance + 1, stride=1, padding=tolerance)
    flat = maps.flatten(1)  # (B, H * W)
    hit = near.flatten(1).gather(1, flat.argmax(1, keepdim=True))[:, 0]
    hit = torch.where(flat.amax(1) > flat.amin(1), hit, 0.0)
    return torch.where(evidence.expand_as(maps).flatten(1).any(1), hit, torch.nan)


def mass_inside(maps: Tensor, evidence: Tensor, top: bool = False) -> Tensor:
    """Share (B,) of the map's mass that lies on the evidence: *relevance mass accuracy* (Arras et al., 2022).

    Args:
        maps: (B, 1, H, W) in [0, 1]; one of zeros has NaN.
        evidence: (B, 1, H, W) bool, or (1, 1, H, W) for all.
        top: look at the highest pixels only, as many as the evidence has.
    """
    check_pair(maps, evidence)
    evidence = evidence.expand_as(maps)
    if top:
        maps = maps * top_share(maps, evidence.float().mean((1, 2, 3)))
    total = maps.sum((1, 2, 3))
    return torch.where(total > 0, (maps * evidence).sum((1, 2, 3)) / total, torch.nan)


def distinct_values(maps: Tensor, evidence: Tensor) -> Tensor:
    """How many different values (B,), in 256 steps, a map has on the evidence: 1 for a flat or binary map.

    Maps and evidence as for :func:`mass_inside`; NaN where there is no evidence.
    """
    check_pair(maps, evidence)
    steps = (maps * 255).round().int()
    counts = [
        own[inside].unique().numel() for own, inside in zip(steps, evidence.expand_as(maps), strict=True)
    ]
    scores = torch.tensor(counts, dtype=torch.float32)
    return torch.where(scores > 0, scores, torch.nan)
