"""Grad-CAM of many layers in one forward and one backward pass (Selvaraju et al., ICCV 2017)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gan_lib.core.capture import Capture, evaluation_mode
from gan_lib.core.maps import min_max, upsample
from gan_lib.core.targets import Target, resolve_target


@dataclass(frozen=True)
class GradCAMs:
    """Grad-CAMs of a batch.

    Attributes:
        raw: per layer, in the order asked for, the map (B, 1, H_l, W_l), not below 0.
        logits: (B, K) of the same forward pass.
        target: (B,) the class that the maps explain.
    """

    raw: Mapping[str, Tensor]
    logits: Tensor
    target: Tensor

    def maps(self, size: tuple[int, int]) -> Tensor:
        """All layers' maps (B, L, H, W), each upsampled and scaled to [0, 1]; zero maps stay zero."""
        return torch.cat([min_max(upsample(raw, size)) for raw in self.raw.values()], dim=1)


def grad_cam(
    cnn: nn.Module,
    images: Tensor,
    layers: Sequence[str],
    target: Target = None,
) -> GradCAMs:
    """Grad-CAM of all given layers: ``relu(sum_k mean_hw(dy_c / dA_k) * A_k)``.

        cams = grad_cam(cnn, images, ["layer1", "layer4"])
        cams.raw["layer4"]        # (B, 1, H_l, W_l)
        cams.maps((224, 224))     # (B, 2, 224, 224) in [0, 1]

    Works with frozen parameters, inside ``no_grad`` and in any mode; leaves modes, ``param.grad`` and hooks
    as they were. Equal to Captum's ``LayerGradCam(relu_attributions=True)``, at the cost of one pass for all.

    Args:
        cnn: from images (B, 3, H, W) to logits (B, K).
        layers: dotted names of layers whose activation is (B, C, H_l, W_l).
        target: ``None`` for the predicted class, one class, or one per image.

    Raises:
        RuntimeError: under ``torch.inference_mode``, where no gradient exists.
        KeyError: an unknown layer; near misses are listed.
        ValueError: no layer, a wrong number of targets, a layer with no (C, H, W) activation, or one that the
            logits do not depend on.
    """
    if torch.is_inference_mode_enabled():
        raise RuntimeError("Grad-CAM needs gradients, which torch.inference_mode forbids; use torch.no_grad")
    if not layers:
        raise ValueError("Grad-CAM needs at least one layer")
    with torch.enable_grad(), evaluation_mode(cnn), Capture(cnn, layers) as captured:
        # Channels last is the faster layout for convolutions, on a CPU as on a GPU.
        inputs = images.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
        logits = cnn(inputs)  # (B, K)
        chosen = resolve_target(logits, target)  # (B,)
        score = logits.gather(1, chosen[:, None]).sum()  # images do not mix in eval mode
        activations = [captured[layer] for layer in layers]  # L times (B, C, H_l, W_l)
        gradients = torch.autograd.grad(score, activations, allow_unused=True)
        for layer, activation in zip(layers, activations, strict=True):
            if activation.ndim != 4:
                raise ValueError(f"layer {layer!r} gives {tuple(activation.shape)}, not (B, C, H, W)")
    raw = {}
    for layer, activation, gradient in zip(layers, activations, gradients, strict=True):
        if gradient is None:
            raise ValueError(f"the logits do not depend on layer {layer!r}")
        weights = gradient.float().mean((2, 3))  # (B, C)
        weighted = torch.einsum("bc,bchw->bhw", weights, activation.detach().float())
        raw[layer] = weighted.relu()[:, None]  # (B, 1, H_l, W_l)
    return GradCAMs(raw, logits.detach(), chosen)
