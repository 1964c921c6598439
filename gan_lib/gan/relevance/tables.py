"""What relevances say: over depth, first against last, whether measures agree.

Tables are made of relevances (N, n) of the same images by generator and training seed, then by measure. An
image on which no condition matters does not count, but for :func:`first_ranked`; where no image counts, the
answer is NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gan_lib.core.options import positive
from gan_lib.gan.generators import Generator
from gan_lib.gan.relevance.conditions import (
    ConditionedGenerator,
    Conditions,
    mean_conditions,
    zero_conditions,
)
from gan_lib.gan.relevance.measures import relevance
from gan_lib.metrics.base import RESAMPLES, summary
from gan_lib.metrics.similarity import centred_ranks

Key = tuple[str, int]
Relevances = Mapping[Key, Mapping[str, Tensor]]


def shares(relevance: Tensor) -> Tensor:
    """Relevances (N, n), not below 0, as shares of each image's sum; NaN where all are 0."""
    total = relevance.sum(1, keepdim=True)
    return torch.where(total > 0, relevance / total.clamp(min=1e-20), torch.nan)


def over_depth(relevances: Relevances) -> pd.DataFrame:
    """Mean share of every condition with its 95 % interval over images; seeds are averaged first.

    Returns:
        One row per generator, measure and ``condition``, from 1: ``share``, ``low``, ``high``.
    """
    tables = []
    for name in dict.fromkeys(name for name, _ in relevances):
        runs = [own for (other, _), own in relevances.items() if other == name]
        for measure in runs[0]:
            mean = torch.stack([shares(own[measure]) for own in runs]).mean(0)  # (N, n)
            table = pd.DataFrame([summary(own)[:3] for own in mean.T], columns=["share", "low", "high"])
            table.insert(0, "condition", range(1, len(table) + 1))
            tables.append(table.assign(generator=name, measure=measure))
    return pd.concat(tables)


def first_against_last(relevances: Relevances, seed: int = 0) -> pd.DataFrame:
    """Do the first and the last condition matter equally (as arXiv 2301.08067 reports)?

    Returns:
        One row per generator, seed and measure: ``difference`` of the shares, last minus first, mean over the
        images with a 95 % interval (``low``, ``high``), and the paired effect size ``d``, mean over
        deviation, with its own (``d_low``, ``d_high``); a single image has none.
    """
    rows = []
    for (name, run), by_measure in relevances.items():
        for measure, own in by_measure.items():
            row = {"generator": name, "seed": run, "measure": measure}
            rows.append(row | _difference(shares(own), np.random.default_rng(seed)))
    return pd.DataFrame(rows)


def _difference(shares: Tensor, rng: np.random.Generator) -> dict[str, float]:
    made = dict.fromkeys(("difference", "low", "high", "d", "d_low", "d_high"), float("nan"))
    values = (shares[:, -1] - shares[:, 0]).double().numpy()
    values = values[~np.isnan(values)]
    if len(values):
        drawn = values[rng.integers(0, len(values), (RESAMPLES, len(values)))]  # (R, N)
        made |= _with_interval("difference", "", values.mean(), drawn.mean(1))
    if len(values) > 1:
        effects = drawn.mean(1) / np.maximum(drawn.std(1, ddof=1), 1e-12)
        made |= _with_interval("d", "d_", values.mean() / max(values.std(ddof=1), 1e-12), effects)
    return made


def _with_interval(name: str, prefix: str, value: float, draws: np.ndarray) -> dict[str, float]:
    """A value and its interval, which holds it."""
    low, high = np.quantile(draws, [0.025, 0.975])
    bounds = {f"{prefix}low": float(min(low, value)), f"{prefix}high": float(max(high, value))}
    return {name: float(value), **bounds}


def rank_agreement(relevances: Relevances) -> pd.DataFrame:
    """Spearman's correlation of the order of the conditions by every two measures, mean over the images.

    Returns:
        Per generator and seed a square table, one below the other: ``measure``, a column for each measure,
        ``generator``, ``seed``. An image on which a measure makes no difference does not count.
    """
    tables = []
    for (name, seed), own in relevances.items():
        table = pd.DataFrame(np.eye(len(own)), index=list(own), columns=list(own))
        ranks = {measure: centred_ranks(values).float() for measure, values in own.items()}  # (N, n) each
        for (first, a), (second, b) in combinations(ranks.items(), 2):
            norms = a.norm(dim=1) * b.norm(dim=1)
            value = float(((a * b).sum(1) / norms)[norms > 0].mean())
            table.loc[first, second] = table.loc[second, first] = value
        tables.append(table.rename_axis("measure").reset_index().assign(generator=name, seed=seed))
    return pd.concat(tables)


def stand_in_table(
    generators: Mapping[Key, Generator], images: Tensor, conditions: Mapping[Key, Conditions]
) -> pd.DataFrame:
    """Mean shares by both ablations when other things stand in place of an absent condition.

    Args:
        generators: by name and seed.
        images: (N, 3, H, W), at least two.
        conditions: of these images, for each generator.

    Returns:
        A row per generator, seed, ``in its place`` and ``measure``; columns ``condition 1``, ...
    """
    rows = []
    for (name, seed), generator in generators.items():
        given = conditions[name, seed]
        absent = {"mean": mean_conditions(given), "zero": zero_conditions(given), "another image's": None}
        for stand_in, own in absent.items():
            for measure in ("leave_one_out", "leave_one_in"):
                row = {"generator": name, "seed": seed, "measure": measure, "in its place": stand_in}
                found = shares(relevance(ConditionedGenerator(generator, own), images, given, measure))
                means = found.nanmean(0).tolist()
                rows.append(row | {f"condition {i}": share for i, share in enumerate(means, 1)})
    return pd.DataFrame(rows)


def first_ranked(relevance: Tensor, index: int) -> float:
    """Share of all images on which the condition at an index matters more than any other, 0..1.

    Raises:
        ValueError: no image.
    """
    positive(images=len(relevance))
    others = relevance.clone()
    others[:, index] = -torch.inf
    return float((relevance[:, index] > others.amax(1)).float().mean())
