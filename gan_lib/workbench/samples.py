"""Images drawn from a subject's data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from gan_lib.data import Batch, ImageSplit


@dataclass(frozen=True)
class Sample:
    """Some images of a split, drawn by a seed, and what the CNN predicts for them.

    ``sample[:6]`` and ``sample[rows]`` are samples again.
    """

    split: ImageSplit  # these images alone, in memory
    rows: Tensor  # (N,) their numbers in the whole split
    explained: Tensor  # (N,) the predicted classes, on the CNN's device
    names: tuple[str, ...]  # of all classes
    device: torch.device  # of images and masks

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: slice | Tensor | Sequence[int]) -> Sample:
        chosen = torch.arange(len(self))[index if isinstance(index, slice) else torch.as_tensor(index).cpu()]
        explained = self.explained[chosen.to(self.explained.device)]
        return replace(self, split=self.split.subset(chosen), rows=self.rows[chosen], explained=explained)

    @cached_property
    def batch(self) -> Batch:
        """Images, labels, masks and marks, on the CNN's device."""
        return self.split.batch(range(len(self))).to(self.device)

    @property
    def images(self) -> Tensor:
        """(N, 3, H, W) in [0, 1]."""
        return self.batch.images

    @property
    def masks(self) -> Tensor | None:
        """(N, 1, H, W) bool, true where the evidence is; ``None`` where that is not known."""
        return self.batch.masks

    @property
    def marks(self) -> Tensor | None:
        """(N, 1, H, W) bool, true where a confounding mark is; ``None`` in sets without."""
        return self.batch.marks

    @property
    def labels(self) -> Tensor:
        """(N,) the true classes."""
        return self.batch.labels

    @property
    def titles(self) -> list[str]:
        """Names of the predicted classes."""
        return [self.names[label] for label in self.explained.tolist()]
