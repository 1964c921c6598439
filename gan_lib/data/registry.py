"""Data sets by name, cached as shards."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from gan_lib.core.artifacts import ArtifactStore
from gan_lib.data.folders import image_folder
from gan_lib.data.images import ImageData
from gan_lib.data.plain_digits import plain_digits
from gan_lib.data.scenes import digits_in_scenes
from gan_lib.data.torchvision_sets import SOURCES, torchvision_data

EMBEDDED: dict[str, Callable[..., ImageData]] = {
    "digits_in_scenes": digits_in_scenes,
    "confounded_digits": partial(digits_in_scenes, confounded=True),
    "plain_digits": plain_digits,
}


def data_set_names() -> tuple[str, ...]:
    """Names that :func:`load_data` knows; any other name is an image folder's path."""
    return (*EMBEDDED, *SOURCES)


def load_data(name: str, store: ArtifactStore, root: str | Path = "data", **options: Any) -> ImageData:
    """A data set by name, built or decoded once and then read from the store.

        data = load_data("digits_in_scenes", store, train=2000, test=1000)
        data = load_data("animals10", store, root="data", size=224)

    Args:
        name: one of :func:`data_set_names`, or the path of an image folder (relative to ``root``,
            or absolute).
        store: where the result is kept.
        root: folder of the torchvision data sets and image folders.
        options: passed to :func:`digits_in_scenes`, :func:`torchvision_data` or
            :func:`image_folder`.

    Raises:
        FileNotFoundError: neither a known name nor a folder; the known names are listed.
    """
    if name in EMBEDDED:
        made_from = {"name": name, **options}
        return _stored(store, "gan_lib.data.plain_digits", made_from, partial(EMBEDDED[name], **options))
    if name in SOURCES:
        made_from = {"name": name, **options}
        build = partial(torchvision_data, name, Path(root) / "torchvision", **options)
        return _stored(store, "gan_lib.data.torchvision_sets", made_from, build)
    folder = Path(root) / name
    if not folder.is_dir():
        raise FileNotFoundError(f"{name!r} is neither a folder ({folder}) nor one of {data_set_names()}")

    def decode(target: Path) -> None:
        for entry in target.iterdir():  # decoding starts anew: a half-written split is of no use
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        image_folder(folder, into=target, **options)

    # A folder's images may change under the same name: their sizes and dates are part of the key.
    listing = sorted(
        (path.relative_to(folder).as_posix(), path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    )
    made_from = {"name": name, "files": listing, **options}
    return ImageData.load(store.get("data", "gan_lib.data.folders", made_from, decode))


def _stored(store: ArtifactStore, module: str, made_from: dict[str, Any], build: Any) -> ImageData:
    def save(folder: Path) -> None:
        build().save(folder)

    return ImageData.load(store.get("data", module, made_from, save))
