"""One form for every data set: splits of uint8 images with labels and optional masks.

Images are kept as uint8 and handed out as float in [0, 1]; rows live in memory or in memory-mapped
shards, so that a data set larger than memory works the same way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan_lib.core.storage import Rows, ShardedRows, ShardWriter, read_json, tensor_bytes, write_json
from gan_lib.data.rows import batch_rows, spread_rows, stratified_order
from gan_lib.data.values import as_uint8, whole_labels

COLUMNS = ("images", "labels", "masks", "marks")
ROWS_PER_WRITE = 512


@dataclass(frozen=True)
class Batch:
    """Some rows of a split."""

    images: Tensor  # (B, 3, H, W) float in [0, 1]
    labels: Tensor  # (B,) int64
    masks: Tensor | None  # (B, 1, H, W) bool, true where the evidence for the label is
    marks: Tensor | None  # (B, 1, H, W) bool, true where a confounding mark is
    rows: Tensor  # (B,) int64, of the split

    def to(self, device: torch.device | str) -> Batch:
        """The batch on another device."""
        moved = {name: value.to(device) for name, value in vars(self).items() if value is not None}
        return replace(self, **moved)


@dataclass(frozen=True)
class ImageSplit:
    """Images and labels of one split."""

    images: Rows  # (N, 3, H, W) uint8
    labels: Tensor  # (N,) int64
    masks: Rows | None = None  # (N, 1, H, W) bool, true where the evidence for the label is
    marks: Rows | None = None  # (N, 1, H, W) bool, true where a confounding mark is
    paths: tuple[str, ...] = ()  # where each image came from; empty where they were never files

    def __post_init__(self) -> None:
        shape = tuple(self.images.shape)
        if len(shape) != 4 or shape[1] != 3:
            raise ValueError(f"images must be (N, 3, H, W), not {shape}")
        if tuple(self.labels.shape) != (shape[0],):
            raise ValueError(f"{shape[0]} images need labels ({shape[0]},), not {tuple(self.labels.shape)}")
        for name, rows in self.columns.items():
            if name in ("masks", "marks") and tuple(rows.shape) != (shape[0], 1, *shape[2:]):
                raise ValueError(f"{name} must be {(shape[0], 1, *shape[2:])}, not {tuple(rows.shape)}")

    @classmethod
    def of(cls, images: Tensor | ImageSplit) -> ImageSplit:
        """Images (N, 3, H, W) in [0, 1] as a split whose labels are all 0; a split as it is."""
        if isinstance(images, ImageSplit):
            return images
        return cls(as_uint8(images.cpu(), "the images"), torch.zeros(len(images), dtype=torch.long))

    @property
    def columns(self) -> dict[str, Rows]:
        """Images and labels, masks and marks where there are some."""
        return {name: rows for name in COLUMNS if (rows := getattr(self, name)) is not None}

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.images.shape[2:]
        return height, width

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the contents: images, labels, masks and marks; computed once, for rows do not change."""
        digest = hashlib.sha256()
        self._add_to(digest)
        return digest.hexdigest()[:16]

    def _add_to(self, digest: Any) -> None:
        for name, rows in self.columns.items():
            if isinstance(rows, ShardedRows):
                digest.update(rows.fingerprint.encode())
            else:
                digest.update(name.encode() + tensor_bytes(rows[:]))

    def sample(self, count: int | None, seed: int, skip: int = 0) -> Tensor:
        """Rows (count,) drawn at random, classes in proportion: the one way in which images are chosen.

            train = split.sample(4000, seed)
            others = split.sample(6, seed, skip=4000)  # none of the first 4000

        They are a part of :func:`stratified_order`, which depends on the labels and the seed only.

        Args:
            count: how many; ``None`` for all that are left, and fewer are given where fewer are left.
            seed: decides the draw.
            skip: leave out so many that a draw by the same seed begins with.

        Raises:
            ValueError: a negative count or skip.
        """
        if skip < 0 or (count is not None and count < 0):
            raise ValueError(f"count and skip must not be negative; got {count}, {skip}")
        return stratified_order(self.labels, seed, None if count is None else skip + count)[skip:]

    def examples(self, count: int | None, seed: int) -> Tensor:
        """Rows (n,) for a picture of the data: over all classes, in their order (:func:`spread_rows`).

        Raises:
            ValueError: a negative count.
        """
        if count is not None and count < 0:
            raise ValueError(f"the count must not be negative; got {count}")
        return spread_rows(self.labels, count, seed)

    def _index(self, rows: Tensor | Sequence[int] | slice) -> Tensor:
        if isinstance(rows, slice):
            return torch.arange(len(self))[rows]
        index = torch.as_tensor(rows)
        return torch.arange(len(self))[
            index if len(index) else index.long()
        ]  # of nothing, torch makes floats

    def batch(self, rows: Tensor | Sequence[int] | slice) -> Batch:
        """The given rows (B,), or numbers or a slice, as a :class:`Batch`."""
        index = self._index(rows)
        masks, marks = (None if own is None else own[index] for own in (self.masks, self.marks))
        return Batch(self.images[index].float() / 255, self.labels[index], masks, marks, index)

    def batches(self, size: int, shuffle_seed: int | None = None) -> Iterator[Batch]:
        """All rows in batches, in order or in the seeded random order of ``shuffle_seed``."""
        for rows in batch_rows(len(self), size, shuffle_seed):
            yield self.batch(rows)

    def subset(self, rows: Tensor | Sequence[int]) -> ImageSplit:
        """A split in memory with the given rows (n,) only."""
        index = self._index(rows)
        paths = tuple(self.paths[i] for i in index.tolist()) if self.paths else ()
        columns: dict[str, Any] = {name: own[index] for name, own in self.columns.items()}
        return ImageSplit(**columns, paths=paths)


@dataclass(frozen=True)
class ImageData:
    """A data set: named splits over the same classes.

    Raises:
        ValueError: fewer than two classes, a class with no training image, a label out of range,
            or a missing split; the message names it.
    """

    name: str  # what figures call it
    class_names: tuple[str, ...]  # in label order
    splits: Mapping[str, ImageSplit]  # at least ``train`` and ``test``
    skipped: tuple[tuple[str, str], ...] = ()  # files that could not be read, with the reason

    def __post_init__(self) -> None:
        for required in ("train", "test"):
            if required not in self.splits:
                raise ValueError(f"{self.name}: no {required!r} split, only {sorted(self.splits)}")
        count = len(self.class_names)
        if count < 2:
            raise ValueError(f"{self.name}: needs two classes or more, has {list(self.class_names)}")
        for split_name, split in self.splits.items():
            if len(split) == 0:
                raise ValueError(f"{self.name}: the split {split_name!r} is empty")
            low, high = int(split.labels.min()), int(split.labels.max())
            if low < 0 or high >= count:
                raise ValueError(
                    f"{self.name}: {split_name} labels span {low}..{high}, classes 0..{count - 1}"
                )
        counts = torch.bincount(self.train.labels, minlength=count)
        empty = [name for name, number in zip(self.class_names, counts.tolist(), strict=True) if not number]
        if empty:
            raise ValueError(f"{self.name}: no training image of class {', '.join(map(repr, empty))}")

    def __getitem__(self, split: str) -> ImageSplit:
        if split not in self.splits:
            raise KeyError(f"{self.name} has the splits {sorted(self.splits)}, not {split!r}")
        return self.splits[split]

    @property
    def train(self) -> ImageSplit:
        """Images to learn from."""
        return self.splits["train"]

    @property
    def test(self) -> ImageSplit:
        """Images that nothing was learned from."""
        return self.splits["test"]

    @property
    def to_choose_on(self) -> str:
        """The split to choose settings on: ``validation`` where there is one, else ``train``."""
        return "validation" if "validation" in self.splits else "train"

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the contents: class names, images, labels, masks and marks of all splits; computed once."""
        total = hashlib.sha256(repr(self.class_names).encode())
        for name in sorted(self.splits):
            total.update(name.encode())
            self.splits[name]._add_to(total)
        return total.hexdigest()[:16]

    @classmethod
    def from_arrays(
        cls,
        train: tuple[Any, Any],
        test: tuple[Any, Any],
        class_names: Sequence[str] | None = None,
        name: str = "arrays",
        validation: tuple[Any, Any] | None = None,
    ) -> ImageData:
        """A data set from arrays.

        Args:
            train, test, validation: images and labels each. Images are (N, H, W), (N, 1, H, W) or
                (N, 3, H, W), uint8 or float in [0, 1]; labels are (N,) integers.
            class_names: one name per class; by default the numbers.
            name: what figures call it.

        Raises:
            ValueError: NaN, infinite or out-of-range values, the first such image is named, labels that are
                no whole numbers, or shapes that do not fit.
        """
        given = {"train": train, "test": test} | ({} if validation is None else {"validation": validation})
        splits = {}
        for split, (images, labels) in given.items():
            where = f"{name}, {split}"
            splits[split] = ImageSplit(as_uint8(images, where), whole_labels(labels, where))
        count = 1 + max((int(own.labels.max()) for own in splits.values() if len(own)), default=-1)
        return cls(name, tuple(map(str, range(count)) if class_names is None else class_names), splits)

    @classmethod
    def from_datasets(
        cls,
        train: Any,
        test: Any,
        class_names: Sequence[str] | None = None,
        size: int | tuple[int, int] = 64,
        validation: Any = None,
        name: str = "datasets",
        into: Path | None = None,
    ) -> ImageData:
        """A data set from any ``torch.utils.data.Dataset`` of (image, label), each read through once.

            train, test = (torchvision.datasets.Flowers102("data", split) for split in ("train", "test"))
            data = ImageData.from_datasets(train, test, size=224, into=Path("data/cache/flowers"))

        Args:
            train, test, validation: sequences or iterables of (image, label). An image is a PIL image, an
                array (H, W) or (H, W, 3), or a tensor (H, W), (1, H, W) or (3, H, W), uint8 or float in
                [0, 1]; a label is an integer, or an array or tensor of one.
            class_names: one name per class; by default the datasets' ``classes``, else the numbers.
            size: side, or height and width, in pixels; images are cropped to it about their centre.
            name: what figures call it.
            into: folder for the images, where there are more than memory holds.

        Raises:
            ValueError: an item that is no such pair, an image with NaN or values outside the range, as a
                normalised one has, a label out of range, or classes that differ. The message names the item.
            TypeError: a DataLoader, or something that has no items.
        """
        from gan_lib.data.datasets import read_datasets  # which reads pictures, and for that imports this

        given = {"train": train, "test": test} | ({} if validation is None else {"validation": validation})
        height, width = (size, size) if isinstance(size, int) else size
        return read_datasets(given, class_names, (height, width), name, into)

    def save(self, folder: Path) -> None:
        """Write the data set as shards; read it with :meth:`load`."""
        for name, split in self.splits.items():
            with ShardWriter(folder / name) as writer:
                for rows in batch_rows(len(split), ROWS_PER_WRITE):
                    writer.write(**{column: own[rows] for column, own in split.columns.items()})
        save_index(folder, self)

    @classmethod
    def load(cls, folder: Path) -> ImageData:
        """Read a data set written by :meth:`save`; images stay on disk until they are asked for.

        Raises:
            FileNotFoundError: no complete data set at ``folder``.
        """
        if not (folder / "data.json").is_file():
            raise FileNotFoundError(f"no complete data set at {folder}")
        index = read_json(folder / "data.json")
        splits = {}
        for name, entry in index["splits"].items():
            rows: dict[str, Any] = {column: ShardedRows(folder / name, column) for column in entry["columns"]}
            labels = rows.pop("labels")[:]
            splits[name] = ImageSplit(**rows, labels=labels, paths=tuple(entry["paths"]))
        skipped = tuple((path, reason) for path, reason in index["skipped"])
        return cls(index["name"], tuple(index["class_names"]), splits, skipped)


def save_index(folder: Path, data: ImageData) -> None:
    """Write the part of a data set that is not rows; its presence marks the folder as complete."""
    splits = {name: {"columns": [*own.columns], "paths": own.paths} for name, own in data.splits.items()}
    about = {"name": data.name, "class_names": data.class_names, "splits": splits, "skipped": data.skipped}
    write_json(folder / "data.json", about)
