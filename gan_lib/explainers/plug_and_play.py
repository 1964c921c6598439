"""Pictures of a CNN's layers in one call each: the interface of the ``explainable-cnn`` package.

The four calls, their arguments and what they return are those of its version 1.0.0. What differs:

* no hook stays behind, modes and gradients of the model stay as they were;
* in-place and reused ReLUs are handled, on which that package fails or errs;
* Grad-CAM pictures use a perceptually uniform colour map, where jet misleads, and come as RGB, where
  that package mixes RGB with BGR; a map without any evidence is black instead of NaN;
* ``input_shape`` is (height, width), also for images that are not square;
* images may be arrays or tensors too, and several at once; a label may be left out.
"""

from __future__ import annotations

import difflib
import operator
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import functional as transform

from gan_lib.classifiers import Classifier
from gan_lib.classifiers.wrap import IMAGENET_MEAN, IMAGENET_STD
from gan_lib.core.grad_cam import grad_cam
from gan_lib.core.maps import min_max
from gan_lib.data.folders import read_image
from gan_lib.explainers.gradients import GuidedBackprop, Saliency

Array = NDArray[np.float32]
Image = str | Path | NDArray[np.generic] | Tensor
Images = Image | Sequence[Image]
Label = int | str | None
Transforms = Callable[[NDArray[np.uint8]], Tensor]


class CNNExplainer:
    """Saliency, guided back-propagation, Grad-CAM and guided Grad-CAM of any CNN.

        explainer = CNNExplainer(model, {0: "cat", 1: "dog"})
        explainer.get_grad_cam("photo.jpg", "dog", (224, 224), ["layer3", "layer4"])

    Args:
        model: any CNN that gives logits (B, K). A :class:`gan_lib.classifiers.Classifier` takes images in
            [0, 1]; of others, normalisation with ImageNet's mean and deviation is assumed, unless the
            calls are given ``transforms``.
        class_map: names of the classes by number; by default the classifier's own.
        device: on which to compute; by default where the model is.

    Raises:
        ValueError: a model without class names, and no ``class_map``.
    """

    def __init__(
        self, model: nn.Module, class_map: Mapping[int, str] | None = None, device: str | None = None
    ) -> None:
        if class_map is None:
            if not isinstance(model, Classifier):
                raise ValueError("class_map must name the classes, for instance {0: 'cat', 1: 'dog'}")
            class_map = dict(enumerate(model.class_names))
        self.class_map = dict(class_map)
        self.device = torch.device(device) if device else next(model.parameters()).device
        self.model = model.to(self.device)

    def get_saliency_map(
        self,
        image_path: Images,
        image_label: Label | Sequence[Label],
        input_shape: tuple[int, int],
        transforms: Transforms | None = None,
    ) -> Array:
        """Largest absolute gradient over the colours, (H, W); (B, H, W) of several images.

        Args:
            image_path: a file, an array (H, W, 3) of bytes or in [0, 1], a tensor (3, H, W) in [0, 1]; or
                several: a sequence of these, (B, H, W, 3) or (B, 3, H, W).
            image_label: number or name of a class, one for all images or one each; ``None`` for the
                predicted class.
            input_shape: (height, width) that images are resized to.
            transforms: from an array (H, W, 3) of bytes to what the model takes, (3, H, W).

        Raises:
            KeyError: no such class, near misses are listed; or no such layer.
            IndexError: a class number that the model does not have.
            ValueError: an unreadable file, an image of another shape, a wrong number of labels, or an
                ``input_shape`` that is no pair of positive numbers.
        """
        inputs, _, target, single = self._prepare(image_path, image_label, input_shape, transforms)
        gradients = Saliency(self.model).attributions(inputs, target).float()
        return _given(gradients.abs().amax(1), single)

    def get_guided_back_propagation(
        self,
        image_path: Images,
        image_label: Label | Sequence[Label],
        input_shape: tuple[int, int],
        transforms: Transforms | None = None,
    ) -> Array:
        """Guided gradients, each image's own range as 0..255, (H, W, 3); arguments as for saliency."""
        inputs, _, target, single = self._prepare(image_path, image_label, input_shape, transforms)
        return _given(_pixels(GuidedBackprop(self.model).attributions(inputs, target)), single)

    def get_grad_cam(
        self,
        image_path: Images,
        image_label: Label | Sequence[Label],
        input_shape: tuple[int, int],
        layers: Sequence[str],
        transforms: Transforms | None = None,
        infuse: bool = True,
    ) -> list[Array]:
        """Grad-CAM of every layer, from one pass: laid over the image, (H, W, 3) in 0..255.

        Args:
            image_path, image_label, input_shape, transforms: as for :meth:`get_saliency_map`.
            layers: dotted names.
            infuse: false for the maps alone, (H, W) in [0, 1].
        """
        inputs, pictures, target, single = self._prepare(image_path, image_label, input_shape, transforms)
        maps = self._grad_cams(inputs, layers, target)  # (B, L, H, W)
        made = []
        for own in maps.split(1, dim=1):
            shown = own[:, 0]
            if infuse:
                shown = 255 * (_coloured(own) + pictures.permute(0, 2, 3, 1)) / 2
            made.append(_given(shown, single))
        return made

    def get_guided_grad_cam(
        self,
        image_path: Images,
        image_label: Label | Sequence[Label],
        input_shape: tuple[int, int],
        layers: Sequence[str],
        transforms: Transforms | None = None,
    ) -> list[Array]:
        """Guided gradients times the Grad-CAM of every layer, as 0..255, (H, W, 3) each.

        Arguments as for :meth:`get_grad_cam`.
        """
        inputs, _, target, single = self._prepare(image_path, image_label, input_shape, transforms)
        guided = GuidedBackprop(self.model).attributions(inputs, target).float()
        maps = self._grad_cams(inputs, layers, target)
        return [_given(_pixels(guided * own), single) for own in maps.split(1, dim=1)]

    def _grad_cams(self, inputs: Tensor, layers: Sequence[str], target: list[int] | None) -> Tensor:
        size = (inputs.shape[-2], inputs.shape[-1])
        return grad_cam(self.model, inputs, list(layers), target).maps(size)

    def _prepare(
        self,
        images: Images,
        labels: Label | Sequence[Label],
        input_shape: tuple[int, int],
        transforms: Transforms | None,
    ) -> tuple[Tensor, Tensor, list[int] | None, bool]:
        """What the model takes, pictures (B, 3, H, W) in [0, 1], classes, and whether it is one image."""
        if len(input_shape) != 2 or min(input_shape) < 1:
            raise ValueError(f"input_shape is (height, width), not {input_shape}")
        single, several = _as_list(images)
        pictures = torch.stack([_picture(image, input_shape) for image in several]).to(self.device)
        if transforms is not None:
            arrays = (255 * pictures).round().byte().permute(0, 2, 3, 1).cpu().numpy()
            inputs = torch.stack([transforms(array) for array in arrays]).to(self.device)
        elif isinstance(self.model, Classifier):
            inputs = pictures
        else:
            inputs = transform.normalize(pictures, list(IMAGENET_MEAN), list(IMAGENET_STD))
        inputs = inputs.to(next(self.model.parameters()))
        return inputs, pictures, self._targets(labels, len(several)), single

    def _targets(self, labels: Label | Sequence[Label], count: int) -> list[int] | None:
        if labels is None:
            return None
        several = isinstance(labels, Sequence | np.ndarray | Tensor) and not isinstance(labels, str)
        given = list(labels) if several and np.ndim(labels) else [labels] * count  # type: ignore[arg-type]
        if len(given) != count:
            raise ValueError(f"{count} images need one label each, got {len(given)}")
        return [self._class_number(label) for label in given]

    def _class_number(self, label: Any) -> int:
        if not isinstance(label, str):
            return operator.index(label)  # a TypeError for what is no number
        numbers = {name: number for number, name in self.class_map.items()}
        if label not in numbers:
            near = difflib.get_close_matches(label, numbers, n=3)
            hint = f"did you mean {', '.join(map(repr, near))}?" if near else f"there are {len(numbers)}"
            raise KeyError(f"no class {label!r}; {hint}")
        return numbers[label]


def _as_list(images: Images) -> tuple[bool, list[Image]]:
    """Whether there is one image only, and the images one by one."""
    if isinstance(images, str | Path):
        return True, [images]
    if isinstance(images, Tensor | np.ndarray):
        if images.ndim == 3:
            return True, [images]
        if images.ndim == 4:
            return False, list(images)
        raise ValueError(f"an image has three dimensions, several have four; not {tuple(images.shape)}")
    return False, list(images)


def _picture(image: Image, size: tuple[int, int]) -> Tensor:
    """One image as (3, H, W) in [0, 1] at a size."""
    if isinstance(image, str | Path):
        return read_image(image, size).float() / 255
    values = image if isinstance(image, Tensor) else torch.from_numpy(np.ascontiguousarray(image))
    if not isinstance(image, Tensor) and values.ndim == 3:
        values = values.permute(2, 0, 1)
    if values.ndim != 3 or values.shape[0] != 3:
        raise ValueError(
            f"an image is (3, H, W) as a tensor and (H, W, 3) as an array; not {tuple(image.shape)}"
        )
    picture = values.float() if values.is_floating_point() else values.float() / 255
    if not (picture.min() >= 0 and picture.max() <= 1):
        raise ValueError("an image of floating-point numbers lies in [0, 1], without NaN")
    if tuple(picture.shape[-2:]) == tuple(size):
        return picture
    return F.interpolate(picture[None], size=size, mode="bilinear", antialias=True)[0].clamp(0, 1)


def _coloured(maps: Tensor) -> Tensor:
    """Maps (B, 1, H, W) in [0, 1] in colour, (B, H, W, 3)."""
    colours = colormaps["inferno"](maps[:, 0].cpu().numpy())[..., :3]
    return torch.from_numpy(np.ascontiguousarray(colours, dtype=np.float32)).to(maps.device)


def _pixels(gradients: Tensor) -> Tensor:
    """Gradients (B, 3, H, W) as pictures (B, H, W, 3), each from 0 at its lowest to 255 at its highest."""
    flat = gradients.float().permute(0, 2, 3, 1).flatten(1)
    return (255 * min_max(flat[:, None])[:, 0]).view(gradients.permute(0, 2, 3, 1).shape)


def _given(pictures: Tensor, single: bool) -> Array:
    made: Array = pictures.detach().float().cpu().numpy()
    return made[0] if single else made
