"""Explainers that learn nothing: Grad-CAM, Captum's gradient methods, and the linear control."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from captum.attr import InputXGradient, IntegratedGradients
from captum.attr import Saliency as CaptumSaliency
from torch import Tensor, nn

from gan_lib.capture import evaluation_mode, layers_in_order
from gan_lib.classifiers import resolve_target
from gan_lib.conditions import ConditionMaker, grad_cam, linear_readout, min_max, upsample
from gan_lib.explainers.base import Explainer, Target


class GradCAM(Explainer):
    """Grad-CAM of one layer as an explainer.

    maps = GradCAM(cnn, "backbone.layer4").attribute(images)
    """

    def __init__(self, cnn: nn.Module, layer: str) -> None:
        super().__init__(cnn)
        self.layer = layer

    def maps(self, images: Tensor, target: Target) -> Tensor:
        raw = grad_cam(self.cnn, images, [self.layer], target).raw[self.layer]
        return min_max(upsample(raw, (images.shape[-2], images.shape[-1])))


class LinearReadout(Explainer):
    """Control: the map read off the conditions by a subtraction, with nothing learned."""

    def __init__(self, maker: ConditionMaker) -> None:
        super().__init__(maker.cnn)
        self.maker = maker

    def maps(self, images: Tensor, target: Target) -> Tensor:
        return linear_readout(self.maker(images, target).cgma, self.maker.positions)


class CaptumExplainer(Explainer):
    """A gradient method of Captum as an explainer: absolute values, mean over channels, scaled to [0, 1].

    Args:
        cnn: the CNN to be explained.
        method: the name of one of Captum's methods in :data:`CAPTUM_METHODS`.
    """

    def __init__(self, cnn: nn.Module, method: str) -> None:
        super().__init__(cnn)
        self.method = CAPTUM_METHODS[method](cnn)

    def maps(self, images: Tensor, target: Target) -> Tensor:
        with evaluation_mode(self.cnn):
            with torch.no_grad():
                chosen = resolve_target(self.cnn(images), target)
            inputs = images.detach().requires_grad_()
            # Integrated gradients would otherwise run all its steps at once.
            bounded = isinstance(self.method, IntegratedGradients)
            options = {"internal_batch_size": max(len(images), 32)} if bounded else {}
            raw = self.method.attribute(inputs, target=chosen, **options).detach()  # (B, 3, H, W)
        return min_max(raw.abs().mean(1, keepdim=True))


CAPTUM_METHODS: dict[str, Callable[[nn.Module], Any]] = {
    "saliency": CaptumSaliency,
    "input-x-gradient": InputXGradient,
    "integrated-gradients": IntegratedGradients,
}
BASELINES = ("grad-cam", *CAPTUM_METHODS)


def make_baseline(method: str, cnn: nn.Module, image_size: tuple[int, int]) -> Explainer:
    """A baseline by name; Grad-CAM is that of the last convolution.

    Raises:
        KeyError: an unknown name.
    """
    if method == "grad-cam":
        example = torch.zeros(1, 3, *image_size, device=next(cnn.parameters()).device)
        return GradCAM(cnn, layers_in_order(cnn, example)[-1])
    if method not in CAPTUM_METHODS:
        raise KeyError(f"unknown method {method!r}; baselines are {', '.join(BASELINES)}")
    return CaptumExplainer(cnn, method)
