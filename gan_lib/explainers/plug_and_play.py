"""Pictures of a CNN's layers in one call each: the interface of the ``explainable-cnn`` package.

The four calls, their arguments, what they return and the errors they raise are those of its version 1.0.0:
pictures are stretched to the shape that is asked for, to the byte as OpenCV does it, and Grad-CAM is laid
over them in its colours. But the model stays as it was; in-place and reused ReLUs are handled, on which that
package fails or errs, and so is ``ReLU6``, where its guided pictures are plain gradients; maps without any
evidence are 0 instead of NaN; ``input_shape`` is (height, width), of maps as well; images may be arrays or
tensors too, and several at once; a label may be left out.
"""

from __future__ import annotations

import difflib
import errno
import operator
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import functional as transform

from gan_lib.classifiers import Classifier
from gan_lib.classifiers.wrap import IMAGENET_MEAN, IMAGENET_STD
from gan_lib.core.capture import find_layer
from gan_lib.core.grad_cam import grad_cam
from gan_lib.core.inputs import weight_of
from gan_lib.core.maps import min_max
from gan_lib.data.opencv import stretched
from gan_lib.data.reading import fit_centre, read_image
from gan_lib.explainers.gradients import GuidedBackprop, Saliency

Array = NDArray[np.float32]
Image = str | Path | NDArray[np.generic] | Tensor
Images = Image | Sequence[Image]
Label = int | str | None
Labels = Label | Sequence[Label]
Shape = tuple[int, int]
Transforms = Callable[[NDArray[np.uint8]], Tensor]
Fit = Literal["stretch", "crop"]


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
    * ``fit``: ``stretch`` to that shape, whatever the image's own is, bilinear without smoothing as
      ``cv2.resize``; or ``crop`` the largest part of that aspect about the centre, smoothed;

    and raise

    * ``ValueError`` for a class, by name or number, that ``class_map`` does not have, or a layer that the
      model does not have (near misses are listed) or that has no places, an unreadable file, an image of
      another shape, a wrong number of labels, another ``fit``, an ``input_shape`` that is no pair of positive
      numbers;
    * ``TypeError`` for a label that is neither a name nor a number, an ``input_shape`` that is no tuple or
      list of whole numbers, ``transforms`` that cannot be called, ``layers`` that are no sequence of names,
      and what is no image;
    * ``FileNotFoundError`` for a file that is not there, ``IndexError`` for a class number of ``class_map``
      that the model does not have.

    Args:
        model: any CNN that gives logits (B, K). A :class:`gan_lib.classifiers.Classifier` takes images in
            [0, 1]; of others, normalisation with ImageNet's mean and deviation is assumed, unless the
            calls are given ``transforms``.
        class_map: names of the classes by number; by default the classifier's own.
        device: on which to compute; by default where the model is.

    Raises:
        ValueError: what is no module, or one without class names and no ``class_map``; a device that is no
            text.
        TypeError: a ``class_map`` that maps nothing.
        RuntimeError: a device that there is not.
    """

    def __init__(
        self, model: nn.Module, class_map: Mapping[int, str] | None = None, device: str | None = None
    ) -> None:
        if not isinstance(model, nn.Module):
            raise ValueError(f"model is a torch.nn.Module, not {model!r}")
        if not isinstance(device, str | None):
            raise ValueError(f"device is a text such as 'cpu', not {device!r}")
        if class_map is None:
            if not isinstance(model, Classifier):
                raise ValueError("class_map must name the classes, for instance {0: 'cat', 1: 'dog'}")
            class_map = dict(enumerate(model.class_names))
        if not isinstance(class_map, Mapping):
            raise TypeError(f"class_map maps numbers to names, for instance {{0: 'cat'}}, not {class_map!r}")
        self.class_map = dict(class_map)
        self.device = torch.device(device) if device else weight_of(model).device
        self.model = model.to(self.device)

    def get_saliency_map(
        self,
        image_path: Images,
        image_label: Labels,
        input_shape: Shape,
        transforms: Transforms | None = None,
        fit: Fit = "stretch",
    ) -> Array:
        """Largest absolute gradient over the colours, (H, W)."""
        given = self._prepare(image_path, image_label, input_shape, transforms, fit)
        gradients = Saliency(self.model).attributions(given.inputs, given.target)
        return given.back(gradients.float().abs().amax(1))

    def get_guided_back_propagation(
        self,
        image_path: Images,
        image_label: Labels,
        input_shape: Shape,
        transforms: Transforms | None = None,
        fit: Fit = "stretch",
    ) -> Array:
        """Guided gradients, each image's own range as 0..255, (H, W, 3)."""
        given = self._prepare(image_path, image_label, input_shape, transforms, fit)
        return given.back(_pixels(GuidedBackprop(self.model).attributions(given.inputs, given.target)))

    def get_grad_cam(
        self,
        image_path: Images,
        image_label: Labels,
        input_shape: Shape,
        layers: Sequence[str],
        transforms: Transforms | None = None,
        infuse: bool = True,
        fit: Fit = "stretch",
        colours: str | None = None,
    ) -> list[Array]:
        """Grad-CAM of every layer, by dotted name, from one pass: laid over the image, (H, W, 3) in 0..255.

        Args:
            image_path, image_label, input_shape, layers, transforms, fit: see the class.
            infuse: whether the maps are laid over the image, or given alone, (H, W) in [0, 1].
            colours: of the maps. By default pictures are the package's, red where the evidence is, with *blue
                as the first channel*, as OpenCV writes them. A colour map of Matplotlib, for instance the
                perceptually uniform ``inferno``, gives RGB.
        """
        names = self._layers(layers)
        given = self._prepare(image_path, image_label, input_shape, transforms, fit)
        maps = self._grad_cams(given, names)  # L times (B, H, W)
        if not infuse:
            return [given.back(own) for own in maps]
        pictures = given.pictures.permute(0, 2, 3, 1)  # (B, H, W, 3)
        if colours is None:
            pictures = pictures.flip(3)
        return [given.back(255 * (_coloured(own, colours).to(pictures) + pictures) / 2) for own in maps]

    def get_guided_grad_cam(
        self,
        image_path: Images,
        image_label: Labels,
        input_shape: Shape,
        layers: Sequence[str],
        transforms: Transforms | None = None,
        fit: Fit = "stretch",
    ) -> list[Array]:
        """Guided gradients times the Grad-CAM of every layer, as 0..255, (H, W, 3) each."""
        names = self._layers(layers)
        given = self._prepare(image_path, image_label, input_shape, transforms, fit)
        guided = GuidedBackprop(self.model).attributions(given.inputs, given.target).float()
        return [given.back(_pixels(guided * own[:, None])) for own in self._grad_cams(given, names)]

    def _layers(self, layers: Sequence[str]) -> list[str]:
        """The names of layers, if they are names and the model has them."""
        if isinstance(layers, str) or not isinstance(layers, Iterable):
            raise TypeError(f"layers is a list of names, for instance ['layer4'], not {layers!r}")
        names = list(layers)
        for name in names:
            if not isinstance(name, str):
                raise ValueError(f"a layer's name is text, not {name!r}")
            try:
                find_layer(self.model, name)
            except KeyError as error:
                raise ValueError(error.args[0]) from None
        return names

    def _grad_cams(self, given: _Given, layers: list[str]) -> list[Tensor]:
        """Maps (B, H, W) of every layer, each in [0, 1]."""
        if not layers:
            return []
        height, width = given.pictures.shape[-2:]
        return [*grad_cam(self.model, given.inputs, layers, given.target).maps((height, width)).unbind(1)]

    def _prepare(
        self, images: Images, labels: Labels, input_shape: Shape, transforms: Transforms | None, fit: Fit
    ) -> _Given:
        size = _size(input_shape)
        if not (transforms is None or callable(transforms)):
            raise TypeError(f"transforms can be called, as torchvision's Compose, unlike {transforms!r}")
        if fit not in get_args(Fit):
            raise ValueError(f"fit is one of {get_args(Fit)}, not {fit!r}")
        if not isinstance(images, str | Path | Iterable):
            raise TypeError(f"an image is a file, an array or a tensor, not {images!r}")
        single = isinstance(images, str | Path) or getattr(images, "ndim", 4) == 3
        several: Any = [images] if single else images
        if getattr(images, "ndim", 4) not in (3, 4):
            raise ValueError(f"an image has three dimensions, several have four; not {np.shape(several)}")
        target = self._targets(labels, len(several))
        pictures = torch.stack([_picture(image, size, fit) for image in several]).to(self.device)
        if transforms is not None:
            arrays = (255 * pictures).round().byte().permute(0, 2, 3, 1).cpu().numpy()
            inputs = torch.stack([transforms(array) for array in arrays])
        elif isinstance(self.model, Classifier):
            inputs = pictures
        else:
            inputs = transform.normalize(pictures, list(IMAGENET_MEAN), list(IMAGENET_STD))
        inputs = inputs.to(weight_of(self.model))
        return _Given(inputs, pictures, target, single)

    def _targets(self, labels: Any, count: int) -> list[int] | None:
        if labels is None:
            return None
        given = [labels] * count if isinstance(labels, str) or not np.ndim(labels) else list(labels)
        if len(given) != count:
            raise ValueError(f"{count} images need one label each, got {len(given)}")
        return [self._class_number(label) for label in given]

    def _class_number(self, label: Any) -> int:
        if not isinstance(label, str):
            if (number := _whole(label, "a label is a class's name or number")) not in self.class_map:
                raise ValueError(f"no class {number} in class_map, which names {len(self.class_map)}")
            return number
        numbers = {name: number for number, name in self.class_map.items()}
        if label not in numbers:
            near = difflib.get_close_matches(label, numbers, n=3)
            hint = f"did you mean {', '.join(map(repr, near))}?" if near else f"there are {len(numbers)}"
            raise ValueError(f"no class {label!r}; {hint}")
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


def _whole(number: Any, told: str) -> int:
    """A whole number, of whatever type; what is none raises a TypeError that says what was wanted."""
    try:
        return operator.index(number)
    except TypeError:
        raise TypeError(f"{told}, not {number!r}") from None


def _size(shape: Any) -> Shape:
    """A height and a width, if they are some."""
    if not isinstance(shape, tuple | list):
        raise TypeError(f"input_shape is a tuple or list, (height, width), not {shape!r}")
    sides = [_whole(side, "input_shape is whole numbers, (height, width)") for side in shape]
    if len(sides) != 2 or min(sides) < 1:
        raise ValueError(f"input_shape is (height, width), two sides above 0, not {shape}")
    return sides[0], sides[1]


def _picture(image: Image, size: Shape, fit: Fit) -> Tensor:
    """One image as (3, H, W) in [0, 1] at a size."""
    if isinstance(image, str | Path):
        if not Path(image).exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(image))
        if fit == "crop":
            return read_image(image, size).float() / 255
        return _stretched(read_image(image), size)
    values = image if isinstance(image, Tensor) else torch.from_numpy(np.ascontiguousarray(image))
    if not isinstance(image, Tensor) and values.ndim == 3:
        values = values.permute(2, 0, 1)
    if values.ndim != 3 or values.shape[0] != 3:
        shape = tuple(image.shape)
        raise ValueError(f"an image is (3, H, W) as a tensor and (H, W, 3) as an array; not {shape}")
    picture = values.float() if values.is_floating_point() else values.float() / 255
    if not (picture.min() >= 0 and picture.max() <= 1):
        raise ValueError("an image of floating-point numbers lies in [0, 1], without NaN")
    return fit_centre(picture[None], size)[0].clamp(0, 1) if fit == "crop" else _stretched(values, size)


def _stretched(picture: Tensor, size: Shape) -> Tensor:
    """A picture (3, h, w), bytes or in [0, 1], as (3, H, W) in [0, 1], as ``cv2.resize`` does it."""
    if not picture.is_floating_point():
        return stretched(picture.to(torch.uint8), size).float() / 255
    return F.interpolate(picture[None].float(), size=size, mode="bilinear", align_corners=False)[0]


def _coloured(maps: Tensor, colours: str | None) -> Tensor:
    """Maps (B, H, W) in [0, 1] as pictures (B, H, W, 3) in [0, 1], black where a map has no evidence."""
    table = colormaps["jet_r" if colours is None else colours]
    coloured = torch.from_numpy(table(maps.cpu().numpy())[..., :3])  # (B, H, W, 3)
    return coloured * (maps.amax((1, 2)) > 0).cpu()[:, None, None, None]


def _pixels(gradients: Tensor) -> Tensor:
    """Gradients (B, 3, H, W) as pictures (B, H, W, 3), each from 0 at its lowest to 255 at its highest."""
    placed = gradients.float().permute(0, 2, 3, 1)  # (B, H, W, 3)
    return (255 * min_max(placed.flatten(1)[:, None])).view(placed.shape)
