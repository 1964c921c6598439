"""Guided feature inversion as its public code does it: one image, slow, and with its flaws.

Nothing here is meant to be used; it is what the library is compared with. Each flaw can be left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Flaws:
    """What the public code does and the paper does not say.

    Attributes:
        base_again: compute the base activation at every iteration.
        channel_loop: add up the channels one by one.
        graph_of_everything: parameters take part in the backward pass, through the unmasked image too.
        moments_lost: a new Adam at every iteration.
        other_blur: the blurred image is not normalised, transposed, in BGR, 0..255.
    """

    base_again: bool = True
    channel_loop: bool = True
    graph_of_everything: bool = True
    moments_lost: bool = True
    other_blur: bool = True


NONE = Flaws(*[False] * 5)


def blur_of(image: Tensor, flaws: Flaws, mean: Tensor, std: Tensor) -> Tensor:
    """What stands where the mask is 0, (1, 3, H, W), of one image (1, 3, H, W) in [0, 1]."""
    pixels = image[0].permute(1, 2, 0).numpy()  # (H, W, 3)
    if flaws.other_blur:
        pixels = (255 * pixels[..., ::-1]).round().astype(np.uint8)
    made = torch.from_numpy(np.float32(cv2.GaussianBlur(np.ascontiguousarray(pixels), (23, 23), sigmaX=11)))
    if flaws.other_blur:
        return made.permute(2, 1, 0)[None]
    return (made.permute(2, 0, 1)[None] - mean) / std


class SlowInversion:
    """Both steps on a CNN whose ``features`` are numbered, as VGG's are."""

    def __init__(self, cnn: nn.Module, layer: int, inverted: int, flaws: Flaws, mean: Tensor, std: Tensor):
        self.cnn, self.layer, self.inverted, self.flaws = cnn, layer, inverted, flaws
        self.mean, self.std = mean, std
        self.parameters = [p for p in cnn.parameters() if p.requires_grad]

    def features(self, x: Tensor) -> list[Tensor]:
        kept = []
        for number, module in enumerate(self.cnn.features):
            x = module(x)
            if number in (self.layer, self.inverted):
                kept.append(x)
        return kept

    def base(self, x: Tensor) -> list[Tensor]:
        if self.flaws.graph_of_everything:
            return self.features(x)
        with torch.no_grad():
            return self.features(x)

    def mask(self, weights: Tensor, x: Tensor, size: tuple[int, int]) -> Tensor:
        if self.flaws.base_again or not hasattr(self, "kept"):
            self.kept = self.base(x)[0]
        activation = self.kept[0]  # (C, h, w)
        if self.flaws.channel_loop:
            mask = torch.zeros(activation.shape[1:])
            for k, channel in enumerate(activation):
                mask += weights[k] * channel
        else:
            mask = (weights[:, None, None] * activation).sum(0)
        mask = (mask - mask.min()) / (mask.max() - mask.min())
        upsampling = nn.Upsample(size=size, mode="bilinear")
        return torch.cat([upsampling(mask[None, None])] * 3, 1)

    def run(
        self, image: Tensor, target: int | None = None, iterations: int = 10, start: Tensor | None = None
    ):
        """Weights after, and objectives before every iteration; with a target step 2, else step 1."""
        x, hidden = (image - self.mean) / self.std, blur_of(image, self.flaws, self.mean, self.std)
        preserved = self.base(x)[1]
        channels = self.base(x)[0].shape[1]
        weights = (0.1 * torch.ones(channels) if start is None else start.clone()).requires_grad_()
        rate, trace, optimiser = 0.01, [], None
        for iteration in range(iterations):
            if optimiser is None or self.flaws.moments_lost:
                optimiser = torch.optim.Adam([weights], lr=rate)
            optimiser.zero_grad()
            mask = self.mask(weights, x, tuple(x.shape[-2:]))
            foreground = x * mask + hidden * (1 - mask)
            if target is None:
                apart = preserved - self.features(foreground)[1]
                loss = (apart.reshape(-1) ** 2).sum() + 10 * weights.sum()
            else:
                inside = self.cnn(foreground)[0, target]
                outside = self.cnn(x * (1 - mask) + hidden * mask)[0, target]
                loss = outside - inside + weights.sum()
            trace.append(float(loss.detach()))
            loss.backward(retain_graph=True)
            optimiser.step()
            with torch.no_grad():
                weights.clamp_(min=0)
            if target is not None and (iteration + 1) % 10 == 0:
                rate /= 2
                for group in optimiser.param_groups:
                    group["lr"] = rate
        for parameter in self.parameters:
            parameter.grad = None
        return weights.detach(), trace
