"""Discriminators: of pairs of image and map, and of images given their class."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from gan_lib.core.options import options
from gan_lib.gan.generators.layers import SLOPE, conv3x3, stem_conv


@options
class DiscriminatorSizes:
    """What both discriminators can be given: ``Discriminator(**asdict(sizes))``.

    Attributes:
        width: channels of the first features, in every branch.
        stem_stride: of every branch's first convolution.
        normalise: spectral normalisation of every weight (Miyato et al., ICLR 2018), which keeps the
            discriminator from winning outright.
    """

    width: int = 32
    stem_stride: int = 2
    normalise: bool = True

    def __post_init__(self) -> None:
        if min(self.width, self.stem_stride) < 1:
            raise ValueError(f"width and stem_stride must be at least 1: {self}")


class Discriminator(nn.Module):
    """Tells whether a map belongs to an image: real pairs hold the target map, fake ones a generated.

    Two branches of residual blocks, one for the image and one for the map, are joined; two more
    blocks and dense layers 32 -> 16 -> 1 follow. It returns logits: the published code ends in a
    softmax over one unit, which is constantly 1 and cannot learn.

    Arguments are those of :class:`DiscriminatorSizes`.
    """

    def __init__(self, width: int = 32, stem_stride: int = 2, normalise: bool = True) -> None:
        super().__init__()
        DiscriminatorSizes(width, stem_stride, normalise)  # checks them
        wrap = spectral_norm if normalise else nn.Identity()
        self.image_branch = _branch(3, width, stem_stride, wrap)
        self.map_branch = _branch(1, width, stem_stride, wrap)
        self.joint = nn.Sequential(
            DownBlock(2 * width, 2 * width, wrap),
            DownBlock(2 * width, 32, wrap),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.dense = nn.Sequential(wrap(nn.Linear(32, 16)), nn.LeakyReLU(SLOPE), wrap(nn.Linear(16, 1)))

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


def _branch(channels_in: int, width: int, stride: int, wrap: Any) -> nn.Sequential:
    return nn.Sequential(
        wrap(stem_conv(channels_in, width, stride)), nn.LeakyReLU(SLOPE), DownBlock(width, width, wrap)
    )


class ProjectionDiscriminator(nn.Module):
    """Tells original images from explained ones, given the class (Miyato & Koyama, ICLR 2018).

    ``D(x, y) = linear(phi(x)) + <embedding(y), phi(x)>``, so that it asks not only whether an image
    looks whole but whether it still shows what images of this class show.

    Args:
        classes: number K of classes.
        width, stem_stride, normalise: as in :class:`DiscriminatorSizes`.
    """

    def __init__(self, classes: int, width: int = 32, stem_stride: int = 4, normalise: bool = True) -> None:
        super().__init__()
        DiscriminatorSizes(width, stem_stride, normalise)  # checks them
        wrap = spectral_norm if normalise else nn.Identity()
        self.features = nn.Sequential(
            _branch(3, width, stem_stride, wrap),
            DownBlock(width, 2 * width, wrap),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.linear = wrap(nn.Linear(2 * width, 1))
        self.embedding = wrap(nn.Embedding(classes, 2 * width))

    def forward(self, images: Tensor, classes: Tensor) -> Tensor:
        """Logits (B,) of images (B, 3, H, W) and classes (B,); positive means original."""
        features = self.features(images)  # (B, 2 * width)
        projection = (self.embedding(classes) * features).sum(1)
        logits: Tensor = self.linear(features)[:, 0] + projection
        return logits
