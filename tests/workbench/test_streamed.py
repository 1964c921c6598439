"""Data larger than memory: read when asked for, and nothing stays."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import torch
from torch import nn

from gan_lib.concepts import HiddenLayer, PooledActivations
from gan_lib.core.storage import ShardedRows, ShardWriter
from gan_lib.data import ImageData, ImageSplit
from gan_lib.workbench import streamed
from gan_lib.workbench.streamed import ReadRows, pooled_on_disk, without_traces


@pytest.fixture
def folder(tmp_path):
    drawn = torch.Generator().manual_seed(0)
    with ShardWriter(tmp_path / "rows", rows_per_shard=4) as writer:
        for _ in range(3):
            writer.write(images=torch.randint(0, 255, (3, 3, 8, 8), dtype=torch.uint8, generator=drawn))
    return tmp_path / "rows"


def mapped(folder: Path) -> list[str]:
    return [own.path for own in psutil.Process().memory_maps() if str(folder) in own.path]


@pytest.mark.parametrize(
    "rows", [slice(None), slice(2, 7), torch.tensor([8, 0, 5, 5]), torch.tensor([], dtype=torch.long)]
)
def test_rows_are_those_of_the_shards(folder, rows):
    assert torch.equal(ReadRows(folder, "images")[rows], ShardedRows(folder, "images")[rows])


def test_one_row_and_what_they_are(folder):
    own, known = ReadRows(folder, "images"), ShardedRows(folder, "images")
    assert torch.equal(own[7], known[7])
    assert (len(own), own.shape, own.fingerprint) == (9, known.shape, known.fingerprint)
    with pytest.raises(IndexError):
        own[9]


def test_nothing_stays_mapped(folder):
    own = ReadRows(folder, "images")
    assert own[:].shape == (9, 3, 8, 8)
    assert not mapped(folder)
    kept = ShardedRows(folder, "images")
    assert mapped(folder), f"which is what it is about: {kept.shape}"


def test_large_splits_alone_are_read_so(folder, monkeypatch):
    split = ImageSplit(ShardedRows(folder, "images"), torch.arange(9) % 2)
    small = ImageSplit(split.images[:4], split.labels[:4])
    data = ImageData("t", ("a", "b"), {"train": split, "test": small})
    assert without_traces(data).train is split, "small enough to stay"
    monkeypatch.setattr(streamed, "LARGE", 10)
    made = without_traces(data)
    assert isinstance(made.train.images, ReadRows)
    assert made.test is small, "in memory"
    assert made.fingerprint == data.fingerprint


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.Linear(5, 2)

    def forward(self, images):
        return self.head(self.conv(images).relu().mean((2, 3)))


def test_prototypes_from_vectors_on_disk(folder, tmp_path):
    split = ImageSplit(ShardedRows(folder, "images"), torch.zeros(9, dtype=torch.long))
    hidden = HiddenLayer(Net().eval(), "conv", (8, 8))
    there, known = pooled_on_disk(hidden, split, tmp_path / "vectors"), PooledActivations(hidden, split)
    assert torch.equal(there.vectors[:], known.vectors[:])
    wanted = torch.eye(hidden.channels)[:2]
    assert torch.equal(there.nearest(wanted, 3).image, known.nearest(wanted, 3).image)
    assert not mapped(tmp_path / "vectors")
    (tmp_path / "rows").rename(tmp_path / "gone")
    again = pooled_on_disk(hidden, split, tmp_path / "vectors")
    assert len(again) == 9, "read, not made"
