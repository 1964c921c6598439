"""Conditions of a whole data set, streamed to disk."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from pathlib import Path

import torch
from torch import Tensor

from gan_lib.core.inputs import weight_of
from gan_lib.core.options import positive
from gan_lib.core.runtime import progress
from gan_lib.core.storage import ShardedRows, ShardWriter
from gan_lib.data import ImageSplit
from gan_lib.data.rows import batch_rows
from gan_lib.gan.conditions.cumulative import ConditionMaker, Conditions

COLUMNS = tuple(field.name for field in fields(Conditions))


def compute_conditions(
    maker: ConditionMaker,
    split: ImageSplit,
    folder: Path,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
) -> StoredConditions:
    """Compute the conditions of all images of a split for the predicted class, and store them.

    Args:
        maker: makes the conditions of a batch.
        split: the images.
        folder: receives the shards, maps in half precision (error up to 2^-12).
        batch_size: images per pass over the CNN; memory stays at one batch and one shard.
        device: where the CNN runs.

    Raises:
        ValueError: no images, or a batch of none.
    """
    positive(images=len(split), batch_size=batch_size)
    home = weight_of(maker.cnn).device
    maker.cnn.to(device)
    try:
        with ShardWriter(folder, rows_per_shard=512) as writer:
            for rows in progress(list(batch_rows(len(split), batch_size)), "computing conditions"):
                made = vars(maker(split.batch(rows).images.to(device)))
                halved = {name: own.half() if own.ndim == 4 else own for name, own in made.items()}
                writer.write(**halved)
    finally:
        maker.cnn.to(home)
    return StoredConditions(folder)


class StoredConditions:
    """Conditions on disk; a row is an image of the split they were computed from.

        stored = StoredConditions(folder)
        stored[torch.tensor([4, 2])].cgma    # (2, n, H, W) float

    Args:
        folders: one, or several whose images follow one another.
        rows: of all images those that count, (N,); by default all.

    Raises:
        FileNotFoundError: a folder holds no complete conditions.
        ValueError: no folder, or different numbers of conditions.
    """

    def __init__(self, *folders: Path, rows: Tensor | None = None) -> None:
        self.folders, self.rows = folders, rows
        self._parts = [{name: ShardedRows(folder, name) for name in COLUMNS} for folder in folders]
        counts = [part["cgma"].shape[1] for part in self._parts]
        if len(set(counts)) != 1:
            raise ValueError(f"all parts need the same number of conditions: {counts}")
        self.count = int(counts[0])  # n
        self._ends = torch.tensor([len(part["cgma"]) for part in self._parts]).cumsum(0)

    def __len__(self) -> int:
        return int(self._ends[-1]) if self.rows is None else len(self.rows)

    def with_target(self) -> Tensor:
        """Which images (N,) have a target that shows something: there are CNNs whose Grad-CAM is empty."""
        columns = [part["target"] for part in self._parts]  # of the others nothing is read
        shows = [
            column[rows].flatten(1).amax(1) > 0
            for column in columns
            for rows in torch.arange(len(column)).split(256)
        ]
        there = torch.cat(shows)
        return there if self.rows is None else there[self.rows]

    def subset(self, rows: Tensor) -> StoredConditions:
        """Those of the given rows only; all of them leave it, and its fingerprint, as it is."""
        if torch.equal(rows, torch.arange(len(self))):
            return self
        return StoredConditions(*self.folders, rows=rows if self.rows is None else self.rows[rows])

    @property
    def fingerprint(self) -> str:
        """Hash of the contents."""
        own = [part["cgma"].fingerprint for part in self._parts]
        if self.rows is not None:
            own.append(str(self.rows.tolist()))
        return own[0] if len(own) == 1 else hashlib.sha256("/".join(own).encode()).hexdigest()

    def __getitem__(self, rows: Tensor | slice) -> Conditions:
        index = torch.arange(len(self))[rows]  # (B,)
        if self.rows is not None:
            index = self.rows[index]
        owner = torch.bucketize(index, self._ends, right=True)  # (B,) the part that a row is of
        asked = owner.argsort(stable=True).argsort()  # pieces come part by part, rows as they were asked for
        columns = {}
        for name in COLUMNS:
            pieces = []
            for number, part in enumerate(self._parts):
                first = int(self._ends[number]) - len(part[name])
                pieces.append(part[name][index[owner == number] - first])
            read = torch.cat(pieces)[asked]
            columns[name] = read.float() if read.ndim == 4 else read
        return Conditions(**columns)
