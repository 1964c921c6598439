"""Class activation maps: an activation's channels, added up by weights that say how much each speaks for the
class.

A variant overrides one method, :meth:`CAM.combined`. All take layers of any layout that
:mod:`gan_lib.core.layouts` knows, and what their maps are of is the same layer by default.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gan_lib.core.grad_cam import (
    default_layer,
    grad_cam,
    layer_activations,
    layer_gradients,
    weighted_sum,
)
from gan_lib.core.maps import min_max, upsample
from gan_lib.core.options import positive
from gan_lib.core.targets import resolve_target
from gan_lib.explainers.base import Explainer, Target
from gan_lib.metrics.faithfulness import class_probability

AT_ONCE = 64  # masked images in one pass


class CAM(Explainer):
    """Base: a variant overrides :meth:`combined`.

    Args:
        cnn: the CNN to be explained.
        layer: dotted name; by default the last convolution (:func:`gan_lib.core.grad_cam.default_layer`).
    """

    def __init__(self, cnn: nn.Module, layer: str | None = None) -> None:
        super().__init__(cnn)
        self.layer = layer

    def combined(self, images: Tensor, layer: str, target: Target) -> Tensor:
        """Maps (B, 1, h, w) of a layer; what lies below 0 does not count."""
        raise NotImplementedError

    def raw(self, images: Tensor, target: Target) -> Tensor:
        """Maps (B, 1, H, W), not below 0 and not scaled."""
        if self.layer is None:
            self.layer = default_layer(self.cnn, images[:1])
        made = self.combined(images, self.layer, target).relu()
        return upsample(made, (images.shape[-2], images.shape[-1]))

    def maps(self, images: Tensor, target: Target) -> Tensor:
        return min_max(self.raw(images, target))


class GradCAM(CAM):
    """Grad-CAM of one layer as an explainer (Selvaraju et al., ICCV 2017).

    maps = GradCAM(cnn, "backbone.layer4").attribute(images)
    """

    needs_gradients = True

    def combined(self, images: Tensor, layer: str, target: Target) -> Tensor:
        return grad_cam(self.cnn, images, [layer], target).raw[layer]


class GradientCAM(CAM):
    """Base of variants made of activations and gradients alone: they override :meth:`of`."""

    needs_gradients = True

    def of(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Maps (B, 1, h, w) of an activation (B, C, h, w) and of the gradient of the class's logit."""
        raise NotImplementedError

    def combined(self, images: Tensor, layer: str, target: Target) -> Tensor:
        found = layer_gradients(self.cnn, images, [layer], target)
        return self.of(found.activations[layer], found.gradients[layer])


class GradCAMPlusPlus(GradientCAM):
    """Grad-CAM++ (Chattopadhay et al., WACV 2018): places with a positive gradient count, and each the more
    the fewer there are.

    With g the gradient at a place, a channel's weight is ``sum_hw alpha relu(g)``, where ``alpha = g^2 /
    (2 g^2 + g^3 sum_hw A)``, 0 where g is: the paper's coefficients for the exponential of the logit.
    """

    def of(self, activation: Tensor, gradient: Tensor) -> Tensor:
        square, total = gradient**2, activation.sum((2, 3), keepdim=True)  # (B, C, h, w), (B, C, 1, 1)
        alpha = _divided(square, 2 * square + gradient**3 * total)  # (B, C, h, w)
        return weighted_sum((alpha * gradient.relu()).sum((2, 3)), activation)


class LayerCAM(GradientCAM):
    """Layer-CAM (Jiang et al., IEEE TIP 2021): ``relu(sum_k relu(g_k) * A_k)``, each place by its own
    gradient, so that layers before the last one make finer maps."""

    def of(self, activation: Tensor, gradient: Tensor) -> Tensor:
        return (gradient.relu() * activation).sum(1, keepdim=True)


class XGradCAM(GradientCAM):
    """XGrad-CAM (Fu et al., BMVC 2020): a channel's weight is ``sum_hw g A / sum_hw A``, the mean gradient
    over places by their activation; 0 where a channel adds up to 0.

    It is meant for layers behind a ReLU: where activations have either sign, sums near 0 make weights large.
    """

    def combined(self, images: Tensor, layer: str, target: Target) -> Tensor:
        # A CNN rounds otherwise what it sees alone, and quotients of small sums show it.
        if len(images) != 1:
            return super().combined(images, layer, target)
        twice = [target[0]] * 2 if isinstance(target, Sequence) else target
        twice = target.expand(2) if isinstance(target, Tensor) and target.ndim else twice
        return super().combined(images.expand(2, -1, -1, -1), layer, twice)[:1]

    def of(self, activation: Tensor, gradient: Tensor) -> Tensor:
        weights = _divided((gradient * activation).sum((2, 3)), activation.sum((2, 3)))  # (B, C)
        return weighted_sum(weights, activation)


class EigenCAM(CAM):
    """Eigen-CAM (Muhammad & Yeasin, IJCNN 2020): the activation's first principal component, of no class.

    An activation (h w, C) projected on its first right singular vector. The sign of a singular vector is
    arbitrary: here the projection adds up to no less than 0, as it does for activations behind a ReLU.
    """

    def combined(self, images: Tensor, layer: str, target: Target) -> Tensor:
        found = layer_activations(self.cnn, images, [layer])
        resolve_target(found.logits, target)  # of no class, it refuses a wrong one all the same
        activation = found.activations[layer]
        left, values, _ = torch.linalg.svd(activation.flatten(2).transpose(1, 2), full_matrices=False)
        component = (left[:, :, 0] * values[:, :1]).unflatten(1, activation.shape[2:])  # (B, h, w)
        sign = torch.where(component.sum((1, 2), keepdim=True) < 0, -1.0, 1.0)
        return (sign * component)[:, None]


class ScoreCAM(CAM):
    """Score-CAM (Wang et al., CVPR workshops 2020): a channel counts for what the CNN makes of its part of
    the image.

    A channel's weight is the class's probability on the image times the channel, scaled to [0, 1], less that
    on a black image (the channel-wise increase of confidence). No gradient is needed.

    Args:
        cnn, layer: as for Grad-CAM.
        channels: of an image, so many that vary most over its places; the others have no weight. By default
            all, each of which costs a forward pass; fewer than one raises ``ValueError``.
    """

    def __init__(self, cnn: nn.Module, layer: str | None = None, channels: int | None = None) -> None:
        super().__init__(cnn, layer)
        if channels is not None:
            positive(channels=channels)
        self.channels = channels

    def combined(self, images: Tensor, layer: str, target: Target) -> Tensor:
        labels = resolve_target(layer_activations(self.cnn, images, [layer]).logits, target)  # (B,)
        # Image by image: in batches of another size a CNN rounds differently.
        return torch.cat(
            [self._of_one(*pair, layer) for pair in zip(images.split(1), labels.split(1), strict=True)]
        )

    def _of_one(self, image: Tensor, label: Tensor, layer: str) -> Tensor:
        """The map (1, 1, h, w) of one image (1, 3, H, W)."""
        activation = layer_activations(self.cnn, image, [layer]).activations[layer]  # (1, C, h, w)
        count = min(self.channels or activation.shape[1], activation.shape[1])
        kept = activation[:, activation[0].std((1, 2), correction=0).topk(count).indices]  # (1, k, h, w)
        weights = kept.new_empty(1, count)
        black = class_probability(self.cnn, torch.zeros_like(image), label)  # (1,)
        for part in torch.arange(count).split(AT_ONCE):
            masks = min_max(upsample(kept[:, part], (image.shape[-2], image.shape[-1])))  # (1, p, H, W)
            seen = image * masks[0, :, None].to(image)  # (p, 3, H, W)
            gained = class_probability(self.cnn, seen, label.expand(len(part))) - black
            weights[0, part] = gained.to(weights)
        return weighted_sum(weights, kept)


def _divided(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The quotient, 0 where the denominator is 0."""
    return torch.where(denominator == 0, 0, numerator / denominator.where(denominator != 0, 1))
