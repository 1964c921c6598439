"""A hidden layer as places and channels, and how much each place matters for a class.

Concepts live in the activations of one layer. Here these are always (B, C, h, w): maps of a CNN as they
are, tokens of a vision transformer as a grid without the class token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from captum.attr import (
    LayerDeepLift,
    LayerGradCam,
    LayerGradientXActivation,
    LayerIntegratedGradients,
    NoiseTunnel,
)
from torch import Tensor, nn

from gan_lib.core.capture import (
    Capture,
    evaluation_mode,
    find_layer,
    last_places,
    layers_in_order,
    replaced_activation,
)
from gan_lib.core.grad_cam import token_grid
from gan_lib.core.runtime import quiet, seeded
from gan_lib.core.targets import resolve_target
from gan_lib.explainers.activations import OwnActivations, own_rules

METHODS = ("deep_lift", "gradient_x_activation", "grad_cam", "integrated_gradients")


class HiddenLayer:
    """The activations of one layer, and the network behind it.

        hidden = HiddenLayer(cnn, "features.18", image_size=(64, 64))
        activations = hidden(images)                          # (B, C, h, w), not below 0
        logits = hidden.logits(images, lambda own: 0.5 * own)  # the rest of the network, run on

    Args:
        cnn: from images in [0, 1] to logits (B, K); left as it is.
        layer: dotted name; by default the last one that has places.
        image_size: height and width of an example.
        negative: what to do about activations below 0, which no non-negative factors make: ``refuse``
            them, or ``split`` every channel into its positive and its negative part, C channels into 2 C.

    Raises:
        KeyError: an unknown layer; near misses are listed.
        ValueError: a layer without places, or with activations below 0 that are to be refused.
    """

    def __init__(
        self,
        cnn: nn.Module,
        layer: str | None = None,
        image_size: tuple[int, int] = (64, 64),
        negative: str = "refuse",
    ) -> None:
        if negative not in ("refuse", "split"):
            raise ValueError(f"negative is 'refuse' or 'split', not {negative!r}")
        self.cnn, self.negative, self.image_size = cnn, negative, image_size
        noise = torch.rand(1, 3, *image_size, generator=torch.Generator().manual_seed(0))
        example = noise.to(next(cnn.parameters()))
        self.layer = layer or self._last(example)
        made = self(example)
        self.channels: int = made.shape[1]
        self.size: tuple[int, int] = (made.shape[2], made.shape[3])

    def _last(self, example: Tensor) -> str:
        """The last layer with places; of a module that runs several times, what holds it."""
        head = layers_in_order(self.cnn, example, (nn.Linear, nn.Conv2d))[-1]
        name = last_places(self.cnn, example, before=head)
        return name.rpartition(".")[0] if "#" in name else name

    def __call__(self, images: Tensor) -> Tensor:
        """Activations (B, C, h, w), not below 0, of images (B, 3, H, W).

        Raises:
            ValueError: activations below 0.
        """
        with torch.no_grad(), evaluation_mode(self.cnn), Capture(self.cnn, [self.layer]) as captured:
            self.cnn(images.contiguous(memory_format=torch.channels_last))
        return self.non_negative(self.grid(captured[self.layer]).float())

    def grid(self, activation: Tensor) -> Tensor:
        """What the layer gives, as (B, C, h, w)."""
        if activation.ndim == 3:
            return token_grid(activation)
        if activation.ndim != 4:
            raise ValueError(f"layer {self.layer!r} gives {tuple(activation.shape)}, which has no places")
        return activation

    def non_negative(self, activations: Tensor) -> Tensor:
        """Activations (B, C, h, w) with nothing below 0."""
        if self.negative == "split":
            return torch.cat([activations.clamp(min=0), (-activations).clamp(min=0)], 1)
        if (activations < 0).any():
            raise ValueError(
                f"layer {self.layer!r} has activations down to {float(activations.min()):.3g}: choose one "
                "behind a ReLU, or negative='split'"
            )
        return activations

    def logits(self, images: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        """Logits (B, K) after the layer's activations (B, C, h, w), as the CNN has them, were changed."""

        def changed(activation: Tensor) -> Tensor:
            made = change(self.grid(activation)).to(activation.dtype)
            if activation.ndim == 4:
                return made
            tokens = made.flatten(2).mT  # (B, h * w, C)
            return torch.cat([activation[:, : activation.shape[1] - tokens.shape[1]], tokens], 1)

        with (
            torch.no_grad(),
            evaluation_mode(self.cnn),
            replaced_activation(self.cnn, self.layer, changed),
        ):
            logits: Tensor = self.cnn(images.contiguous(memory_format=torch.channels_last))
        return logits.float()


class LayerRelevance:
    """How much every place of a hidden layer speaks for a class: Captum's layer attributions.

        relevance = LayerRelevance(hidden, "deep_lift", samples=20)(images, target=3)  # (B, 1, h, w)

    Attributions of all channels, the negative ones set to 0, averaged over the channels
    (arXiv 2502.03422, section 3.1). With ``by_channel`` they are not averaged: (B, C, h, w), what each
    channel of each place contributes.

    Args:
        hidden: the layer.
        method: ``deep_lift`` with inputs multiplied, as published; ``gradient_x_activation``;
            ``grad_cam``; or ``integrated_gradients``.
        samples: noisy copies of every image over which the attribution is averaged (SmoothGrad; 20 as
            published); 0 for the image itself.
        deviation: of the noise, in units of the images' range (0.25 as published).
        baseline: what DeepLift and integrated gradients compare with, a value for all pixels.
        seed: of the noise.
        copies_at_once: noisy copies of the whole batch in one pass.
        by_channel: one relevance for every channel.

    Raises:
        ValueError: an unknown method.
    """

    def __init__(
        self,
        hidden: HiddenLayer,
        method: str = "deep_lift",
        samples: int = 20,
        deviation: float = 0.25,
        baseline: float = 1.0,
        seed: int = 0,
        copies_at_once: int = 4,
        by_channel: bool = False,
    ) -> None:
        if method not in METHODS:
            raise ValueError(f"method is one of {METHODS}, not {method!r}")
        self.hidden, self.method, self.samples = hidden, method, samples
        self.deviation, self.baseline, self.seed, self.copies_at_once = (
            deviation,
            baseline,
            seed,
            copies_at_once,
        )
        self.by_channel = by_channel
        self._copied: OwnActivations | None = None

    def __call__(self, images: Tensor, target: int | Tensor | None = None) -> Tensor:
        """Relevance (B, 1, h, w), not below 0, of images (B, 3, H, W); target ``None`` is the prediction.

        Raises:
            ValueError: a wrong number of targets.
            IndexError: a class that the CNN does not have.
        """
        cnn = self.hidden.cnn
        if torch.is_inference_mode_enabled():
            raise RuntimeError("layer attributions need gradients, which torch.inference_mode forbids")
        with evaluation_mode(cnn), quiet(), torch.enable_grad(), own_rules():
            with torch.no_grad():
                chosen = resolve_target(cnn(images), target)
            inputs = images.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
            made = self._attribute(inputs, chosen)
        positive = self.hidden.grid(made.detach().float()).relu()  # (B, C, h, w)
        return positive if self.by_channel else positive.mean(1, keepdim=True)

    def settings(self) -> dict[str, Any]:
        """Layer, method and its settings, as JSON values."""
        own = ("method", "samples", "deviation", "baseline", "seed", "by_channel")
        layer = {"layer": self.hidden.layer, "negative": self.hidden.negative}
        return layer | {name: getattr(self, name) for name in own}

    def _attribute(self, images: Tensor, target: Tensor) -> Tensor:
        method, extra = self._captums(images)
        options: dict[str, Any] = {"target": target, **extra}
        if not self.samples:
            return method.attribute(images, **options)
        with seeded(self.seed):
            return NoiseTunnel(method).attribute(
                images,
                nt_samples=self.samples,
                nt_samples_batch_size=min(self.samples, self.copies_at_once),
                stdevs=self.deviation,
                **options,
            )

    def _captums(self, images: Tensor) -> tuple[Any, dict[str, Any]]:
        """Captum's method, and the options of its ``attribute``."""
        cnn, layer = self.hidden.cnn, self.hidden.layer
        if self.method == "deep_lift":
            if self._copied is None:
                self._copied = OwnActivations(cnn, images[:1].detach())
            module = find_layer(self._copied.cnn, layer)[0]
            return LayerDeepLift(self._copied, module), {"baselines": self.baseline}
        module = find_layer(cnn, layer)[0]
        if self.method == "integrated_gradients":
            size = max(64, len(images))
            return LayerIntegratedGradients(cnn, module), {
                "baselines": self.baseline,
                "n_steps": 16,
                "internal_batch_size": size,
            }
        if self.method == "grad_cam":
            return LayerGradCam(cnn, module), {"attr_dim_summation": False}
        return LayerGradientXActivation(cnn, module), {}
