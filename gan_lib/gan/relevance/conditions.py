"""A generator seen as a function of its conditions, each of which can be there or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Self

import torch
from torch import Tensor

from gan_lib.core.capture import evaluation_mode
from gan_lib.core.options import positive
from gan_lib.gan.generators import Generator
from gan_lib.gan.generators.layers import SFTLayers

Conditions = Tensor | Sequence[Tensor]
Parts = tuple[Tensor, ...]


def as_parts(conditions: Conditions) -> Parts:
    """Conditions one by one: n maps (B, 1, H, W), or n activations (B, C_l, H_l, W_l)."""
    return conditions.split(1, dim=1) if isinstance(conditions, Tensor) else tuple(conditions)


def mean_conditions(conditions: Conditions) -> Parts:
    """The images' mean of every condition: n tensors (1, C_l, H_l, W_l).

    Raises:
        ValueError: conditions of no image.
    """
    parts = as_parts(conditions)
    positive(images=len(parts[0]))
    return tuple(part.mean(0, keepdim=True) for part in parts)


def zero_conditions(conditions: Conditions) -> Parts:
    """Zeros in the shape of every condition: n tensors (1, C_l, H_l, W_l)."""
    return tuple(part.new_zeros(1, *part.shape[1:]) for part in as_parts(conditions))


class ConditionedGenerator:
    """A generator whose conditions can be taken away one by one.

        seen = ConditionedGenerator(generator, mean_conditions(conditions))
        seen.maps(images, seen.without(parts, 3))    # the maps when the fourth condition says nothing

    Args:
        generator: any trained generator, conditioned on maps or on activations; left as it is.
        absent: what stands in place of a condition that is taken away, (1, C_l, H_l, W_l) each, for instance
            :func:`mean_conditions` or :func:`zero_conditions`; ``None`` for another image's condition, that
            of the image before (the last for the first).
    """

    def __init__(self, generator: Generator, absent: Sequence[Tensor] | None) -> None:
        self.generator, self.absent = generator, absent

    def nothing(self, parts: Sequence[Tensor]) -> Parts:
        """What stands in place of conditions, each of the same shape.

        Raises:
            ValueError: another image's condition, where there is one image only.
        """
        if self.absent is not None:
            return tuple(own.to(part).expand_as(part) for own, part in zip(self.absent, parts, strict=True))
        if len(parts[0]) == 1:
            raise ValueError("another image's condition needs at least two images")
        return tuple(part.roll(1, 0) for part in parts)

    def batches(
        self, images: Tensor, conditions: Conditions, size: int
    ) -> Iterator[tuple[Self, Tensor, Parts]]:
        """In batches: this with what stands in place of their conditions, the images, their conditions.

        Raises:
            ValueError: no image, not as many conditions as images, or a size below 1.
        """
        parts = as_parts(conditions)
        positive(images=len(images), batch_size=size)
        if any(len(part) != len(images) for part in parts):
            raise ValueError(f"{len(images)} images and conditions of {[len(part) for part in parts]}")
        nothing = self.nothing(parts)
        for rows in torch.arange(len(images)).split(size):
            absent = [own[rows] for own in nothing]
            yield type(self)(self.generator, absent), images[rows], tuple(part[rows] for part in parts)

    def without(self, parts: Sequence[Tensor], index: int) -> Parts:
        """Conditions with one of them taken away."""
        nothing = self.nothing(parts)
        return (*parts[:index], nothing[index], *parts[index + 1 :])

    def only(self, parts: Sequence[Tensor], index: int) -> Parts:
        """Conditions with all but one taken away."""
        nothing = self.nothing(parts)
        return (*nothing[:index], parts[index], *nothing[index + 1 :])

    def _given(self, parts: Sequence[Tensor]) -> Conditions:
        return list(parts) if self.generator.sizes.features else torch.cat(list(parts), dim=1)

    def maps(self, images: Tensor, parts: Sequence[Tensor]) -> Tensor:
        """Maps (B, 1, H, W) of images (B, 3, H, W) and conditions one by one."""
        with evaluation_mode(self.generator):
            made: Tensor = self.generator(images, self._given(parts))
        return made

    def modulations(self, images: Tensor, parts: Sequence[Tensor]) -> list[Tensor]:
        """Scale and shift, (B, 2C, h, w), of every SFT layer in the order in which they are applied.

        In LSFT the k-th layer reads the k-th condition; in GSFT every layer reads all of them.

        Raises:
            ValueError: a generator without SFT layers named ``transforms``.
        """
        transforms = getattr(self.generator, "transforms", None)
        if not isinstance(transforms, SFTLayers):
            raise ValueError(f"{type(self.generator).__name__} has no SFT layers that conditions could move")
        with evaluation_mode(self.generator):
            pairs = transforms(self.generator.condition_network(self._given(parts), images))
        return [torch.cat(pair, dim=1) for pair in pairs]


def overlap(maps: Tensor, full: Tensor) -> Tensor:
    """What relevance is relevance for: the soft Dice overlap (B,) in 0..1 with the maps under all conditions.

    ``2 sum(m m') / (sum m^2 + sum m'^2)`` of maps (B, 1, H, W) in [0, 1]; 1 where they are the same.
    """
    shared = 2 * (maps * full).sum((1, 2, 3))
    total = maps.square().sum((1, 2, 3)) + full.square().sum((1, 2, 3))
    return torch.where(total > 0, shared / total.clamp(min=1e-30), 1.0)  # empty maps are the same
