"""Data that are larger than memory: images that are read when they are asked for, and leave nothing behind.

Shards of images are mapped into memory (:class:`gan_lib.core.storage.ShardedRows`), and what was read of them
stays there until the system wants it back: a process that has gone through a data set looks as large as the
data set, to whoever limits it. Large ones are read anew each time.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from gan_lib.concepts import HiddenLayer, PooledActivations
from gan_lib.concepts.prototypes import pooled_vectors
from gan_lib.core.runtime import progress
from gan_lib.core.storage import ShardedRows, ShardWriter
from gan_lib.data import ImageData, ImageSplit
from gan_lib.data.rows import batch_rows

LARGE = 64 * 2**20  # bytes of a column


class ReadRows(ShardedRows):
    """A column of shards that are opened for every read, and closed: only the rows asked for are in memory.

    Address and contents are those of :class:`ShardedRows`.
    """

    def __init__(self, folder: Path, column: str) -> None:
        super().__init__(folder, column)
        self._of_one = self._shards[0].shape[1:] if self._shards else torch.Size([])
        self._type = self._shards[0].dtype if self._shards else torch.uint8
        self._shards = []  # nothing stays mapped

    def __reduce__(self) -> tuple[type[ShardedRows], tuple[Path, str]]:
        return ReadRows, (self.folder, self.column)

    @property
    def shape(self) -> torch.Size:
        return torch.Size([len(self), *self._of_one])

    def __getitem__(self, rows: int | slice | Tensor) -> Tensor:
        """As :meth:`ShardedRows.__getitem__`."""
        if isinstance(rows, int):
            return self[torch.tensor([rows])][0]
        wanted = torch.arange(len(self))[rows]
        shards = torch.bucketize(wanted, self._ends, right=True)
        result = torch.empty((len(wanted), *self._of_one), dtype=self._type)
        for shard in shards.unique().tolist():
            here = shards == shard
            first = int(self._ends[shard - 1]) if shard else 0
            with safe_open(self.folder / f"{shard:05d}.safetensors", framework="pt") as file:
                mapped = file.get_tensor(self.column)  # until the next one is
                result[here] = mapped[wanted[here] - first]
                del mapped
        return result


def without_traces(data: ImageData) -> ImageData:
    """The same data, whose large splits are read as :class:`ReadRows`."""
    return replace(data, splits={name: _unmapped(own) for name, own in data.splits.items()})


def _unmapped(split: ImageSplit) -> ImageSplit:
    changed: dict[str, Any] = {}
    for name, rows in split.columns.items():
        if isinstance(rows, ShardedRows) and len(rows):
            size = sum(os.stat(path).st_size for path in rows.folder.glob("*.safetensors"))
            if size > LARGE:
                changed[name] = ReadRows(rows.folder, rows.column)
    return replace(split, **changed) if changed else split


def pooled_on_disk(
    hidden: HiddenLayer, split: ImageSplit, folder: Path, pool: int = 2, stride: int | None = None
) -> PooledActivations:
    """Pooled activations of a split whose vectors are too many for memory, to be searched for prototypes.

        pooled = pooled_on_disk(hidden, data.test, store_folder, pool=2)
        crops = pooled.crops(pooled.nearest(bank.basis[0], top=4))

    Arguments as for :class:`gan_lib.concepts.PooledActivations`; ``folder`` receives shards of the vectors,
    and is read where it has them.
    """
    if not (folder / "index.json").is_file():
        few, step = 64, stride or pool
        make = partial(pooled_vectors, pool=pool, stride=step)
        with ShardWriter(folder) as writer:
            for rows in progress(batch_rows(len(split), few), "pooling activations", -(-len(split) // few)):
                writer.write(vectors=make(hidden(split.batch(rows).images)))
    return PooledActivations(hidden, split, pool, stride, ReadRows(folder, "vectors"))
