"""Mosaics of two images, each part of which shows another class."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import interpolate

Mosaic = Literal["beside", "above", "halves", "pasted"]
MOSAICS: tuple[Mosaic, ...] = get_args(Mosaic)


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
    (height, width), (rows, columns) = first.shape[-2:], (slice(None), slice(None))  # of the second
    if kind in ("beside", "above"):
        joined = torch.cat([first, second], 3 if kind == "beside" else 2)
        rows, columns = (rows, slice(width, None)) if kind == "beside" else (slice(height, None), columns)
    elif kind == "halves":
        start, columns = width // 4, slice(width // 2, None)
        parts = first[..., start : start + width // 2], second[..., start : start + width - width // 2]
        joined = torch.cat(parts, 3)
    elif kind == "pasted":
        small, joined = (height // 2, width // 2), first.clone()
        rows, columns = slice(height - small[0], None), slice(width - small[1], None)
        joined[..., rows, columns] = interpolate(second, small, mode="bilinear", antialias=True)
    else:
        raise ValueError(f"a mosaic is one of {MOSAICS}, not {kind!r}")
    is_first = torch.ones(1, 1, *joined.shape[2:], dtype=torch.bool, device=first.device)
    is_first[..., rows, columns] = False
    return joined, is_first


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
    known = classes.cpu()
    differ = known[first] != known[second]
    if not differ.any() and len(known.unique()) > 1:  # few images, drawn unluckily: a pair from two classes
        here = order[known[order] == known[order[0]]]
        there = order[known[order] != known[order[0]]]
        count = min(len(here), len(there))
        return here[:count], there[:count]
    return (first[differ], second[differ]) if differ.any() else (first, second)
