"""Insertion and deletion: the class's probability while pixels come and go in the order of a map."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gan_lib.classifiers import folded
from gan_lib.classifiers.copies import follow
from gan_lib.core.capture import evaluation_mode
from gan_lib.core.inputs import layout_for, weight_of
from gan_lib.core.masking import filling, pixel_ranks
from gan_lib.core.options import positive
from gan_lib.core.outputs import probabilities

CACHED = 2**18  # pixels in one pass that the caches of a CPU still serve
ON_GPU = 256  # images in one pass


class Probe:
    """The probability of a class, asked very often.

    It runs a copy of the CNN with batch normalisation folded into the convolutions, where that can be
    done (:func:`gan_lib.classifiers.folded`): the same probabilities, faster. It follows the CNN's weights.

    With ``mixed_precision`` products and convolutions are in bfloat16: up to three times as fast with large
    CNNs where the hardware can; probabilities are off by thousandths, at times by hundredths.
    """

    def __init__(
        self, cnn: nn.Module, mixed_precision: bool = False, size: tuple[int, int] | None = None
    ) -> None:
        copied = folded(cnn, size)
        self.net = cnn if copied is None else copied.requires_grad_(False)
        self.dtype, self.mixed_precision = weight_of(cnn).dtype, mixed_precision
        if mixed_precision:
            if copied is None:
                self.net = follow(copy.deepcopy(cnn), cnn, copy.deepcopy).requires_grad_(False)
            self.net.float()
            self.dtype = torch.float32
            for module in self.net.modules():
                if isinstance(module, nn.Conv2d):
                    module.to(torch.bfloat16)  # once, and not in every pass

    def at_once(self, images: Tensor) -> int:
        """How many of such images (..., H, W) go into one pass: on a CPU, 64 of 64 x 64."""
        if weight_of(self.net).device.type != "cpu":
            return ON_GPU
        return max(1, CACHED * (1 + self.mixed_precision) // (images.shape[-2] * images.shape[-1]))

    @torch.no_grad()
    def __call__(self, images: Tensor, target: Tensor) -> Tensor:
        """Probabilities (B,) of classes (B,) on images (B, 3, H, W)."""
        device = weight_of(self.net).device
        mixed = torch.autocast(device.type, torch.bfloat16, enabled=self.mixed_precision)
        with evaluation_mode(self.net), mixed:
            layout = layout_for(self.net, images)
            parts = [
                probabilities(self.net, self.net(part.to(device, self.dtype, memory_format=layout)))
                for part in images.split(self.at_once(images))
            ]
        found = torch.cat(parts)  # (B, K)
        return found.gather(1, target[:, None].to(device))[:, 0].to(images.device)


class Curves(NamedTuple):
    """Probability of the explained class while pixels are hidden, or shown, highest first."""

    shares: Tensor  # (S + 1,) of the pixels, from 0 to 1
    deletion: Tensor  # (B, S + 1)
    insertion: Tensor  # (B, S + 1)


def perturbation_curves(
    probe: Probe, images: Tensor, maps: Tensor, target: Tensor, steps: int = 20, fill: str | Tensor = "black"
) -> Curves:
    """Deletion and insertion curves (RISE, Petsiuk et al., BMVC 2018), batched over images and steps.

        curves = perturbation_curves(Probe(cnn), images, maps, classes)
        area_under(curves.insertion, curves.shares)  # (B,)

    As torch-cam has it, the pixels per step are rounded up, and the last step takes what is left.

    Args:
        probe: asks the CNN.
        images: (B, 3, H, W) in [0, 1]; target: (B,) their explained classes.
        maps: (B, 1, H, W); equal values go in reading order.
        steps: S of the curves; fewer where the image has fewer pixels.
        fill: what stands in place of hidden pixels, one of :data:`gan_lib.core.masking.FILLS`, or other
            images (B, 3, H, W), as counterfactuals are.

    Raises:
        ValueError: no step, or other images of another number or size.
    """
    positive(steps=steps)
    if isinstance(fill, Tensor) and fill.shape != images.shape:
        raise ValueError(f"a fill of {tuple(fill.shape)} does not stand for images {tuple(images.shape)}")
    pixels = images.shape[-1] * images.shape[-2]
    width = -(-pixels // steps)
    counts = torch.tensor([*range(0, pixels, width), pixels], device=images.device)
    hidden = fill if isinstance(fill, Tensor) else filling(images, fill)  # (B, 3, H, W)
    rank = pixel_ranks(maps)  # (B, 1, H, W)
    deletion = images.new_empty((len(images), len(counts)), dtype=torch.float32)
    insertion = torch.empty_like(deletion)
    deletion[:, 0] = insertion[:, -1] = probe(images, target)
    deletion[:, -1] = insertion[:, 0] = probe(hidden, target)
    inner = counts[1:-1]
    # As many images at a time as fill a pass with their steps.
    at_once = max(1, probe.at_once(images) // max(1, 2 * len(inner)))
    memory = images.new_empty((min(at_once, len(images)), 2, len(inner), *images.shape[1:]))  # used again
    for rows in torch.arange(len(images), device=images.device).split(at_once) if len(inner) else ():
        top = rank[rows, None] < inner.view(1, -1, 1, 1, 1)  # (b, S - 1, 1, H, W)
        picture, other = images[rows, None], hidden[rows, None]
        seen = memory[: len(rows)]  # (b, 2, S - 1, 3, H, W)
        torch.where(top, other, picture, out=seen[:, 0])
        torch.where(top, picture, other, out=seen[:, 1])
        asked = target[rows].repeat_interleave(2 * len(inner))
        found = probe(seen.flatten(0, 2), asked).view(len(rows), 2, len(inner))
        deletion[rows, 1:-1], insertion[rows, 1:-1] = found[:, 0], found[:, 1]
    return Curves(counts / pixels, deletion, insertion)


def area_under(curve: Tensor, shares: Tensor) -> Tensor:
    """Area (B,) under curves (B, S + 1) over shares (S + 1,)."""
    return torch.trapezoid(curve, shares, dim=1)
