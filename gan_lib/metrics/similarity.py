"""Similarity of explanations: of two maps, of several methods, and of one class's among themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import pandas as pd
import torch
from scipy.stats import rankdata
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.image import structural_similarity_index_measure

from gan_lib.metrics.localisation import mass_inside

PIXELS = 2**18  # of maps whose SSIM is taken together: it needs many times their memory


def correlation(values: Tensor, others: Tensor) -> Tensor:
    """Pearson's correlation (B,), row by row, of values (B, D) with others; NaN where one is constant."""
    first, second = (given.double() - given.double().mean(1, keepdim=True) for given in (values, others))
    norms = first.norm(dim=1) * second.norm(dim=1)
    return torch.where(norms > 1e-12, (first * second).sum(1) / norms.clamp(min=1e-12), torch.nan)


def centred_ranks(maps: Tensor) -> Tensor:
    """Ranks (B, H * W) of the pixels of maps (B, 1, H, W), minus their mean; equal values share theirs."""
    ranks = torch.from_numpy(rankdata(maps.flatten(1).cpu().numpy(), axis=1))  # (B, H * W)
    return ranks - ranks.mean(1, keepdim=True)


def rank_correlation(maps: Tensor, others: Tensor) -> Tensor:
    """Spearman's correlation (B,) of the pixels of two maps (B, 1, H, W), -1..1; NaN if one is constant."""
    return correlation(centred_ranks(maps), centred_ranks(others)).float()


def structural_similarity(maps: Tensor, others: Tensor) -> Tensor:
    """SSIM (B,) of two maps (B, 1, H, W) in [0, 1] (Wang et al., 2004), by torchmetrics."""
    together = max(1, PIXELS // maps[:1].numel()) if len(maps) else 1
    measure = partial(structural_similarity_index_measure, reduction="none", data_range=1.0)
    parts = zip(maps.split(together), others.split(together), strict=True)
    scores = [torch.as_tensor(measure(*both)).reshape(len(both[0])) for both in parts]
    return torch.cat(scores)


def agreement(maps: Sequence[Tensor]) -> Tensor:
    """Mean rank correlation (N,) of all pairs of several methods' maps (N, 1, H, W) of the same images.

    A constant map agrees with none: its correlations count as 0.

    Raises:
        ValueError: fewer than two methods.
    """
    if len(maps) < 2:
        raise ValueError("agreement is between two methods or more")
    ranks = torch.stack([F.normalize(centred_ranks(own), dim=1) for own in maps])  # (M, N, H * W), unit
    # The square of the sum holds all pairs, each twice, and every vector's own square.
    pairs = ranks.sum(0).square().sum(1) - ranks.square().sum((0, 2))
    return (pairs / (len(maps) * (len(maps) - 1))).float()


class ClassSimilarity(NamedTuple):
    """Mean cosine similarities of embeddings; NaN where there is no pair."""

    matrix: Tensor  # (K, K), of two different images of these classes
    within: Tensor  # (N,), of every image to the others of its class
    between: Tensor  # (N,), of every image to those of other classes


def class_similarity(embeddings: Tensor, classes: Tensor, count: int) -> ClassSimilarity:
    """Similarities of embeddings (N, D) within and between ``count`` classes, theirs being classes (N,)."""
    unit, rows = F.normalize(embeddings.double(), dim=1), torch.arange(len(embeddings))  # (N, D)
    members = F.one_hot(classes, count).double()  # (N, K)
    to_class = unit @ (unit.T @ members)  # (N, K), summed over the images of each class
    to_class[rows, classes] -= 1  # not to itself
    pairs = members.sum(0).expand(len(unit), -1) - members  # (N, K)
    own, own_pairs = to_class[rows, classes], pairs[rows, classes]
    return ClassSimilarity(
        _mean(members.T @ to_class, members.T @ pairs),
        _mean(own, own_pairs),
        _mean(to_class.sum(1) - own, pairs.sum(1) - own_pairs),
    )


def _mean(total: Tensor, number: Tensor) -> Tensor:
    return torch.where(number > 0, total / number, torch.nan)


def similarity_scores(embeddings: Mapping[str, Tensor], classes: Tensor, count: int) -> pd.DataFrame:
    """Cosine similarities within and between classes (:func:`class_similarity`), of several kinds of images.

    Args:
        embeddings: by kind, (N, D); classes: (N,) of the images, ``count`` in all.

    Returns:
        A row per kind, called ``method``, and ``image``: its mean similarity ``within`` its class and
        ``between`` it and the others, NaN where it has no such partner.
    """
    parts = []
    for name, vectors in embeddings.items():
        found = class_similarity(vectors, classes, count)
        columns = {"within": found.within.tolist(), "between": found.between.tolist()}
        parts.append(pd.DataFrame({"method": name, "image": range(len(vectors)), **columns}))
    return pd.concat(parts, ignore_index=True)


def region_scores(maps: Mapping[tuple[str, int], Tensor], region: Tensor, top: bool = False) -> pd.DataFrame:
    """How much of several methods' maps lies inside a region (:func:`gan_lib.metrics.mass_inside`).

        region_scores({("Grad-CAM", 0): maps}, masks, top=True)

    Args:
        maps: (B, 1, H, W) by method and training seed, as ``region`` and ``top`` for :func:`mass_inside`.

    Returns:
        A row per ``method``, ``seed`` and ``image``: the share ``inside``, 0..1.
    """
    parts = []
    for (method, seed), own in maps.items():
        inside = mass_inside(own.cpu(), region.cpu(), top).tolist()
        parts.append(
            pd.DataFrame({"method": method, "seed": seed, "image": range(len(own)), "inside": inside})
        )
    return pd.concat(parts, ignore_index=True)
