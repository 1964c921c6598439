"""A CNN with its normalisation inside, so that every caller works in pixel space."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ModelCard:
    """All that is needed to build a classifier again, apart from its weights.

    Attributes:
        architecture: name for :func:`gan_lib.classifiers.make_classifier`.
        class_names: one name per logit.
        head: ``linear`` or ``published``.
        mean, std: normalisation per channel, for images in [0, 1].
    """

    architecture: str
    class_names: tuple[str, ...]
    head: str = "linear"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


class Classifier(nn.Module):
    """A CNN that takes images in [0, 1] and returns logits.

    Args:
        backbone: module from normalised images (B, 3, H, W) to logits (B, K).
        card: how it was made; its ``mean`` and ``std`` are applied before the backbone.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, card: ModelCard) -> None:
        super().__init__()
        self.backbone, self.card = backbone, card
        self.register_buffer("mean", torch.tensor(card.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(card.std).view(1, 3, 1, 1), persistent=False)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.card.class_names

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of images (B, 3, H, W) in [0, 1]."""
        logits: Tensor = self.backbone((images - self.mean) / self.std)
        return logits


def folded(cnn: nn.Module) -> nn.Module | None:
    """A copy in eval mode with batch normalisation folded into the convolutions: the same logits, faster.

    Layers keep their names; a convolution's activation is then what the normalisation made of it.
    ``None`` for a CNN that torch.fx cannot trace.
    """
    try:
        copied: nn.Module = fuse(copy.deepcopy(cnn).eval(), inplace=True)
    except (torch.fx.proxy.TraceError, NotImplementedError, TypeError, RuntimeError):
        return None
    return copied.to(memory_format=torch.channels_last).eval()
