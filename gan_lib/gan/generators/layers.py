"""Building blocks of the generators: sizes, spatial feature transforms, residual blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from gan_lib.core.options import options

Joint = Literal["mean", "product"]  # how conditions make up a prior
SLOPE = 0.1  # of every LeakyReLU


@options
class GeneratorSizes:
    """Sizes of a generator; the defaults are the paper's.

    Attributes:
        conditions: number n of conditions.
        width: channels of the features.
        condition_hidden: channels inside the condition network.
        condition_channels: channels of a processed condition.
        sft_hidden: channels inside an SFT layer's two branches.
        blocks: residual blocks of GSFT; LSFT has 2n - 1.
        stem_stride: features are that much smaller than the image, and the generator that much cheaper,
            squared.
        detail: channels of a branch at half the image's size that draws what a coarse stem loses;
            0 for none (paper).
        features: channels of every condition when they are activations of the CNN; empty when they
            are maps.
        image: what the generator sees of the image itself: the ``whole``; the ``fine`` branch alone, which
            draws details; or ``none``, so that a map can only follow the conditions.
        prior: add the conditions' own projections (:mod:`gan_lib.gan.conditions.evidence`) to the logits, so
            that an untrained generator draws them.
        joint: whether that prior is their ``mean`` or the logarithm of their ``product``.
        emphasis: how many conditions the last, the evidence itself, counts for in the prior at first; all
            weights are then learned. By default all conditions count alike, and nothing of it is learned.
        contrast: scale and shift of standardised logits at the start, where conditions are activations: they
            decide how much of an image maps show at first, and training moves them little.
    """

    conditions: PositiveInt = 8
    width: PositiveInt = 64
    condition_hidden: PositiveInt = 128
    condition_channels: PositiveInt = 32
    sft_hidden: PositiveInt = 32
    blocks: PositiveInt = 32
    stem_stride: Literal[1, 2, 4, 8] = 1
    detail: NonNegativeInt = 0
    features: tuple[PositiveInt, ...] = ()
    image: Literal["whole", "fine", "none"] = "whole"
    prior: bool = False
    joint: Joint = "mean"
    emphasis: PositiveFloat | None = None
    contrast: tuple[float, float] = (3.0, -3.0)

    def __post_init__(self) -> None:
        if self.features and len(self.features) != self.conditions:
            raise ValueError(f"{self.conditions} conditions, but features of {len(self.features)}")
        if (self.emphasis is not None or self.joint != "mean") and not self.prior:
            raise ValueError("emphasis is of the evidence in the prior, as joint is, and there is none")


def conv3x3(channels_in: int, channels_out: int, stride: int = 1) -> nn.Conv2d:
    """A 3 x 3 convolution that keeps the size, but for its stride."""
    return nn.Conv2d(channels_in, channels_out, 3, stride, padding=1)


def stem_conv(channels_in: int, channels_out: int, stride: int) -> nn.Conv2d:
    """First convolution: 3x3, or for a stride over 1 one that sees every pixel twice a side."""
    if stride == 1:
        return conv3x3(channels_in, channels_out)
    return nn.Conv2d(channels_in, channels_out, 2 * stride, stride, padding=stride // 2)


def resize(features: Tensor, size: Sequence[int]) -> Tensor:
    """Features (B, C, h, w) at a size (H, W): the mean of what falls together, or bilinear."""
    if tuple(features.shape[-2:]) == tuple(size):
        return features
    if features.shape[-2] > size[0]:
        return F.adaptive_avg_pool2d(features, (size[0], size[1]))
    return F.interpolate(features, size=tuple(size), mode="bilinear", align_corners=False)


@torch.no_grad()
def quieten(blocks: Sequence[nn.Module]) -> None:
    """Scale the initial weights of residual blocks' last convolutions by ``len(blocks) ** -0.5``.

    Residuals that add up at full size make the output saturate at the first steps; a sigmoid that is
    0 everywhere is a minimum of the mean absolute error that no gradient leads out of.
    """
    for block in blocks:
        last = [module for module in block.modules() if isinstance(module, nn.Conv2d)][-1]
        last.weight.mul_(len(blocks) ** -0.5)
        assert last.bias is not None
        last.bias.zero_()


class SFTLayers(nn.Module):
    """Spatial feature transforms ``h * (1 + a) + b``, whose scale a and shift b follow from a condition.

    Each of the L transforms has two branches, one for a and one for b: conv3x3 -> LeakyReLU -> conv3x3
    on its condition, with weights of its own. Neither branch looks at the features, so all L layers
    are evaluated at once, as two grouped convolutions in place of 4L small ones. When ``shared``, all read
    the same condition (GSFT), instead of one each (LSFT).
    """

    def __init__(self, count: int, sizes: GeneratorSizes, shared: bool) -> None:
        super().__init__()
        self.count, inputs = count, 1 if shared else count
        hidden, out = 2 * count * sizes.sft_hidden, 2 * count * sizes.width
        self.first = nn.Conv2d(inputs * sizes.condition_channels, hidden, 3, padding=1, groups=inputs)
        self.second = nn.Conv2d(hidden, out, 3, padding=1, groups=2 * count)

    def forward(self, conditions: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Scale and shift, (B, C, h, w) each, of every transform, from (B, L * Q, h, w), or (B, Q, h, w)."""
        both = self.second(F.leaky_relu(self.first(conditions), SLOPE))  # (B, L * 2 * C, h, w)
        pieces = both.chunk(2 * self.count, dim=1)  # scale, shift, scale, shift, ...
        return list(zip(pieces[::2], pieces[1::2], strict=True))


class SFTBlock(nn.Module):
    """Residual block ``h + relu(conv(h * (1 + scale) + shift))``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = conv3x3(width, width)

    def forward(self, features: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Features (B, C, h, w), moved by scale and shift of the same shape."""
        return features + F.relu(self.conv(features * (1 + scale) + shift))


class PlainBlock(nn.Module):
    """Residual block of three convolutions, C -> C -> 2C -> C."""

    def __init__(self, width: int) -> None:
        super().__init__()
        convs = [conv3x3(width, width), conv3x3(width, 2 * width), conv3x3(2 * width, width)]
        slope = nn.LeakyReLU(SLOPE)
        self.convs = nn.Sequential(convs[0], slope, convs[1], slope, convs[2])

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, h, w), and what two convolutions make of them."""
        return features + self.convs(features)
