"""Image folders: one sub-folder per class, with train and test folders or a seeded split.

    root/train/<class>/**   root/test/<class>/**   root/validation/<class>/**
    root/<class>/**                                                     (split by seed)

Animals-10, Food-11, Chinese MNIST and ImageNet-style trees come in one of these forms.

A class folder's images may lie in folders below it, and both may be links. Split folders may be called
``training``; ``testing`` or ``evaluation``; ``val`` or ``valid``, in small letters or capitals. The
validation folder is a split of its own, and the test split where there is no other. A folder of such a name
is a split if it has sub-folders; if it holds images only, it is a class like any other, unless there are
split folders beside it: then its images belong to no class and are not read.
"""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gan_lib.core.storage import ShardedRows, ShardWriter
from gan_lib.data.images import ROWS_PER_WRITE, ImageData, ImageSplit, save_index
from gan_lib.data.reading import UnreadableImageError, read_image
from gan_lib.data.rows import chosen_rows
from gan_lib.data.tree import files_below, has_image_ending, listing, natural

logger = logging.getLogger(__name__)

Files = list[tuple[Path, int]]  # with the class
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing", "evaluation"),
}
TEST_SHARE = 0.2  # of every class, where there are no split folders


@dataclass
class Found:
    """Images of a folder that are to be read."""

    class_names: tuple[str, ...]
    splits: dict[str, Files]
    skipped: list[tuple[Path, str]] = field(default_factory=list)  # what is not, with the reason


def image_folder(
    root: str | Path,
    size: int | tuple[int, int] = 64,
    train: int | None = None,
    test: int | None = None,
    seed: int = 0,
    into: Path | None = None,
    *,
    validation: int | None = None,
    class_names: Sequence[str] | None = None,
    bits: int | None = None,
) -> ImageData:
    """Read an image folder, or a fair choice of its images; each is decoded once, in parallel.

        data = image_folder("data/animals10", size=224, into=Path("data/cache/animals10"))

    Images are read as :func:`gan_lib.data.read_image` does. What cannot be read or belongs to no class is
    left out: its path is logged and listed in ``ImageData.skipped``.

    Args:
        root: folder with class folders, or with train and test folders of class folders.
        size: side, or height and width, in pixels.
        train, test, validation: at most so many images, drawn with the classes in proportion.
        seed: decides the split where there are no split folders, and which images are drawn.
        into: folder for the decoded images, where there are more than memory holds.
        class_names: the names of all class folders in the order of the labels, as that of a CNN trained
            elsewhere; by default by name, ``class2`` before ``class10``.
        bits: of files of more than 8 that do not say how many they use (:func:`gan_lib.data.read_image`).

    Raises:
        NotADirectoryError: ``root`` is not a folder.
        ValueError: fewer than two classes, two whose names differ by capitals only, an empty class, a class
            of the other splits that the training folder lacks, a training folder without another split or
            the reverse, or ``class_names`` that are not those of the folders. The message names the folder.
    """
    found = find_classes(Path(root), seed)
    if class_names is not None:
        found = _in_order(found, class_names, Path(root))
    counts = {"train": train, "test": test, "validation": validation}
    return decoded(Path(root), found, size, counts, seed, into, bits)


def find_classes(root: Path, seed: int) -> Found:
    """The images of an image folder by class and split.

    Raises:
        NotADirectoryError, ValueError: see :func:`image_folder`.
    """
    if not root.is_dir():
        raise NotADirectoryError(
            f"{root} is not a folder of images" + (", but a file" if root.exists() else "")
        )
    named = split_folders(root)
    splits = {split: path for split, path in named.items() if not _holds_images_only(path)}
    if not splits:
        if named:
            told = ", ".join(path.name for path in named.values())
            logger.warning("%s: %s hold images themselves and are read as classes, not as splits", root, told)
        found = _classes(root)
        return Found(found.class_names, split_by_seed(found.splits[""], seed), found.skipped)
    _tell_unread(root, splits)
    if "train" in splits and "test" not in splits and "validation" in splits:
        logger.warning("%s has no test folder: %s is the test split", root, splits["validation"].name)
        splits["test"] = splits.pop("validation")
    if "train" not in splits or "test" not in splits:
        missing = "test" if "train" in splits else "training"
        there = " and ".join(f"{path.name}/" for path in splits.values())
        advice = "a class of that name holds its images itself"
        raise ValueError(f"{root} has {there} but no {missing} folder with class folders; {advice}")
    train = _classes(splits["train"])
    by_split, skipped = {"train": train.splits[""]}, train.skipped
    for split, folder in splits.items():
        if split != "train":
            own = _classes(folder, train.class_names)
            by_split[split] = own.splits[""]
            skipped += own.skipped
    return Found(train.class_names, by_split, skipped)


def split_folders(root: Path) -> dict[str, Path]:
    """The folders in ``root`` that are called like a split, by split.

    Raises:
        ValueError: two of the same split.
    """
    found: dict[str, Path] = {}
    for path in listing(root).folders:
        for split, names in SPLIT_NAMES.items():
            if path.name.lower() in names:
                if split in found:
                    raise ValueError(f"{root} has two {split} folders, {found[split].name} and {path.name}")
                found[split] = path
    return found


def _holds_images_only(folder: Path) -> bool:
    inside = listing(folder)
    return not inside.folders and any(has_image_ending(path) for path in inside.files)


def _tell_unread(root: Path, splits: Mapping[str, Path]) -> None:
    """Log the folders that lie beside split folders."""
    others = [path.name for path in listing(root).folders if path not in splits.values()]
    if others:
        logger.warning("%s: beside the split folders, %s is not read", root, ", ".join(others))


def _classes(folder: Path, known: Sequence[str] | None = None) -> Found:
    """The images in a folder's class folders; with ``known``, of those classes, of which some may lack."""
    inside = listing(folder)
    skipped = [*inside.lost]
    skipped += [(path, "it lies in no class folder") for path in inside.files if has_image_ending(path)]
    folders = {path.name: path for path in sorted(inside.folders, key=lambda path: natural(path.name))}
    names = tuple(folders) if known is None else tuple(known)
    if known is None:
        _check_names(folder, names)
    elif unknown := [name for name in folders if name not in names]:
        near = [own for name in unknown for own in _near(name, names)]
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise ValueError(f"{folder} has classes that the training folder lacks: {', '.join(unknown)}{hint}")
    files: Files = []
    for label, name in enumerate(names):
        own = files_below(folders[name]) if name in folders else None
        if known is None and not (own and own.files):
            raise ValueError(f"class folder {folders[name]} holds no image")
        if own is not None:
            files += [(path, label) for path in own.files]
            skipped += own.lost
    if not files:
        raise ValueError(f"{folder} holds no image of a class")
    return Found(names, {"": files}, skipped)


def _check_names(folder: Path, names: Sequence[str]) -> None:
    if len(names) < 2:
        raise ValueError(f"{folder} needs two class folders or more, has {list(names)}")
    plain: dict[str, str] = {}
    for name in names:
        other = plain.setdefault(name.casefold(), name)
        if other != name:
            raise ValueError(f"{folder}: {other} and {name} differ by capitals only; merge or rename them")


def _near(name: str, names: Sequence[str]) -> list[str]:
    plain = {own.casefold(): own for own in names}
    return [plain[own] for own in difflib.get_close_matches(name.casefold(), plain, n=1, cutoff=0.6)]


def _in_order(found: Found, class_names: Sequence[str], root: Path) -> Found:
    """The same images with the labels that ``class_names`` gives their classes."""
    wanted, there = tuple(class_names), found.class_names
    missing = [name for name in there if name not in wanted]
    unknown = [name for name in wanted if name not in there]
    twice = sorted({name for name in wanted if wanted.count(name) > 1})
    faults = (("lack", missing), ("have unknown", unknown), ("repeat", twice))
    told = "; ".join(f"{fault} {', '.join(names)}" for fault, names in faults if names)
    if told:
        raise ValueError(f"class_names must name every class folder of {root} once, but {told}")
    label_of = [wanted.index(name) for name in there]
    splits = {
        split: sorted(((path, label_of[label]) for path, label in files), key=lambda entry: entry[1])
        for split, files in found.splits.items()
    }
    return Found(wanted, splits, found.skipped)


def split_by_seed(files: Files, seed: int) -> dict[str, Files]:
    """A share of every class for testing, at least one image and not all; of a class of one image a
    ``ValueError``."""
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


def decoded(
    root: Path,
    found: Found,
    size: int | tuple[int, int],
    counts: Mapping[str, int | None],
    seed: int,
    into: Path | None,
    bits: int | None = None,
    name: str | None = None,
) -> ImageData:
    """The images that were found, or of each split a fair choice of so many, as a data set."""
    height, width = (size, size) if isinstance(size, int) else size
    skipped = [(path.relative_to(root).as_posix(), reason) for path, reason in found.skipped]
    for path, reason in found.skipped:
        logger.warning("%s is not read: %s", path, reason)
    splits, total = {}, 0
    for split, files in found.splits.items():
        labels = torch.tensor([label for _, label in files])
        chosen = [files[row] for row in chosen_rows(labels, counts.get(split), seed)]
        place = None if into is None else into / split
        splits[split] = _decode(chosen, (height, width), root, place, bits, skipped)
        total += len(chosen)
    unreadable = len(skipped) - len(found.skipped)
    if unreadable:
        logger.warning("%s: skipped %d unreadable of %d images", root, unreadable, total)
    data = ImageData(name or root.name or root.resolve().name, found.class_names, splits, tuple(skipped))
    if into is not None:
        save_index(into, data)
    return data


def _decode(
    files: Files,
    size: tuple[int, int],
    root: Path,
    into: Path | None,
    bits: int | None,
    skipped: list[tuple[str, str]],
) -> ImageSplit:
    """The readable images, in memory or as shards; the others are added to ``skipped``."""

    def read(entry: tuple[Path, int]) -> Tensor | UnreadableImageError:
        try:
            return read_image(entry[0], size, bits)
        except UnreadableImageError as error:
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
                    skipped.append((entry[0].relative_to(root).as_posix(), image.reason))
            if good and writer is not None:
                labels = torch.tensor([label for _, label in kept[-len(good) :]])
                writer.write(images=torch.stack(good), labels=labels)
            elif good:
                parts.append(torch.stack(good))  # (B, 3, H, W) uint8
    if not kept:
        first = ": ".join(skipped[-len(files)])
        raise ValueError(f"{root}: none of {len(files)} images can be read; {first}")
    images = ShardedRows(into, "images") if into is not None else torch.cat(parts)
    paths = tuple(path.relative_to(root).as_posix() for path, _ in kept)
    return ImageSplit(images, torch.tensor([label for _, label in kept]), paths=paths)
