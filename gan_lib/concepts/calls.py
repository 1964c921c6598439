"""Layer attributions where Captum's do not go: single calls of a module, and places that are split."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from captum.attr import Attribution
from captum.log import log_usage
from torch import Tensor

from gan_lib.core.capture import replaced_activation
from gan_lib.explainers.rules import DeepLiftRule

if TYPE_CHECKING:
    from gan_lib.concepts.layers import HiddenLayer

STEPS = 16  # of integrated gradients


class CallAttribution(Attribution):
    """What Captum's layer methods give, for any hidden layer; Captum's noise tunnel takes it.

        CallAttribution(hidden, "gradient_x_activation").attribute(images, target)  # (B, C, h, w)

    For one call of a module that runs several times, for signed activations, channels last and tokens.
    Attributions are those of the layer's places (:class:`gan_lib.concepts.places.SplitPlaces`): of both
    halves of signed activations, together what they are without the split; other tokens have none.

    Args:
        hidden: the layer, of a CNN in eval mode.
        method: ``gradient_x_activation``; ``grad_cam``, without the sum over the channels;
            ``integrated_gradients``, along the way in the layer from the places of grey to those of the
            image, by Gauss-Legendre quadrature; or ``deep_lift`` from grey.
        baseline: the grey, from 0 for black to 1 for white.
    """

    def __init__(self, hidden: HiddenLayer, method: str, baseline: float = 1.0) -> None:
        super().__init__(hidden.cnn)
        self.hidden, self.method, self.baseline = hidden, method, baseline

    @log_usage()
    def attribute(self, inputs: Tensor, target: Tensor) -> Tensor:
        """Attributions (B, C, h, w) of images (B, 3, H, W), for classes (B,)."""
        if self.method == "deep_lift":
            return self._deep_lift(inputs, target)
        activation, gradient = self.hidden.gradient_at(inputs.detach(), target)
        if self.method == "gradient_x_activation":
            return activation * gradient
        if self.method == "grad_cam":
            return activation * gradient.mean((2, 3), keepdim=True)
        return self._integrated(inputs, activation, target)

    def _deep_lift(self, images: Tensor, target: Tensor) -> Tensor:
        places = self.hidden.places
        rule = DeepLiftRule(self.hidden.cnn, self.hidden.layer, self.baseline)
        own, reference, multipliers = rule.multipliers(images, target)
        return (places.split(own) - places.split(reference)) * places.gradient(multipliers)

    def _integrated(self, images: Tensor, activation: Tensor, target: Tensor) -> Tensor:
        with torch.no_grad():
            reference = self.hidden.with_gradient(torch.full_like(images, self.baseline))
        total = torch.zeros_like(activation)
        for place, weight in zip(*np.polynomial.legendre.leggauss(STEPS), strict=True):
            between = torch.lerp(reference, activation, (1 + place) / 2).requires_grad_()

            def way(given: Tensor, between: Tensor = between) -> Tensor:
                return self.hidden.places.join(given, between)

            with torch.enable_grad(), replaced_activation(self.hidden.cnn, self.hidden.layer, way):
                score = self.hidden.cnn(images).gather(1, target[:, None]).sum()
                total += weight / 2 * torch.autograd.grad(score, between)[0]
        return total * (activation - reference)
