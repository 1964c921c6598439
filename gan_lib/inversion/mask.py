"""What a guided feature inversion is made of: the layers, the mask, the blurred image."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from gan_lib.core.capture import Capture, evaluation_mode, layers_in_order
from gan_lib.core.layouts import layout_of
from gan_lib.core.maps import min_max, upsample

PIXELS_PER_SIGMA = 224 / 11  # as published: sigma 11 on images of 224
POOLINGS = (nn.MaxPool2d, nn.AvgPool2d)
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.GELU, nn.Hardswish)
PLACED = (nn.Conv2d, nn.BatchNorm2d, nn.Dropout, *ACTIVATIONS, *POOLINGS)


class LastLayerReached(Exception):  # noqa: N818  it ends a forward pass, and is no error
    """The last wanted layer has run; there is no need to go on."""


class CaptureUntil(Capture):
    """As :class:`gan_lib.core.capture.Capture`, but :meth:`run` ends a forward pass when all layers are
    there."""

    def __init__(self, model: nn.Module, layers: Sequence[str]) -> None:
        super().__init__(model, layers)
        self.model = model

    def run(self, images: Tensor) -> None:
        """Run the model on images (B, 3, H, W) as far as needed; hooks last as long as that."""
        with self, suppress(LastLayerReached):
            self.model(images)

    def _keep(self, layer: str, value: Tensor) -> Tensor:
        kept = super()._keep(layer, value)
        if self._kept.keys() == self._found.keys():
            raise LastLayerReached
        return kept


def inversion_layers(cnn: nn.Module, example: Tensor) -> tuple[str, str]:
    """The layer that masks are made of, and the one whose activation is preserved.

    The second is the last layer with places, the first the same or, where that is a pooling, the layer that
    it pools: VGG19's ``features.35`` and ``features.36``, as published; ResNet18's last block. Layers that
    hold the classes' own scores, place by place, are no hidden ones: SqueezeNet's last is the one before. A
    forward pass of the example (1, 3, H, W) tells.

    Raises:
        ValueError: no layer with places, or images that leave none.
    """
    names = layers_in_order(cnn, example, PLACED)
    with torch.no_grad(), evaluation_mode(cnn), Capture(cnn, names) as captured:
        scores = cnn(example)  # (1, K)
    placed = [name for name in names if has_places(captured[name], example)]
    placed = _hidden([(name, captured[name]) for name in placed], scores) or placed
    if not placed:
        height, width = example.shape[-2:]
        raise ValueError(f"images of {height} x {width} leave no layer of {type(cnn).__name__} with places")
    last = placed[-1]
    pooled = isinstance(cnn.get_submodule(last.partition("#")[0]), POOLINGS)
    return (placed[-2] if pooled and len(placed) > 1 else last), last


def _hidden(placed: Sequence[tuple[str, Tensor]], scores: Tensor) -> list[str]:
    """Names of layers (1, C, h, w) without those at the end that hold the scores (1, K) place by place."""
    names = [name for name, _ in placed]
    made = [own for _, own in placed]
    means = made[-1].flatten(2).mean(2) if made else scores[:, :0]  # (1, C)
    if means.shape == scores.shape and torch.allclose(means, scores, rtol=1e-3, atol=1e-4):
        last = made[-1]
        while made and made[-1].shape == last.shape and torch.equal(made[-1].relu(), last.relu()):
            del made[-1], names[-1]  # the activation, and the convolution before it
    return names


def has_places(activation: Tensor, images: Tensor) -> bool:
    """Whether an activation of images (B, 3, H, W) is (B, C, h, w), channels first, with several places."""
    if activation.ndim != 4:
        return False
    layout = layout_of(activation, (images.shape[-2], images.shape[-1]))
    return layout.kind == "channels first" and layout.size[0] * layout.size[1] > 1


def blurred(images: Tensor, sigma: float | None = None) -> Tensor:
    """Images (B, 3, H, W) in [0, 1] under a Gaussian that is cut off at one sigma (23 pixels for a sigma of
    11).

    ``sigma``, in pixels, is by default 11 for a longer side of 224, and in proportion; one that is not above
    0 raises ``ValueError``.
    """
    wanted = max(images.shape[-2:]) / PIXELS_PER_SIGMA if sigma is None else sigma
    if wanted <= 0:
        raise ValueError(f"sigma is above 0, not {wanted}")
    across, down = (2 * min(max(1, round(wanted)), side - 1) + 1 for side in images.shape[-1:-3:-1])
    both = [wanted, wanted]
    with torch.autocast(images.device.type, enabled=False):
        # A Gaussian is separable: two passes cost a fraction of one with a square kernel.
        return gaussian_blur(gaussian_blur(images, [across, 1], both), [1, down], both)


def channel_mask(weights: Tensor, activations: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks ``minmax(sum_k w_k A[k])`` (B, 1, H, W), upsampled to a size (arXiv 1804.00506, equation 3).

    Of weights (B, C), not below 0, and activations (B, C, h, w); where the sum is constant, the mask is zero.
    """
    summed = torch.einsum("bc,bchw->bhw", weights, activations)[:, None]  # (B, 1, h, w)
    return upsample(min_max(summed), size)
