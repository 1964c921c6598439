"""One score per image first, then a summary with an interval."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

RESAMPLES = 1000


class Summary(NamedTuple):
    """Mean of the per-image scores.

    Attributes:
        mean: over the images that count; NaN when none does.
        low, high: seeded bootstrap 95 % interval of the mean.
        n: images that count.
        skipped: images for which the score is not defined.
    """

    mean: float
    low: float
    high: float
    n: int
    skipped: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(scores: Tensor, seed: int = 0, resamples: int = RESAMPLES) -> tuple[float, float]:
    """Percentile bootstrap 95 % interval of the mean of scores (N,)."""
    rng = np.random.default_rng(seed)
    values = scores.double().numpy()
    means = np.array([values[rng.integers(0, len(values), len(values))].mean() for _ in range(resamples)])
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


class PerImageMetric(Metric):
    """Base of all measures: ``update`` appends one score per image; NaN means not defined.

    Args:
        seed: of the bootstrap.
    """

    scores: list[Tensor]
    higher_is_better: bool
    full_state_update = False

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed
        self.add_state("scores", default=[], dist_reduce_fx="cat")

    def append(self, scores: Tensor) -> None:
        """Append the scores (B,) of a batch."""
        self.scores.append(scores.detach().float().cpu())

    @property
    def per_image(self) -> Tensor:
        """All scores (N,), in the order of the updates."""
        return dim_zero_cat(self.scores) if len(self.scores) else torch.empty(0)

    def compute(self) -> Summary:
        """Mean, interval and counts of all scores."""
        scores = self.per_image
        counted = scores[~scores.isnan()]
        skipped = len(scores) - len(counted)
        if not len(counted):
            return Summary(float("nan"), float("nan"), float("nan"), 0, skipped)
        return Summary(float(counted.mean()), *bootstrap(counted, self.seed), len(counted), skipped)


def summarise(scores: pd.DataFrame, by: str = "method", resamples: int = RESAMPLES) -> pd.DataFrame:
    """Means with bootstrap 95 % intervals, over images and, for what was learned, over seeds.

    The bootstrap has two levels: it draws seeds, then images, the same images for all drawn seeds, so
    that the interval covers both another training run and other images.

    Args:
        scores: one row per image and seed; columns ``by``, ``seed``, ``image``, and the measures.
            Methods without a seed carry one and the same value.
        by: the column that names the methods.
        resamples: bootstrap resamples.

    Returns:
        One row per method and measure: ``mean``, ``low``, ``high``, ``n`` (images that count),
        ``skipped`` and ``seeds``.
    """
    rows = []
    measures = [name for name in scores.columns if name not in (by, "seed", "image")]
    for method, own in scores.groupby(by, sort=False):
        for measure in measures:
            table = own.pivot(index="seed", columns="image", values=measure).to_numpy()  # (S, N)
            counted = table[:, ~np.isnan(table).any(axis=0)]
            low, high = _two_level_interval(counted, resamples)
            row = {
                by: method,
                "measure": measure,
                "mean": counted.mean() if counted.size else np.nan,
                "low": low,
                "high": high,
            }
            rows.append(
                {
                    **row,
                    "n": counted.shape[1],
                    "skipped": table.shape[1] - counted.shape[1],
                    "seeds": len(table),
                }
            )
    return pd.DataFrame(rows)


def stated(
    table: pd.DataFrame, measures: Mapping[str, str], by: str = "method", digits: int = 2
) -> pd.DataFrame:
    """A table to be read: ``mean [low, high]``, one row per method and one column per measure.

    Args:
        table: what :func:`summarise` returns.
        measures: per measure to be shown, its heading.
        by: the column that names the methods.
        digits: after the point.
    """
    wide = table[table["measure"].isin(measures)].pivot(index=by, columns="measure")
    shown = {
        heading: [
            f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
            for mean, low, high in zip(*(wide[part, name] for part in ("mean", "low", "high")), strict=True)
        ]
        for name, heading in measures.items()
    }
    return pd.DataFrame(shown, index=wide.index).loc[table[by].unique()]


def _two_level_interval(scores: np.ndarray, resamples: int) -> tuple[float, float]:
    """Of scores (S, N): over seeds and images drawn with replacement."""
    if not scores.size:
        return float("nan"), float("nan")
    seeds, images = _draws(*scores.shape, resamples)
    means = ((seeds @ scores) * images).sum(1) / scores.size  # (R,)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


@lru_cache(maxsize=8)
def _draws(seeds: int, images: int, resamples: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each resample takes each seed (R, S) and each image (R, N)."""
    rng = np.random.default_rng(0)
    taken = [(rng.integers(0, seeds, seeds), rng.integers(0, images, images)) for _ in range(resamples)]
    return (
        np.stack([np.bincount(own, minlength=seeds) for own, _ in taken]).astype(float),
        np.stack([np.bincount(own, minlength=images) for _, own in taken]).astype(float),
    )
