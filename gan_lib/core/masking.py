"""Images seen through maps: what is shown, and what stands in place of the rest."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

FILLS = ("black", "blur", "mean")


def masked_images(images: Tensor, maps: Tensor, fill: str = "black") -> Tensor:
    """Explained images ``x * m + fill * (1 - m)``.

    Args:
        images: (B, 3, H, W) in [0, 1].
        maps: (B, 1, H, W) in [0, 1].
        fill: ``black``; ``blur`` for the image under a Gaussian whose sigma is a tenth of its longer
            side, cut off at two sigma; or ``mean`` for the image's mean colour.

    Raises:
        ValueError: an unknown fill.
    """
    return blend(images, filling(images, fill), maps)


def filling(images: Tensor, fill: str) -> Tensor:
    """What stands in place of the hidden parts of images (B, 3, H, W); see :func:`masked_images`."""
    if fill == "black":
        return torch.zeros_like(images)
    if fill == "mean":
        return images.mean((2, 3), keepdim=True).expand_as(images)
    if fill == "blur":
        sigma = max(images.shape[-2:]) / 10
        across, down = (2 * min(int(2 * sigma), side - 1) + 1 for side in images.shape[-1:-3:-1])
        # A Gaussian is separable: two passes cost a fraction of one with a square kernel.
        return gaussian_blur(gaussian_blur(images, [across, 1], [sigma, sigma]), [1, down], [sigma, sigma])
    raise ValueError(f"fill is one of {FILLS}, not {fill!r}")


def blend(images: Tensor, hidden: Tensor, maps: Tensor) -> Tensor:
    """``images`` where maps (B, 1, H, W) are 1, ``hidden`` where they are 0."""
    return images * maps + hidden * (1 - maps)


def top_share(maps: Tensor, share: float | Tensor) -> Tensor:
    """The highest pixels of every map, exactly ``round(share * H * W)`` of them.

    Args:
        maps: (B, 1, H, W); equal values are taken in reading order.
        share: of the image, 0..1, for all maps or one each (B,).

    Returns:
        (B, 1, H, W) bool.
    """
    counts = torch.as_tensor(share, device=maps.device).expand(len(maps)) * maps.shape[1:].numel()
    return pixel_ranks(maps) < counts.round()[:, None, None, None]


def pixel_ranks(maps: Tensor) -> Tensor:
    """Rank (B, 1, H, W), int64, of every pixel of maps (B, 1, H, W): 0 for the highest.

    Equal values are ranked in reading order.
    """
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)  # (B, H * W)
    places = torch.arange(order.shape[1], device=maps.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places).view_as(maps)
