"""Conditions of a whole data set, streamed to disk."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import torch
from torch import Tensor

from gan_lib.core.runtime import progress
from gan_lib.core.storage import ShardedRows, ShardWriter
from gan_lib.data import ImageSplit
from gan_lib.data.images import batch_rows
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
        folder: receives the shards; memory stays at one batch and one shard. Maps are kept in half
            precision (error up to 2^-12).
        batch_size: images per pass over the CNN.
        device: where the CNN runs.

    Raises:
        ValueError: no images.
    """
    if not len(split):
        raise ValueError("there are no images to compute conditions of")
    home = next(maker.cnn.parameters()).device
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

    Raises:
        FileNotFoundError: the folder holds no complete conditions.
    """

    def __init__(self, folder: Path) -> None:
        self._columns = {name: ShardedRows(folder, name) for name in COLUMNS}

    def __len__(self) -> int:
        return len(self._columns["target"])

    @property
    def count(self) -> int:
        """Number n of conditions."""
        return int(self._columns["cgma"].shape[1])

    @property
    def fingerprint(self) -> str:
        """Hash of the contents."""
        return self._columns["cgma"].fingerprint

    def __getitem__(self, rows: Tensor | slice) -> Conditions:
        read = {name: column[rows] for name, column in self._columns.items()}
        return Conditions(**{name: own.float() if own.ndim == 4 else own for name, own in read.items()})


class JoinedConditions(StoredConditions):
    """Conditions of several sets of images, one after the other, as if they were one set.

    Raises:
        ValueError: none, or different numbers of conditions.
    """

    def __init__(self, parts: Sequence[StoredConditions]) -> None:
        counts = [part.count for part in parts]
        if len(set(counts)) != 1:
            raise ValueError(f"all parts need the same number of conditions: {counts}")
        self.parts = list(parts)
        self.ends = torch.tensor([len(part) for part in parts]).cumsum(0)

    def __len__(self) -> int:
        return int(self.ends[-1])

    @property
    def count(self) -> int:
        """Number n of conditions."""
        return self.parts[0].count

    @property
    def fingerprint(self) -> str:
        """Hash of the contents."""
        joined = "/".join(part.fingerprint for part in self.parts)
        return hashlib.sha256(joined.encode()).hexdigest()

    def __getitem__(self, rows: Tensor | slice) -> Conditions:
        index = torch.arange(len(self))[rows]  # (B,)
        owner = torch.bucketize(index, self.ends, right=True)  # (B,) the part that a row is of
        pieces = [
            vars(part[index[owner == number] - int(self.ends[number]) + len(part)])
            for number, part in enumerate(self.parts)
        ]
        asked = owner.argsort(stable=True).argsort()  # pieces come part by part, rows as they were asked for
        return Conditions(**{name: torch.cat([own[name] for own in pieces])[asked] for name in COLUMNS})
