"""Data sets by name, built once and then read from the store.

A data set of one's own is a function in :data:`DATA_SETS`, and from then on a name like the others, for
:func:`load_data` as for a profile:

    @DATA_SETS.register("squares")
    def squares(size: int, seed: int, train: int = 2000, test: int = 500) -> ImageData:
        ...
        return ImageData.from_arrays((images, labels), (test_images, test_labels), class_names)

It takes those of ``root`` (the folder of the data sets), ``size``, ``train``, ``test``, ``validation``,
``seed`` and ``into`` (where to write its shards, as :meth:`ImageData.save` does) that it needs, by these
names. Any other name is an image folder. Data sets of PyTorch are handed on:

    @DATA_SETS.register("flowers")
    def flowers(root: Path, size: int, into: Path) -> ImageData:
        train, test = (torchvision.datasets.Flowers102(root, split) for split in ("train", "test"))
        return ImageData.from_datasets(train, test, size=size, into=into)
"""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from gan_lib.core.artifacts import ArtifactStore
from gan_lib.core.registry import Registry
from gan_lib.data.folders import image_folder
from gan_lib.data.images import ImageData
from gan_lib.data.layouts import PublishedSet, animals10, chinese_mnist, food11
from gan_lib.data.rows import chosen_rows
from gan_lib.data.scenes import confounded_digits, digits_in_scenes, plain_digits
from gan_lib.data.torchvision_sets import cifar10, emnist, mnist
from gan_lib.data.tree import files_below

DATA_SETS: Registry[Callable[..., ImageData]] = Registry("data set")
for _builder in (digits_in_scenes, confounded_digits, plain_digits, mnist, emnist, cifar10):
    DATA_SETS.register(_builder.__name__, _builder)
for _published in (animals10, food11, chinese_mnist):
    DATA_SETS.register(_published.name, _published)


def load_data(
    name: str,
    store: ArtifactStore,
    root: str | Path = "data",
    size: int = 64,
    train: int | None = None,
    test: int | None = None,
    seed: int = 0,
    validation: int | None = None,
    *,
    bits: int | None = None,
) -> ImageData:
    """A data set by name, built or decoded once and then read from the store.

        data = load_data("digits_in_scenes", store, train=2000, test=1000)
        data = load_data("animals10", store, root="data", size=224)

    Args:
        name: one of :data:`DATA_SETS`, or the path of an image folder (relative to ``root``, or absolute).
        store: where the result is kept.
        root: folder of the image folders, and of ``torchvision/``.
        size: side of the images in pixels.
        train, test: how many images. Embedded sets make as many, by default what they say; of others at most
            so many are drawn with the classes in proportion, by default all.
        seed: decides everything random: what is made, drawn, or held out for testing.
        validation: how many images an embedded set puts aside for choosing settings; of a set that has a
            validation split, at most so many, none for 0.
        bits: of an image folder's files (:func:`gan_lib.data.image_folder`).

    Raises:
        FileNotFoundError: neither a known name nor a folder; the known names are listed.
        ValueError: ``bits`` for a set that does not take them.
    """
    folder, known = Path(root) / name, name in DATA_SETS
    if not known and not folder.is_dir():
        raise FileNotFoundError(f"{name!r} is neither a folder ({folder}) nor one of {tuple(DATA_SETS)}")
    build: Callable[..., ImageData] = DATA_SETS[name] if known else image_folder
    takes = inspect.signature(build).parameters
    asked = {"train": train, "test": test, "validation": validation}
    counts = {split: count for split, count in asked.items() if count is not None}
    if bits is not None and "bits" not in takes:
        raise ValueError(f"{name} takes no bits: they are for image folders")
    needed = {split: count for split, count in counts.items() if count or split != "validation"}
    wanted = {"size": size, "seed": seed, **needed, **({"bits": bits} if bits else {})}
    options = {option: value for option, value in wanted.items() if option in takes}
    made_from: dict[str, Any] = {"name": DATA_SETS.name(name) if known else name, **options}
    if isinstance(build, PublishedSet):
        made_from["files"] = _files_of(build.folder(root))
    elif not known:
        made_from["files"] = _files_of(folder)
    module = build.__module__
    if module == "__main__":  # a notebook's function has no file: its own text is its code
        module, made_from["code"] = __name__, inspect.getsource(build)

    def save(target: Path) -> None:
        for entry in target.iterdir():  # a half-written split is of no use
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        places = {"root": Path(root) if known else folder, "into": target}
        data = build(**options, **{place: path for place, path in places.items() if place in takes})
        if "into" not in takes:
            data.save(target)

    data = ImageData.load(store.get("data", module, made_from, save))
    return _at_most(data, counts, seed)


def _files_of(folder: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times of a folder's files: its images may change under the same name."""
    stats = ((path, path.stat()) for path in files_below(folder).files)
    return [(path.relative_to(folder).as_posix(), own.st_size, own.st_mtime_ns) for path, own in stats]


def _at_most(data: ImageData, counts: dict[str, int], seed: int) -> ImageData:
    """The data set with so many images of its splits, and without a validation split of none."""
    splits = {
        name: split for name, split in data.splits.items() if name != "validation" or counts.get(name, 1)
    }
    rows = {split: chosen_rows(data[split].labels, counts[split], seed) for split in splits.keys() & counts}
    few = {split: data[split].subset(own) for split, own in rows.items() if len(own) < len(data[split])}
    return replace(data, splits={**splits, **few})
