"""The interface of all explainers; how another one is added: :mod:`gan_lib.explainers.registry`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from captum.attr import Attribution
from captum.log import log_usage
from torch import Tensor, nn

from gan_lib.core.capture import evaluation_mode
from gan_lib.core.inputs import as_input
from gan_lib.core.outputs import probabilities
from gan_lib.core.targets import Target, resolve_target
from gan_lib.data.values import check_range
from gan_lib.explainers.explanation import Explanation


class Explainer(Attribution):
    """Base: a variant overrides :meth:`maps`.

    Args:
        cnn: the CNN to be explained, from images in [0, 1] to logits.
    """

    needs_gradients = False

    def __init__(self, cnn: nn.Module) -> None:
        super().__init__(cnn)
        self.cnn = cnn
        self.name = type(self).__name__  # what results call it

    def maps(self, images: Tensor, target: Target) -> Tensor:
        """Maps (B, 1, H, W) in [0, 1] of images (B, 3, H, W)."""
        raise NotImplementedError

    @log_usage()  # as Captum's own, without which its noise tunnel takes no method
    def attribute(self, inputs: Tensor, target: Target = None, batch_size: int | None = None) -> Tensor:
        """Maps (B, 1, H, W) in [0, 1] that explain a class.

        Args:
            inputs: (B, 3, H, W) in [0, 1]; no image gives no map.
            target: ``None`` for the predicted class, one class, or one per image.
            batch_size: images at a time, to bound the memory; by default all.

        Raises:
            ValueError: images of another shape, with NaN or infinite values, or a wrong number of targets.
            IndexError: a class that the CNN does not have.
            TypeError: images that are no floating-point numbers.
            RuntimeError: a method that needs gradients, under ``torch.inference_mode``.
        """
        self._check(inputs)
        size = batch_size or max(1, len(inputs))
        parts = inputs.split(size)
        targets: Sequence[Target] = [target] * len(parts)
        if target is not None and torch.as_tensor(target).ndim > 0:
            given = torch.as_tensor(target)
            if given.shape != inputs.shape[:1]:
                raise ValueError(f"{len(inputs)} images need one target each, got {tuple(given.shape)}")
            targets = given.split(size)
        if not len(inputs):
            return inputs.new_zeros((0, 1, *inputs.shape[-2:]), dtype=torch.float32)
        made = []
        for part, own in zip(parts, targets, strict=True):
            # A copy where needed: tensors made under inference_mode take part in no gradient.
            images = part.clone() if part.is_inference() else part
            made.append(self.maps(as_input(self.cnn, images), own).to(inputs.device, torch.float32))
        return torch.cat(made)

    def explain(self, images: Tensor, targets: Target = None, batch_size: int = 128) -> Explanation:
        """Maps with what they are maps of: classes and the CNN's probabilities; a figure and files of them.

            make_explainer("grad_cam", cnn).explain(images).show()

        Images are (N, 3, H, W) in [0, 1], or one (3, H, W); targets and errors as for :meth:`attribute`.
        """
        batch = images if images.ndim == 4 else images[None]
        self._check(batch)
        check_range(batch, "images")
        with evaluation_mode(self.cnn), torch.no_grad():
            logits = torch.cat(
                [self.cnn(as_input(self.cnn, part)).float() for part in batch.split(batch_size)]
            )
        chosen = resolve_target(logits, targets)  # (N,)
        found = probabilities(self.cnn, logits).gather(1, chosen[:, None])[:, 0]
        names = getattr(self.cnn, "class_names", None) or (f"class {k}" for k in range(logits.shape[1]))
        maps = self.attribute(batch, chosen, batch_size)
        return Explanation(batch, maps, chosen, found, tuple(names), self.name, self)

    def _check(self, inputs: Tensor) -> None:
        if inputs.ndim != 4 or inputs.shape[1] != 3:
            raise ValueError(f"images are (B, 3, H, W), not {tuple(inputs.shape)}")
        if not inputs.is_floating_point():
            raise TypeError(f"images are floating-point numbers in [0, 1], not {inputs.dtype}")
        if not inputs.isfinite().all():
            raise ValueError("images hold NaN or infinite values")
        if self.needs_gradients and torch.is_inference_mode_enabled():
            raise RuntimeError(
                f"{type(self).__name__} needs gradients, which torch.inference_mode forbids; "
                "use torch.no_grad"
            )

    def to(self, device: torch.device | str) -> Self:
        """Move the networks to a device; images given from elsewhere follow, their maps come back."""
        self.cnn.to(device)
        return self
