"""Explainers: whatever turns images and a class into maps, all under Captum's interface.

Each is a :class:`captum.attr.Attribution` whose ``attribute(inputs, target=None)`` returns maps
(B, 1, H, W) in [0, 1]; so they are interchangeable and feed the same measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from captum.attr import Attribution
from torch import Tensor, nn

from gan_lib.capture import evaluation_mode
from gan_lib.conditions import ConditionMaker, grad_cam, linear_readout, min_max, upsample
from gan_lib.generators import Generator

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


class GradCAM(Explainer):
    """Grad-CAM of one layer as an explainer.

    maps = GradCAM(cnn, "backbone.layer4").attribute(images)
    """

    def __init__(self, cnn: nn.Module, layer: str) -> None:
        super().__init__(cnn)
        self.layer = layer

    def maps(self, images: Tensor, target: Target) -> Tensor:
        raw = grad_cam(self.cnn, images, [self.layer], target).raw[self.layer]
        return min_max(upsample(raw, (images.shape[-2], images.shape[-1])))


class LinearReadout(Explainer):
    """Control: the map read off the conditions by a subtraction, with nothing learned."""

    def __init__(self, maker: ConditionMaker) -> None:
        super().__init__(maker.cnn)
        self.maker = maker

    def maps(self, images: Tensor, target: Target) -> Tensor:
        return linear_readout(self.maker(images, target).cgma, self.maker.positions)


class GANExplainer(Explainer):
    """A trained LSFT or GSFT generator as an explainer.

        explainer = GANExplainer(ConditionMaker(cnn, (64, 64)), load_generator(folder))
        maps = explainer.attribute(images, target=3)

    Args:
        maker: makes the conditions that the generator was trained with.
        generator: the trained generator.

    Raises:
        ValueError: another number of conditions than the generator's.
    """

    def __init__(self, maker: ConditionMaker, generator: Generator) -> None:
        super().__init__(maker.cnn)
        if len(maker.positions) != generator.sizes.conditions:
            raise ValueError(
                f"{len(maker.positions)} conditions for a generator of {generator.sizes.conditions}"
            )
        self.maker, self.generator = maker, generator

    def to(self, device: torch.device | str) -> Self:
        self.generator.to(device)
        return super().to(device)

    def maps(self, images: Tensor, target: Target) -> Tensor:
        conditions = self.maker(images, target).cgma  # (B, n, H, W)
        with evaluation_mode(self.generator), torch.no_grad():
            made: Tensor = self.generator(images, conditions)
        return made.float()
