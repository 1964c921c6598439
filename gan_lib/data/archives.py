"""Images in tar and Parquet shards, which is how data sets that no folder should hold are kept.

    train = TarImages(sorted(root.glob("train-*.tar")), size=224)
    test = ParquetImages([root / "test.parquet"], size=224)
    data = ImageData.from_datasets(ahead(train, workers=4), test, class_names, 224, into=folder)

    @DATA_SETS.register("imagenet_shards")    # from then on a name for recipes
    def imagenet_shards(root: Path, size: int, into: Path) -> ImageData: ...

Files are opened when a picture is asked for, in whichever process that is; of a data set only its index, some
bytes an image, is in memory. Images come as (3, H, W) uint8, cropped about their centre.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from gan_lib.data.reading import one_picture

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
LABEL = ".cls"


class TarImages(Dataset[tuple[Tensor, int]]):
    """Images and labels of tar shards, uncompressed, as WebDataset writes them: ``0001.jpg`` beside
    ``0001.cls``, which holds a whole number; or ``CLASS/0001.jpg``, where labels are places in ``classes``.

    Args:
        shards: tar files, in the order in which their images are counted.
        size: side, or height and width, in pixels.
        classes: names of class folders; by default those that there are, sorted.

    Raises:
        ValueError: no pictures, a picture with neither a label nor a class, or a class that is not known; the
            message names the shard and the member.
    """

    def __init__(
        self, shards: Sequence[Path], size: int | tuple[int, int], classes: Sequence[str] | None = None
    ) -> None:
        self.shards, self.size = [Path(own) for own in shards], _pair(size)
        where, labels = [], []
        for number, shard in enumerate(self.shards):
            for place, label in _members(shard):
                where.append((number, *place))
                labels.append(label)
        if not where:
            raise ValueError(f"no pictures in {', '.join(map(str, self.shards)) or 'no shards'}")
        self._where = np.array(where, dtype=np.int64)  # (N, 3): shard, offset, length
        named = sorted({own for own in labels if isinstance(own, str)})
        self.classes = list(named if classes is None else classes)
        if unknown := [own for own in named if own not in self.classes]:
            raise ValueError(f"{self.shards[0].parent}: {unknown[0]!r} is none of the classes")
        places = {name: place for place, name in enumerate(self.classes)}
        self._labels = np.array([places[own] if isinstance(own, str) else own for own in labels])

    def __len__(self) -> int:
        return len(self._where)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        shard, offset, length = (int(own) for own in self._where[index])
        with self.shards[shard].open("rb") as file:
            file.seek(offset)
            encoded = file.read(length)
        return _decoded(encoded, self.size, f"{self.shards[shard]}, image {index}"), int(self._labels[index])


def _members(shard: Path) -> Iterator[tuple[tuple[int, int], int | str]]:
    """Offset and length of every picture in a shard, with its label or the name of its class."""
    pictures, labels = {}, {}
    with tarfile.open(shard, "r:") as archive:  # one that is compressed has no places to go to
        for member in archive:
            path = PurePosixPath(member.name)
            key = str(path.parent / path.name.partition(".")[0])
            if not member.isfile():
                continue
            if path.suffix.lower() in PICTURES:
                pictures[key] = (path, (member.offset_data, member.size))
            elif path.suffix == LABEL:
                text = archive.extractfile(member)
                labels[key] = int(text.read()) if text is not None else 0
    for key, (path, place) in pictures.items():
        if key not in labels and not path.parent.name:
            raise ValueError(f"{shard}: {path} has neither a {LABEL} beside it nor a class folder")
        yield place, labels.get(key, path.parent.name)


class ParquetImages(Dataset[tuple[Tensor, int]]):
    """Images and labels of Parquet files: a column of encoded pictures, bytes or ``{"bytes": ...}`` as the
    package ``datasets`` writes them, and one of whole numbers. Row groups are read one at a time.

    Args:
        files: in the order in which their rows are counted.
        size: side, or height and width, in pixels.
        image, label: names of the columns.

    Raises:
        ValueError: no rows, or a file without these columns.
    """

    def __init__(
        self,
        files: Sequence[Path],
        size: int | tuple[int, int],
        image: str = "image",
        label: str = "label",
    ) -> None:
        self.files, self.size = [Path(own) for own in files], _pair(size)
        self.columns = (image, label)
        groups = []
        for number, path in enumerate(self.files):
            about = pq.ParquetFile(path)
            if missing := [own for own in self.columns if own not in about.schema_arrow.names]:
                raise ValueError(f"{path} has no column {missing[0]!r}, but {about.schema_arrow.names}")
            groups += [
                (number, group, about.metadata.row_group(group).num_rows)
                for group in range(about.num_row_groups)
            ]
        self._groups = np.array(groups, dtype=np.int64).reshape(-1, 3)  # file, group, rows
        self._ends = self._groups[:, 2].cumsum()
        if not len(self):
            raise ValueError(f"no rows in {', '.join(map(str, self.files)) or 'no files'}")
        self._last: tuple[int, Any] = (-1, None)  # the group that was read last

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        group = int(np.searchsorted(self._ends, index, side="right"))
        if self._last[0] != group:
            file, number, _ = (int(own) for own in self._groups[group])
            read = pq.ParquetFile(self.files[file]).read_row_group(number, columns=list(self.columns))
            self._last = (group, read)
        row = index - int(self._ends[group] - self._groups[group, 2])
        image, label = (self._last[1].column(name)[row].as_py() for name in self.columns)
        encoded = image["bytes"] if isinstance(image, dict) else image
        where = f"{self.files[int(self._groups[group, 0])]}, image {index}"
        return _decoded(encoded, self.size, where), int(label)


class _Ahead(IterableDataset[Any]):
    def __init__(self, dataset: Dataset[Any], workers: int) -> None:
        self.dataset, self.workers = dataset, workers

    def __iter__(self) -> Iterator[Any]:
        return iter(DataLoader(self.dataset, batch_size=None, num_workers=self.workers))


def ahead(dataset: Dataset[Any], workers: int) -> IterableDataset[Any]:
    """The items of a data set in order, read and decoded ahead of their use by so many processes of torch's
    ``DataLoader``."""
    return _Ahead(dataset, workers)


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _decoded(encoded: bytes, size: tuple[int, int], where: str) -> Tensor:
    """A picture's bytes as (3, H, W) uint8."""
    try:
        picture = Image.open(io.BytesIO(encoded))
    except OSError as error:
        raise ValueError(f"{where}: {error}") from None
    with picture:
        return one_picture(picture, size, where)
