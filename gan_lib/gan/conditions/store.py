"""Conditions of a whole data set, streamed to disk."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import torch
from torch import Tensor

from gan_lib.core.runtime import progress
from gan_lib.core.storage import ShardedRows, ShardWriter
from gan_lib.data import ImageSplit
from gan_lib.data.images import batch_rows
from gan_lib.gan.conditions.cumulative import ConditionMaker, Conditions

ENCODINGS = {"fp16": torch.float16, "uint8": torch.uint8}


def compute_conditions(
    maker: ConditionMaker,
    split: ImageSplit,
    folder: Path,
    batch_size: int = 64,
    encoding: str = "fp16",
    device: torch.device | str = "cpu",
) -> StoredConditions:
    """Compute the conditions of all images of a split for the predicted class, and store them.

    Args:
        maker: makes the conditions of a batch.
        split: the images.
        folder: receives the shards; memory stays at one batch and one shard.
        batch_size: images per pass over the CNN.
        encoding: ``fp16`` (error up to 2^-12), or ``uint8`` (error up to 1/510, half the size).
        device: where the CNN runs.

    Raises:
        ValueError: an unknown encoding.
    """
    if encoding not in ENCODINGS:
        raise ValueError(f"encoding is one of {sorted(ENCODINGS)}, not {encoding!r}")
    home = next(maker.cnn.parameters()).device
    maker.cnn.to(device)
    with ShardWriter(folder, rows_per_shard=512) as writer:
        for rows in progress(list(batch_rows(len(split), batch_size)), "computing conditions"):
            made = maker(split.batch(rows).images.to(device))
            columns = {field.name: getattr(made, field.name) for field in fields(made)}
            writer.write(**{name: encode(column, encoding) for name, column in columns.items()})
    maker.cnn.to(home)
    return StoredConditions(folder)


def encode(values: Tensor, encoding: str) -> Tensor:
    """Maps (B, C, H, W) in [0, 1] in their form on disk; anything else unchanged."""
    if values.ndim < 4:
        return values
    return (values * 255).round().to(torch.uint8) if encoding == "uint8" else values.half()


def decode(values: Tensor) -> Tensor:
    """Float maps of what :func:`encode` gave."""
    if values.dtype == torch.uint8:
        return values.float() / 255
    return values.float() if values.is_floating_point() else values


class StoredConditions:
    """Conditions on disk; a row is an image of the split they were computed from.

        stored = StoredConditions(folder)
        stored[torch.tensor([4, 2])].cgma    # (2, n, H, W) float

    Raises:
        FileNotFoundError: the folder holds no complete conditions.
    """

    def __init__(self, folder: Path) -> None:
        self._columns = {field.name: ShardedRows(folder, field.name) for field in fields(Conditions)}

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
        return Conditions(**{name: decode(column[rows]) for name, column in self._columns.items()})
