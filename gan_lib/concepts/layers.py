"""A hidden layer as places and channels, and how much each place matters for a class."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
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
from gan_lib.concepts.places import SplitPlaces
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
from gan_lib.core.grad_cam import default_layer, layouts_of
from gan_lib.core.inputs import as_input, at_once, weight_of
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

    Channels last and tokens (Swin, ConvNeXt, ViT) are given as (B, C, h, w) too, and activations that go
    below 0 as 2 C channels: what is above 0, then what is below, as positive numbers
    (:class:`gan_lib.concepts.places.SplitPlaces`). Directions of the layer are of that many numbers.
    What a class token holds by then stays, so that a late block's places may matter little for the logits: an
    earlier layer shows more.

    Args:
        cnn: from images in [0, 1] to logits (B, K); left as it is.
        layer: dotted name; by default the last one that has places on which the logits depend.
        image_size: height and width of an example.
        signed: whether the layer's activations are split; by default if those of noise, black or white go
            below 0.

    Attributes:
        channels, size: C, or 2 C of split activations, and (h, w).
        places: the way to (B, C, h, w) and back.

    Raises:
        KeyError: an unknown layer; near misses are listed.
        ValueError: a layer without places, or with tokens of which the logits depend on none that is a place.
    """

    def __init__(
        self,
        cnn: nn.Module,
        layer: str | None = None,
        image_size: tuple[int, int] = (64, 64),
        signed: bool | None = None,
    ) -> None:
        self.cnn, self.image_size = cnn, image_size
        self._joined: bool | None = None  # whether the rest of the network takes several changes at once
        noise = torch.rand(1, 3, *image_size, generator=torch.Generator().manual_seed(0))
        example = as_input(cnn, torch.cat([noise, torch.zeros_like(noise), torch.ones_like(noise)]))
        self.layer = layer or self._last(example[:1])
        with torch.no_grad():
            activation = self._captured(example)
        layout = layouts_of(cnn, example, {self.layer: activation})[self.layer]
        if signed is None:
            signed = bool((layout.places(activation) < 0).any())
        self.places = SplitPlaces(layout, signed)
        made = self._checked(self.places.split(activation))
        self.channels: int = made.shape[1]
        self.size: tuple[int, int] = (made.shape[2], made.shape[3])
        if layout.extra and torch.equal(
            *(self.logits(example, to) for to in (torch.clone, torch.zeros_like))
        ):
            raise ValueError(
                f"the logits do not depend on the places of layer {self.layer!r}, but on its other tokens "
                "alone: choose an earlier layer, one before the last attention"
            )

    def _last(self, example: Tensor) -> str:
        """The last layer with places; of a module that runs several times, what holds it, if that has places
        too, else the call. Of tokens and channels last, the last one on whose places the logits depend."""
        found = default_layer(self.cnn, example)
        if not isinstance(find_layer(self.cnn, found)[0], nn.Conv2d):
            return found
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
        """Activations (B, C, h, w), not below 0, on the CNN's device, of images (B, 3, H, W).

        Raises:
            ValueError: a number below 0 in a layer that is not split.
        """
        with torch.no_grad():
            return self.with_gradient(as_input(self.cnn, images))

    def with_gradient(self, images: Tensor) -> Tensor:
        """The same as part of the graph of the images, which lie on the CNN's device."""
        return self._checked(self.places.split(self._captured(images)))

    def _captured(self, images: Tensor) -> Tensor:
        """What the layer gives, in its own layout."""
        with evaluation_mode(self.cnn), Capture(self.cnn, [self.layer]) as captured:
            self.cnn(images)
        return captured[self.layer]

    def _checked(self, places: Tensor) -> Tensor:
        if not self.places.signed and (places < 0).any():
            raise ValueError(
                f"layer {self.layer!r} has activations down to {float(places.min()):.3g}, not split; "
                "say signed=True, or choose one behind a ReLU"
            )
        return places.float()

    def with_gradient_of(self, images: Tensor, target: Target = None) -> tuple[Tensor, Tensor]:
        """Activations (B, C, h, w), and the gradient of a class's logit in them, from one forward pass.

        The class is the predicted one, one class, or one per image. The pass back ends at the layer.
        """
        return self.gradient_at(as_input(self.cnn, images.detach()), target)

    def gradient_at(self, given: Tensor, target: Target = None) -> tuple[Tensor, Tensor]:
        """The same of images that are as the CNN takes them, in the memory layout that they have."""
        held: list[Tensor] = []

        def start(activation: Tensor) -> Tensor:
            held.append(self.places.split(activation.detach()).requires_grad_())
            # A clone: what follows may work in place, which a leaf forbids.
            return self.places.join(activation, held[0].clone())

        with torch.enable_grad(), evaluation_mode(self.cnn), frozen(self.cnn):
            with replaced_activation(self.cnn, self.layer, start):
                logits = self.cnn(given)
            chosen = resolve_target(logits, target)
            (gradient,) = torch.autograd.grad(logits.gather(1, chosen[:, None]).sum(), held[0])
        return self._checked(held[0].detach()), gradient.float()

    def logits(self, images: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        """Logits (B, K) after the layer's activations (B, C, h, w) were changed.

        Of split activations both halves are, and are joined again for the rest of the network.
        """

        def changed(activation: Tensor) -> Tensor:
            return self.places.join(activation, change(self.places.split(activation)))

        given = as_input(self.cnn, images)
        with torch.no_grad(), evaluation_mode(self.cnn), replaced_activation(self.cnn, self.layer, changed):
            logits: Tensor = self.cnn(given)
        return logits.float()

    def logits_of_each(self, images: Tensor, changes: Callable[[Tensor], Tensor]) -> Tensor:
        """Logits (k, B, K) after each of k changes of the layer's activations.

            hidden.logits_of_each(images, lambda own: torch.stack([own, 0.5 * own]))  # (2, B, K)

        One pass up to the layer serves all, and what is behind it runs once, on k * B images. A network whose
        rest looks back to what came before the layer, a shortcut for instance, cannot do that; it runs once
        for each change. The first call finds out.

        Args:
            images: (B, 3, H, W).
            changes: from activations (B, C, h, w) to (k, B, C, h, w).
        """
        if self._joined is None:
            apart = self._each_apart(images, changes)
            with suppress(Exception):  # the network's own, of a number of images that it did not expect
                together = self._each_together(images, changes)
                self._joined = together.shape == apart.shape and torch.allclose(together, apart, 1e-3, 1e-4)
            self._joined = bool(self._joined)
            return apart
        return (self._each_together if self._joined else self._each_apart)(images, changes)

    def _each_apart(self, images: Tensor, changes: Callable[[Tensor], Tensor]) -> Tensor:
        made = changes(self(images))  # (k, B, C, h, w)
        return torch.stack([self.logits(images, lambda _, own=own: own) for own in made])  # type: ignore[misc]

    def _each_together(self, images: Tensor, changes: Callable[[Tensor], Tensor]) -> Tensor:
        def spread(activation: Tensor) -> Tensor:
            made = changes(self._checked(self.places.split(activation)))  # (k, B, C, h, w)
            copies = activation.repeat(len(made), *[1] * (activation.ndim - 1))
            return self.places.join(copies, made.flatten(0, 1))

        given = as_input(self.cnn, images)
        replaced = replaced_activation(self.cnn, self.layer, spread, any_length=True)
        with torch.no_grad(), evaluation_mode(self.cnn), replaced:
            logits: Tensor = self.cnn(given)  # (k * B, K)
        return logits.float().unflatten(0, (-1, len(images)))


class LayerRelevance:
    """How much every place of a hidden layer speaks for a class: Captum's layer attributions.

        relevance = LayerRelevance(hidden, "deep_lift", samples=20)(images, target=3)  # (B, 1, h, w)

    Attributions of all channels, the negative ones set to 0, averaged over the channels
    (arXiv 2502.03422, section 3.1). Of signed activations both halves have attributions of their own.

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
        if not self.samples:
            return method.attribute(images, **options)
        options |= {"nt_samples": self.samples, "stdevs": self.DEVIATION}
        at_once = min(self.samples, self.COPIES_AT_ONCE)
        with seeded(self.seed):
            return NoiseTunnel(method).attribute(images, nt_samples_batch_size=at_once, **options)

    def _captums(self, images: Tensor) -> tuple[Any, dict[str, Any]]:
        """Captum's method, and the options of its ``attribute``."""
        cnn, layer, is_plain = self.hidden.cnn, self.hidden.layer, self.hidden.places.plain
        if self.method == "deep_lift" and is_plain:
            return DeepLiftRule(cnn, layer, self.BASELINE), {}
        if "#" in layer or not is_plain:  # Captum's take no single call of a module, and split nothing
            return CallAttribution(self.hidden, self.method, self.BASELINE), {}
        module = find_layer(cnn, layer)[0]
        options: dict[str, Any] = {"attribute_to_layer_input": layer.endswith(INPUT)}
        if self.method == "integrated_gradients":
            at_once = max(64, len(images))
            options |= {"baselines": self.BASELINE, "n_steps": 16, "internal_batch_size": at_once}
            return LayerIntegratedGradients(cnn, module), options
        if self.method == "grad_cam":
            return LayerGradCam(cnn, module), options | {"attr_dim_summation": False}
        return LayerGradientXActivation(cnn, module), options
