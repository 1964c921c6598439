"""From conditions to what the SFT layers read: networks for maps, adapters for activations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_lib.core.maps import min_max
from gan_lib.gan.generators.layers import SLOPE, GeneratorSizes, Joint, conv3x3, resize

LEAST_SAID = 0.05  # of a condition in a product


class MapConditions(nn.Module):
    """Maps (B, n, H, W) processed for the SFT layers, one by one (LSFT) or all as one (GSFT).

    conv4x4, three conv1x1, conv3x3, with LeakyReLU between; the first has the stride of the generator's stem.
    """

    def __init__(self, sizes: GeneratorSizes, shared: bool) -> None:
        super().__init__()
        self.sizes, self.shared = sizes, shared
        given, hidden, stride = sizes.conditions if shared else 1, sizes.condition_hidden, sizes.stem_stride
        layers: list[nn.Module]
        if stride == 1:
            layers = [nn.ZeroPad2d((1, 2, 1, 2)), nn.Conv2d(given, hidden, 4), nn.LeakyReLU(SLOPE)]
        else:
            kernel = max(4, stride)
            first = nn.Conv2d(given, hidden, kernel, stride, padding=(kernel - stride) // 2)
            layers = [first, nn.LeakyReLU(SLOPE)]
        for _ in range(3):
            layers += [nn.Conv2d(hidden, hidden, 1), nn.LeakyReLU(SLOPE)]
        self.network = nn.Sequential(*layers, conv3x3(hidden, sizes.condition_channels))

    def forward(self, conditions: Tensor, images: Tensor) -> Tensor:
        """(B, n * Q, h, w), or (B, Q, h, w) when shared; maps of another number or size raise
        ``ValueError``."""
        expected = (len(images), self.sizes.conditions, *images.shape[-2:])
        if tuple(conditions.shape) != expected:
            raise ValueError(f"conditions must be {expected}, not {tuple(conditions.shape)}")
        if self.shared:
            return self.network(conditions)  # (B, Q, h, w)
        # All conditions of all images go through the network as one batch.
        processed: Tensor = self.network(conditions.flatten(0, 1)[:, None])  # (B * n, Q, h, w)
        return processed.unflatten(0, expected[:2]).flatten(1, 2)


class Adapter(nn.Conv2d):
    """An activation of any number of channels and any size: standardised, through a 1x1 convolution, resized.

    Mean and deviation of every channel, which :meth:`calibrate` finds, belong to the weights.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(channels, width, 1)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))

    @torch.no_grad()
    def calibrate(self, activation: Tensor) -> None:
        """Take mean and deviation of every channel from an activation (B, C_l, H_l, W_l).

        A single value, one image of one place, tells no deviation, which stays; none raises ``ValueError``.
        """
        channels = activation.float().transpose(0, 1).flatten(1)  # (C_l, B * H_l * W_l)
        if not channels.shape[1]:
            raise ValueError("an adapter is calibrated on at least one image")
        self.mean.copy_(channels.mean(1))
        if channels.shape[1] > 1:
            self.deviation.copy_(channels.std(1).clamp(min=1e-3))

    def forward(self, activation: Tensor, size: Sequence[int]) -> Tensor:  # type: ignore[override]
        """An activation (B, C_l, H_l, W_l) as (B, Q, H, W) at a size (H, W)."""
        # Standardising is folded into the 1x1 weights, and resizing, which commutes with them, comes
        # first where it makes the activation smaller.
        assert self.bias is not None
        weight = self.weight / self.deviation[None, :, None, None]
        bias = self.bias - weight[:, :, 0, 0] @ self.mean
        if activation.shape[-2] > size[0]:
            return F.conv2d(resize(activation, size), weight, bias)
        return resize(F.conv2d(activation, weight, bias), size)


class FeatureConditions(nn.Module):
    """Activations processed for the SFT layers, each by its adapter; one more convolution joins GSFT's."""

    def __init__(self, sizes: GeneratorSizes, shared: bool) -> None:
        super().__init__()
        self.sizes, width = sizes, sizes.condition_channels
        self.adapters = nn.ModuleList(Adapter(channels, width) for channels in sizes.features)
        self.joint = conv3x3(len(sizes.features) * width, width) if shared else nn.Identity()

    def forward(self, conditions: Sequence[Tensor], images: Tensor) -> Tensor:
        """(B, n * Q, h, w), or (B, Q, h, w) when shared; other channels than known raise ``ValueError``."""
        channels, expected = tuple(given.shape[1] for given in conditions), self.sizes.features
        if channels != tuple(expected):
            raise ValueError(f"activations have {channels} channels, the generator takes {expected}")
        size = [side // self.sizes.stem_stride for side in images.shape[-2:]]
        adapted = [adapter(given, size) for adapter, given in zip(self.adapters, conditions, strict=True)]
        joined: Tensor = F.leaky_relu(torch.cat(adapted, dim=1), SLOPE)  # (B, n * Q, h, w)
        return self.joint(joined)


def projections(
    conditions: Sequence[Tensor],
    size: tuple[int, int],
    weights: Sequence[float] | Tensor | None = None,
    joint: Joint = "mean",
) -> Tensor:
    """What evidence conditions say without a generator, (B, 1, H, W): the mean over the conditions of their
    first two channels' sum (:mod:`gan_lib.gan.conditions.evidence`), at a size (H, W), by ``weights`` (n,)
    where they do not count alike.

    ``joint="product"``: the logarithm of their geometric mean, each from ``LEAST_SAID`` to 1 more within its
    image, so that conditions count alike however large they are, and one alone lowers the mean of n by a
    factor of ``((1 + LEAST_SAID) / LEAST_SAID) ** (1 / n)`` at most. Where one sees the evidence sharply and
    another broadly, the sharp one stands out inside of the broad one.
    """
    weighed = [1.0] * len(conditions) if weights is None else weights
    maps = (resize(given[:, :2].sum(1, keepdim=True), size) for given in conditions)
    if joint == "product":
        maps = ((min_max(own) + LEAST_SAID).log() for own in maps)
    total = sum(weight * own for weight, own in zip(weighed, maps, strict=True))
    assert isinstance(total, Tensor)
    return total / sum(weighed)


def emphasised(count: int, emphasis: float) -> list[float]:
    """Weights of so many conditions, of which the last, the evidence itself, counts as so many others."""
    return [1.0] * (count - 1) + [emphasis]
