"""Cells of the matrix CNN x data set: one generator is trained on some and tested on others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import pandas as pd
import torch
from torch import Tensor

from gan_lib.data import Batch, ImageData, ImageSplit
from gan_lib.explainers import Explainer
from gan_lib.gan.conditions import ConditionMaker, Conditions, StoredConditions
from gan_lib.metrics import explanation_scores, wins_against
from gan_lib.workbench.jobs import TrainedClassifier


@dataclass(frozen=True)
class Cell:
    """One CNN, trained on one data set.

    Attributes:
        architecture, data_set: names.
        trained: the CNN.
        data: its images.
    """

    architecture: str
    data_set: str
    trained: TrainedClassifier
    data: ImageData

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.architecture} x {self.data_set}"


class JoinedConditions(StoredConditions):
    """Conditions of several cells, one after the other, as if they were one set.

    Raises:
        ValueError: none, or different numbers of conditions.
    """

    def __init__(self, parts: Sequence[StoredConditions]) -> None:
        if len({part.count for part in parts}) != 1:
            raise ValueError(
                f"all parts need the same number of conditions: {[part.count for part in parts]}"
            )
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
        index = torch.arange(len(self))[rows]
        owner = torch.bucketize(index, self.ends, right=True)
        first = self.ends - torch.tensor([len(part) for part in self.parts])
        places, pieces = [], []
        for number, part in enumerate(self.parts):
            own = (owner == number).nonzero()[:, 0]
            if len(own):
                places.append(own)
                pieces.append(part[index[own] - first[number]])
        order = torch.cat(places).argsort()
        columns = {
            field.name: torch.cat([getattr(piece, field.name) for piece in pieces])[order]
            for field in fields(Conditions)
        }
        return Conditions(**columns)


def joined_images(splits: Sequence[ImageSplit]) -> ImageSplit:
    """The images of several cells, one after the other, in memory; labels only where they belong."""
    images = torch.cat([split.images[torch.arange(len(split))] for split in splits])
    return ImageSplit(images, torch.cat([split.labels for split in splits]))


def seen_before(cell: Cell, trained_on: Sequence[Cell]) -> str:
    """What a generator knows of a cell that it is tested on.

    ``seen``; ``unseen pair``, of which it knows the CNN and the data set from other pairs; ``unseen CNN``;
    ``unseen data``; or ``unseen CNN and data``.
    """
    if any((own.architecture, own.data_set) == (cell.architecture, cell.data_set) for own in trained_on):
        return "seen"
    cnn = any(own.architecture == cell.architecture for own in trained_on)
    data = any(own.data_set == cell.data_set for own in trained_on)
    return {
        (True, True): "unseen pair",
        (False, True): "unseen CNN",
        (True, False): "unseen data",
        (False, False): "unseen CNN and data",
    }[cnn, data]


def matrix(results: pd.DataFrame, measure: str, cells: Mapping[str, Cell]) -> pd.DataFrame:
    """A measure's means, CNNs down and data sets across.

    ``results`` has columns ``cell``, ``measure`` and ``mean``, ``cells`` the cells by name.
    """
    own = results[results["measure"] == measure]
    rows = [
        {"CNN": cells[name].architecture, "data": cells[name].data_set, "mean": mean}
        for name, mean in zip(own["cell"], own["mean"], strict=True)
    ]
    return pd.DataFrame(rows).pivot_table(index="CNN", columns="data", values="mean", sort=False)


def make_maker(cell: Cell, count: int, leak_free: bool) -> ConditionMaker:
    """Conditions by relative depth, whatever the depth of the cell's CNN."""
    cnn = cell.trained.cnn.requires_grad_(False)
    return ConditionMaker(cnn, cell.data.train.image_size, count, leak_free)


def cell_scores(
    cell: Cell,
    explainers: Mapping[tuple[str, int], Explainer],
    batch: Batch,
    asked: Tensor,
    against: str = "Grad-CAM",
    area: float = 0.1,
) -> pd.DataFrame:
    """Every measure of several explainers in a cell, image by image, and who wins.

    Args:
        cell: CNN and data set.
        explainers: by method and training seed.
        batch: images of the cell, on the CNN's device.
        asked: (N,) the explained classes.
        against: the method among them that the others are compared with: ``dice`` is the overlap with its
            map, ``won`` and ``lost`` (0 or 100) compare the drop on black with its drop.
        area: share of the image of the matched-area columns, for instance ``drop_black@10``, ``won@10``.

    Returns:
        As :func:`gan_lib.metrics.explanation_scores`, with ``won``, ``lost``, their matched-area
        counterparts, and ``cell``, which ``image`` begins with as well.
    """
    cnn = cell.trained.cnn
    maps = {
        key: explainer.attribute(batch.images, target=asked, batch_size=128)
        for key, explainer in explainers.items()
    }
    reference = maps[against, 0]
    scores = explanation_scores(cnn, batch.images, maps, asked, reference, batch.masks, areas=[area])
    matched = f"@{100 * area:g}"
    for suffix in ("", matched):
        wins = wins_against(scores, f"drop_black{suffix}", against)
        wins = wins.rename(columns={"won": f"won{suffix}", "lost": f"lost{suffix}"})
        scores = scores.merge(wins, on=["method", "seed", "image"])
    return scores.assign(cell=cell.name, image=[f"{cell.name}/{image}" for image in scores["image"]])
