"""What relevances (N, n) say: over depth, first against last, and whether measures agree.

An image on which no condition matters does not count; where no image counts, the answer is NaN.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gan_lib.core.options import positive
from gan_lib.metrics.base import RESAMPLES, summary
from gan_lib.metrics.similarity import centred_ranks


def shares(relevance: Tensor) -> Tensor:
    """Relevances (N, n), not below 0, as shares of each image's sum; NaN where all are 0."""
    total = relevance.sum(1, keepdim=True)
    return torch.where(total > 0, relevance / total.clamp(min=1e-20), torch.nan)


def over_depth(relevance: Tensor) -> pd.DataFrame:
    """Mean share of every condition, from 1, with its 95 % interval: ``condition, share, low, high``."""
    found = [summary(own)[:3] for own in shares(relevance).T]  # mean, low, high
    table = pd.DataFrame(found, columns=["share", "low", "high"])
    table.insert(0, "condition", range(1, len(table) + 1))
    return table


def first_against_last(relevance: Tensor, seed: int = 0) -> dict[str, float]:
    """Do the first and the last condition matter equally (as arXiv 2301.08067 reports)?

    Returns:
        ``difference`` of the shares, last minus first, its mean over images with a 95 % interval
        (``low``, ``high``), and the paired effect size ``d``, mean over deviation, with its own
        (``d_low``, ``d_high``); a single image has none.
    """
    own = shares(relevance)
    values = (own[:, -1] - own[:, 0]).double().numpy()
    values = values[~np.isnan(values)]
    made = dict.fromkeys(("difference", "low", "high", "d", "d_low", "d_high"), float("nan"))
    if not len(values):
        return made
    rng = np.random.default_rng(seed)
    drawn = values[rng.integers(0, len(values), (RESAMPLES, len(values)))]  # (R, N)
    made |= _with_interval("difference", "", values.mean(), drawn.mean(1))
    if len(values) > 1:
        effects = drawn.mean(1) / np.maximum(drawn.std(1, ddof=1), 1e-12)
        made |= _with_interval("d", "d_", values.mean() / max(values.std(ddof=1), 1e-12), effects)
    return made


def _with_interval(name: str, prefix: str, value: float, draws: np.ndarray) -> dict[str, float]:
    low, high = np.quantile(draws, [0.025, 0.975])
    bounds = {f"{prefix}low": float(min(low, value)), f"{prefix}high": float(max(high, value))}
    return {name: float(value), **bounds}


def rank_agreement(relevances: Mapping[str, Tensor]) -> pd.DataFrame:
    """Spearman's correlation of the order of the conditions by every two measures, mean over the images.

    Args:
        relevances: by measure, (N, n) each, of the same images.

    Returns:
        A square table; an image on which a measure makes no difference does not count.
    """
    names = list(relevances)
    table = pd.DataFrame(np.eye(len(names)), index=names, columns=names)
    ranks = {name: centred_ranks(own).float() for name, own in relevances.items()}  # (N, n) each
    for i, first in enumerate(names):
        for second in names[:i]:
            a, b = ranks[first], ranks[second]
            norms = a.norm(dim=1) * b.norm(dim=1)
            value = float(((a * b).sum(1) / norms)[norms > 0].mean())
            table.loc[first, second] = table.loc[second, first] = value
    return table


def first_ranked(relevance: Tensor, index: int) -> float:
    """Share of the images on which the condition at an index matters more than any other, 0..1.

    Raises:
        ValueError: no image.
    """
    positive(images=len(relevance))
    others = relevance.clone()
    others[:, index] = -torch.inf
    return float((relevance[:, index] > others.amax(1)).float().mean())
