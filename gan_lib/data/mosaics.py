"""Mosaics of two or four images, each part of which shows another class."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gan_lib.core.options import positive

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


def quarters(images: Tensor) -> tuple[Tensor, Tensor]:
    """Join images in fours, 2 x 2, each of them whole.

        pictures, regions = quarters(images[unlike_groups(explained, 4, seed=0)])

    Args:
        images: (B, 4, 3, H, W); the four of a picture in reading order.

    Returns:
        The mosaics (B, 3, 2 H, 2 W), and where each of the four is: (4, 1, 1, 2 H, 2 W) bool.

    Raises:
        ValueError: images that do not come in fours.
    """
    if images.ndim != 5 or images.shape[1:3] != (4, 3):
        raise ValueError(f"images in fours are (B, 4, 3, H, W), not {tuple(images.shape)}")
    height, width = images.shape[-2:]
    pictures = torch.cat([torch.cat([*row.unbind(1)], 3) for row in images.split(2, 1)], 2)  # (B, 3, 2H, 2W)
    regions = torch.zeros(4, 1, 1, 2 * height, 2 * width, dtype=torch.bool, device=images.device)
    for place, region in enumerate(regions):
        row, column = place // 2, place % 2
        region[..., row * height : (row + 1) * height, column * width : (column + 1) * width] = True
    return pictures, regions


def overlaid(first: Tensor, second: Tensor) -> Tensor:
    """The mean (B, 3, H, W) of two images: both classes are everywhere, so that neither has a region.

        pictures = overlaid(cats, dogs)

    Raises:
        ValueError: images of different sizes.
    """
    if first.shape != second.shape:
        raise ValueError(f"images of {tuple(first.shape)} and {tuple(second.shape)} cannot be overlaid")
    return (first + second) / 2


def unlike_groups(classes: Tensor, size: int, seed: int) -> Tensor:
    """Rows to be joined in groups of different classes, drawn at random, every image at most once.

        pictures, regions = quarters(images[unlike_groups(explained, 4, seed=0)])

    Args:
        classes: (N,) of the images.
        size: of the groups.
        seed: decides the draw.

    Returns:
        (G, size) int64, at least one group and at most N // size: a group with a class twice is left out.

    Raises:
        ValueError: groups of no image, or fewer classes than a group has images.
    """
    positive(size=size)
    known = classes.cpu()
    if len(known.unique()) < size:
        raise ValueError(f"{len(known.unique())} classes make no groups of {size} different ones")
    order, groups = _drawn(len(known), size, seed)
    drawn = known[groups].sort(1).values
    unlike = (drawn[:, 1:] != drawn[:, :-1]).all(1)
    # Few images, drawn unluckily, have no such group: classes are then put together one by one.
    return groups[unlike] if unlike.any() else _by_class(order, known, size)


def _drawn(number: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """So many rows in random order, and the same in groups (number // size, size)."""
    order = torch.randperm(number, generator=torch.Generator().manual_seed(seed))
    count = number // size
    return order, order[: size * count].view(size, count).T


def _by_class(order: Tensor, classes: Tensor, size: int) -> Tensor:
    """Groups (G, size) of rows in an order: the images of the first one's class, each with others."""
    if size == 1:
        return order[:, None]
    first = classes[order] == classes[order[0]]
    here, there = order[first], _by_class(order[~first], classes, size - 1)
    count = min(len(here), len(there))
    return torch.cat([here[:count, None], there[:count]], 1)


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
    several = len(classes.unique()) > 1
    groups = unlike_groups(classes, 2, seed) if several else _drawn(len(classes), 2, seed)[1]
    return groups[:, 0], groups[:, 1]
