"""The files that explanations of images consist of, written side by side; what cannot be written is told."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from pathlib import Path

from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from gan_lib.core.storage import atomic_path, save_tensors
from gan_lib.figures import overlay
from gan_lib.workbench.explained import ENDINGS, INPUTS

Writer = tuple[str, Path, Callable[[], None]]  # an image's name, a file of it, and what writes it
Maps = Mapping[tuple[str, str], tuple[Tensor, Tensor]]


def write_files(out: Path, inputs: Mapping[str, Tensor], maps: Maps, pool: Executor) -> dict[str, OSError]:
    """Write pictures and maps of images.

    Args:
        out: the folder of explanations.
        inputs: by an image's name what the CNN saw, (3, H, W) uint8.
        maps: by name and method the image (3, H, W) and its map (1, H, W), both in [0, 1].
        pool: that writes.

    Returns:
        By name, why files of an image could not be written, of which none stays that was not there before.
    """
    writers = list(_writers(out, inputs, maps))
    new = [(name, path) for name, path, _ in writers if not os.path.lexists(path)]
    errors = zip(writers, pool.map(_tried, writers), strict=True)
    lost = {name: error for (name, _, _), error in errors if error is not None}
    for name, path in new:
        if name in lost:
            with suppress(OSError):
                path.unlink(missing_ok=True)
    return lost


def _writers(out: Path, inputs: Mapping[str, Tensor], maps: Maps) -> Iterator[Writer]:
    """Image by image: where a disk becomes full, the first are whole."""
    methods = dict.fromkeys(method for _, method in maps)
    for name, pixels in inputs.items():
        path = out / INPUTS / f"{name}.png"
        yield name, path, partial(_save, path, pixels)
        for method in methods:
            if (name, method) not in maps:
                continue
            picture, own = maps[name, method]
            coloured = overlay(picture[None], own[None])[0]
            plain, over, raw = (out / method / f"{name}{ending}" for ending in ENDINGS)
            yield name, plain, partial(_save, plain, _bytes(own))
            yield name, over, partial(_save, over, _bytes(coloured))
            yield name, raw, partial(save_tensors, raw, {"map": own})


def _tried(writer: Writer) -> OSError | None:
    """Write a file; what the system says against it."""
    try:
        writer[2]()
    except OSError as error:
        return error
    return None


def _bytes(pixels: Tensor) -> Tensor:
    return pixels.clamp(0, 1).mul(255).round().byte()


def _save(path: Path, pixels: Tensor) -> None:
    """Write (3, H, W) or (1, H, W) uint8 as a PNG, atomically."""
    with atomic_path(path) as temporary:
        to_pil_image(pixels).save(temporary, format="PNG")
