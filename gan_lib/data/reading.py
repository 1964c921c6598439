"""Pictures as tensors, from files, arrays and what else holds them."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from gan_lib.data.images import check_range

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")


def read_images(images: Any, size: int | tuple[int, int]) -> Tensor:
    """Pictures at one size, cropped about their centre to its aspect.

        images = read_images("photos/*.png", 224)
        images = read_images(["cat.jpg", Image.open("dog.jpg"), np.zeros((80, 60, 3))], (224, 224))

    Args:
        images: a file, a folder (searched for images), a pattern such as ``photos/**/*.png``, a PIL image, a
            numpy array (H, W), (H, W, 3) or (N, H, W, 3), a tensor (H, W), (3, H, W) or (N, 3, H, W), or
            several of these, uint8 or float in [0, 1]. One channel does for three, a fourth is left out.
        size: side, or height and width, in pixels.

    Returns:
        (N, 3, H, W) float in [0, 1], on the CPU; files of a folder or a pattern in the order of their names.

    Raises:
        FileNotFoundError: a file or folder that does not exist, a folder or pattern without images.
        ValueError: an unreadable file, an array of another shape, values outside the range, or no images.
        TypeError: something else than a picture. Messages name the file or the item.
    """
    pictures = list(_pictures(images, "the images"))
    if not pictures:
        raise ValueError("no images were given")
    with ThreadPoolExecutor() as pool:
        read = partial(_at_size, size=(size, size) if isinstance(size, int) else size)
        return torch.stack(list(pool.map(read, pictures)))  # (N, 3, H, W)


def read_image(path: str | Path, size: tuple[int, int]) -> Tensor:
    """One image file as (3, H, W) uint8, cropped about its centre and resized.

    Raises:
        ValueError: the file is no readable image; the message names it.
    """
    try:
        with Image.open(path) as image:
            return _fitted(image, size)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot read {path} as an image: {error}") from error


def find_images(places: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Image files, and folders searched for them: each file with its name relative to what was given.

    Hidden files and folders below a given one are left out, and so is what archives of a Mac add.

    Raises:
        FileNotFoundError: a place that does not exist.
    """
    for place in places:
        if place.is_file():
            yield place, Path(place.name)
        elif place.is_dir():
            for path in sorted(place.rglob("*")):
                name = path.relative_to(place)
                is_seen = not any(part.startswith((".", "__MACOSX")) for part in name.parts)
                if is_seen and path.suffix.lower() in ENDINGS and path.is_file():
                    yield path, name
        else:
            raise FileNotFoundError(f"{place} is neither an image nor a folder")


def fit_centre(images: Tensor, size: tuple[int, int]) -> Tensor:
    """The largest part of images (B, 3, h, w) about the centre with the aspect of a size, at that size."""
    height, width = images.shape[-2:]
    side = min(height / size[0], width / size[1])
    rows, columns = (max(1, int(side * length + 1e-6)) for length in size)
    top, left = (height - rows) // 2, (width - columns) // 2
    crop = images[..., top : top + rows, left : left + columns]
    if (rows, columns) == tuple(size):
        return crop
    return F.interpolate(crop, size=size, mode="bilinear", antialias=True, align_corners=False)


def _pictures(given: Any, where: str) -> Iterator[Path | Image.Image | Tensor]:
    """Single pictures: files, PIL images, tensors (3, h, w) in [0, 1]."""
    if isinstance(given, str | Path):
        yield from _files(Path(given).expanduser())
    elif isinstance(given, Image.Image):
        yield given
    elif isinstance(given, np.ndarray):
        arrays = given[None, ..., None] if given.ndim == 2 else given[None] if given.ndim == 3 else given
        if arrays.ndim != 4 or arrays.shape[3] not in (1, 3, 4):
            shape = given.shape
            raise ValueError(f"{where}: an array must be (H, W), (H, W, 3) or (N, H, W, 3), not {shape}")
        yield from _checked(torch.from_numpy(np.array(arrays)).permute(0, 3, 1, 2)[:, :3], where)
    elif isinstance(given, Tensor):
        tensors = given[(None,) * (4 - given.ndim)] if given.ndim in (2, 3) else given
        if tensors.ndim != 4 or tensors.shape[1] not in (1, 3):
            shape = tuple(given.shape)
            raise ValueError(f"{where}: a tensor must be (H, W), (3, H, W) or (N, 3, H, W), not {shape}")
        yield from _checked(tensors.detach().cpu(), where)
    elif isinstance(given, Iterable):
        for index, own in enumerate(given):
            yield from _pictures(own, f"item {index}")
    else:
        raise TypeError(f"{where}: a picture is a path, a PIL image, an array or a tensor, not {given!r}")


def _files(given: Path) -> list[Path]:
    if given.is_file():
        return [given]
    if given.is_dir():
        found = [path for path, _ in find_images([given])]
    elif glob.has_magic(str(given)):
        found = [path for path in map(Path, sorted(glob.glob(str(given), recursive=True))) if path.is_file()]
    else:
        raise FileNotFoundError(f"{given} is neither an image nor a folder")
    if not found:
        raise FileNotFoundError(f"no image in {given}")
    return found


def _checked(images: Tensor, where: str) -> Iterable[Image.Image | Tensor]:
    """Images (N, 1 or 3, h, w): uint8 ones as PIL images, so that they end as files do, others (3, h, w)."""
    full = images.expand(-1, 3, -1, -1)
    if images.dtype == torch.uint8:
        return [Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy())) for image in full]
    if not images.is_floating_point():
        raise ValueError(f"{where}: numbers must be uint8 or float in [0, 1], not {images.dtype}")
    check_range(images, where)
    return full.float()


def _at_size(picture: Path | Image.Image | Tensor, size: tuple[int, int]) -> Tensor:
    if isinstance(picture, Tensor):
        return fit_centre(picture[None], size)[0].clamp(0, 1)
    return (_fitted(picture, size) if isinstance(picture, Image.Image) else read_image(picture, size)) / 255


def _fitted(image: Image.Image, size: tuple[int, int]) -> Tensor:
    """A PIL image of any mode as (3, H, W) uint8."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):  # 16-bit grey, which convert() would clip
        upright = Image.fromarray((np.asarray(upright) / 257).clip(0, 255).astype(np.uint8))
    if "transparency" in upright.info or upright.mode in ("LA", "PA"):
        upright = upright.convert("RGBA")
    fitted = ImageOps.fit(upright.convert("RGB"), (size[1], size[0]), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1)  # (3, H, W)
