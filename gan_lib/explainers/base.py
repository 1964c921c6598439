"""The interface of all explainers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from captum.attr import Attribution
from torch import Tensor, nn

Target = int | Sequence[int] | Tensor | None


class Explainer(Attribution):
    """Base: a variant overrides :meth:`maps`.

    Args:
        cnn: the CNN to be explained, from images in [0, 1] to logits.
    """

    def __init__(self, cnn: nn.Module) -> None:
        super().__init__(cnn)
        self.cnn = cnn

    def maps(self, images: Tensor, target: Target) -> Tensor:
        """Maps (B, 1, H, W) in [0, 1] of images (B, 3, H, W)."""
        raise NotImplementedError

    def attribute(self, inputs: Tensor, target: Target = None, batch_size: int | None = None) -> Tensor:
        """Maps (B, 1, H, W) in [0, 1] that explain a class.

        Args:
            inputs: (B, 3, H, W) in [0, 1].
            target: ``None`` for the predicted class, one class, or one per image.
            batch_size: images at a time, to bound the memory; by default all.

        Raises:
            ValueError: a wrong number of targets.
        """
        size = batch_size or max(1, len(inputs))
        parts = inputs.split(size)
        targets: list[Target] = [target] * len(parts)
        if target is not None and torch.as_tensor(target).ndim > 0:
            given = torch.as_tensor(target)
            if given.shape != inputs.shape[:1]:
                raise ValueError(f"{len(inputs)} images need one target each, got {tuple(given.shape)}")
            targets = list(given.split(size))
        device = next(self.cnn.parameters()).device
        pairs = zip(parts, targets, strict=True)
        return torch.cat([self.maps(part.to(device), own) for part, own in pairs]).to(inputs.device)

    def to(self, device: torch.device | str) -> Self:
        """Move the networks to a device; images given from elsewhere follow, their maps come back."""
        self.cnn.to(device)
        return self
