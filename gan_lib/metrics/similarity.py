"""Similarity of explanations: are those of one class alike, and unlike those of others?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from gan_lib.metrics.localisation import centred_ranks


@dataclass(frozen=True)
class ClassSimilarity:
    """Cosine similarities of embeddings.

    Attributes:
        matrix: (K, K) mean similarity of two different images of the classes; NaN where there are none.
        within: (N,) every image's mean similarity to the others of its class; NaN for a class of one.
        between: (N,) every image's mean similarity to images of other classes.
    """

    matrix: Tensor
    within: Tensor
    between: Tensor


def class_similarity(embeddings: Tensor, classes: Tensor, count: int) -> ClassSimilarity:
    """Similarities within and between classes.

    Args:
        embeddings: (N, D).
        classes: (N,) class of each.
        count: number K of classes.
    """
    unit = F.normalize(embeddings.double(), dim=1)  # (N, D)
    members = F.one_hot(classes, count).double()  # (N, K)
    to_class = unit @ (unit.T @ members)  # (N, K), summed over the images of each class
    to_class[torch.arange(len(unit)), classes] -= 1  # not to itself
    pairs = members.sum(0).expand(len(unit), -1) - members  # (N, K)
    matrix = _mean(members.T @ to_class, members.T @ pairs)
    rows = torch.arange(len(unit))
    own, own_pairs = to_class[rows, classes], pairs[rows, classes]
    return ClassSimilarity(
        matrix,
        _mean(own, own_pairs),
        _mean(to_class.sum(1) - own, pairs.sum(1) - own_pairs),
    )


def _mean(total: Tensor, number: Tensor) -> Tensor:
    return torch.where(number > 0, total / number, torch.nan)


def agreement(maps: Sequence[Tensor]) -> Tensor:
    """Mean rank correlation (N,) of all pairs of several methods' maps (N, 1, H, W) of the same images.

    A constant map agrees with none: its correlations count as 0.

    Raises:
        ValueError: fewer than two methods.
    """
    if len(maps) < 2:
        raise ValueError("agreement is between two methods or more")
    ranks = [F.normalize(centred_ranks(own), dim=1) for own in maps]  # unit vectors (N, H * W)
    norms = sum((own.square().sum(1) for own in ranks), torch.zeros(len(maps[0])))
    total = torch.stack(ranks).sum(0).square().sum(1)  # the sum of all pairs, each twice, and of the norms
    return ((total - norms) / (len(maps) * (len(maps) - 1))).float()
