"""What the contrastive training asks for: images, or mosaics of two of them, and a class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gan_lib.data.mosaics import mosaic


@dataclass(frozen=True)
class Task:
    """A batch to be explained.

    Attributes:
        pictures: (B, 3, H, W), images or mosaics.
        classes: (B,) the class that is asked for.
        other_classes: (B,) the class of a mosaic's other part, or -1.
        originals: (B, D) embeddings of the images alone.
        parts: how many images make up a picture.
    """

    pictures: Tensor
    classes: Tensor
    other_classes: Tensor
    originals: Tensor
    parts: int


def mosaic_task(
    pictures: Tensor, classes: Tensor, originals: Tensor, rows: Tensor, other: Tensor, kind: str
) -> Task:
    """Mosaics of the pictures at some rows and of their partners; half of them ask for the first part."""
    partners = other[rows]
    asks_second = torch.arange(len(rows), device=rows.device) % 2 == 1
    first, second = torch.where(asks_second, partners, rows), torch.where(asks_second, rows, partners)
    joined, _ = mosaic(pictures[first], pictures[second], kind)
    parts = 2 if kind in ("beside", "above") else 1
    return Task(joined, classes[rows], classes[partners], originals[rows], parts)


def partners(classes: Tensor) -> Tensor:
    """For every row another one with another class: the next such; -1 where there is none."""
    count = len(classes)
    if count < 2:
        return torch.full_like(classes, -1)
    order = (torch.arange(count)[:, None] + torch.arange(1, count)) % count  # (B, B - 1)
    order = order.to(classes.device)
    differs = classes[order] != classes[:, None]
    first = order.gather(1, differs.int().argmax(1, keepdim=True))[:, 0]
    return torch.where(differs.any(1), first, -1)
