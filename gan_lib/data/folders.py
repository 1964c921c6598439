"""Image folders: one sub-folder per class, with train and test folders or a seeded split.

    root/train/<class>/*   root/test/<class>/*       (also val, valid, validation or evaluation)
    root/<class>/*                                   (split by seed)

Animals-10, Food-11, Chinese MNIST and ImageNet-style trees come in one of these forms.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gan_lib.core.storage import ShardedRows, ShardWriter
from gan_lib.data.images import ROWS_PER_WRITE, ImageData, ImageSplit, save_index
from gan_lib.data.reading import read_image
from gan_lib.data.rows import chosen_rows

logger = logging.getLogger(__name__)

Files = list[tuple[Path, int]]  # with the class
TRAIN_NAMES = ("train", "training")
TEST_SHARE = 0.2  # of every class, where there are no split folders
TEST_NAMES = ("test", "testing", "val", "valid", "validation", "evaluation")


def image_folder(
    root: str | Path,
    size: int | tuple[int, int] = 64,
    train: int | None = None,
    test: int | None = None,
    seed: int = 0,
    into: Path | None = None,
) -> ImageData:
    """Read an image folder, or a fair choice of its images; each is decoded once, in parallel.

        data = image_folder("data/animals10", size=224, into=Path("data/cache/animals10"))

    Images are read as :func:`gan_lib.data.read_image` does. An unreadable one is left out: its path is
    logged and listed in ``ImageData.skipped``.

    Args:
        root: folder with class folders, or with train and test folders of class folders.
        size: side, or height and width, in pixels.
        train, test: at most so many images, drawn with the classes in proportion.
        seed: decides the split where there are no split folders, and which images are drawn.
        into: folder for the decoded images, where there are more than memory holds.

    Raises:
        NotADirectoryError: ``root`` is not a folder.
        ValueError: fewer than two classes, an empty class, a class of the test folder that the
            training folder lacks, or one split without the other. The message names the folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise NotADirectoryError(
            f"{root} is not a folder of images" + (", but a file" if root.exists() else "")
        )
    height, width = (size, size) if isinstance(size, int) else size
    class_names, files = _find(root, seed)
    skipped: list[tuple[str, str]] = []
    splits, total = {}, 0
    for name, count in (("train", train), ("test", test)):
        labels = torch.tensor([label for _, label in files[name]])
        chosen = [files[name][row] for row in chosen_rows(labels, count, seed)]
        splits[name] = _decode(chosen, (height, width), root, None if into is None else into / name, skipped)
        total += len(chosen)
    if skipped:
        logger.warning("%s: skipped %d unreadable of %d images", root, len(skipped), total)
    data = ImageData(root.name, class_names, splits, tuple(skipped))
    if into is not None:
        save_index(into, data)
    return data


def _find(root: Path, seed: int) -> tuple[tuple[str, ...], dict[str, Files]]:
    folders = {path.name.lower(): path for path in _visible(root) if path.is_dir()}
    train = next((folders[name] for name in TRAIN_NAMES if name in folders), None)
    test = next((folders[name] for name in TEST_NAMES if name in folders), None)
    if train is None and test is None:
        names = _class_folders(root)
        return names, _split(_files(root, names), seed)
    if train is None or test is None:
        there, missing = (test, "training") if train is None else (train, "test")
        raise ValueError(f"{root} has {there and there.name}/ but no {missing} folder")
    names = _class_folders(train)
    unknown = sorted(set(_class_folders(test)) - set(names))
    if unknown:
        raise ValueError(f"{test} has classes that {train} lacks: {', '.join(unknown)}")
    return names, {"train": _files(train, names), "test": _files(test, names, may_lack=True)}


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith((".", "__")))


def _class_folders(folder: Path) -> tuple[str, ...]:
    names = tuple(path.name for path in _visible(folder) if path.is_dir())
    if len(names) < 2:
        raise ValueError(f"{folder} needs two class folders or more, has {list(names)}")
    return names


def _files(folder: Path, class_names: Sequence[str], may_lack: bool = False) -> Files:
    found: Files = []
    for label, own in enumerate(folder / name for name in class_names):
        paths = [path for path in _visible(own) if path.is_file()] if own.is_dir() else []
        if not paths and not may_lack:
            raise ValueError(f"class folder {own} holds no image")
        found += [(path, label) for path in paths]
    return found


def _split(files: Files, seed: int) -> dict[str, Files]:
    """A share of every class for testing, at least one image and not all."""
    rng, labels = np.random.default_rng(seed), np.array([label for _, label in files])
    tested: set[int] = set()
    for label in np.unique(labels):
        own = rng.permutation(np.flatnonzero(labels == label)).tolist()
        if len(own) < 2:
            raise ValueError(f"class folder {files[own[0]][0].parent} needs two images to be split")
        tested.update(own[: min(len(own) - 1, max(1, round(TEST_SHARE * len(own))))])
    return {
        "train": [entry for row, entry in enumerate(files) if row not in tested],
        "test": [entry for row, entry in enumerate(files) if row in tested],
    }


def _decode(
    files: Files, size: tuple[int, int], root: Path, into: Path | None, skipped: list[tuple[str, str]]
) -> ImageSplit:
    """The readable images, in memory or as shards; the others are added to ``skipped``."""

    def read(entry: tuple[Path, int]) -> Tensor | ValueError:
        try:
            return read_image(entry[0], size)
        except ValueError as error:
            return error

    kept: Files = []
    parts: list[Tensor] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool, ExitStack() as open_files:
        writer = open_files.enter_context(ShardWriter(into)) if into is not None else None
        for start in range(0, len(files), ROWS_PER_WRITE):
            some, good = files[start : start + ROWS_PER_WRITE], []
            for entry, image in zip(some, pool.map(read, some), strict=True):
                if isinstance(image, Tensor):
                    kept.append(entry)
                    good.append(image)
                else:
                    logger.warning("%s", image)
                    skipped.append((entry[0].relative_to(root).as_posix(), str(image.__cause__)))
            if good and writer is not None:
                labels = torch.tensor([label for _, label in kept[-len(good) :]])
                writer.write(images=torch.stack(good), labels=labels)
            elif good:
                parts.append(torch.stack(good))  # (B, 3, H, W) uint8
    if not kept:
        raise ValueError(f"{root}: none of {len(files)} images can be read: {[str(p) for p, _ in files[:1]]}")
    images = ShardedRows(into, "images") if into is not None else torch.cat(parts)
    paths = tuple(path.relative_to(root).as_posix() for path, _ in kept)
    return ImageSplit(images, torch.tensor([label for _, label in kept]), paths=paths)
