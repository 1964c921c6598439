"""A hidden layer as places and channels, and how much each place matters for a class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from captum.attr import (
    LayerGradCam,
    LayerGradientXActivation,
    LayerIntegratedGradients,
    NoiseTunnel,
)
from torch import Tensor, nn

from gan_lib.concepts.calls import CallAttribution
from gan_lib.core import outputs
from gan_lib.core.capture import (
    INPUT,
    Capture,
    evaluation_mode,
    find_layer,
    frozen,
    last_places,
    layers_in_order,
    replaced_activation,
)
from gan_lib.core.inputs import as_input, at_once, weight_of
from gan_lib.core.layouts import layout_of
from gan_lib.core.runtime import quiet, seeded
from gan_lib.core.targets import Target, resolve_target
from gan_lib.explainers.rules import DeepLiftRule

METHODS = ("deep_lift", "gradient_x_activation", "grad_cam", "integrated_gradients")


def probabilities(cnn: nn.Module, images: Tensor) -> Tensor:
    """Probabilities (B, K) that a CNN gives its classes for images (B, 3, H, W), on the CPU."""
    with torch.no_grad(), evaluation_mode(cnn):
        made = [
            outputs.probabilities(cnn, cnn(as_input(cnn, part))).cpu()
            for part in images.split(at_once(cnn, (images.shape[-2], images.shape[-1])))
        ]
    return torch.cat(made)


class HiddenLayer:
    """The activations of one layer, and the network behind it; images may lie on any device.

        hidden = HiddenLayer(cnn, "features.18", image_size=(64, 64))
        activations = hidden(images)                          # (B, C, h, w), not below 0
        logits = hidden.logits(images, lambda own: 0.5 * own)  # the rest of the network, run on

    Args:
        cnn: from images in [0, 1] to logits (B, K); left as it is.
        layer: dotted name; by default the last one that has places.
        image_size: height and width of an example.

    Raises:
        KeyError: an unknown layer; near misses are listed.
        ValueError: a layer without places, or with activations below 0, which no non-negative factors make.
    """

    def __init__(
        self, cnn: nn.Module, layer: str | None = None, image_size: tuple[int, int] = (64, 64)
    ) -> None:
        self.cnn, self.image_size = cnn, image_size
        example = torch.rand(1, 3, *image_size, generator=torch.Generator().manual_seed(0))
        self.layer = layer or self._last(example.to(weight_of(cnn)))
        made = self(example)
        self.channels: int = made.shape[1]
        self.size: tuple[int, int] = (made.shape[2], made.shape[3])

    def _last(self, example: Tensor) -> str:
        """The last layer with places; of a module that runs several times, what holds it, if that has places
        too, else the call."""
        head = layers_in_order(self.cnn, example, (nn.Linear, nn.Conv2d))[-1]
        name = last_places(self.cnn, example, before=head)
        holder = name.rpartition(".")[0]
        if "#" not in name or not holder:
            return name
        with torch.no_grad(), evaluation_mode(self.cnn), Capture(self.cnn, [holder]) as captured:
            self.cnn(example)
        return holder if captured[holder].ndim == 4 else name

    @property
    def device(self) -> torch.device:
        """Where the CNN is."""
        return weight_of(self.cnn).device

    def __call__(self, images: Tensor) -> Tensor:
        """Activations (B, C, h, w), on the CNN's device, of images (B, 3, H, W); below 0 is a ValueError."""
        with torch.no_grad():
            return self.with_gradient(as_input(self.cnn, images))

    def with_gradient(self, images: Tensor) -> Tensor:
        """The same as part of the graph of the images, which lie on the CNN's device."""
        with evaluation_mode(self.cnn), Capture(self.cnn, [self.layer]) as captured:
            self.cnn(images)
        return self._checked(captured[self.layer], images)

    def _checked(self, activation: Tensor, images: Tensor) -> Tensor:
        layout = layout_of(activation, (images.shape[-2], images.shape[-1]), self.layer, len(images))
        if layout.kind != "channels first":
            raise ValueError(
                f"layer {self.layer!r} gives {tuple(activation.shape)}, {layout.kind}: concepts are factors "
                "of (B, C, h, w), so choose a layer that gives channels first"
            )
        if (activation < 0).any():
            lowest = float(activation.min())
            raise ValueError(
                f"layer {self.layer!r} has activations down to {lowest:.3g}: choose one behind a ReLU"
            )
        return activation.float()

    def with_gradient_of(self, images: Tensor, target: Target = None) -> tuple[Tensor, Tensor]:
        """Activations (B, C, h, w), and the gradient of a class's logit in them, from one forward pass.

        The class is the predicted one, one class, or one per image. The pass back ends at the layer.
        """
        given, held = as_input(self.cnn, images.detach()), []

        def start(activation: Tensor) -> Tensor:
            held.append(activation.detach().requires_grad_())
            return held[0].clone()  # what follows may work in place, which a leaf forbids

        with torch.enable_grad(), evaluation_mode(self.cnn), frozen(self.cnn):
            with replaced_activation(self.cnn, self.layer, start):
                logits = self.cnn(given)
            chosen = resolve_target(logits, target)
            (gradient,) = torch.autograd.grad(logits.gather(1, chosen[:, None]).sum(), held[0])
        return self._checked(held[0].detach(), images), gradient.float()

    def logits(self, images: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        """Logits (B, K) after the layer's activations (B, C, h, w) were changed."""

        def changed(activation: Tensor) -> Tensor:
            return change(activation).to(activation.dtype)

        given = as_input(self.cnn, images)
        with torch.no_grad(), evaluation_mode(self.cnn), replaced_activation(self.cnn, self.layer, changed):
            logits: Tensor = self.cnn(given)
        return logits.float()


class LayerRelevance:
    """How much every place of a hidden layer speaks for a class: Captum's layer attributions.

        relevance = LayerRelevance(hidden, "deep_lift", samples=20)(images, target=3)  # (B, 1, h, w)

    Attributions of all channels, the negative ones set to 0, averaged over the channels
    (arXiv 2502.03422, section 3.1).

    Args:
        hidden: the layer.
        method: ``deep_lift`` with inputs multiplied, as published; ``gradient_x_activation``;
            ``grad_cam``; or ``integrated_gradients``.
        samples: noisy copies of every image over which the attribution is averaged (SmoothGrad; 20 as
            published, with a deviation of 0.25 of the images' range); 0 for the image itself.
        seed: of the noise.

    Raises:
        ValueError: an unknown method, or fewer than 0 samples.
    """

    DEVIATION, BASELINE = 0.25, 1.0  # of noise; white, with which DeepLift and integrated gradients compare
    COPIES_AT_ONCE = 4

    def __init__(
        self, hidden: HiddenLayer, method: str = "deep_lift", samples: int = 20, seed: int = 0
    ) -> None:
        if method not in METHODS:
            raise ValueError(f"method is one of {METHODS}, not {method!r}")
        if samples < 0:
            raise ValueError(f"samples must not be negative, not {samples}")
        self.hidden, self.method, self.samples, self.seed = hidden, method, samples, seed

    def __call__(self, images: Tensor, target: Target = None) -> Tensor:
        """Relevance (B, 1, h, w), not below 0, of images (B, 3, H, W); target ``None`` is the prediction.

        Raises: as :func:`resolve_target`, and a RuntimeError under ``torch.inference_mode``.
        """
        cnn = self.hidden.cnn
        self._refuse_inference_mode()
        images = as_input(cnn, images.detach())
        with evaluation_mode(cnn), quiet(), torch.enable_grad():
            with torch.no_grad():
                chosen = resolve_target(cnn(images), target)
            made = self._attribute(images.requires_grad_(), chosen)
        return made.detach().float().relu().mean(1, keepdim=True)

    def weighted(self, images: Tensor, target: Target = None) -> Tensor:
        """Activations times relevance, (B, C, h, w), of images (B, 3, H, W); raises as a call does.

        Of the plain gradient times activation both come from one forward pass, which Captum's takes thrice.
        """
        if self.method != METHODS[1] or self.samples:
            return self(images, target) * self.hidden(images)
        self._refuse_inference_mode()
        activation, gradient = self.hidden.with_gradient_of(images, target)
        return (activation * gradient).relu().mean(1, keepdim=True) * activation

    def _refuse_inference_mode(self) -> None:
        if torch.is_inference_mode_enabled():
            raise RuntimeError("layer attributions need gradients, which torch.inference_mode forbids")

    def settings(self) -> dict[str, Any]:
        """Layer, method and its settings, as JSON values."""
        own = {"method": self.method, "samples": self.samples, "seed": self.seed}
        return {"layer": self.hidden.layer, **own, "deviation": self.DEVIATION, "baseline": self.BASELINE}

    def _attribute(self, images: Tensor, target: Tensor) -> Tensor:
        """Attributions (B, C, h, w)."""
        method, options = self._captums(images)
        options |= {"target": target}
        if self.method != "deep_lift" and "#" not in self.hidden.layer:
            options |= {"attribute_to_layer_input": self.hidden.layer.endswith(INPUT)}
        if not self.samples:
            return method.attribute(images, **options)
        options |= {"nt_samples": self.samples, "stdevs": self.DEVIATION}
        at_once = min(self.samples, self.COPIES_AT_ONCE)
        with seeded(self.seed):
            return NoiseTunnel(method).attribute(images, nt_samples_batch_size=at_once, **options)

    def _captums(self, images: Tensor) -> tuple[Any, dict[str, Any]]:
        """Captum's method, and the options of its ``attribute``."""
        cnn, layer = self.hidden.cnn, self.hidden.layer
        if self.method == "deep_lift":
            return DeepLiftRule(cnn, layer, self.BASELINE), {}
        if "#" in layer:  # Captum's take no single call of a module
            return CallAttribution(cnn, layer, self.method, self.BASELINE), {}
        module = find_layer(cnn, layer)[0]
        if self.method == "integrated_gradients":
            at_once = max(64, len(images))
            options = {"baselines": self.BASELINE, "n_steps": 16, "internal_batch_size": at_once}
            return LayerIntegratedGradients(cnn, module), options
        if self.method == "grad_cam":
            return LayerGradCam(cnn, module), {"attr_dim_summation": False}
        return LayerGradientXActivation(cnn, module), {}
