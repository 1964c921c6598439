"""Pictures of a CNN's layers in one call each: the interface of the ``explainable-cnn`` package.

The four calls, their arguments and what they return are those of its version 1.0.0. But the model stays as it
was; in-place and reused ReLUs are handled, on which that package fails or errs; Grad-CAM pictures use a
perceptually uniform colour map, are RGB, and black without any evidence instead of NaN; ``input_shape`` is
(height, width); images may be arrays or tensors too, and several at once; a label may be left out.
"""

from __future__ import annotations

import difflib
import operator
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
from gan_lib.core.inputs import weight_of
from gan_lib.core.maps import min_max
from gan_lib.data.folders import read_image
from gan_lib.explainers.gradients import GuidedBackprop, Saliency

Array = NDArray[np.float32]
Image = str | Path | NDArray[np.generic] | Tensor
Images = Image | Sequence[Image]
Label = int | str | None
Labels = Label | Sequence[Label]
Shape = tuple[int, int]
Transforms = Callable[[NDArray[np.uint8]], Tensor]


class CNNExplainer:
    """Saliency, guided back-propagation, Grad-CAM and guided Grad-CAM of any CNN.

        explainer = CNNExplainer(model, {0: "cat", 1: "dog"})
        explainer.get_grad_cam("photo.jpg", "dog", (224, 224), ["layer3", "layer4"])

    The calls take

    * ``image_path``: a file, an array (H, W, 3) of bytes or in [0, 1], a tensor (3, H, W) in [0, 1]; or
      several, a sequence of these, (B, H, W, 3) or (B, 3, H, W), of which they return (B, ...);
    * ``image_label``: number or name of a class, for all images or one each; ``None`` for the predicted one;
    * ``input_shape``: (height, width) that images are resized to;
    * ``transforms``: from an array (H, W, 3) of bytes to what the model takes, (3, H, W);

    and raise ``KeyError`` for an unknown class or layer (near misses are listed), ``IndexError`` for a class
    number that there is not, ``ValueError`` for an unreadable file, an image of another shape, a wrong number
    of labels, or an ``input_shape`` that is no pair of positive numbers.

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
        self.device = torch.device(device) if device else weight_of(model).device
        self.model = model.to(self.device)

    def get_saliency_map(
        self,
        image_path: Images,
        image_label: Labels,
        input_shape: Shape,
        transforms: Transforms | None = None,
    ) -> Array:
        """Largest absolute gradient over the colours, (H, W)."""
        given = self._prepare(image_path, image_label, input_shape, transforms)
        gradients = Saliency(self.model).attributions(given.inputs, given.target)
        return given.back(gradients.float().abs().amax(1))

    def get_guided_back_propagation(
        self,
        image_path: Images,
        image_label: Labels,
        input_shape: Shape,
        transforms: Transforms | None = None,
    ) -> Array:
        """Guided gradients, each image's own range as 0..255, (H, W, 3)."""
        given = self._prepare(image_path, image_label, input_shape, transforms)
        return given.back(_pixels(GuidedBackprop(self.model).attributions(given.inputs, given.target)))

    def get_grad_cam(
        self,
        image_path: Images,
        image_label: Labels,
        input_shape: Shape,
        layers: Sequence[str],
        transforms: Transforms | None = None,
        infuse: bool = True,
    ) -> list[Array]:
        """Grad-CAM of every layer, by dotted name, from one pass: laid over the image, (H, W, 3) in 0..255;
        without ``infuse`` the maps alone, (H, W) in [0, 1]."""
        given = self._prepare(image_path, image_label, input_shape, transforms)
        maps = self._grad_cams(given, layers).unbind(1)  # L times (B, H, W)
        if not infuse:
            return [given.back(own) for own in maps]
        coloured = [torch.from_numpy(colormaps["inferno"](own.cpu().numpy())[..., :3]) for own in maps]
        pictures = given.pictures.permute(0, 2, 3, 1)  # (B, H, W, 3)
        return [given.back(255 * (own.to(pictures) + pictures) / 2) for own in coloured]

    def get_guided_grad_cam(
        self,
        image_path: Images,
        image_label: Labels,
        input_shape: Shape,
        layers: Sequence[str],
        transforms: Transforms | None = None,
    ) -> list[Array]:
        """Guided gradients times the Grad-CAM of every layer, as 0..255, (H, W, 3) each."""
        given = self._prepare(image_path, image_label, input_shape, transforms)
        guided = GuidedBackprop(self.model).attributions(given.inputs, given.target).float()
        return [given.back(_pixels(guided * own)) for own in self._grad_cams(given, layers).split(1, dim=1)]

    def _grad_cams(self, given: _Given, layers: Sequence[str]) -> Tensor:
        height, width = given.pictures.shape[-2:]
        return grad_cam(self.model, given.inputs, list(layers), given.target).maps((height, width))

    def _prepare(
        self, images: Images, labels: Labels, input_shape: Shape, transforms: Transforms | None
    ) -> _Given:
        if len(input_shape) != 2 or min(input_shape) < 1:
            raise ValueError(f"input_shape is (height, width), not {input_shape}")
        single = isinstance(images, str | Path) or getattr(images, "ndim", 4) == 3
        several: Any = [images] if single else images
        if getattr(images, "ndim", 4) not in (3, 4):
            raise ValueError(f"an image has three dimensions, several have four; not {np.shape(several)}")
        pictures = torch.stack([_picture(image, input_shape) for image in several]).to(self.device)
        if transforms is not None:
            arrays = (255 * pictures).round().byte().permute(0, 2, 3, 1).cpu().numpy()
            inputs = torch.stack([transforms(array) for array in arrays])
        elif isinstance(self.model, Classifier):
            inputs = pictures
        else:
            inputs = transform.normalize(pictures, list(IMAGENET_MEAN), list(IMAGENET_STD))
        inputs = inputs.to(weight_of(self.model))
        return _Given(inputs, pictures, self._targets(labels, len(pictures)), single)

    def _targets(self, labels: Any, count: int) -> list[int] | None:
        if labels is None:
            return None
        given = [labels] * count if isinstance(labels, str) or not np.ndim(labels) else list(labels)
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


class _Given(NamedTuple):
    """What the model takes, pictures (B, 3, H, W) in [0, 1], classes, and whether it is one image."""

    inputs: Tensor
    pictures: Tensor
    target: list[int] | None
    single: bool

    def back(self, pictures: Tensor) -> Array:
        """As an array, without the batch where one image was given."""
        made: Array = pictures.detach().float().cpu().numpy()
        return made[0] if self.single else made


def _picture(image: Image, size: Shape) -> Tensor:
    """One image as (3, H, W) in [0, 1] at a size."""
    if isinstance(image, str | Path):
        return read_image(image, size).float() / 255
    values = image if isinstance(image, Tensor) else torch.from_numpy(np.ascontiguousarray(image))
    if not isinstance(image, Tensor) and values.ndim == 3:
        values = values.permute(2, 0, 1)
    if values.ndim != 3 or values.shape[0] != 3:
        shape = tuple(image.shape)
        raise ValueError(f"an image is (3, H, W) as a tensor and (H, W, 3) as an array; not {shape}")
    picture = values.float() if values.is_floating_point() else values.float() / 255
    if not (picture.min() >= 0 and picture.max() <= 1):
        raise ValueError("an image of floating-point numbers lies in [0, 1], without NaN")
    if tuple(picture.shape[-2:]) == tuple(size):
        return picture
    return F.interpolate(picture[None], size=size, mode="bilinear", antialias=True)[0].clamp(0, 1)


def _pixels(gradients: Tensor) -> Tensor:
    """Gradients (B, 3, H, W) as pictures (B, H, W, 3), each from 0 at its lowest to 255 at its highest."""
    placed = gradients.float().permute(0, 2, 3, 1)  # (B, H, W, 3)
    return (255 * min_max(placed.flatten(1)[:, None])).view(placed.shape)
