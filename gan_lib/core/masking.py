"""Images seen through maps: what is shown, and what stands in place of the rest.

A fill is a function from images (B, 3, H, W) in [0, 1] to what stands in their place, of the same shape, that
looks at each image alone. Another one is known everywhere, in training, metrics and the explorer, after

    @FILLS.register("white")
    def white(images: Tensor) -> Tensor:
        return torch.ones_like(images)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from gan_lib.core.options import one_of
from gan_lib.core.registry import Registry

FILLS: Registry[Callable[[Tensor], Tensor]] = Registry("fill")
Fill = Annotated[str, one_of(FILLS)]  # a field of options


@FILLS.register("black")
def black(images: Tensor) -> Tensor:
    """Zeros (B, 3, H, W)."""
    return torch.zeros_like(images)


@FILLS.register("blur")
def blur(images: Tensor) -> Tensor:
    """The image under a Gaussian whose sigma is a tenth of its longer side, cut off at two
    sigma; (B, 3, H, W)."""
    sigma = max(images.shape[-2:]) / 10
    across, down = (2 * min(int(2 * sigma), side - 1) + 1 for side in images.shape[-1:-3:-1])
    # A Gaussian is separable: two passes cost a fraction of one with a square kernel.
    return gaussian_blur(gaussian_blur(images, [across, 1], [sigma, sigma]), [1, down], [sigma, sigma])


@FILLS.register("mean")
def mean(images: Tensor) -> Tensor:
    """The image's mean colour, (B, 3, H, W)."""
    return images.mean((2, 3), keepdim=True).expand_as(images)


def filling(images: Tensor, fill: str) -> Tensor:
    """What stands in place of the hidden parts of images (B, 3, H, W).

    Raises:
        KeyError: a fill that :data:`FILLS` does not know; near misses are listed.
        ValueError: a fill that gives something of another shape.
    """
    hidden = FILLS[fill](images)
    if hidden.shape != images.shape:
        raise ValueError(f"the fill {fill!r} gives {tuple(hidden.shape)} for images {tuple(images.shape)}")
    return hidden


def masked_images(images: Tensor, maps: Tensor, fill: str = "black") -> Tensor:
    """Explained images ``x * m + fill * (1 - m)`` of images (B, 3, H, W) and maps (B, 1, H, W); see
    :func:`filling`."""
    return blend(images, filling(images, fill), maps)


def blend(images: Tensor, hidden: Tensor, maps: Tensor) -> Tensor:
    """``images`` where maps (B, 1, H, W) are 1, ``hidden`` where they are 0."""
    return images * maps + hidden * (1 - maps)


def top_share(maps: Tensor, share: float | Tensor) -> Tensor:
    """The highest pixels (B, 1, H, W) bool of maps (B, 1, H, W), exactly ``round(share * H * W)`` of each.

    Equal values are taken in reading order; ``share``, 0..1, is for all maps or one each (B,).
    """
    counts = torch.as_tensor(share, device=maps.device).expand(len(maps)) * maps.shape[1:].numel()
    return pixel_ranks(maps) < counts.round()[:, None, None, None]


def pixel_ranks(maps: Tensor) -> Tensor:
    """Rank (B, 1, H, W), int64, of every pixel of maps (B, 1, H, W): 0 the highest, ties in reading order."""
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)  # (B, H * W)
    places = torch.arange(order.shape[1], device=maps.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places).view_as(maps)
