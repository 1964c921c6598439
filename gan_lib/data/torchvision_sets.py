"""MNIST, EMNIST and CIFAR-10 through torchvision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision import datasets

from gan_lib.data.images import ImageData, ImageSplit
from gan_lib.data.rows import chosen_rows
from gan_lib.data.values import as_uint8

RESIZE_CHUNK = 4096


def torchvision_set(
    name: str, make: Callable[..., Any], files: tuple[str, ...] = (), transposed: bool = False
) -> Callable[..., ImageData]:
    """A builder (:mod:`gan_lib.data.registry`) of a torchvision data set, resized and 3-channel.

        DATA_SETS.register("fashion", torchvision_set("fashion", torchvision.datasets.FashionMNIST))

    The builder has :func:`gan_lib.data.load_data`'s arguments, downloads what is missing into
    ``root/torchvision``, and raises FileNotFoundError where it cannot.

    Args:
        name: of the data set.
        make: takes the folder, ``train`` and ``download``; gives ``data``, ``targets`` and ``classes``.
        files: that it looks for, relative to its folder; an error message lists them.
        transposed: rows and columns are exchanged.
    """

    def build(
        root: str | Path, size: int = 64, train: int | None = None, test: int | None = None, seed: int = 0
    ) -> ImageData:
        """The set, resized to (3, size, size); its files are downloaded where they are missing, which a
        ``FileNotFoundError`` tells where it cannot be done."""
        folder = Path(root) / "torchvision"
        class_names: tuple[str, ...] = ()
        splits = {}
        for split, count in (("train", train), ("test", test)):
            try:
                loaded = make(str(folder), train=split == "train", download=True)
            except (OSError, RuntimeError) as error:  # URLError is an OSError
                wanted = "\n".join(f"  {folder / file}" for file in files)
                problem = (
                    f"{name} could not be downloaded ({error}); put its files here, or allow the download"
                )
                raise FileNotFoundError(f"{problem}:\n{wanted}") from error
            class_names = tuple(str(entry) for entry in loaded.classes)
            labels = torch.as_tensor(np.asarray(loaded.targets)).long()
            rows = chosen_rows(labels, count, seed)
            values = torch.as_tensor(np.asarray(loaded.data))[rows]
            if values.ndim == 4:
                values = values.permute(0, 3, 1, 2)  # (N, H, W, 3) -> (N, 3, H, W)
            if transposed:
                values = values.transpose(-1, -2)
            splits[split] = ImageSplit(_resized(as_uint8(values, name), size), labels[rows])
        return ImageData(name, class_names, splits)

    build.__name__ = name
    return build


def _resized(images: Tensor, size: int) -> Tensor:
    """Images (N, 3, H, W) uint8 at another size, in chunks that bound the memory."""
    if images.shape[-2:] == (size, size):
        return images
    chunks = (part.float() for part in images.split(RESIZE_CHUNK))
    resized = (F.interpolate(part, size=(size, size), mode="bilinear", antialias=True) for part in chunks)
    return torch.cat([part.round().to(torch.uint8) for part in resized])


def _mnist_files(folder: str) -> tuple[str, ...]:
    kinds = ("images-idx3", "labels-idx1")
    return tuple(f"{folder}/raw/{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in kinds)


def _emnist(root: str, **options: Any) -> datasets.EMNIST:
    return datasets.EMNIST(root, split="balanced", **options)


mnist = torchvision_set("mnist", datasets.MNIST, _mnist_files("MNIST"))
emnist = torchvision_set("emnist", _emnist, ("EMNIST/raw/gzip.zip",), transposed=True)
cifar10 = torchvision_set("cifar10", datasets.CIFAR10, ("cifar-10-python.tar.gz",))
