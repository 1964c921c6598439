"""Tiny CNNs for reports, most of them with known answers; also a file of factories for the command line."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Colours(nn.Module):
    """Class k where channel k is the brightest in the mean: the mean colour is all that it relies on."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.second = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.head = nn.Linear(3, classes, bias=False)
        with torch.no_grad():
            for layer in (self.first, self.second):
                layer.weight.zero_()
                layer.weight[range(3), range(3)] = 1 / 9
            self.head.weight.zero_()
            self.head.weight[range(min(3, classes)), range(min(3, classes))] = 30.0

    def forward(self, images: Tensor) -> Tensor:
        hidden = torch.relu(self.second(torch.relu(self.first(images))))
        return self.head(hidden.mean((2, 3)))


class Changed(nn.Module):
    """A CNN whose outputs are changed, by a function of outputs (B, K) and images."""

    def __init__(self, net: nn.Module, change: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.change = net, change

    def forward(self, images: Tensor) -> Tensor:
        return self.change(self.net(images), images)


class Smooth(nn.Module):
    """No ReLU: activations of both signs."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, 2, 1), nn.GELU(), nn.Conv2d(6, 8, 3, 2, 1), nn.GELU()
        )
        self.head = nn.Linear(8, classes)

    def forward(self, images: Tensor) -> Tensor:
        return 9 * self.head(self.features(images).mean((2, 3)))


class Tokens(nn.Module):
    """Patches, one layer of attention, the mean of the tokens."""

    def __init__(self, classes: int = 3, width: int = 16) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patch = nn.Conv2d(3, width, 8, 8)
        self.attention = nn.TransformerEncoderLayer(width, 2, 32, dropout=0.0, batch_first=True)
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patch(images).flatten(2).mT  # (B, h * w, C)
        return 5 * self.head(self.attention(tokens).mean(1))


class Flat(nn.Module):
    """No layer has places; for images of 32 x 32."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3 * 32 * 32, classes)

    def forward(self, images: Tensor) -> Tensor:
        return 4 * self.layer(images.flatten(1))


def some_are_not_finite(value: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Outputs that are NaN or infinite for images of class 0 of :class:`Colours`."""
    return lambda outputs, _: torch.where(
        (outputs.argmax(1) == 0)[:, None], torch.full_like(outputs, value), outputs
    )


def only_noise_is_finite(outputs: Tensor, images: Tensor) -> Tensor:
    """NaN for all but noise, on which CNNs are tried when they are loaded."""
    return torch.where(
        (images.flatten(1).std(1) < 0.25)[:, None], torch.full_like(outputs, torch.nan), outputs
    )


def colours(classes: int) -> nn.Module:
    return Colours(classes)


def smooth(classes: int) -> nn.Module:
    return Smooth(classes)


def flat(classes: int) -> nn.Module:
    return Flat(classes)


def one(classes: int = 1) -> nn.Module:
    return Colours(1)


def broken(classes: int) -> nn.Module:
    return Changed(Colours(classes), only_noise_is_finite)
