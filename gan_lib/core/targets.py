"""Which class each image is asked about."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Target = int | Sequence[int] | Tensor | None


def resolve_target(logits: Tensor, target: Target) -> Tensor:
    """The class (B,) that each image is asked about.

    Args:
        logits: (B, K).
        target: ``None`` for the predicted class, one class for all images, or one per image.

    Raises:
        ValueError: a wrong number of targets.
        IndexError: a class outside 0..K-1.
        TypeError: what is no class number.
    """
    count, classes = logits.shape
    if target is None:
        return logits.argmax(dim=1)
    chosen = torch.as_tensor(target, device=logits.device)
    if chosen.is_floating_point() or chosen.is_complex() or chosen.dtype == torch.bool:
        raise TypeError(f"targets are class numbers, not {chosen.dtype}")
    chosen = chosen.long()
    if chosen.ndim == 0:
        chosen = chosen.expand(count)
    if tuple(chosen.shape) != (count,):
        raise ValueError(f"{count} images need one target, or {count}; got shape {tuple(chosen.shape)}")
    if count and (int(chosen.min()) < 0 or int(chosen.max()) >= classes):
        wrong = next(t for t in chosen.tolist() if not 0 <= t < classes)
        raise IndexError(f"target {wrong} is outside 0..{classes - 1}")
    return chosen
