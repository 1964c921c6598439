"""MNIST, EMNIST and CIFAR-10 through torchvision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision import datasets

from gan_lib.data.images import ImageData, ImageSplit, as_uint8

RESIZE_CHUNK = 4096


@dataclass(frozen=True)
class _Source:
    make: Callable[..., Any]
    expected: tuple[str, ...]  # files that torchvision looks for, relative to the root
    transposed: bool = False


def _mnist_files(folder: str) -> tuple[str, ...]:
    kinds = ("images-idx3", "labels-idx1")
    return tuple(f"{folder}/raw/{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in kinds)


SOURCES = {
    "mnist": _Source(datasets.MNIST, _mnist_files("MNIST")),
    "emnist": _Source(
        lambda root, **options: datasets.EMNIST(root, split="balanced", **options),
        ("EMNIST/raw/gzip.zip",),
        transposed=True,
    ),
    "cifar10": _Source(datasets.CIFAR10, ("cifar-10-python.tar.gz",)),
}


def torchvision_data(name: str, root: str | Path, size: int = 64, limit: int | None = None) -> ImageData:
    """A torchvision data set, resized and 3-channel; downloaded when its files are missing.

        data = torchvision_data("mnist", "data/torchvision")

    Args:
        name: ``mnist``, ``emnist`` (the balanced split, upright) or ``cifar10``.
        root: torchvision's folder for it.
        size: side of the images in pixels.
        limit: at most so many images of each split (the first ones).

    Raises:
        KeyError: an unknown name.
        FileNotFoundError: the files are neither there nor downloadable; the message lists them.
    """
    if name not in SOURCES:
        raise KeyError(f"unknown torchvision data set {name!r}; known: {sorted(SOURCES)}")
    source = SOURCES[name]
    class_names: tuple[str, ...] = ()
    splits = {}
    for split, train in (("train", True), ("test", False)):
        try:
            loaded = source.make(str(root), train=train, download=True)
        except (OSError, RuntimeError) as error:  # URLError is an OSError
            files = "\n".join(f"  {Path(root) / file}" for file in source.expected)
            raise FileNotFoundError(
                f"{name} could not be downloaded ({error}); put its files here, "
                f"or allow the download:\n{files}"
            ) from error
        class_names = tuple(str(entry) for entry in loaded.classes)
        values = torch.as_tensor(np.asarray(loaded.data))[:limit]
        if values.ndim == 4:
            values = values.permute(0, 3, 1, 2)  # (N, H, W, 3) -> (N, 3, H, W)
        if source.transposed:
            values = values.transpose(-1, -2)
        labels = torch.as_tensor(np.asarray(loaded.targets))[:limit].long()
        splits[split] = ImageSplit(_resized(as_uint8(values, name), size), labels)
    return ImageData(name, class_names, splits)


def _resized(images: Tensor, size: int) -> Tensor:
    """Images (N, 3, H, W) uint8 at another size, in chunks that bound the memory."""
    if images.shape[-2:] == (size, size):
        return images
    parts = [
        F.interpolate(part.float(), size=(size, size), mode="bilinear", antialias=True)
        .round()
        .to(torch.uint8)
        for part in images.split(RESIZE_CHUNK)
    ]
    return torch.cat(parts)
