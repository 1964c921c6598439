"""Layer attributions of one call of a module that runs several times, which Captum's do not take."""

from __future__ import annotations

import numpy as np
import torch
from captum.attr import Attribution
from captum.log import log_usage
from torch import Tensor, nn

from gan_lib.core.capture import Capture, replaced_activation

STEPS = 16  # of integrated gradients


class CallAttribution(Attribution):
    """What Captum's layer methods give, for a layer with a call number too; its noise tunnel takes it.

        CallAttribution(cnn, "relu#1", "gradient_x_activation").attribute(images, target)  # (B, C, h, w)

    Args:
        cnn: in eval mode.
        layer: dotted name, with or without call number.
        method: ``gradient_x_activation``; ``grad_cam``, without the sum over the channels; or
            ``integrated_gradients``, along the way in the layer from what it makes of grey to what it makes
            of the image, by Gauss-Legendre quadrature.
        baseline: the grey, from 0 for black to 1 for white.
    """

    def __init__(self, cnn: nn.Module, layer: str, method: str, baseline: float = 1.0) -> None:
        super().__init__(cnn)
        self.cnn, self.layer, self.method, self.baseline = cnn, layer, method, baseline

    @log_usage()
    def attribute(self, inputs: Tensor, target: Tensor) -> Tensor:
        """Attributions (B, C, h, w) of images (B, 3, H, W), for classes (B,)."""
        with torch.enable_grad():
            activation, gradient = self._at(inputs, target)
        if self.method == "gradient_x_activation":
            return activation * gradient
        if self.method == "grad_cam":
            return activation * gradient.mean((2, 3), keepdim=True)
        return self._integrated(inputs, activation, target)

    def _at(self, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The layer's activation, and the gradient of the class's score there."""
        with Capture(self.cnn, [self.layer]) as captured:
            scores = self.cnn(images.detach().requires_grad_())
        activation = captured[self.layer]
        (gradient,) = torch.autograd.grad(scores.gather(1, target[:, None]).sum(), activation)
        return activation.detach(), gradient

    def _integrated(self, images: Tensor, activation: Tensor, target: Tensor) -> Tensor:
        with torch.no_grad(), Capture(self.cnn, [self.layer]) as captured:
            self.cnn(torch.full_like(images, self.baseline))
        reference = captured[self.layer].detach()
        total = torch.zeros_like(activation)
        for place, weight in zip(*np.polynomial.legendre.leggauss(STEPS), strict=True):
            between = torch.lerp(reference, activation, (1 + place) / 2).requires_grad_()
            with torch.enable_grad(), replaced_activation(self.cnn, self.layer, between):
                score = self.cnn(images).gather(1, target[:, None]).sum()
                total += weight / 2 * torch.autograd.grad(score, between)[0]
        return total * (activation - reference)
