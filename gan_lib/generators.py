"""Generators and discriminator of arXiv 2301.08067: images and conditions in, maps out.

Spatial feature transform (SFT) layers modulate features by a condition (Wang et al., CVPR 2018).
LSFT feeds the conditions one after the other into successive blocks; GSFT feeds one condition, made
from all of them, into every block. The paper's sizes are the defaults.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

SLOPE = 0.1  # of every LeakyReLU
STEM_STRIDES = (1, 2, 4, 8)


@dataclass(frozen=True)
class GeneratorSizes:
    """Sizes of a generator; the defaults are the paper's.

    Attributes:
        conditions: number n of conditions.
        width: channels of the features.
        condition_hidden: channels inside the condition network.
        condition_channels: channels of a processed condition.
        sft_hidden: channels inside an SFT layer's two branches.
        blocks: residual blocks of GSFT; LSFT has 2n - 1.
        stem_stride: 1 (paper), 2, 4 or 8: features are that much smaller than the image, and the
            generator that much cheaper, squared.
    """

    conditions: int = 8
    width: int = 64
    condition_hidden: int = 128
    condition_channels: int = 32
    sft_hidden: int = 32
    blocks: int = 32
    stem_stride: int = 1

    def __post_init__(self) -> None:
        if min(vars(self).values()) < 1:
            raise ValueError(f"sizes must be at least 1: {self}")
        if self.stem_stride not in STEM_STRIDES:
            raise ValueError(f"stem_stride is one of {STEM_STRIDES}, not {self.stem_stride}")


def conv3x3(channels_in: int, channels_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 3, stride, padding=1)


def stem_conv(channels_in: int, channels_out: int, stride: int) -> nn.Conv2d:
    """First convolution: 3x3, or for a stride over 1 one that sees every pixel twice a side."""
    if stride == 1:
        return conv3x3(channels_in, channels_out)
    return nn.Conv2d(channels_in, channels_out, 2 * stride, stride, padding=stride // 2)


def quieten(blocks: Sequence[nn.Module]) -> None:
    """Scale the initial weights of residual blocks' last convolutions by ``len(blocks) ** -0.5``.

    Residuals that add up at full size make the output saturate at the first steps; a sigmoid that is
    0 everywhere is a minimum of the mean absolute error that no gradient leads out of.
    """
    for block in blocks:
        last = [module for module in block.modules() if isinstance(module, nn.Conv2d)][-1]
        with torch.no_grad():
            last.weight.mul_(len(blocks) ** -0.5)
            if last.bias is not None:
                last.bias.zero_()


class SFTLayers(nn.Module):
    """Spatial feature transforms ``h * (1 + a) + b``, whose scale a and shift b follow from a condition.

    Each of the L transforms has two branches, one for a and one for b: conv3x3 -> LeakyReLU -> conv3x3
    on its condition, with weights of its own. Neither branch looks at the features, so all L layers
    are evaluated at once, as two grouped convolutions in place of 4L small ones.

    Args:
        count: number L of transforms.
        width: channels C of the features.
        condition_channels: channels Q of a condition.
        hidden: channels between the two convolutions of each branch.
        shared: all transforms read the same condition (GSFT), instead of one each (LSFT).
    """

    def __init__(
        self,
        count: int,
        width: int = 64,
        condition_channels: int = 32,
        hidden: int = 32,
        shared: bool = False,
    ) -> None:
        super().__init__()
        self.count = count
        inputs = 1 if shared else count
        self.first = nn.Conv2d(inputs * condition_channels, count * 2 * hidden, 3, padding=1, groups=inputs)
        self.second = nn.Conv2d(count * 2 * hidden, count * 2 * width, 3, padding=1, groups=2 * count)

    def forward(self, conditions: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Scale and shift, (B, C, h, w) each, of every transform.

        Args:
            conditions: (B, L * Q, h, w), condition after condition; (B, Q, h, w) when shared.
        """
        both = self.second(F.leaky_relu(self.first(conditions), SLOPE))  # (B, L * 2 * C, h, w)
        pieces = both.chunk(2 * self.count, dim=1)  # scale, shift, scale, shift, ...
        return list(zip(pieces[::2], pieces[1::2], strict=True))


class ConditionNetwork(nn.Sequential):
    """conv4x4, three conv1x1, conv3x3, with LeakyReLU between; its stride is the generator's stem's.

    Maps (B, channels_in, H, W) to (B, channels_out, H / stride, W / stride).
    """

    def __init__(self, channels_in: int, hidden: int = 128, channels_out: int = 32, stride: int = 1) -> None:
        first: list[nn.Module]
        if stride == 1:
            first = [nn.ZeroPad2d((1, 2, 1, 2)), nn.Conv2d(channels_in, hidden, 4)]
        else:
            kernel = max(4, stride)
            first = [nn.Conv2d(channels_in, hidden, kernel, stride, padding=(kernel - stride) // 2)]
        layers = [*first, nn.LeakyReLU(SLOPE)]
        for _ in range(3):
            layers += [nn.Conv2d(hidden, hidden, 1), nn.LeakyReLU(SLOPE)]
        super().__init__(*layers, conv3x3(hidden, channels_out))


class SFTBlock(nn.Module):
    """Residual block ``h + relu(conv(h * (1 + scale) + shift))``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = conv3x3(width, width)

    def forward(self, features: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        return features + F.relu(self.conv(features * (1 + scale) + shift))


class PlainBlock(nn.Module):
    """Residual block of three convolutions, C -> C -> 2C -> C."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            conv3x3(width, width),
            nn.LeakyReLU(SLOPE),
            conv3x3(width, 2 * width),
            nn.LeakyReLU(SLOPE),
            conv3x3(2 * width, width),
        )

    def forward(self, features: Tensor) -> Tensor:
        residual: Tensor = self.convs(features)
        return features + residual


class Generator(nn.Module):
    """What both variants share: stem, modulated body, global residual, output.

    A variant overrides :meth:`body`.
    """

    def __init__(self, sizes: GeneratorSizes | None = None) -> None:
        super().__init__()
        self.sizes = sizes = sizes or GeneratorSizes()
        self.stem = stem_conv(3, sizes.width, sizes.stem_stride)
        self.closing = conv3x3(sizes.width, sizes.width)
        self.output = conv3x3(sizes.width, 1)

    def body(self, features: Tensor, conditions: Tensor) -> Tensor:
        """Features (B, C, h, w) of the stem, modulated by conditions (B, n, H, W)."""
        raise NotImplementedError

    def forward(self, images: Tensor, conditions: Tensor) -> Tensor:
        """Maps (B, 1, H, W) in [0, 1] of images (B, 3, H, W) under conditions (B, n, H, W).

        Raises:
            ValueError: another number of conditions than the generator was made for, or a size that
                the stem's stride does not divide.
        """
        stride, size = self.sizes.stem_stride, images.shape[-2:]
        if tuple(conditions.shape) != (len(images), self.sizes.conditions, *size):
            expected = (len(images), self.sizes.conditions, *size)
            raise ValueError(f"conditions must be {expected}, not {tuple(conditions.shape)}")
        if size[0] % stride or size[1] % stride:
            raise ValueError(f"image size {tuple(size)} is no multiple of the stem's stride {stride}")
        stem = self.stem(images)  # (B, C, h, w)
        features = stem + self.closing(self.body(stem, conditions))
        logits = self.output(F.leaky_relu(features, SLOPE))  # (B, 1, h, w)
        if stride > 1:
            logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        return logits.sigmoid()


class LSFTGenerator(Generator):
    """Local conditioning: 2n - 1 blocks; the even ones take CGMA 0, 1, ..., n - 1 in turn.

    generator = LSFTGenerator(GeneratorSizes(width=32, stem_stride=4))
    maps = generator(images, cgma)    # (B, 1, H, W)
    """

    def __init__(self, sizes: GeneratorSizes | None = None) -> None:
        super().__init__(sizes)
        sizes = self.sizes
        self.condition_network = ConditionNetwork(
            1, sizes.condition_hidden, sizes.condition_channels, sizes.stem_stride
        )
        self.transforms = SFTLayers(sizes.conditions, sizes.width, sizes.condition_channels, sizes.sft_hidden)
        self.sft_blocks = nn.ModuleList(SFTBlock(sizes.width) for _ in range(sizes.conditions))
        self.plain_blocks = nn.ModuleList(PlainBlock(sizes.width) for _ in range(sizes.conditions - 1))
        quieten([*self.sft_blocks, *self.plain_blocks])

    def body(self, features: Tensor, conditions: Tensor) -> Tensor:
        batch, count = conditions.shape[:2]
        # All conditions of all images go through the network as one batch.
        processed = self.condition_network(conditions.flatten(0, 1)[:, None])  # (B * n, Q, h, w)
        stacked = processed.unflatten(0, (batch, count)).flatten(1, 2)  # (B, n * Q, h, w)
        for index, (scale, shift) in enumerate(self.transforms(stacked)):
            if index > 0:
                features = self.plain_blocks[index - 1](features)
            features = self.sft_blocks[index](features, scale, shift)
        return features


class GSFTGenerator(Generator):
    """Global conditioning: every block, and a closing SFT layer, take one condition made from all CGMAs."""

    def __init__(self, sizes: GeneratorSizes | None = None) -> None:
        super().__init__(sizes)
        sizes = self.sizes
        self.condition_network = ConditionNetwork(
            sizes.conditions, sizes.condition_hidden, sizes.condition_channels, sizes.stem_stride
        )
        # The last transform closes the body; every other one belongs to a block.
        self.transforms = SFTLayers(
            sizes.blocks + 1, sizes.width, sizes.condition_channels, sizes.sft_hidden, shared=True
        )
        self.sft_blocks = nn.ModuleList(SFTBlock(sizes.width) for _ in range(sizes.blocks))
        quieten([*self.sft_blocks])

    def body(self, features: Tensor, conditions: Tensor) -> Tensor:
        condition = self.condition_network(conditions)  # (B, Q, h, w)
        *modulations, (scale, shift) = self.transforms(condition)
        for block, modulation in zip(self.sft_blocks, modulations, strict=True):
            features = block(features, *modulation)
        return features * (1 + scale) + shift


class Discriminator(nn.Module):
    """Tells whether a map belongs to an image: real pairs hold the target map, fake ones a generated.

    Two branches of residual blocks, one for the image and one for the map, are joined; two more
    blocks and dense layers 32 -> 16 -> 1 follow. It returns logits: the published code ends in a
    softmax over one unit, which is constantly 1 and cannot learn.

    Args:
        width: channels of the branches.
        stem_stride: of the first convolution of both branches.
        normalise: spectral normalisation of every weight (Miyato et al., ICLR 2018), which keeps the
            discriminator from winning outright.
    """

    def __init__(self, width: int = 32, stem_stride: int = 2, normalise: bool = True) -> None:
        super().__init__()
        wrap = spectral_norm if normalise else nn.Identity()
        self.image_branch = self._branch(3, width, stem_stride, wrap)
        self.map_branch = self._branch(1, width, stem_stride, wrap)
        self.joint = nn.Sequential(
            DownBlock(2 * width, 2 * width, wrap),
            DownBlock(2 * width, 32, wrap),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.dense = nn.Sequential(wrap(nn.Linear(32, 16)), nn.LeakyReLU(SLOPE), wrap(nn.Linear(16, 1)))

    @staticmethod
    def _branch(channels_in: int, width: int, stride: int, wrap: Any) -> nn.Sequential:
        return nn.Sequential(
            wrap(stem_conv(channels_in, width, stride)), nn.LeakyReLU(SLOPE), DownBlock(width, width, wrap)
        )

    def forward(self, images: Tensor, maps: Tensor) -> Tensor:
        """Logits (B,) of pairs of images (B, 3, H, W) and maps (B, 1, H, W); positive means real."""
        joined = torch.cat([self.image_branch(images), self.map_branch(maps)], dim=1)
        logits: Tensor = self.dense(self.joint(joined))[:, 0]
        return logits


class DownBlock(nn.Module):
    """Residual block of two convolutions that halves the size."""

    def __init__(self, width_in: int, width_out: int, wrap: Any) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            wrap(conv3x3(width_in, width_out, 2)), nn.LeakyReLU(SLOPE), wrap(conv3x3(width_out, width_out))
        )
        self.shortcut = wrap(nn.Conv2d(width_in, width_out, 1))

    def forward(self, features: Tensor) -> Tensor:
        # Ceil mode keeps odd sizes as wide as the strided convolution makes them.
        shortcut = self.shortcut(F.avg_pool2d(features, 2, ceil_mode=True))
        return F.leaky_relu(self.convs(features) + shortcut, SLOPE)


VARIANTS: dict[str, type[Generator]] = {"lsft": LSFTGenerator, "gsft": GSFTGenerator}


def make_generator(variant: str, **sizes: int) -> Generator:
    """A generator by variant, ``lsft`` or ``gsft``; ``sizes`` are the fields of :class:`GeneratorSizes`.

    Raises:
        KeyError: an unknown variant.
    """
    if variant not in VARIANTS:
        raise KeyError(f"unknown generator {variant!r}; known: {sorted(VARIANTS)}")
    return VARIANTS[variant](GeneratorSizes(**sizes))


def generator_recipe(generator: Generator) -> dict[str, Any]:
    """Variant and sizes, from which :func:`make_generator` builds the same generator again."""
    variant = next(name for name, kind in VARIANTS.items() if type(generator) is kind)
    return {"variant": variant, **asdict(generator.sizes)}


def parameter_count(module: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
