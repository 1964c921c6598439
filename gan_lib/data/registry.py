"""Data sets by name, built once and then read from the store.

A data set of one's own is a function in :data:`DATA_SETS`, and from then on a name like the others, for
:func:`load_data` as for a profile:

    @DATA_SETS.register("squares")
    def squares(size: int, seed: int, train: int = 2000, test: int = 500) -> ImageData:
        ...
        return ImageData.from_arrays((images, labels), (test_images, test_labels), class_names)

It takes those of ``root`` (the folder of the data sets), ``size``, ``train``, ``test``, ``validation``,
``seed`` and ``into`` (where to write its shards, as :meth:`ImageData.save` does) that it needs, by these
names. Any other name is an image folder.
"""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gan_lib.core.artifacts import ArtifactStore
from gan_lib.core.registry import Registry
from gan_lib.data.folders import image_folder
from gan_lib.data.images import ImageData
from gan_lib.data.rows import chosen_rows
from gan_lib.data.scenes import confounded_digits, digits_in_scenes, plain_digits
from gan_lib.data.torchvision_sets import cifar10, emnist, mnist

DATA_SETS: Registry[Callable[..., ImageData]] = Registry("data set")
for _builder in (digits_in_scenes, confounded_digits, plain_digits, mnist, emnist, cifar10):
    DATA_SETS.register(_builder.__name__, _builder)


def load_data(
    name: str,
    store: ArtifactStore,
    root: str | Path = "data",
    size: int = 64,
    train: int | None = None,
    test: int | None = None,
    seed: int = 0,
    validation: int | None = None,
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
        validation: how many images an embedded set puts aside for choosing settings; others do not.

    Raises:
        FileNotFoundError: neither a known name nor a folder; the known names are listed.
    """
    folder, known = Path(root) / name, name in DATA_SETS
    if not known and not folder.is_dir():
        raise FileNotFoundError(f"{name!r} is neither a folder ({folder}) nor one of {tuple(DATA_SETS)}")
    build: Callable[..., ImageData] = DATA_SETS[name] if known else image_folder
    takes = inspect.signature(build).parameters
    counts = {split: count for split, count in (("train", train), ("test", test)) if count is not None}
    wanted = {"size": size, "seed": seed, **counts, **({"validation": validation} if validation else {})}
    options = {option: value for option, value in wanted.items() if option in takes}
    made_from: dict[str, Any] = {"name": DATA_SETS.name(name) if known else name, **options}
    if not known:  # a folder's images may change under the same name
        files = (path for path in folder.rglob("*") if path.is_file())
        made_from["files"] = sorted(
            (path.relative_to(folder).as_posix(), path.stat().st_size, path.stat().st_mtime_ns)
            for path in files
        )
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
    rows = {split: chosen_rows(data[split].labels, count, seed) for split, count in counts.items()}
    few = {split: data[split].subset(own) for split, own in rows.items() if len(own) < len(data[split])}
    return ImageData(data.name, data.class_names, {**data.splits, **few}, data.skipped) if few else data
