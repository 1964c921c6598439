"""Numbers that are given as images and labels: taken as they are meant, or refused by what they look like."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

OVERSHOOT = 0.25  # how far bicubic resizing goes past the range


def whole_labels(labels: Any, where: str) -> Tensor:
    """Labels as (N,) int64; a ``ValueError`` where they are no whole numbers."""
    numbers = labels.detach().cpu() if isinstance(labels, Tensor) else torch.as_tensor(np.asarray(labels))
    if numbers.is_floating_point() and not torch.equal(numbers, numbers.round()):
        raise ValueError(f"{where}: labels must be whole numbers, the places of their classes")
    return numbers.long()


def as_uint8(images: Any, where: str) -> Tensor:
    """Images as (N, 3, H, W) uint8; see :meth:`gan_lib.data.ImageData.from_arrays` for what is accepted,
    and a ``ValueError`` else."""
    values = images.detach().cpu() if isinstance(images, Tensor) else torch.as_tensor(np.asarray(images))
    if values.dtype == torch.bool:
        values = values.float()
    if values.ndim == 3:
        values = values[:, None]  # (N, 1, H, W)
    if values.ndim != 4 or values.shape[1] not in (1, 3):
        raise ValueError(f"{where}: images must be (N, 1 or 3, H, W), not {tuple(values.shape)}")
    if values.dtype != torch.uint8:
        check_range(values, where)
        values = (values.double() * 255).round().to(torch.uint8)
    return values.expand(-1, 3, -1, -1).contiguous()


def check_range(images: Tensor, where: str) -> None:
    """Raise a ValueError that names the first of the images (N, ...) with values outside [0, 1].

    It says what the values look like, and what is to be done about it.
    """
    if not images.is_floating_point():
        hint = "make those of 0..255 uint8, divide those of 16 bits by 65535"
        raise ValueError(f"{where}: numbers must be uint8 or float in [0, 1], not {images.dtype}; {hint}")
    flat = images.flatten(1)
    wrong = ~(flat.isfinite() & (flat >= 0) & (flat <= 1)).all(dim=1)
    if wrong.any():
        first = int(wrong.nonzero()[0])
        alike = flat.isfinite().all(dim=1) == flat[first].isfinite().all()  # NaN would hide what others show
        problem = range_problem(flat[wrong & alike].detach().cpu().double().numpy())
        raise ValueError(f"{where}: image {first} has {problem} ({int(wrong.sum())} such images)")


def range_problem(values: NDArray[np.float64]) -> str:
    """What is wrong with values that should be in [0, 1], and what to do; empty where nothing is."""
    if not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        return f"NaN or infinite values, {count} of {values.size}: replace them by numbers in [0, 1]"
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1:
        return ""
    span = f"values outside [0, 1], from {low:.4g} to {high:.4g}"
    if low >= -OVERSHOOT and high <= 1 + OVERSHOOT:
        return f"{span}: where resizing went past the range, clip them to [0, 1]"
    if low < 0:
        undo = "(values + 1) / 2 for [-1, 1], else values * std + mean"
        return f"{span}: they look normalised; undo it, {undo}: gan_lib normalises by itself"
    if high <= 255:
        return f"{span}: they look like 0..255; divide by 255, or make them uint8"
    return f"{span}: divide by the number that is white, such as 65535 for 16 bits"
