"""CNNs cut short: the first layers of one, and a linear layer of their own, for pools that need more CNNs.

What a few published CNNs have in common, a generator takes for what all CNNs do. Their first layers with a
linear probe on them (Alain and Bengio, arXiv 1610.01644) are other CNNs: less deep, with finer last features,
weaker, and quickly made, since only the last layer is trained.
"""

from __future__ import annotations

from typing import Any

import torch
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from torch import Tensor, fx, nn

from gan_lib.core.capture import evaluation_mode, find_layer
from gan_lib.core.inputs import as_input, weight_of
from gan_lib.data import ImageSplit

LEAST = 20  # images of a class, or the linear layer does not learn it
PENALTY = 0.1  # inverse of the probe's L2 penalty: features are many, images few
TOLERANCE = 1e-6  # of its gradient
AT_ONCE = 64  # images


class _ReachedError(Exception):
    """The last layer has run: what follows is not needed."""

    def __init__(self, output: Any) -> None:
        self.output = output


class Shortened(nn.Module):
    """A CNN up to a layer, whose rectified features' means go through a linear layer.

    Args:
        cnn: from images (B, 3, H, W) in [0, 1]; the layers behind ``layer`` are never run.
        layer: a module's name; its output (B, C, h, w) are the features.
        channels, classes: C and K of the linear layer.

    Raises:
        KeyError: no such layer. ValueError: a layer's input, or one of its calls by number.
    """

    def __init__(self, cnn: nn.Module, layer: str, channels: int, classes: int) -> None:
        super().__init__()
        find_layer(cnn, layer)
        if "#" in layer or "@" in layer:
            raise ValueError(f"a CNN is cut behind a module, by its name alone, not at {layer!r}")
        self.cnn, self.layer = cnn, layer
        self.rectified = nn.ReLU()  # a module, so that what the head sees the means of is a layer's output
        self.head = nn.Linear(channels, classes)

    def features(self, images: Tensor) -> Tensor:
        """Rectified features (B, C, h, w) of images (B, 3, H, W).

        Raises:
            RuntimeError: the layer did not run, or gave something else than features with places.
        """

        def stop(module: nn.Module, given: Any, output: Any) -> None:
            raise _ReachedError(output)

        handle = find_layer(self.cnn, self.layer)[0].register_forward_hook(stop)
        try:
            self.cnn(images)
        except _ReachedError as reached:
            found = reached.output
        else:
            raise RuntimeError(f"layer {self.layer!r} did not run")
        finally:
            handle.remove()
        if not isinstance(found, Tensor | fx.Proxy):
            raise RuntimeError(f"layer {self.layer!r} gives a {type(found).__name__}, not features")
        if isinstance(found, Tensor) and found.ndim != 4:
            raise RuntimeError(f"layer {self.layer!r} gives {tuple(found.shape)}, not features (B, C, h, w)")
        rectified: Tensor = self.rectified(found)
        return rectified

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of images (B, 3, H, W)."""
        logits: Tensor = self.head(self.features(images).mean((2, 3)))
        return logits


def shortened(cnn: nn.Module, layer: str, images: ImageSplit) -> tuple[Shortened, ImageSplit]:
    """A CNN that ends at a layer, with a logistic regression on it, and the images that this was fitted to.

        short, known = shortened(cnn, "backbone.features.13", data.train)
        short(known.batch(torch.arange(8)).images)    # (8, K)

    Args:
        cnn: left as it is, and shared with what is returned.
        layer: the name of a module whose output is (B, C, h, w).
        images: with labels; only classes of 20 images or more are learned, K of them, in their order.

    Raises:
        KeyError: no such layer. ValueError: fewer than two classes with that many images, or as
            :class:`Shortened`. RuntimeError: as :meth:`Shortened.features`.
    """
    counts = torch.bincount(images.labels)
    classes = (counts >= LEAST).nonzero()[:, 0]
    if len(classes) < 2:
        raise ValueError(
            f"a linear layer behind {layer!r} needs two classes of {LEAST} images or more, not {len(classes)}"
        )
    known = images.subset(torch.isin(images.labels, classes).nonzero()[:, 0])
    labels = torch.searchsorted(classes, known.labels)  # (N,) in 0..K-1
    short = Shortened(cnn, layer, 1, len(classes))
    with torch.inference_mode(False), torch.no_grad(), evaluation_mode(short):
        parts = [
            short.features(as_input(cnn, batch.images)).mean((2, 3)).cpu() for batch in known.batches(AT_ONCE)
        ]
        features = torch.cat(parts).double()  # (N, C)
        mean, deviation = features.mean(0), features.std(0).clamp(min=1e-6)
        with threadpool_limits(1, "blas"):  # the same on any number of cores
            model = LogisticRegression(C=PENALTY, tol=TOLERANCE, max_iter=1000)
            model.fit(((features - mean) / deviation).numpy(), labels.numpy())
        weight, bias = torch.as_tensor(model.coef_), torch.as_tensor(model.intercept_)
        if len(classes) == 2:  # one row, for the second against the first
            weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
        short.head = nn.Linear(features.shape[1], len(classes)).requires_grad_(False)
        short.head.weight.copy_(weight / deviation)  # what standardises the features goes into the weights
        short.head.bias.copy_(bias - (weight / deviation) @ mean)
        short.head.to(weight_of(cnn))
    return short, known
