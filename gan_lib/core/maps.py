"""Pure functions on maps: normalising and upsampling."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def min_max(maps: Tensor) -> Tensor:
    """Scale every map (..., H, W) to [0, 1] by its own minimum and maximum; a constant one becomes zero."""
    low = maps.amin((-2, -1), keepdim=True)
    span = maps.amax((-2, -1), keepdim=True) - low
    return ((maps - low) / span.where(span > 0, span.new_ones(()))).clamp(0, 1)


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (B, C, h, w) at another size (B, C, H, W), bilinearly."""
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
