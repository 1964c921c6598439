"""Discriminators: of pairs of image and map, and of images given their class.

Every weight is spectrally normalised (Miyato et al., ICLR 2018), which keeps them from winning outright.
"""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from gan_lib.core.options import options
from gan_lib.gan.generators.layers import SLOPE, conv3x3, stem_conv


@options
class DiscriminatorSizes:
    """Channels of the first features, and the stride of the first convolution, in every branch."""

    width: PositiveInt = 32
    stem_stride: PositiveInt = 2


class Discriminator(nn.Module):
    """Tells whether a map belongs to an image: real pairs hold the target map, fake ones a generated.

    Two branches of residual blocks, one for the image and one for the map, are joined; two more
    blocks and dense layers 32 -> 16 -> 1 follow. It returns logits: the published code ends in a
    softmax over one unit, which is constantly 1 and cannot learn.
    """

    def __init__(self, sizes: DiscriminatorSizes | None = None) -> None:
        super().__init__()
        sizes = sizes or DiscriminatorSizes()
        self.image_branch, self.map_branch = _branch(3, sizes), _branch(1, sizes)
        self.joint = nn.Sequential(
            DownBlock(2 * sizes.width, 2 * sizes.width),
            DownBlock(2 * sizes.width, 32),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.dense = nn.Sequential(
            spectral_norm(nn.Linear(32, 16)), nn.LeakyReLU(SLOPE), spectral_norm(nn.Linear(16, 1))
        )

    def forward(self, images: Tensor, maps: Tensor) -> Tensor:
        """Logits (B,) of pairs of images (B, 3, H, W) and maps (B, 1, H, W); positive means real."""
        joined = torch.cat([self.image_branch(images), self.map_branch(maps)], dim=1)
        logits: Tensor = self.dense(self.joint(joined))[:, 0]
        return logits


class DownBlock(nn.Module):
    """Residual block of two convolutions that halves the size."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            spectral_norm(conv3x3(width_in, width_out, 2)),
            nn.LeakyReLU(SLOPE),
            spectral_norm(conv3x3(width_out, width_out)),
        )
        self.shortcut = spectral_norm(nn.Conv2d(width_in, width_out, 1))

    def forward(self, features: Tensor) -> Tensor:
        # Ceil mode keeps odd sizes as wide as the strided convolution makes them.
        shortcut = self.shortcut(F.avg_pool2d(features, 2, ceil_mode=True))
        return F.leaky_relu(self.convs(features) + shortcut, SLOPE)


def _branch(channels_in: int, sizes: DiscriminatorSizes) -> nn.Sequential:
    stem = spectral_norm(stem_conv(channels_in, sizes.width, sizes.stem_stride))
    return nn.Sequential(stem, nn.LeakyReLU(SLOPE), DownBlock(sizes.width, sizes.width))


class ProjectionDiscriminator(nn.Module):
    """Tells original images from explained ones, given the class (Miyato & Koyama, ICLR 2018).

    ``D(x, y) = linear(phi(x)) + <embedding(y), phi(x)>``, so that it asks not only whether an image
    looks whole but whether it still shows what images of this class, one of so many ``classes``, show.
    """

    def __init__(self, classes: int, sizes: DiscriminatorSizes | None = None) -> None:
        super().__init__()
        sizes = sizes or DiscriminatorSizes(stem_stride=4)
        self.features = nn.Sequential(
            _branch(3, sizes), DownBlock(sizes.width, 2 * sizes.width), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.linear = spectral_norm(nn.Linear(2 * sizes.width, 1))
        self.embedding = spectral_norm(nn.Embedding(classes, 2 * sizes.width))

    def forward(self, images: Tensor, classes: Tensor) -> Tensor:
        """Logits (B,) of images (B, 3, H, W) and classes (B,); positive means original."""
        features = self.features(images)  # (B, 2 * width)
        projection = (self.embedding(classes) * features).sum(1)
        logits: Tensor = self.linear(features)[:, 0] + projection
        return logits
