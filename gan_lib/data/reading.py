"""Pictures as tensors, from files, arrays and what else holds them."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from gan_lib.data.depth import in_eight_bits
from gan_lib.data.large import reduced
from gan_lib.data.tree import files_below, has_image_ending, is_hidden
from gan_lib.data.values import check_range

ALONE = 8_000_000  # pixels of a picture above which one is decoded at a time
_LARGE = Lock()
TIFF_BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class UnreadableImageError(ValueError):
    """An image that cannot be read: which, and why."""

    def __init__(self, name: str | Path, reason: str) -> None:
        super().__init__(f"cannot read {name} as an image: {reason}")
        self.name, self.reason = name, reason

    def __reduce__(self) -> tuple[type[UnreadableImageError], tuple[str | Path, str]]:
        return UnreadableImageError, (self.name, self.reason)


def read_images(images: Any, size: int | tuple[int, int], bits: int | None = None) -> Tensor:
    """Pictures at one size, cropped about their centre to its aspect.

        images = read_images("photos/*.png", 224)
        images = read_images(["cat.jpg", Image.open("dog.jpg"), np.zeros((80, 60, 3))], (224, 224))

    Args:
        images: a file, a folder (searched for images), a pattern such as ``photos/**/*.png``, a PIL image, a
            numpy array (H, W), (H, W, 3) or (N, H, W, 3), a tensor (H, W), (3, H, W) or (N, 3, H, W), or
            several of these, uint8 or float in [0, 1]. One channel does for three, a fourth is left out.
        size: side, or height and width, in pixels.
        bits: of files of more than 8 that do not say how many they use (:func:`read_image`).

    Returns:
        (N, 3, H, W) float in [0, 1], on the CPU; files of a folder or a pattern in the order of their names.

    Raises:
        FileNotFoundError: a file or folder that does not exist, a folder or pattern without images.
        ValueError: an unreadable file, an array of another shape, values outside the range, or no images.
        TypeError: something else than a picture. Messages name the file or the item.
    """
    pictures = list(_pictures(images, "the images", bits))
    if not pictures:
        raise ValueError("no images were given")
    with ThreadPoolExecutor() as pool:
        read = partial(_at_size, size=(size, size) if isinstance(size, int) else size, bits=bits)
        return torch.stack(list(pool.map(read, pictures)))  # (N, 3, H, W)


def read_image(path: str | Path, size: tuple[int, int] | None = None, bits: int | None = None) -> Tensor:
    """One image file as (3, H, W) uint8, cropped about its centre and resized; without a size as it is.

    Images are turned upright as their EXIF data say; transparency is left out; of an animation the first
    frame is read, of several pages the first. Whole numbers of 16 bits are scaled to 8, floating point
    numbers are taken to be in [0, 1]. What is read of more than 32 million pixels, and how, says
    :mod:`gan_lib.data.large`.

    Args:
        path: of the file.
        size: height and width in pixels.
        bits: how many of its 16 bits a file uses, 12 for 0..4095. Needed only where the file does not say so
            and no number is above 16383: a dark image of 16 bits and a bright one of 12 hold the same.

    Raises:
        ValueError: the file is no readable image, or what is white in it is not known; the message names it.
    """
    try:
        with Image.open(path) as image, _alone(image):
            return _fitted(_as_rgb(reduced(image, Path(path), size), bits), size)
    except Exception as error:  # damaged files make Pillow raise errors of many kinds
        raise UnreadableImageError(path, _reason(Path(path), error)) from error


def _alone(image: Image.Image) -> AbstractContextManager[object]:
    """Of pictures of many pixels one is decoded at a time."""
    return _LARGE if image.size[0] * image.size[1] > ALONE else nullcontext()


def read_cutout(path: str | Path, bits: int | None = None) -> Tensor:
    """One image file with its opacity as a fourth channel, (4, H, W) uint8, at its own size.

    Opaque where the file says nothing of it; otherwise as :func:`read_image`; a
    ``ValueError`` where it cannot be read.
    """
    try:
        with Image.open(path) as image:
            cutout = in_eight_bits(image, bits).convert("RGBA")
            return torch.from_numpy(np.array(cutout)).permute(2, 0, 1)  # (4, H, W)
    except Exception as error:
        raise UnreadableImageError(path, _reason(Path(path), error)) from error


def picture_size(path: str | Path) -> tuple[int, int]:
    """Height and width in pixels of an image file, upright as :func:`read_image` turns it.

    Raises:
        ValueError: the file is no readable image; the message names it.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            is_turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
    except Exception as error:  # as above
        raise UnreadableImageError(path, _reason(Path(path), error)) from error
    return (width, height) if is_turned else (height, width)


def _reason(path: Path, error: Exception) -> str:
    """Why a file cannot be read, in words that do not name it again."""
    if path.is_dir():
        return "it is a folder"
    if not path.exists():
        return "a link to what is not there" if path.is_symlink() else "there is no such file"
    if isinstance(error, UnidentifiedImageError):
        with path.open("rb") as file:
            beginning = file.read(4)
        if not beginning:
            return "the file is empty"
        if beginning in TIFF_BEGINNINGS:
            return "a damaged TIFF, or one of a kind that Pillow does not read; save it with 8 or 16 bits"
        return "its content is of no image format that is known, whatever its name says"
    return str(error) or type(error).__name__


def find_images(places: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Image files, and folders searched for them: each file with its name relative to what was given.

    Folders below and links are followed. Hidden files and folders, ``.ipynb_checkpoints`` and ``__MACOSX``
    among them, are not taken, except those that were given themselves.

    Raises:
        FileNotFoundError: a place that does not exist.
    """
    for place in places:
        if place.is_file():
            yield place, Path(place.name)
        elif place.is_dir():
            for path in files_below(place).files:
                if has_image_ending(path):
                    yield path, path.relative_to(place)
        else:
            raise FileNotFoundError(f"{place} is neither an image nor a folder")


def one_picture(given: Any, size: tuple[int, int], where: str) -> Tensor:
    """A single picture of :func:`read_images` as (3, H, W) uint8.

    Raises:
        ValueError: several pictures, or a wrong one; the message begins with ``where``.
    """
    pictures = list(_pictures(given, where, None))
    if len(pictures) != 1:
        raise ValueError(f"{where}: one image is wanted, not {len(pictures)}")
    return (_at_size(pictures[0], size, None) * 255).round().to(torch.uint8)


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


def _pictures(given: Any, where: str, bits: int | None) -> Iterator[Path | Image.Image | Tensor]:
    """Single pictures: files, upright RGB images, tensors (3, h, w) in [0, 1]."""
    if isinstance(given, str | Path):
        yield from _files(Path(given).expanduser())
    elif isinstance(given, Image.Image):
        try:
            yield _as_rgb(given, bits)
        except Exception as error:  # one that was opened and not loaded is decoded only now
            raise UnreadableImageError(f"{where}, {given!r},", str(error) or type(error).__name__) from error
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
            yield from _pictures(own, f"item {index}", bits)
    else:
        raise TypeError(f"{where}: a picture is a path, a PIL image, an array or a tensor, not {given!r}")


def _files(given: Path) -> list[Path]:
    if given.is_file():
        return [given]
    if given.is_dir():
        found = [path for path, _ in find_images([given])]
    elif glob.has_magic(str(given)):
        matches = map(Path, sorted(glob.glob(str(given), recursive=True)))
        found = [path for path in matches if path.is_file() and not _hidden_by(given, path)]
    else:
        raise FileNotFoundError(f"{given} is neither an image nor a folder")
    if not found:
        raise FileNotFoundError(f"no image in {given}")
    return found


def _hidden_by(pattern: Path, path: Path) -> bool:
    """Whether a match lies in something hidden that the pattern itself does not name."""
    return any(is_hidden(part) for part in path.parts if part not in pattern.parts)


def _checked(images: Tensor, where: str) -> Iterable[Image.Image | Tensor]:
    """Images (N, 1 or 3, h, w): uint8 ones as PIL images, so that they end as files do, others (3, h, w)."""
    full = images.expand(-1, 3, -1, -1)
    if images.dtype == torch.uint8:
        return [Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy())) for image in full]
    if images.dtype == torch.bool:
        return full.float()
    check_range(images, where)
    return full.float()


def _at_size(picture: Path | Image.Image | Tensor, size: tuple[int, int], bits: int | None) -> Tensor:
    if isinstance(picture, Tensor):
        return fit_centre(picture[None], size)[0].clamp(0, 1)
    if isinstance(picture, Image.Image):
        return _fitted(picture, size) / 255
    return read_image(picture, size, bits) / 255


def _as_rgb(image: Image.Image, bits: int | None) -> Image.Image:
    """A PIL image of any mode, upright and as RGB."""
    upright = in_eight_bits(image, bits)
    if "transparency" in upright.info or upright.mode in ("LA", "PA"):
        upright = upright.convert("RGBA")
    return upright.convert("RGB")


def _fitted(image: Image.Image, size: tuple[int, int] | None) -> Tensor:
    """An RGB image as (3, H, W) uint8, at its own size where none is given."""
    fitted = image
    if size is not None:
        fitted = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1)  # (3, H, W)
