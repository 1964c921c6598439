"""CNNs of every kind, drawn at random: company for an explainer that is to serve CNNs it has never met.

``varied_7`` is the same CNN on every machine. Its family follows from the number, and a number generator that
begins with it decides width, depth, activation (ReLU6 in all inverted residuals), normalisation, the size of
the last features and the head.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.ops import Conv2dNormActivation, SqueezeExcitation

T = TypeVar("T")
NAME = re.compile(r"varied_(\d{1,6})")
ACTIVATIONS: tuple[type[nn.Module], ...] = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.GELU, nn.Hardswish)
GROUPS = 8  # of channels in a group normalisation, at most

Norm = Callable[[int], nn.Module]
Block = Callable[["Parts", int, int, int], nn.Module]  # parts, channels in and out, stride


class Parts:
    """Convolutions of one CNN: all with its activation and normalisation."""

    def __init__(self, activation: type[nn.Module], norm: Norm) -> None:
        self.activation, self.norm = activation, norm

    def convolution(
        self, wide_in: int, wide_out: int, kernel: int = 3, stride: int = 1, active: bool = True
    ) -> nn.Module:
        """Convolution, normalisation and, if ``active``, activation."""
        given: dict[str, Any] = {"norm_layer": self.norm}
        act = self.activation if active else None
        if act is nn.GELU:  # which takes no ``inplace``
            given["inplace"] = None
        return Conv2dNormActivation(wide_in, wide_out, kernel, stride, activation_layer=act, **given)


class _Sum(nn.Module):
    """``activation(body(x) + shortcut(x))``."""

    def __init__(self, body: nn.Module, shortcut: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut, self.activation = body, shortcut, activation

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.activation(self.body(x) + self.shortcut(x))
        return made


class _Beside(nn.Module):
    """The outputs of all branches, one after the other in channels."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def _group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(math.gcd(GROUPS, channels), channels)


def _plain(parts: Parts, wide_in: int, wide_out: int, stride: int) -> nn.Module:
    layers = [parts.convolution(wide_in, wide_out)]
    return nn.Sequential(*layers, nn.MaxPool2d(2)) if stride == 2 else layers[0]


def _residual(parts: Parts, wide_in: int, wide_out: int, stride: int) -> nn.Module:
    body = nn.Sequential(
        parts.convolution(wide_in, wide_out, stride=stride),
        parts.convolution(wide_out, wide_out, active=False),
    )
    same = stride == 1 and wide_in == wide_out
    shortcut = nn.Identity() if same else parts.convolution(wide_in, wide_out, 1, stride, active=False)
    return _Sum(body, shortcut, parts.activation())


def _inverted(parts: Parts, wide_in: int, wide_out: int, stride: int) -> nn.Module:
    return InvertedResidual(wide_in, wide_out, stride, 3, parts.norm)


def _dense(parts: Parts, wide_in: int, wide_out: int, stride: int) -> nn.Module:
    grown = wide_in + max(8, wide_out // 2)
    added = parts.convolution(wide_in, grown - wide_in)
    narrow = parts.convolution(grown, wide_out, 1)
    layers = [_Beside(nn.Identity(), added), narrow]
    return nn.Sequential(*layers, nn.AvgPool2d(2)) if stride == 2 else nn.Sequential(*layers)


def _branched(parts: Parts, wide_in: int, wide_out: int, stride: int) -> nn.Module:
    quarter = wide_out // 4
    inner = max(8, quarter)
    return _Beside(
        parts.convolution(wide_in, quarter, 1, stride),
        nn.Sequential(parts.convolution(wide_in, inner, 1), parts.convolution(inner, 2 * quarter, 3, stride)),
        nn.Sequential(nn.MaxPool2d(3, stride, 1), parts.convolution(wide_in, wide_out - 3 * quarter, 1)),
    )


def _separable(parts: Parts, wide_in: int, wide_out: int, stride: int) -> nn.Module:
    deep = Conv2dNormActivation(
        wide_in, wide_in, 5, stride, groups=wide_in, norm_layer=parts.norm, activation_layer=None
    )
    squeeze = SqueezeExcitation(wide_out, max(4, wide_out // 4))
    return nn.Sequential(deep, parts.convolution(wide_in, wide_out, 1), squeeze)


FAMILIES: tuple[Block, ...] = (_plain, _residual, _inverted, _dense, _branched, _separable)


def _linear_head(wide: int, count: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(wide, count)]


def _hidden_head(wide: int, count: int) -> list[nn.Module]:
    return [
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(wide, 2 * wide), nn.ReLU()),
        nn.Linear(2 * wide, count),
    ]


def _flat_head(wide: int, count: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * wide, count)]


def _rectified_head(wide: int, count: int) -> list[nn.Module]:  # as SqueezeNet's
    scores = nn.Conv2d(wide, count, 1)
    nn.init.ones_(scores.bias)  # type: ignore[arg-type]  # at 0 half of the classes begin dead, and stay so
    return [scores, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]


def _largest_head(wide: int, count: int) -> list[nn.Module]:
    return [nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(wide, count)]


HEADS = (*(_linear_head,) * 4, _hidden_head, _flat_head, _rectified_head, _largest_head)


def is_varied(name: str) -> bool:
    """Whether a name is that of a CNN drawn at random: ``varied_`` and a number."""
    return NAME.fullmatch(name) is not None


def varied(name: str, num_classes: int) -> nn.Module:
    """A CNN drawn at random, by name, from images (B, 3, H, W) of 32 pixels or more to logits (B, K).

    Raises:
        KeyError: another name than ``varied_`` and a number.
    """
    found = NAME.fullmatch(name)
    if found is None:
        raise KeyError(f"no CNN drawn at random is called {name!r}: they are varied_0, varied_1, ...")
    number = int(found[1])
    draw = random.Random(number).random

    def one_of(options: Sequence[T]) -> T:
        return options[int(draw() * len(options))]

    family = FAMILIES[number % len(FAMILIES)]
    norms: tuple[Norm, ...] = (nn.BatchNorm2d, nn.BatchNorm2d, nn.BatchNorm2d, _group_norm)
    parts = Parts(one_of(ACTIVATIONS), one_of(norms))
    wide, growth = one_of((16, 24, 32)), one_of((1.5, 2.0))
    deep_stem, stages = one_of((True, False, False)), one_of((2, 3, 3))
    layers: list[nn.Module] = [parts.convolution(3, wide, stride=2)]
    if deep_stem:
        layers.append(parts.convolution(wide, wide))
    for stage in range(stages):
        wider = 8 * round(wide * growth / 8) if stage else wide
        layers.append(family(parts, wide, wider, 2 if stage < 2 else 1 + int(draw() < 0.3)))
        layers += [family(parts, wider, wider, 1) for _ in range(one_of((0, 1, 2)))]
        wide = wider
    made = nn.Sequential(nn.Sequential(*layers), nn.Sequential(*one_of(HEADS)(wide, num_classes)))
    for module in made[0].modules():
        if isinstance(module, nn.Conv2d):  # with PyTorch's own beginning half of them learn nothing
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return made
