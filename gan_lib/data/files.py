"""Image files as rows of a split that are read when they are asked for: memory does not grow with them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan_lib.data.reading import read_image


class FileRows:
    """Files as rows (N, 3, H, W) uint8, which :class:`gan_lib.data.ImageSplit` takes as its images.

        split = ImageSplit(FileRows(paths, (224, 224)), labels)
        split.batch([3, 5]).images  # these two are read now

    Args:
        paths: of the files; one that cannot be read is a ``ValueError`` when it is asked for.
        size: height and width, as :func:`gan_lib.data.read_image` crops and resizes.
        readers: threads that read side by side.
    """

    def __init__(self, paths: Sequence[Path], size: tuple[int, int], readers: int = 2) -> None:
        self.paths, self.size, self.readers = list(paths), size, readers

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def shape(self) -> torch.Size:
        """(N, 3, H, W)."""
        return torch.Size([len(self), 3, *self.size])

    def __getitem__(self, rows: Any, /) -> Tensor:
        """Rows by number, slice or index tensor; out of range is an ``IndexError``."""
        if isinstance(rows, int):
            return self[torch.tensor([rows])][0]
        wanted = [self.paths[row] for row in torch.arange(len(self))[rows].tolist()]
        if not wanted:
            return torch.empty(0, 3, *self.size, dtype=torch.uint8)
        read = partial(read_image, size=self.size)
        with ThreadPoolExecutor(min(self.readers, len(wanted))) as pool:
            return torch.stack(list(pool.map(read, wanted)))
