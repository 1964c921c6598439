"""Explainers that learn nothing: Grad-CAM, and the linear control."""

from __future__ import annotations

from torch import Tensor, nn

from gan_lib.core.grad_cam import default_layer, grad_cam
from gan_lib.core.maps import min_max, upsample
from gan_lib.explainers.base import Explainer, Target
from gan_lib.gan.conditions import ConditionMaker, linear_readout


class GradCAM(Explainer):
    """Grad-CAM of one layer as an explainer.

        maps = GradCAM(cnn, "backbone.layer4").attribute(images)

    Args:
        cnn: the CNN to be explained.
        layer: dotted name; by default the last convolution (:func:`gan_lib.core.grad_cam.default_layer`).
    """

    needs_gradients = True

    def __init__(self, cnn: nn.Module, layer: str | None = None) -> None:
        super().__init__(cnn)
        self.layer = layer

    def raw(self, images: Tensor, target: Target) -> Tensor:
        """Maps (B, 1, H, W), not below 0 and not scaled."""
        if self.layer is None:
            self.layer = default_layer(self.cnn, images[:1])
        raw = grad_cam(self.cnn, images, [self.layer], target).raw[self.layer]
        return upsample(raw, (images.shape[-2], images.shape[-1]))

    def maps(self, images: Tensor, target: Target) -> Tensor:
        return min_max(self.raw(images, target))


class LinearReadout(Explainer):
    """Control: the map read off the conditions by a subtraction, with nothing learned."""

    needs_gradients = True

    def __init__(self, maker: ConditionMaker) -> None:
        super().__init__(maker.cnn)
        self.maker = maker

    def maps(self, images: Tensor, target: Target) -> Tensor:
        return linear_readout(self.maker(images, target).cgma, self.maker.positions)
