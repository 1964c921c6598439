"""Digits in scenes: the embedded data set, whose true evidence is known.

Real handwritten digits (scikit-learn's ``load_digits``) in a random colour, place and size on random
crops of real photographs (``load_sample_images``), with the exact mask of the digit. Training and
test digits are disjoint samples; the scenes are independent of the class.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from sklearn.datasets import load_digits, load_sample_images
from torch import Tensor
from torch.nn import functional as F

from gan_lib.data.images import ImageData, ImageSplit
from gan_lib.data.reading import fit_centre

CLASS_NAMES = tuple(str(digit) for digit in range(10))
DIGIT_SHARE = (0.45, 0.75)  # a digit's box over the image's side
CROP_SIDE = (64, 160)  # pixels of the photograph seen in one image
TEST_SHARE = 0.25  # of the digit samples
MIN_CONTRAST = 0.35  # between the digit's luminance and that of the scene behind it
LUMINANCE = torch.tensor([0.299, 0.587, 0.114])
CHUNK = 500


def digits_in_scenes(
    train: int = 2000,
    test: int = 1000,
    size: int = 64,
    seed: int = 0,
    confounded: bool = False,
    validation: int = 0,
) -> ImageData:
    """Build the data set.

        data = digits_in_scenes(train=2000, test=500)
        batch = data.test.batch([0, 1, 2])

    Args:
        train: number of training images.
        test: number of test images.
        size: side of the images in pixels.
        seed: decides everything random.
        confounded: put a small square, its colour decided by the class, into a background corner of
            every training image. Test images stay clean, and a third split ``conflict`` holds test
            images with the square of another class: a CNN that relies on the square fails there.
        validation: number of images of a split ``validation``, to choose settings on; images like those of
            the test split, and none of them.

    Returns:
        Data of 10 classes with ``masks`` (and ``marks`` when confounded).

    Raises:
        ValueError: fewer than 10 training images, no test image, a negative number of validation images, or
            a side under 16 pixels.
    """
    if train < 10 or test < 1 or size < 16 or validation < 0:
        given = f"{train}, {test}, {size}, {validation}"
        raise ValueError(f"needs train >= 10, test >= 1, size >= 16, validation >= 0; got {given}")
    drawn = scene_layers(train, test, size, seed, confounded, validation)
    splits = {name: layers.split() for name, layers in drawn}
    return ImageData("confounded digits in scenes" if confounded else "digits in scenes", CLASS_NAMES, splits)


@dataclass(frozen=True)
class Layers:
    """What images are made of, from back to front: scenes, digits, and marks where there are some.

    ``layers[rows]`` are those of some images. Changed layers (:mod:`gan_lib.data.counterfactuals`) are other
    images, alike in all that was not changed.
    """

    scenes: Tensor  # (N, 3, H, W) in [0, 1]
    digits: tuple[tuple[Tensor, Tensor], ...]  # opacity (N, 1, H, W) and colour (N, 3), the last in front
    corners: Tensor  # (N, 2) signs x, y of the corner farthest from the digit
    labels: Tensor  # (N,) int64
    marks: Tensor | None  # (N, 1, H, W) bool
    mark_colours: Tensor | None  # (N, 3)
    pool: Tensor  # (P,) int64, the samples that the split's digits are drawn from

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: Tensor | Sequence[int] | slice) -> Layers:
        index = torch.arange(len(self))[rows if isinstance(rows, slice) else torch.as_tensor(rows).long()]
        own: dict[str, Any] = {
            name: None if value is None else value[index]
            for name, value in vars(self).items()
            if name not in ("digits", "pool")
        }
        digits = tuple((opacity[index], colours[index]) for opacity, colours in self.digits)
        return Layers(**own, digits=digits, pool=self.pool)

    @property
    def masks(self) -> Tensor:
        """(N, 1, H, W) bool, where the digit in front, which the label is of, covers what is behind it."""
        if not self.digits:
            return torch.zeros_like(self.scenes[:, :1], dtype=torch.bool)
        return self.digits[-1][0] > 0.5

    def rendered(self) -> Tensor:
        """The images (N, 3, H, W), uint8."""
        images = self.scenes
        for opacity, colours in self.digits:
            images = images * (1 - opacity) + colours[:, :, None, None] * opacity
        if self.marks is not None and self.mark_colours is not None:
            images = torch.where(self.marks, self.mark_colours[:, :, None, None], images)
        return (images * 255).round().to(torch.uint8)

    def split(self) -> ImageSplit:
        """The images with labels, masks and marks."""
        return ImageSplit(self.rendered(), self.labels, self.masks, self.marks)


def scene_layers(
    train: int = 2000,
    test: int = 1000,
    size: int = 64,
    seed: int = 0,
    confounded: bool = False,
    validation: int = 0,
) -> Iterator[tuple[str, Layers]]:
    """Name and layers of every split of :func:`digits_in_scenes`, which makes its images of them.

        layers = dict(scene_layers(train=2000, test=500))["test"]
        layers[:3].rendered()  # the first images of that data set's test split

    Arguments as there.
    """
    generator = torch.Generator().manual_seed(seed)
    digits, labels = digit_samples()
    held_out, rest = digit_pools(len(labels), generator)
    parts = {"train": (train, rest), "test": (validation + test, held_out)}
    if confounded:
        parts["conflict"] = (validation + test, held_out)
    for name, (count, pool) in parts.items():
        rows = _balanced_rows(labels, pool, count, generator)
        scenes, opacity, colours, corners = _paste(digits[rows], size, generator)
        marks = mark_colours = None
        if confounded:
            marked = labels[rows]
            if name == "conflict":
                marked = (marked + torch.randint(1, 10, (count,), generator=generator)) % 10
            marks = _corner_squares(corners, size)  # (N, 1, H, W)
            if name == "test":
                marks = torch.zeros_like(marks)
            mark_colours = _class_colours()[marked]  # (N, 3)
        drawn = ((opacity, colours),)
        made = Layers(scenes, drawn, corners, labels[rows], marks, mark_colours, pool)
        if name == "test":
            aside, made = made[:validation], made[validation:]
        yield name, made
    if validation:
        yield "validation", aside


def confounded_digits(
    train: int = 2000, test: int = 1000, size: int = 64, seed: int = 0, validation: int = 0
) -> ImageData:
    """:func:`digits_in_scenes` whose training images carry a square that gives the class away."""
    return digits_in_scenes(train, test, size, seed, confounded=True, validation=validation)


def plain_digits(
    train: int | None = None, test: int | None = None, size: int = 64, seed: int = 0
) -> ImageData:
    """The handwritten digits by themselves, white on black, with masks where they are brighter than half.

    Training and test digits are those of :func:`digits_in_scenes` with the same seed, so that a CNN or a
    generator trained on either set has not seen the test digits of the other.

    Args:
        train, test: at most so many of the 1348 training and of the 449 test images.
        size: side of the images in pixels.
        seed: decides which digits are held out, and their order.
    """
    digits, labels = digit_samples()
    held_out, rest = digit_pools(len(labels), torch.Generator().manual_seed(seed))
    splits = {}
    for name, rows in (("train", rest[:train]), ("test", held_out[:test])):
        large = F.interpolate(digits[rows], size=(size, size), mode="bicubic").clamp(0, 1)
        images = (255 * large).round().to(torch.uint8).expand(-1, 3, -1, -1).contiguous()
        splits[name] = ImageSplit(images, labels[rows], large > 0.5)
    return ImageData("plain digits", CLASS_NAMES, splits)


def digit_pools(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Numbers (n,) of the digits held out for testing, and of the others, in random order."""
    order = torch.randperm(count, generator=generator)
    return order[: int(TEST_SHARE * count)], order[int(TEST_SHARE * count) :]


def digit_samples() -> tuple[Tensor, Tensor]:
    """scikit-learn's digits (1797, 1, 8, 8) in [0, 1], and their labels."""
    bunch = load_digits()
    images = torch.as_tensor(bunch.images, dtype=torch.float32)[:, None] / 16  # (1797, 1, 8, 8)
    return images, torch.as_tensor(bunch.target).long()


def _balanced_rows(labels: Tensor, pool: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """``count`` rows of the pool, classes as equally frequent as possible, in random order."""
    wanted = torch.arange(count) % 10
    wanted = wanted[torch.randperm(count, generator=generator)]
    rows = torch.empty(count, dtype=torch.long)
    for digit in range(10):
        own = pool[labels[pool] == digit]
        here = wanted == digit
        rows[here] = own[torch.randint(len(own), (int(here.sum()),), generator=generator)]
    return rows


def _uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=generator)


def _paste(digits: Tensor, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scenes (N, 3, H, W) in [0, 1], the digits' opacity (N, 1, H, W) and colours (N, 3), and each image's
    emptiest corner (N, 2)."""
    count = len(digits)
    scenes = scene_crops(sample_images(), count, size, generator)  # (N, 3, H, W)
    side = _uniform(count, *DIGIT_SHARE, generator)  # of the image's side
    centres = (2 * torch.rand(count, 2, generator=generator) - 1) * (1 - side)[:, None]  # x, y in -1..1
    opacity = torch.cat(
        [
            placed(d, s, c, size)
            for d, s, c in zip(*(t.split(CHUNK) for t in (digits, side, centres)), strict=True)
        ]
    )  # (N, 1, H, W)
    colours = visible_colours(scenes, opacity > 0.5, generator)  # (N, 3)
    corners = torch.where(centres > 0, -1, 1)  # x, y signs of the corner farthest from the digit
    return scenes, opacity, colours, corners


def placed(digits: Tensor, side: Tensor, centres: Tensor, size: int) -> Tensor:
    """Opacity (B, 1, size, size) of digits drawn with their box's side and centre."""
    theta = torch.zeros(len(digits), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 / side
    theta[:, :, 2] = -centres / side[:, None]
    grid = F.affine_grid(theta, [len(digits), 1, size, size], align_corners=False)
    drawn = F.grid_sample(digits, grid, mode="bicubic", align_corners=False)  # (B, 1, size, size)
    # Eight samples a side leave a soft edge: steepen it around one half.
    return ((drawn - 0.35) / 0.3).clamp(0, 1)


def photographs(size: tuple[int, int]) -> Tensor:
    """scikit-learn's two sample photographs, their middle at a size (H, W): (2, 3, H, W) in [0, 1]."""
    return torch.cat([fit_centre(photograph, size) for photograph in sample_images()])


def sample_images() -> list[Tensor]:
    """scikit-learn's two photographs, each (1, 3, H, W) in [0, 1]."""
    return [torch.tensor(image).permute(2, 0, 1)[None] / 255.0 for image in load_sample_images().images]


def scene_crops(scenes: Sequence[Tensor], count: int, size: int, generator: torch.Generator) -> Tensor:
    """Random crops (N, 3, size, size) of photographs (1, 3, h, w)."""
    choice = torch.randint(len(scenes), (count,), generator=generator)
    crops = torch.empty(count, 3, size, size)
    for index, photograph in enumerate(scenes):  # (1, 3, h, w)
        own = (choice == index).nonzero()[:, 0]
        for rows in own.split(CHUNK) if len(own) else ():  # few images may all be of one photograph
            crops[rows] = _random_crops(photograph, len(rows), size, generator)
    return crops


def _random_crops(photograph: Tensor, count: int, size: int, generator: torch.Generator) -> Tensor:
    height, width = photograph.shape[2:]
    pixels = _uniform(count, *CROP_SIDE, generator)
    extent = torch.stack([pixels / width, pixels / height], dim=1)  # (B, 2), share of the photograph
    centres = (2 * torch.rand(count, 2, generator=generator) - 1) * (1 - extent)
    flip = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = extent[:, 0] * flip, extent[:, 1]
    theta[:, :, 2] = centres
    # Four samples a pixel, averaged: crops are larger than the image, and must not alias.
    grid = F.affine_grid(theta, [count, 3, 2 * size, 2 * size], align_corners=False)
    fine = F.grid_sample(photograph.expand(count, -1, -1, -1), grid, align_corners=False)
    return F.avg_pool2d(fine, 2)  # (B, 3, size, size)


def visible_colours(scenes: Tensor, masks: Tensor, generator: torch.Generator) -> Tensor:
    """A random colour (N, 3) for each image, as a rule with ``MIN_CONTRAST`` to what is behind it."""
    candidates = torch.rand(len(scenes), 16, 3, generator=generator)
    first = first_visible(candidates - behind(scenes, masks)[:, None])
    return candidates[torch.arange(len(scenes)), first]


def behind(scenes: Tensor, masks: Tensor) -> Tensor:
    """Mean colour (N, 3) of scenes (N, 3, H, W) at masks (N, 1, H, W)."""
    return (scenes * masks).sum((2, 3)) / masks.sum((2, 3)).clamp(min=1)


def first_visible(differences: Tensor) -> Tensor:
    """Which (N,) of several differences of colour (N, C, 3) is the first of ``MIN_CONTRAST``, else the one of
    the highest contrast."""
    contrast = (differences @ LUMINANCE).abs()  # (N, C)
    visible = contrast >= MIN_CONTRAST
    return torch.where(visible.any(1), visible.int().argmax(1), contrast.argmax(1))


def _class_colours() -> Tensor:
    """One saturated colour (10, 3) per class."""
    return torch.tensor([colorsys.hsv_to_rgb(digit / 10, 0.9, 0.9) for digit in range(10)])


def _corner_squares(corners: Tensor, size: int) -> Tensor:
    """Squares (N, 1, size, size) in the corners with the given signs (x, y)."""
    side, margin = size // 8, size // 32
    along = torch.arange(size)
    low = (along >= margin) & (along < margin + side)  # (size,)
    high = low.flip(0)
    columns = torch.where(corners[:, :1] > 0, high, low)  # (N, size)
    rows = torch.where(corners[:, 1:] > 0, high, low)
    return (rows[:, :, None] & columns[:, None, :])[:, None]
