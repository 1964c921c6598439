"""Discriminators: of pairs of image and map, and of images given their class.

Of pairs there are two, by name: ``spectral`` is small, strided, and every weight is spectrally normalised
(Miyato et al., ICLR 2018), which keeps it from winning outright; ``published`` is that of arXiv 2301.08067.
One of one's own is a registered subclass of :class:`PairDiscriminator` that takes the same sizes:

    @DISCRIMINATORS.register("patches")
    class PatchDiscriminator(PairDiscriminator): ...
"""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from gan_lib.core.options import options
from gan_lib.core.registry import Registry
from gan_lib.gan.generators.layers import SLOPE, conv3x3, stem_conv

DISCRIMINATORS: Registry[type[PairDiscriminator]] = Registry("discriminator")
PLACES = 8  # a side, that the published dense layers read: what a 64 px image leaves


@options
class DiscriminatorSizes:
    """Channels of the first features, and the stride of the first convolution, in every branch."""

    width: PositiveInt = 32
    stem_stride: PositiveInt = 2


class PairDiscriminator(nn.Module):
    """Tells whether a map belongs to an image: real pairs hold the target map, fake ones a generated.

    A kind sets two branches, one for the image and one for the map, what follows where they are joined, and
    the dense layers. It returns logits: the published code ends in a softmax over one unit, which is
    constantly 1 and cannot learn.
    """

    image_branch: nn.Module
    map_branch: nn.Module
    joint: nn.Module
    dense: nn.Module

    def __init__(self, sizes: DiscriminatorSizes | None = None) -> None:
        super().__init__()

    def forward(self, images: Tensor, maps: Tensor) -> Tensor:
        """Logits (B,) of pairs of images (B, 3, H, W) and maps (B, 1, H, W); positive means real."""
        joined = torch.cat([self.image_branch(images), self.map_branch(maps)], dim=1)
        logits: Tensor = self.dense(self.joint(joined))[:, 0]
        return logits


@DISCRIMINATORS.register("spectral")
class Discriminator(PairDiscriminator):
    """The default: strided residual blocks of spectrally normalised weights, dense 32 -> 16 -> 1."""

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


@DISCRIMINATORS.register("published")
class PublishedDiscriminator(PairDiscriminator):
    """The discriminator of arXiv 2301.08067: a residual stage a branch, two more, dense 32 -> 16 -> 1.

        PublishedDiscriminator()(images, maps)    # (B,)

    Its layers are those of the authors' code. Three things differ: the last unit is a logit and no softmax;
    maps have one channel and not the three of a jet colour map (with ``map_channels=3`` the 1,122,209
    parameters are the published ones); and where an image is not of 64 px, what is left of it is averaged to
    the 8 x 8 places that 64 px leave, so that weights do not depend on the image's size.

    Args:
        sizes: by default as published, 64 channels and no stride in the first convolutions.
        map_channels: of the maps.
    """

    def __init__(self, sizes: DiscriminatorSizes | None = None, map_channels: int = 1) -> None:
        super().__init__()
        sizes = sizes or DiscriminatorSizes(width=64, stem_stride=1)
        width, last, stride = sizes.width, max(1, sizes.width // 2), sizes.stem_stride
        self.image_branch = ResidualStage(3, width, stride)
        self.map_branch = ResidualStage(map_channels, width, stride)
        self.joint = nn.Sequential(
            ResidualStage(2 * width, width),
            ResidualStage(width, last),
            nn.AdaptiveAvgPool2d(PLACES),
            nn.Flatten(),
        )
        self.dense = nn.Sequential(
            *(nn.Linear(last * PLACES**2, 32), nn.ReLU()),
            *(nn.Linear(32, 16), nn.ReLU()),
            nn.Linear(16, 1),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)


class ResidualStage(nn.Module):
    """Three groups of three 3x3 convolutions, each with its ReLU; the last two groups are residual.

    The first group sets the width, and its first convolution has the stride; after the third, features and
    residual are max-pooled, each on its own, so that the size is halved.
    """

    def __init__(self, width_in: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.first = _three(stem_conv(width_in, width, stride), width)
        self.second, self.third = (_three(conv3x3(width, width), width) for _ in range(2))

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H / 2, W / 2), rounded up."""
        features = self.first(features)
        features = features + self.second(features)
        # Ceil mode leaves something of a single row or column.
        kept, added = (F.max_pool2d(own, 2, ceil_mode=True) for own in (features, self.third(features)))
        return kept + added


def _three(first: nn.Conv2d, width: int) -> nn.Sequential:
    """A convolution and two more of 3x3, each with its ReLU."""
    second, third = conv3x3(width, width), conv3x3(width, width)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third, nn.ReLU())


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
        """Features (B, C, h, w) at half their size, rounded up."""
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
