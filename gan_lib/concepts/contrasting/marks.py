"""Marks that give a class away: which classes a CNN tells by theirs, and whether contrasting finds them."""

from __future__ import annotations

import itertools

import pandas as pd
import torch
from torch import Tensor

from gan_lib.concepts import PooledActivations
from gan_lib.concepts.contrasting.evidence import contrasting_concepts
from gan_lib.concepts.contrasting.hyperplanes import Hyperplanes
from gan_lib.core.options import positive
from gan_lib.data import ImageSplit

RELIED = 50.0  # per cent


def carried_marks(known: ImageSplit, split: ImageSplit) -> Tensor:
    """The class (N,) whose mark each image of a split carries: the one of the nearest mean colour.

    ``known`` are images that carry the marks of their own classes; images without a mark raise a ValueError.
    """
    colours, classes = _colours(known), known.labels.unique()
    means = torch.stack([colours[known.labels == label].mean(0) for label in classes])  # (K, 3)
    return classes[torch.cdist(_colours(split), means).argmin(1)]


def _colours(split: ImageSplit) -> Tensor:
    """Mean colour (N, 3) of every image's mark."""
    colours = []
    for batch in split.batches(256):
        if batch.marks is None or not batch.marks.flatten(1).any(1).all():
            raise ValueError("there are images without a mark")
        colours.append((batch.images * batch.marks).sum((2, 3)) / batch.marks.sum((2, 3)))
    return torch.cat(colours)


def mark_reliance(
    without: pd.DataFrame, conflicting: pd.DataFrame, carried: Tensor, classes: int
) -> pd.DataFrame:
    """How often each class is predicted where its mark is, and where there is no mark.

    Args:
        without, conflicting: predictions for images without marks, and with another class's mark.
        carried: (N,) whose mark each of the latter carries (:func:`carried_marks`).
        classes: how many there are.

    Returns:
        A row per ``class``: per cent of the images ``with its mark`` and ``without a mark`` that are
        predicted as it (NaN where no image carries the mark), and ``relied on``: 50 points more with it.
    """
    rows = []
    for label in range(classes):
        marked = 100.0 * (conflicting["prediction"] == label)[(carried == label).numpy()].mean()
        plain = 100.0 * (without["prediction"] == label).mean()
        rows.append((label, marked, plain, marked - plain >= RELIED))
    return pd.DataFrame(rows, columns=["class", "with its mark", "without a mark", "relied on"])


def marks_found(
    planes: Hyperplanes,
    pooled: PooledActivations,
    components: int = 4,
    candidates: int = 40,
    seed: int = 0,
    top: int = 10,
) -> pd.DataFrame:
    """Of the ``top`` cells that show each contrasting concept, how many contain the mark.

    Cells are the nearest ones of images with marks, and of the nearest ``candidates`` the best by themselves.

    Returns:
        A row per way to choose ``cells`` (``nearest``, ``by themselves``), ordered pair of classes
        (``class``, ``other``) and ``concept``: ``with_mark``. Pairs are left out where fewer activations
        speak for the class than there are concepts.

    Raises:
        ValueError: images without marks, or a count below 1.
    """
    positive(components=components, candidates=candidates, top=top)
    masks = pooled.split.batch(range(len(pooled))).marks
    if masks is None:
        raise ValueError("the images have no marks")
    rows = []
    for one, other in itertools.permutations(planes.vectors, 2):
        if len(planes.speaking(one, other)) < components:
            continue
        basis = contrasting_concepts(planes, one, other, components, seed)
        nearest = pooled.nearest(basis, candidates)
        for cells, found in (("nearest", nearest), ("by themselves", pooled.by_themselves(nearest, basis))):
            counts = pooled.contains(found[:, :top], masks).sum(1).tolist()  # k
            rows += [(cells, one, other, concept, count) for concept, count in enumerate(counts)]
    return pd.DataFrame(rows, columns=["cells", "class", "other", "concept", "with_mark"])
