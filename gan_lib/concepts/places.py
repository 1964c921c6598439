"""Activations as places of channels that are not below 0, and back again, whatever the layer gives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gan_lib.core.layouts import Layout


@dataclass(frozen=True)
class SplitPlaces:
    """What a layer gives, as (B, C, h, w) without a number below 0, and the way back.

        places = SplitPlaces(Layout("tokens", (14, 14), extra=1), signed=True)
        made = places.split(activation)          # (B, 197, 768) -> (B, 1536, 14, 14)
        places.join(activation, made)            # the activation again, exactly

    Signed activations a (transformers; layers without a ReLU) become two halves, relu(a) and then relu(-a),
    so that 768 channels are 1536. Back, the second half is subtracted from the first. Tokens that are no
    place (of the class, registers) are left out, and stay as they are for the rest of the network.

    Attributes:
        layout: of the activations.
        signed: whether they are split; else the channels are as they are.
    """

    layout: Layout
    signed: bool

    @property
    def plain(self) -> bool:
        """Whether the places are what the layer gives."""
        return self.layout.kind == "channels first" and not self.signed

    def split(self, activation: Tensor) -> Tensor:
        """The places (B, C or 2 C, h, w) of an activation; a part of its graph."""
        places = self.layout.places(activation)
        return torch.cat([places.relu(), (-places).relu()], 1) if self.signed else places

    def join(self, activation: Tensor, places: Tensor) -> Tensor:
        """The activation with other places (B, C or 2 C, h, w), in its own layout and number format."""
        if self.signed:
            positive, negative = places.chunk(2, 1)
            places = positive - negative
        return self.layout.replaced(activation, places).to(activation.dtype)

    def gradient(self, gradient: Tensor) -> Tensor:
        """That of the places (B, C or 2 C, h, w), from that of an activation.

        With a = p - n the gradient of p is that of a, and that of n its negative. So p and n times their
        gradients are a times its gradient, the former where a is above 0, the latter where it is below.
        """
        own = self.layout.places(gradient)
        return torch.cat([own, -own], 1) if self.signed else own
