"""What is given to a measure: maps without NaN, masks that are masks, both of the images' number and size."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def check_images(images: Tensor) -> None:
    """A ValueError for images (B, 3, H, W) that are not floating-point numbers in [0, 1]."""
    if not images.is_floating_point():
        raise ValueError(f"images are floating-point numbers in [0, 1], not {images.dtype}: divide by 255?")
    if len(images) and not (float(images.min()) >= 0 and float(images.max()) <= 1):
        low, high = float(images.min()), float(images.max())
        raise ValueError(f"images reach from {low:.3g} to {high:.3g}; they lie in [0, 1], without NaN")


def check_maps(images: Tensor, maps: Mapping[str, Tensor | None]) -> None:
    """A ValueError that names the maps that are not (N, 1, H, W) in [0, 1] for images (N, 3, H, W)."""
    wanted = (len(images), 1, *images.shape[-2:])
    for name, own in maps.items():
        if own is None:
            continue
        if tuple(own.shape) != wanted:
            raise ValueError(f"{name}: {tuple(own.shape)}, but for these images maps are {wanted}")
        _check_values(own, name)
        if len(own) and not (float(own.min()) >= 0 and float(own.max()) <= 1 + 1e-6):
            low, high = float(own.min()), float(own.max())
            raise ValueError(
                f"{name}: values from {low:.3g} to {high:.3g}; maps lie in [0, 1] (gan_lib.core.maps)"
            )


def check_masks(images: Tensor, evidence: Tensor | None) -> None:
    """A ValueError for evidence that is no mask (N, 1, H, W) bool of images (N, 3, H, W)."""
    wanted = (len(images), 1, *images.shape[-2:])
    if evidence is not None and tuple(evidence.shape) != wanted:
        raise ValueError(f"evidence: {tuple(evidence.shape)}, but for these images masks are {wanted}")
    if evidence is not None and evidence.dtype != torch.bool:
        raise ValueError(f"evidence is a boolean mask, not {evidence.dtype}: say where it is, evidence > 0.5")


def check_pair(maps: Tensor, evidence: Tensor) -> None:
    """A ValueError for maps that are not (B, 1, H, W) without NaN, or evidence that is no mask of theirs:
    bool, (B, 1, H, W), or (1, 1, H, W) for all."""
    if maps.ndim != 4 or maps.shape[1] != 1:
        raise ValueError(f"maps are (B, 1, H, W), not {tuple(maps.shape)}")
    _check_values(maps, "maps")
    if len(maps) and float(maps.min()) < 0:
        raise ValueError(
            f"maps reach down to {float(maps.min()):.3g}; maps lie in [0, 1] (gan_lib.core.maps)"
        )
    if evidence.dtype != torch.bool:
        raise ValueError(f"evidence is a boolean mask, not {evidence.dtype}")
    if tuple(evidence.shape) not in (tuple(maps.shape), (1, *maps.shape[1:])):
        raise ValueError(f"evidence {tuple(evidence.shape)} is no mask of maps {tuple(maps.shape)}")


def _check_values(maps: Tensor, name: str) -> None:
    wrong = ~maps.flatten(1).isfinite().all(1)
    if wrong.any():
        raise ValueError(f"{name}: NaN or infinite values in {int(wrong.sum())} of {len(maps)} maps")
