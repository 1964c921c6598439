"""Pictures resized to the very bytes that OpenCV gives.

Its bilinear resizing of bytes works with whole numbers and cuts some digits off on the way, so that one
value in ten differs by one from the exact one. Maps of gradients show it: to be comparable they need the same
bytes.
"""

from __future__ import annotations

import torch
from torch import Tensor

UNIT = 2048  # 11 bits: what a weight of 1 is


def stretched(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """A picture (C, h, w) uint8 at a size (H, W), whatever its aspect: ``cv2.resize`` with ``INTER_LINEAR``.

        stretched(torch.randint(256, (3, 256, 384), dtype=torch.uint8), (224, 224))  # (3, 224, 224) uint8

    A pixel is the mean of the four that it lies between, by their distances, rounded to 1 / 2048. Nothing is
    smoothed before pixels are left out.
    """
    left, right, weight = _between(picture.shape[2], size[1])  # (W,)
    rows = picture[..., left].long() * (UNIT - weight) + picture[..., right].long() * weight  # (C, h, W)
    top, bottom, weight = _between(picture.shape[1], size[0])  # (H,)
    above, below, weight = rows[:, top] >> 4, rows[:, bottom] >> 4, weight[:, None]  # (C, H, W); (H, 1)
    mixed = ((UNIT - weight) * above >> 16) + (weight * below >> 16)
    return ((mixed + 2) >> 2).to(torch.uint8)


def _between(length: int, wanted: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which two of ``length`` pixels each of so many wanted ones lies between, and the second's weight."""
    centres = (torch.arange(wanted, dtype=torch.float64) + 0.5) * (length / wanted) - 0.5
    places = centres.float()
    first = places.floor()
    weight = ((places - first) * UNIT).round().long()
    number = first.long()
    return number.clamp(0, length - 1), (number + 1).clamp(0, length - 1), weight
