"""Data sets of PyTorch as data sets of this package: each item is read once, in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from gan_lib.core.storage import Rows, ShardedRows, ShardWriter
from gan_lib.data.images import ROWS_PER_WRITE, ImageData, ImageSplit, save_index
from gan_lib.data.reading import one_picture


def read_datasets(
    given: Mapping[str, Any],
    class_names: Sequence[str] | None,
    size: tuple[int, int],
    name: str,
    into: Path | None,
) -> ImageData:
    """Data sets of (image, label) by split; see :meth:`gan_lib.data.ImageData.from_datasets`."""
    names = _class_names(given) if class_names is None else tuple(class_names)
    splits = {}
    for split, dataset in given.items():
        pairs = _pairs(dataset, split, size, None if names is None else len(names))
        splits[split] = _read(pairs, split, None if into is None else into / split)
    if names is None:
        names = tuple(map(str, range(1 + max(int(own.labels.max()) for own in splits.values()))))
    data = ImageData(name, names, splits)
    if into is not None:
        save_index(into, data)
    return data


def _class_names(given: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The classes that the data sets name, which must agree; ``None`` where none does."""
    found = {split: names for split, dataset in given.items() if (names := _own_names(dataset))}
    if len(set(found.values())) > 1:
        first, other = list(dict.fromkeys(found.values()))[:2]
        unlike = [pair for pair in zip(first, other, strict=False) if pair[0] != pair[1]][:1]
        told = (
            f"for instance {unlike[0][0]!r} and {unlike[0][1]!r}"
            if unlike
            else f"{len(first)} and {len(other)}"
        )
        raise ValueError(f"{' and '.join(found)} have other classes, {told}; give them as class_names")
    return next(iter(found.values()), None)


def _own_names(dataset: Any) -> tuple[str, ...] | None:
    """The names in ``classes``, of a data set or of those within it; of synonyms the first."""
    names = getattr(dataset, "classes", None)
    if isinstance(names, Sequence) and not isinstance(names, str):
        return tuple(str(name[0] if isinstance(name, tuple | list) else name) for name in names) or None
    within = [
        getattr(dataset, "dataset", None),
        *getattr(dataset, "datasets", ())[:1],
    ]  # Subset, ConcatDataset
    return next((own for part in within if part is not None and (own := _own_names(part))), None)


def _items(dataset: Any, split: str) -> Iterator[Any]:
    """All items, once: by number where they have numbers and are counted, else as they come."""
    if isinstance(dataset, DataLoader):
        raise TypeError(f"{split} is a DataLoader, which gives batches; give its dataset")
    counted = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    if counted and not isinstance(dataset, IterableDataset | Mapping):
        return (dataset[index] for index in range(len(dataset)))
    if isinstance(dataset, Iterable) or hasattr(dataset, "__getitem__"):
        return iter(dataset)
    raise TypeError(f"{split} must be a data set of (image, label), not {type(dataset).__name__}")


def _pairs(
    dataset: Any, split: str, size: tuple[int, int], classes: int | None
) -> Iterator[tuple[Tensor, int]]:
    """Images (3, H, W) uint8 with their labels."""
    items, index = _items(dataset, split), 0
    while True:
        where = f"{split}, item {index}"
        try:
            item = next(items)
        except StopIteration:
            return
        except Exception as error:
            error.add_note(f"while reading {where}")
            raise
        image, label = _pair(item, where)
        yield one_picture(image, size, where), _label(label, classes, where)
        index += 1


def _pair(item: Any, where: str) -> tuple[Any, Any]:
    wanted = "an item must be (image, label)"
    if isinstance(item, Mapping):
        raise ValueError(f"{where}: {wanted}, not a dictionary with {', '.join(map(repr, item))}")
    if not isinstance(item, tuple | list):
        raise ValueError(f"{where}: {wanted}, not {type(item).__name__}")
    if len(item) != 2:
        raise ValueError(f"{where}: {wanted}, not {len(item)} things")
    return item[0], item[1]


def _label(label: Any, classes: int | None, where: str) -> int:
    number = label.detach().cpu().numpy() if isinstance(label, Tensor) else np.asarray(label)
    if number.size != 1:
        raise ValueError(f"{where}: a label must be one number, not {number.size}; of one-hot, take argmax")
    if number.dtype.kind not in "iub":
        raise ValueError(f"{where}: a label must be a whole number, the place of its class, not {label!r}")
    value = int(number.item())
    if value < 0 or (classes is not None and value >= classes):
        known = "0 or more" if classes is None else f"0..{classes - 1}"
        raise ValueError(f"{where}: its label is {value}, not in {known}")
    return value


def _read(pairs: Iterator[tuple[Tensor, int]], split: str, into: Path | None) -> ImageSplit:
    """Images and labels, in memory or, so many at a time, as shards."""
    parts: list[Tensor] = []
    labels: list[int] = []
    with ExitStack() as open_files:
        writer = open_files.enter_context(ShardWriter(into)) if into is not None else None
        while some := list(islice(pairs, ROWS_PER_WRITE)):
            images, own = torch.stack([image for image, _ in some]), [label for _, label in some]
            labels += own
            if writer is not None:
                writer.write(images=images, labels=torch.tensor(own))
            else:
                parts.append(images)  # (B, 3, H, W) uint8
        if not labels:
            raise ValueError(f"{split} has no items")
    images_read: Rows = ShardedRows(into, "images") if into is not None else torch.cat(parts)
    return ImageSplit(images_read, torch.tensor(labels))
