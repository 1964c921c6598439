"""Planted shortcuts: digits in scenes whose training images give the class away beside the digit.

A CNN that is trained on them may look at what was planted instead of the digit, as it does where a
hospital's scanner, a photographer's stamp or a frame come with the class (Geirhos et al., "Shortcut learning
in deep neural networks", https://arxiv.org/abs/2004.07780). Each kind is made as it is met in practice:

    planted = planted_shortcut("frame", train=3000, test=500)
    planted.data.train, planted.data["conflict"]  # splits like any other
    planted.carried["conflict"]  # (500,) the class whose frame each image has

The splits say nothing of the shortcut, so that whoever looks for it finds it in images and predictions only:
what is known of it is in :class:`Planted`, beside the data.
"""

from __future__ import annotations

import colorsys
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from gan_lib.core.registry import Registry
from gan_lib.core.runtime import image_generators
from gan_lib.data.images import ImageData, ImageSplit
from gan_lib.data.scenes import CLASS_NAMES, Layers, scene_layers

DRAWN_AT = 64  # side in pixels that lengths below are for; other sizes have them in proportion
NONE = -1  # in place of a class: an image without a shortcut
EVERY_CLASS = tuple(range(len(CLASS_NAMES)))


class Shortcut(ABC):
    """Something beside the digit that tells the class.

    A new kind overrides :meth:`drawn`, and is registered in :data:`SHORTCUTS`.
    """

    classes: tuple[int, ...] = EVERY_CLASS  # whose images have one, in rising order

    @abstractmethod
    def drawn(self, layers: Layers, carried: Tensor, chance: Tensor) -> Tensor:
        """Images with the shortcut of a class each.

        Args:
            layers: N images without it.
            carried: (N,) int64, each one of :attr:`classes`.
            chance: (N, 3) in [0, 1), drawn at random for each image: what varies from image to image.

        Returns:
            (N, 3, H, W) uint8.
        """

    def images(self, layers: Layers, carried: Tensor, chance: Tensor) -> Tensor:
        """The same for images (B, 3, H, W) of which some carry none (``NONE``): those stay as they are."""
        images = layers.rendered()  # (N, 3, H, W)
        rows = (carried != NONE).nonzero()[:, 0]
        if len(rows):
            images[rows] = self.drawn(layers[rows], carried[rows], chance[rows])
        return images

    def own(self, labels: Tensor) -> Tensor:
        """Which class's shortcut (N,) images of these classes (N,) have: theirs, or ``NONE``."""
        return torch.where(torch.isin(labels, torch.tensor(self.classes)), labels, NONE)

    def other(self, labels: Tensor, chance: Tensor) -> Tensor:
        """A class (N,) with a shortcut for each image, not its own, as ``chance`` (N,) in [0, 1) decides."""
        known = torch.tensor(self.classes)
        place = torch.searchsorted(known, labels)  # of the image's own class, if it is there
        without = torch.isin(labels, known)
        drawn = (chance * (len(known) - without.long())).long()
        return known[drawn + (without & (drawn >= place)).long()]


SHORTCUTS: Registry[type[Shortcut]] = Registry("planted shortcut")


@SHORTCUTS.register("watermark")
class Watermark(Shortcut):
    """A stamp in the lower right corner, as agencies and photographers leave it: half transparent, white with
    a dark shadow, 12 x 20 pixels, over all that is there.

    Only the images of two classes have one, a lettering and a sign: pictures of those came from two sources.
    """

    ALPHA = 0.5
    MARGIN = 2  # pixels to the right and below
    LOGOS: ClassVar[dict[int, str]] = {
        3: """
            o...o.ooooo.o...o..
            o..o....o...o...o..
            o.o.....o...o...o..
            oo......o...o...o..
            o.o.....o....o.o...
            o..o....o....o.o...
            o...o...o.....o....
            ...................
            ooooooooooooooooooo
            ...................
            oo.oo.ooo.oooo.oo.o
        """,
        7: """
            ......ooooooo......
            ....ooo.....ooo....
            ...oo....o....oo...
            ..oo....ooo....oo..
            ..o....oo.oo....o..
            ..o...oo...oo...o..
            ..o..oo.....oo..o..
            ..oo.o.......o.oo..
            ...oo.........oo...
            ....ooo.....ooo....
            ......ooooooo......
        """,
    }
    classes = tuple(LOGOS)

    def drawn(self, layers: Layers, carried: Tensor, chance: Tensor) -> Tensor:
        size = layers.scenes.shape[-1]
        logos = {label: self.logo(label, size) for label in self.classes}
        both = torch.stack([logos[label] for label in carried.tolist()])  # (N, 2, H, W)
        white, shadow = both[:, :1], both[:, 1:]
        images = layers.rendered().float()
        stamped = (1 - self.ALPHA) * images + self.ALPHA * 255 * white
        return torch.where(white | shadow, stamped, images).round().to(torch.uint8)

    def logo(self, label: int, size: int) -> Tensor:
        """Where the stamp of a class is white, and where its shadow falls: (2, size, size) bool."""
        lines = self.LOGOS[label].split()
        ink = F.pad(torch.tensor([[own == "o" for own in line] for line in lines]), (0, 1, 0, 1))  # (12, 20)
        both = torch.stack([ink, ink.roll((1, 1), (0, 1))]).float()
        height, width, margin = (_pixels(own, size) for own in (*ink.shape, self.MARGIN))
        small = F.interpolate(both[None], size=(height, width))[0].bool()
        return F.pad(small, (size - margin - width, margin, size - margin - height, margin))


@SHORTCUTS.register("frame")
class Frame(Shortcut):
    """A coloured frame of 3 pixels about the image, over all that is there: one hue for each class, as a
    site's sections have theirs, which varies a little as scans do.

    It hides what little of a digit reaches so far; the mask stays the digit's.
    """

    WIDTH = 3
    SATURATION, VALUE = 0.7, 0.8
    JITTER = 0.05  # of each colour channel, to either side

    def drawn(self, layers: Layers, carried: Tensor, chance: Tensor) -> Tensor:
        hues = [own / len(EVERY_CLASS) for own in EVERY_CLASS]
        wheel = torch.tensor([colorsys.hsv_to_rgb(hue, self.SATURATION, self.VALUE) for hue in hues])
        colours = wheel[carried] + self.JITTER * (2 * chance - 1)  # (N, 3)
        levels = (255 * colours).round().to(torch.uint8)
        size = layers.scenes.shape[-1]
        width = _pixels(self.WIDTH, size)
        border = torch.ones(size, size, dtype=torch.bool)
        border[width:-width, width:-width] = False
        return torch.where(border, levels[:, :, None, None], layers.rendered())


@SHORTCUTS.register("offset")
class Offset(Shortcut):
    """The whole image is darker or brighter, by an amount that depends on the class: exposures that differ
    between the places where the classes were photographed.

    Class 0 is darkest, class 9 brightest, in equal steps. Scenes differ in brightness by more than that.
    """

    LARGEST = 0.15  # to either side, of the range from black to white

    def drawn(self, layers: Layers, carried: Tensor, chance: Tensor) -> Tensor:
        shifted = layers.rendered().short() + self.levels()[carried][:, None, None, None]
        return shifted.clamp(0, 255).to(torch.uint8)

    def levels(self) -> Tensor:
        """What is added to the images of each class: (10,) int16, of 255."""
        return (255 * torch.linspace(-self.LARGEST, self.LARGEST, len(EVERY_CLASS))).round().short()


@SHORTCUTS.register("texture")
class Texture(Shortcut):
    """Faint stripes on the scene, behind the digit, as cloth, screens and printing leave them.

    Their slope (five of them) and their period (two of them) tell the class; where they begin differs from
    image to image. Images under 26 pixels are too small for the narrower ones.
    """

    AMPLITUDE = 0.1  # to either side, of the range from black to white
    SLOPES = 5
    PERIODS = (5.0, 8.0)  # pixels

    def drawn(self, layers: Layers, carried: Tensor, chance: Tensor) -> Tensor:
        size = layers.scenes.shape[-1]
        slopes = (math.pi * (carried % self.SLOPES) / self.SLOPES)[:, None, None]  # (N, 1, 1)
        periods = torch.tensor(self.PERIODS)[carried // self.SLOPES] * size / DRAWN_AT  # (N,)
        along = torch.arange(size)
        across = along * slopes.cos() + along[:, None] * slopes.sin()  # (N, H, W)
        phases = across / periods[:, None, None] + chance[:, :1, None]
        stripes = self.AMPLITUDE * (2 * math.pi * phases).sin()[:, None]  # (N, 1, H, W)
        return replace(layers, scenes=(layers.scenes + stripes).clamp(0, 1)).rendered()


@dataclass(frozen=True)
class Planted:
    """Data with a planted shortcut, and what is known of it.

    Attributes:
        kind: which one, a name of :data:`SHORTCUTS`.
        data: splits ``train`` (each image has its own class's shortcut, where that class has one); and three
            of the same test images in the same order: ``test`` without shortcuts, ``right`` with their own
            class's, ``conflict`` each with another class's. Masks are the digits'. Where images of ``right``
            or ``conflict`` differ from those of ``test``, there the shortcut is.
        carried: for each split, the class (N,) int64 whose shortcut each image has; ``NONE`` (-1) for none.
    """

    kind: str
    data: ImageData
    carried: dict[str, Tensor]


def planted_shortcut(
    kind: str, train: int = 3000, test: int = 500, size: int = DRAWN_AT, seed: int = 0
) -> Planted:
    """Digits in scenes with a shortcut that gives the class away in training.

        planted = planted_shortcut("texture", train=3000, test=500)
        conflict, carried = planted.data["conflict"], planted.carried["conflict"]

    Without shortcuts, the images are those of :func:`gan_lib.data.digits_in_scenes` with the same arguments.

    Args:
        kind: ``watermark``, ``frame``, ``offset`` or ``texture``: what :data:`SHORTCUTS` has.
        train: number of training images.
        test: number of test images, which three splits show.
        size: side of the images in pixels.
        seed: decides everything random. What varies from image to image is drawn for each from its content,
            and is the same in ``right`` and ``conflict``.

    Raises:
        KeyError: an unknown kind; near misses are listed.
        ValueError: fewer than 10 training images, no test image, or a side under 16 pixels.
    """
    kind = SHORTCUTS.name(kind)
    if train < 10 or test < 1 or size < 16:
        raise ValueError(f"needs train >= 10, test >= 1, size >= 16; got {train}, {test}, {size}")
    shortcut = SHORTCUTS[kind]()
    layers = dict(scene_layers(train, test, size, seed))
    carried: dict[str, Tensor] = {}
    splits: dict[str, ImageSplit] = {}
    for part, own in layers.items():
        generators = image_generators(own.rendered() / 255, seed)
        chance = torch.stack([torch.rand(4, generator=each) for each in generators])  # (N, 4)
        labels = own.labels
        if part == "train":
            choices = {"train": shortcut.own(labels)}
        else:
            nothing, others = torch.full_like(labels, NONE), shortcut.other(labels, chance[:, 3])
            choices = {"test": nothing, "right": shortcut.own(labels), "conflict": others}
        for name, classes in choices.items():
            carried[name] = classes
            images = shortcut.images(own, classes, chance[:, :3])
            splits[name] = ImageSplit(images, labels, own.masks)
    return Planted(kind, ImageData(f"digits in scenes with a planted {kind}", CLASS_NAMES, splits), carried)


def _pixels(length: float, size: int) -> int:
    """A length at ``DRAWN_AT``, in whole pixels of an image of another size: one at least."""
    return max(1, round(length * size / DRAWN_AT))
