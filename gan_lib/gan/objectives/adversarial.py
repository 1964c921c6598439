"""Adversarial objectives, for discriminator and generator: ``bce`` (arXiv 2301.08067) or ``hinge``."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Adversarial = Literal["bce", "hinge"]


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor, kind: Adversarial = "bce") -> Tensor:
    """Loss of a discriminator whose logits are (B,), positive for real.

    Mean of both binary cross-entropies, or of ``relu(1 - real)`` and ``relu(1 + fake)``.
    """
    if kind == "hinge":
        return (F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()) / 2
    real = F.binary_cross_entropy_with_logits(real_logits, torch.ones_like(real_logits))
    fake = F.binary_cross_entropy_with_logits(fake_logits, torch.zeros_like(fake_logits))
    return (real + fake) / 2


def generator_loss(fake_logits: Tensor, kind: Adversarial = "bce") -> Tensor:
    """Loss of a generator whose maps get these logits (B,): the non-saturating form of either kind."""
    if kind == "hinge":
        return -fake_logits.mean()
    return F.binary_cross_entropy_with_logits(fake_logits, torch.ones_like(fake_logits))


def discriminator_accuracy(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Share of real and fake pairs (B,) each that the logits put on the right side."""
    return ((real_logits > 0).float().mean() + (fake_logits <= 0).float().mean()) / 2
