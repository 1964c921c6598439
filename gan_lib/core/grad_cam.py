"""Grad-CAM of many layers in one forward and one backward pass (Selvaraju et al., ICCV 2017), and what it and
other class activation maps are made of: activations and gradients of layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gan_lib.core.capture import (
    Capture,
    evaluation_mode,
    find_layer,
    has_places,
    in_one_piece,
    layers_in_order,
    module_calls,
    numbered,
)
from gan_lib.core.inputs import as_input, layout_for
from gan_lib.core.layouts import Layout, layout_of
from gan_lib.core.maps import min_max, upsample
from gan_lib.core.targets import Target, resolve_target

# Layers that give channels first whatever their aspect, and layers that give (B, C, N), rows without places.
MAPS = (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
ROWS = (nn.Flatten, nn.Conv1d, nn.AvgPool1d, nn.MaxPool1d, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d)


@dataclass(frozen=True)
class GradCAMs:
    """Grad-CAMs of a batch.

    Attributes:
        raw: per layer, in the order asked for, the map (B, 1, H_l, W_l), not below 0.
        logits: (B, K) of the same forward pass.
        target: (B,) the class that the maps explain.
    """

    raw: dict[str, Tensor]
    logits: Tensor
    target: Tensor

    def maps(self, size: tuple[int, int]) -> Tensor:
        """All layers' maps (B, L, H, W), each upsampled and scaled to [0, 1]; zero maps stay zero."""
        return torch.cat([min_max(upsample(raw, size)) for raw in self.raw.values()], dim=1)


@dataclass(frozen=True)
class LayerActivations:
    """Activations of some layers, all as channels first.

    Attributes:
        activations: per layer, in the order asked for, (B, C, H_l, W_l) in float32, without a graph.
        logits: (B, K) of the same forward pass.
    """

    activations: dict[str, Tensor]
    logits: Tensor


@dataclass(frozen=True)
class LayerGradients(LayerActivations):
    """Activations with the gradients of one class's logit.

    Attributes:
        gradients: per layer, of the activations' shapes.
        target: (B,) the class.
    """

    gradients: dict[str, Tensor]
    target: Tensor


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

    Equal to Captum's ``LayerGradCam(relu_attributions=True)``, at the cost of one pass for all. Arguments and
    errors as for :func:`layer_gradients`.
    """
    found = layer_gradients(cnn, images, layers, target)
    raw = {}
    for layer, activation in found.activations.items():
        weights = found.gradients[layer].mean((2, 3))  # (B, C)
        raw[layer] = weighted_sum(weights, activation).relu()  # (B, 1, H_l, W_l)
    return GradCAMs(raw, found.logits, found.target)


def weighted_sum(weights: Tensor, activation: Tensor) -> Tensor:
    """Maps (B, 1, H, W), the sum over the channels of an activation (B, C, H, W), by weights (B, C)."""
    return torch.einsum("bc,bchw->bhw", weights, activation)[:, None]


def layer_activations(cnn: nn.Module, images: Tensor, layers: Sequence[str]) -> LayerActivations:
    """Activations of layers in one forward pass, whatever their layout; no gradient is needed.

        layer_activations(cnn, images, ["layer4"]).activations["layer4"]  # (B, C, H_l, W_l)

    Arguments and errors as for :func:`layer_gradients`, apart from those about gradients.
    """
    given = as_input(cnn, images)  # before the block: it may ask the CNN which memory layout it takes
    with torch.no_grad(), evaluation_mode(cnn), Capture(cnn, layers) as captured:
        logits = cnn(given)  # (B, K)
        kept = {layer: captured[layer] for layer in layers}
    layouts = layouts_of(cnn, images, kept)
    placed = {layer: layouts[layer].places(own).float() for layer, own in kept.items()}
    return LayerActivations(placed, logits)


def layer_gradients(
    cnn: nn.Module, images: Tensor, layers: Sequence[str], target: Target = None
) -> LayerGradients:
    """Activations of layers, and the gradients ``dy_c / dA`` of a class's logit, in one forward and one
    backward pass: what class activation maps are made of.

        found = layer_gradients(cnn, images, ["layer4"])
        found.activations["layer4"], found.gradients["layer4"]  # (B, C, H_l, W_l) each

    Works with frozen parameters, inside ``no_grad`` and in any mode; leaves modes, ``param.grad`` and hooks
    as they were.

    Args:
        cnn: from images (B, 3, H, W) to logits (B, K).
        layers: dotted names of layers whose activation has places, (B, C, H_l, W_l), channels last or tokens
            (:mod:`gan_lib.core.layouts`).
        target: ``None`` for the predicted class, one class, or one per image.

    Raises:
        RuntimeError: under ``torch.inference_mode``, where no gradient exists.
        KeyError: an unknown layer; near misses are listed.
        ValueError: no layer, a wrong number of targets, a layer without places, one that the logits do not
            depend on, or one of whose tokens they depend on the class's alone.
    """
    if torch.is_inference_mode_enabled():
        raise RuntimeError("gradients are asked for, which torch.inference_mode forbids; use torch.no_grad")
    if not layers:
        raise ValueError("gradients are asked for of at least one layer")
    given = images.detach().contiguous(memory_format=layout_for(cnn, images))
    with torch.enable_grad(), evaluation_mode(cnn), Capture(cnn, layers) as captured:
        logits = cnn(given.requires_grad_())  # (B, K)
        chosen = resolve_target(logits, target)  # (B,)
        score = logits.gather(1, chosen[:, None]).sum()  # images do not mix in eval mode
        kept = {layer: captured[layer] for layer in layers}  # L times (B, C, H_l, W_l)
        found: Sequence[Tensor | None] = [None] * len(kept)
        if score.requires_grad:
            found = torch.autograd.grad(score, list(kept.values()), allow_unused=True)
    layouts, activations, gradients = layouts_of(cnn, images, kept), {}, {}
    for (layer, activation), gradient in zip(kept.items(), found, strict=True):
        layout = layouts[layer]
        if gradient is None:
            check_gradient(cnn, images[:1])
            raise ValueError(f"the logits do not depend on layer {layer!r}")
        gradients[layer] = layout.places(gradient).float()  # (B, C, H_l, W_l)
        if layout.extra and len(images) and not gradients[layer].any():
            raise ValueError(
                f"the logits do not depend on the places of layer {layer!r}, but on its other tokens alone: "
                "choose an earlier layer, one before the last attention"
            )
        activations[layer] = layout.places(activation.detach()).float()  # (B, C, H_l, W_l)
    return LayerGradients(activations, logits.detach(), gradients, chosen)


def layouts_of(cnn: nn.Module, images: Tensor, kept: Mapping[str, Tensor]) -> dict[str, Layout]:
    """How the activations of some layers, of images (B, 3, H, W), hold their places."""
    size = (images.shape[-2], images.shape[-1])
    is_tokens = any(activation.ndim == 3 for activation in kept.values())
    grid = patches(cnn, images[:1]) if is_tokens and len(images) else None
    return {
        layer: Layout("channels first", (activation.shape[2], activation.shape[3]))
        if activation.ndim == 4 and isinstance(find_layer(cnn, layer)[0], MAPS)
        else layout_of(activation, size, layer, len(images), grid)
        for layer, activation in kept.items()
    }


def default_layer(cnn: nn.Module, example: Tensor) -> str:
    """The last convolution; of a CNN that goes on with tokens or channels last (ViT, Swin, ConvNeXt), the
    last layer whose places the prediction for an example (1, 3, H, W) depends on.

    Raises:
        ValueError: no layer will do.
    """
    calls, size = module_calls(cnn, example), (example.shape[-2], example.shape[-1])
    names = [name for name, _, _ in calls]
    last, grid = _last_convolution(calls)
    kinds = [_placed(module, output, size, grid) if name else None for name, module, output in calls]
    if last >= 0 and set(kinds[last:]) <= {None, "channels first"}:
        return numbered(names, last)
    for index in reversed([i for i, kind in enumerate(kinds) if kind and i >= last]):
        if _depends(cnn, example, numbered(names, index), grid):
            return numbered(names, index)
    check_gradient(cnn, example)
    raise ValueError(
        f"no layer of {type(cnn).__name__} has places that its scores depend on{in_one_piece(cnn)}"
    )


def layers_with_places(cnn: nn.Module, example: Tensor) -> list[str]:
    """Layers whose outputs have places, in order, up to :func:`default_layer`: convolutions; of a CNN that
    goes on with tokens or channels last, whatever gives a grid of features from its first convolution on.
    ``example`` is (B, 3, H, W).

    Raises:
        ValueError: as :func:`default_layer`.
    """
    last = default_layer(cnn, example)
    if isinstance(find_layer(cnn, last)[0], nn.Conv2d):
        every = layers_in_order(cnn, example, with_places=True)
        return every[: every.index(last) + 1]
    calls, size = module_calls(cnn, example), (example.shape[-2], example.shape[-1])
    names, grid = [name for name, _, _ in calls], _last_convolution(calls)[1]
    start = next((i for i, (_, module, _) in enumerate(calls) if isinstance(module, nn.Conv2d)), 0)
    found: dict[int, str] = {}  # by output, for a container ends with that of its last layer
    for index, (name, module, output) in enumerate(calls):
        if index >= start and name and (_placed(module, output, size, grid) or _is_map(output)):
            found[id(output)] = numbered(names, index)
    layers = list(found.values())
    return layers[: layers.index(last) + 1] if last in layers else [last]


def _is_map(output: object) -> bool:
    """Whether an output of four dimensions has more than one place, whichever dimensions these are."""
    return isinstance(output, Tensor) and output.ndim == 4 and sorted(output.shape[1:])[1] > 1


def _depends(cnn: nn.Module, example: Tensor, layer: str, grid: tuple[int, int] | None) -> bool:
    """Whether the score of the predicted class depends on the places of a layer."""
    with torch.enable_grad(), evaluation_mode(cnn), Capture(cnn, [layer]) as captured:
        scores = cnn(example.detach().requires_grad_())  # (1, K)
        if not scores.requires_grad:
            return False
        gradient = torch.autograd.grad(scores.amax(1).sum(), captured[layer], allow_unused=True)[0]
    layout = layout_of(captured[layer], (example.shape[-2], example.shape[-1]), layer, grid=grid)
    return gradient is not None and bool(layout.places(gradient).any())


def patches(cnn: nn.Module, example: Tensor) -> tuple[int, int] | None:
    """The grid of the last convolution that has places, for an example (1, 3, H, W); ``None`` without one."""
    return _last_convolution(module_calls(cnn, example))[1]


def _last_convolution(calls: Sequence[tuple[str, nn.Module, Any]]) -> tuple[int, tuple[int, int] | None]:
    """The last call of a convolution that gives places, else of any, -1 for none; and its grid of places."""
    convolutions = [i for i, (_, module, _) in enumerate(calls) if isinstance(module, nn.Conv2d)]
    placed = [i for i in convolutions if has_places(calls[i][2])]
    if placed:
        return placed[-1], (calls[placed[-1]][2].shape[2], calls[placed[-1]][2].shape[3])
    return (convolutions[-1] if convolutions else -1), None


def _placed(
    module: nn.Module, output: object, size: tuple[int, int], grid: tuple[int, int] | None
) -> str | None:
    """The kind of layout of a layer's output, where it has more than one place."""
    if isinstance(module, ROWS) or not isinstance(output, Tensor) or output.ndim not in (3, 4):
        return None
    if isinstance(module, MAPS) and output.ndim == 4:
        return "channels first" if has_places(output) else None
    with suppress(ValueError):
        layout = layout_of(output, size, grid=grid)
        is_finer = grid is not None and (layout.size[0] > grid[0] or layout.size[1] > grid[1])  # attention
        return layout.kind if layout.size[0] * layout.size[1] > 1 and not is_finer else None
    return None


def check_gradient(cnn: nn.Module, image: Tensor) -> None:
    """A ValueError where a CNN's scores of an image (1, 3, H, W) have no gradient."""
    inputs = image.detach().requires_grad_()
    with torch.enable_grad(), evaluation_mode(cnn):
        scores = cnn(inputs)
        has_one = scores.requires_grad
        if has_one:
            has_one = torch.autograd.grad(scores.sum(), inputs, allow_unused=True)[0] is not None
    if not has_one:
        raise ValueError(
            f"the scores of {type(cnn).__name__} have no gradient: its layers are quantised, or it works "
            "under torch.no_grad; methods without gradients will do (occlusion, feature_ablation)"
        )
