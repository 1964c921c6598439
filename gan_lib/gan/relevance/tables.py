"""What relevances (N, n) say: over depth, first against last, and whether measures agree."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gan_lib.metrics import bootstrap

RESAMPLES = 1000


def shares(relevance: Tensor) -> Tensor:
    """Relevances (N, n), not below 0, as shares of each image's sum; NaN where all are 0."""
    total = relevance.sum(1, keepdim=True)
    return torch.where(total > 0, relevance / total.clamp(min=1e-20), torch.nan)


def over_depth(relevance: Tensor) -> pd.DataFrame:
    """Mean share of every condition, from 1, with its 95 % interval: ``condition, share, low, high``."""
    rows = []
    for index, own in enumerate(shares(relevance).T):
        counted = own[~own.isnan()]
        low, high = bootstrap(counted) if len(counted) else (np.nan, np.nan)
        rows.append({"condition": index + 1, "share": float(counted.mean()), "low": low, "high": high})
    return pd.DataFrame(rows)


def first_against_last(relevance: Tensor, seed: int = 0) -> dict[str, float]:
    """Do the first and the last condition matter equally (as arXiv 2301.08067 reports)?

    Returns:
        ``difference`` of the shares, last minus first, its mean over images with a 95 % interval
        (``low``, ``high``), and the paired effect size ``d``, mean over deviation, with its own
        (``d_low``, ``d_high``).
    """
    own = shares(relevance)
    values = (own[:, -1] - own[:, 0]).double().numpy()
    values = values[~np.isnan(values)]
    rng = np.random.default_rng(seed)
    drawn = values[rng.integers(0, len(values), (RESAMPLES, len(values)))]  # (R, N)
    effects = drawn.mean(1) / np.maximum(drawn.std(1, ddof=1), 1e-12)
    (low, high), (d_low, d_high) = (np.quantile(x, [0.025, 0.975]) for x in (drawn.mean(1), effects))
    return {
        "difference": float(values.mean()),
        "low": float(low),
        "high": float(high),
        "d": float(values.mean() / max(values.std(ddof=1), 1e-12)),
        "d_low": float(d_low),
        "d_high": float(d_high),
    }


def rank_agreement(relevances: Mapping[str, Tensor]) -> pd.DataFrame:
    """Spearman's correlation of the order of the conditions by every two measures, mean over the images.

    Args:
        relevances: by measure, (N, n) each, of the same images.

    Returns:
        A square table; an image on which a measure makes no difference does not count.
    """
    names = list(relevances)
    table = pd.DataFrame(np.eye(len(names)), index=names, columns=names)
    ranks = {name: _centred_ranks(own) for name, own in relevances.items()}
    for i, first in enumerate(names):
        for second in names[:i]:
            a, b = ranks[first], ranks[second]
            norms = a.norm(dim=1) * b.norm(dim=1)
            value = float(((a * b).sum(1) / norms)[norms > 0].mean())
            table.loc[first, second] = table.loc[second, first] = value
    return table


def first_ranked(relevance: Tensor, index: int) -> float:
    """Share of the images on which the condition at an index matters more than any other."""
    others = relevance.clone()
    others[:, index] = -torch.inf
    return float((relevance[:, index] > others.amax(1)).float().mean())


def _centred_ranks(values: Tensor) -> Tensor:
    """Ranks (N, n) of values within their rows, mean 0; equal values share theirs."""
    less = (values[:, :, None] > values[:, None, :]).sum(2)
    same = (values[:, :, None] == values[:, None, :]).sum(2)
    ranks = less + (same + 1) / 2
    return ranks - ranks.mean(1, keepdim=True)
