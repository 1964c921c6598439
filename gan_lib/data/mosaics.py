"""Mosaics of two images, each part of which shows another class."""

from __future__ import annotations

import torch
from torch import Tensor

MOSAICS = ("beside", "above", "halves", "pasted")


def mosaic(first: Tensor, second: Tensor, kind: str = "beside") -> tuple[Tensor, Tensor]:
    """Join images in pairs.

        pictures, is_first = mosaic(cats, dogs)

    Args:
        first, second: (B, 3, H, W) each.
        kind: ``beside`` and ``above`` keep both whole, in an image of twice the width or height;
            ``halves`` keeps the size and shows the middle of each, half as wide; ``pasted`` keeps the
            size and puts the second, at half its side, into a corner of the first.

    Returns:
        The mosaics, and where the first image is: (1, 1, H', W') bool.

    Raises:
        ValueError: images of different sizes, or an unknown kind.
    """
    if first.shape != second.shape:
        raise ValueError(f"images of {tuple(first.shape)} and {tuple(second.shape)} make no mosaic")
    height, width = first.shape[-2:]
    if kind in ("beside", "above"):
        dim = 3 if kind == "beside" else 2
        joined = torch.cat([first, second], dim)
        is_first = torch.zeros(1, 1, *joined.shape[2:], dtype=torch.bool, device=first.device)
        is_first[..., :height, :width] = True
        return joined, is_first
    is_first = torch.ones(1, 1, height, width, dtype=torch.bool, device=first.device)
    if kind == "halves":
        start = width // 4
        left, right = first[..., start : start + width // 2], second[..., start : start + width - width // 2]
        is_first[..., width // 2 :] = False
        return torch.cat([left, right], 3), is_first
    if kind == "pasted":
        small = torch.nn.functional.interpolate(
            second, size=(height // 2, width // 2), mode="bilinear", antialias=True, align_corners=False
        )
        joined = first.clone()
        joined[..., height - height // 2 :, width - width // 2 :] = small
        is_first[..., height - height // 2 :, width - width // 2 :] = False
        return joined, is_first
    raise ValueError(f"a mosaic is one of {MOSAICS}, not {kind!r}")


def unlike_pairs(classes: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Rows to be joined in pairs of different classes, drawn at random, every image at most once.

        left, right = unlike_pairs(explained, seed=0)
        pictures, is_left = mosaic(images[left], images[right])

    Args:
        classes: (N,) of the images.
        seed: decides the draw.

    Returns:
        Two times (P,) int64, P at most N // 2: an image that meets its own class is left out. Where there is
        one class only, pairs of it.
    """
    order = torch.randperm(len(classes), generator=torch.Generator().manual_seed(seed))
    first, second = order[: len(order) // 2], order[len(order) // 2 : 2 * (len(order) // 2)]
    differ = classes.cpu()[first] != classes.cpu()[second]
    return (first[differ], second[differ]) if differ.any() else (first, second)
