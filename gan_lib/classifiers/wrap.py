"""A CNN with its normalisation inside, so that every caller works in pixel space."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_lib.core.outputs import MEANINGS, Meaning, probabilities, scores_of, selected

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
        image_size: height and width in pixels that it was trained at; ``None`` where that is not known.
        output: what the CNN's outputs mean (:data:`gan_lib.core.outputs.MEANINGS`).
        select: which of several outputs is meant, by place, key or field.
        span: lowest and highest value of a regression.
        input_size: height and width that images are scaled to before they enter the CNN, whatever size they
            are of; ``None`` leaves them as they are.
    """

    architecture: str
    class_names: tuple[str, ...]
    head: str = "linear"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    image_size: tuple[int, int] | None = None
    output: Meaning = "logits"
    select: str | int | None = None
    span: tuple[float, float] | None = None
    input_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.output not in MEANINGS:
            raise ValueError(f"output={self.output!r}: one of {list(MEANINGS)}")
        if (self.output == "regression") != (self.span is not None):
            raise ValueError(f"a regression, and nothing else, has span=(lowest, highest), not {self.span}")


class Classifier(nn.Module):
    """A CNN that takes images in [0, 1] and returns scores: logits, or what its outputs are made into.

    Args:
        backbone: module from normalised images (B, 3, H, W) to outputs; the card says what they mean.
        card: how it was made; its ``input_size``, ``mean`` and ``std`` are applied before the backbone.
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
        """Of the card: K names in the order of the logits."""
        return self.card.class_names

    @property
    def output(self) -> Meaning:
        """What the backbone's outputs mean."""
        return self.card.output

    def forward(self, images: Tensor) -> Tensor:
        """Scores (B, K) of images (B, 3, H, W) in [0, 1] (:mod:`gan_lib.core.outputs`)."""
        if self.card.input_size is not None:
            size = list(self.card.input_size)
            images = F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
        outputs = self.backbone((images - self.mean) / self.std)
        if self.card.output == "logits" and self.card.select is None and isinstance(outputs, Tensor):
            return outputs
        return scores_of(selected(outputs, self.card.select), self.card.output, self.card.span)

    def probabilities(self, scores: Tensor) -> Tensor:
        """Probabilities (B, K), 0..1, of scores (B, K)."""
        return probabilities(self, scores)
