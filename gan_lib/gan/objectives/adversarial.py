"""Adversarial objectives, for discriminator and generator."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

ADVERSARIAL = ("bce", "hinge")


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor, kind: str = "bce") -> Tensor:
    """Loss of a discriminator whose logits are (B,), positive for real.

    ``bce``: mean of both binary cross-entropies (arXiv 2301.08067). ``hinge``: mean of
    ``relu(1 - real)`` and ``relu(1 + fake)``.

    Raises:
        ValueError: an unknown kind.
    """
    if kind == "bce":
        real = F.binary_cross_entropy_with_logits(real_logits, torch.ones_like(real_logits))
        fake = F.binary_cross_entropy_with_logits(fake_logits, torch.zeros_like(fake_logits))
        return (real + fake) / 2
    if kind == "hinge":
        return (F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()) / 2
    raise ValueError(f"adversarial objective is one of {ADVERSARIAL}, not {kind!r}")


def generator_loss(fake_logits: Tensor, kind: str = "bce") -> Tensor:
    """Loss of a generator whose maps get these logits (B,): the non-saturating form of either kind.

    Raises:
        ValueError: an unknown kind.
    """
    if kind == "bce":
        return F.binary_cross_entropy_with_logits(fake_logits, torch.ones_like(fake_logits))
    if kind == "hinge":
        return -fake_logits.mean()
    raise ValueError(f"adversarial objective is one of {ADVERSARIAL}, not {kind!r}")


def discriminator_accuracy(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Share of real and fake pairs (B,) each that the logits put on the right side."""
    return ((real_logits > 0).float().mean() + (fake_logits <= 0).float().mean()) / 2
