"""Images of digits in scenes, drawn again with one thing changed: what would the CNN have seen without it?

Other data sets can only hide a part of an image, and what stands in its place is of no image that the CNN was
trained on. Here the image itself is known: it can be drawn without its digit, and is a scene like any other.

    layers = dict(scene_layers(train=2000, test=500))["test"][:8]
    images, empty = layers.rendered(), without_digit(layers).rendered()  # (8, 3, H, W) uint8 each
    evidence = (images != empty).any(1, keepdim=True)

All take and give :class:`gan_lib.data.scenes.Layers`, so that changes can follow each other.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from gan_lib.core.runtime import image_generators
from gan_lib.data.scenes import (
    DIGIT_SHARE,
    Layers,
    behind,
    digit_samples,
    first_visible,
    placed,
    sample_images,
    scene_crops,
    visible_colours,
)

GREY = 0.5
SCENES = 8  # crops, of which the first is taken that the digit can be seen on


def without_digit(layers: Layers) -> Layers:
    """The scenes, and marks where there are some: no evidence for any class but that of the mark."""
    return replace(layers, digits=())


def without_mark(layers: Layers) -> Layers:
    """The same images of a confounded set without the square that gives the class away.

    Raises:
        ValueError: layers of a set without marks.
    """
    if layers.marks is None:
        raise ValueError("these layers have no marks: only a confounded set's do")
    return replace(layers, marks=torch.zeros_like(layers.marks))


def on_grey(layers: Layers) -> Layers:
    """The digits, and marks where there are some, on a neutral grey."""
    return replace(layers, scenes=torch.full_like(layers.scenes, GREY))


def on_other_scenes(layers: Layers, seed: int = 0) -> Layers:
    """The same digits in the same places, on other crops of the photographs.

    Of a few crops the first is taken that the digit can be seen on, as in the data set. Crops are drawn image
    by image, from the seed and what the image shows.
    """
    photographs, size = sample_images(), layers.scenes.shape[-1]
    masks, scenes = layers.masks, torch.empty_like(layers.scenes)
    for row, generator in enumerate(_generators(layers, seed)):
        crops = scene_crops(photographs, SCENES, size, generator)  # (C, 3, H, W)
        chosen = 0
        if layers.digits:
            colour = layers.digits[-1][1][row]  # (3,)
            chosen = int(first_visible((colour - behind(crops, masks[row : row + 1]))[None]))
        scenes[row] = crops[chosen]
    return replace(layers, scenes=scenes)


def with_second_digit(layers: Layers, seed: int = 0) -> Layers:
    """The same images with a digit of another class in the corner that is farthest from their own.

    It is as small as digits of the set are, and lies behind the image's own digit, none of which it covers:
    ``digits[0]`` of what is returned are its opacity and colour. Digits are drawn image by image, from the
    split's own samples, the seed and what the image shows.
    """
    samples, classes = digit_samples()
    pools = [layers.pool[classes[layers.pool] != label] for label in layers.labels.tolist()]
    generators = _generators(layers, seed)
    drawn = [
        int(pool[torch.randint(len(pool), (1,), generator=own)])
        for pool, own in zip(pools, generators, strict=True)
    ]
    side = torch.full((len(layers),), DIGIT_SHARE[0])
    opacity = placed(samples[drawn], side, layers.corners * (1 - DIGIT_SHARE[0]), layers.scenes.shape[-1])
    colours = [
        visible_colours(layers.scenes[row : row + 1], opacity[row : row + 1] > 0.5, own)
        for row, own in enumerate(generators)
    ]
    return replace(layers, digits=((opacity, torch.cat(colours)), *layers.digits))


def _generators(layers: Layers, seed: int) -> list[torch.Generator]:
    """One for each image, from what it shows."""
    return image_generators(layers.rendered().float() / 255, seed)
