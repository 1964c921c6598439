"""One score per image first, then a summary with an interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from gan_lib.core.options import positive

RESAMPLES = 1000


class Summary(NamedTuple):
    """Mean of per-image scores over the ``n`` images that count (NaN when none does), its seeded percentile
    bootstrap 95 % interval, ``low <= mean <= high``, and how many images were ``skipped``."""

    mean: float
    low: float
    high: float
    n: int
    skipped: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def summary(scores: Tensor, seed: int = 0, resamples: int = RESAMPLES) -> Summary:
    """Mean, interval and counts of scores (N,) of images; NaN means not defined.

    summary(dice(maps, reference))
    """
    positive(resamples=resamples)
    counted = scores.detach()[~scores.isnan()].cpu()
    skipped = len(scores) - len(counted)
    if not len(counted):
        return Summary(float("nan"), float("nan"), float("nan"), 0, skipped)
    rng, values = np.random.default_rng(seed), counted.double().numpy()
    means = np.array([values[rng.integers(0, len(values), len(values))].mean() for _ in range(resamples)])
    return Summary(*_with_interval(float(counted.mean()), means), len(counted), skipped)


def _with_interval(mean: float, means: np.ndarray) -> tuple[float, float, float]:
    """A mean and the interval of resampled means (R,), which holds it.

    Rounding, or one rare large score that few resamples draw, would put it outside.
    """
    low, high = np.quantile(means, [0.025, 0.975])
    return mean, float(min(low, mean)), float(max(high, mean))


class PerImage(Metric):
    """A measure as a :class:`torchmetrics.Metric`: its scores (B,) add up over batches and processes.

    metric = PerImage(dice)
    metric.update(maps, reference)  # once per batch
    metric.compute()                # the summary of all images
    """

    scores: list[Tensor]
    full_state_update = False

    def __init__(self, score: Callable[..., Tensor]) -> None:
        super().__init__()
        self.score = score
        self.add_state("scores", default=[], dist_reduce_fx="cat")

    def update(self, *given: Any, **named: Any) -> None:
        """Append the scores of a batch."""
        self.scores.append(self.score(*given, **named).detach().float().cpu())

    @property
    def per_image(self) -> Tensor:
        """All scores (N,), in the order of the updates."""
        return dim_zero_cat(self.scores) if len(self.scores) else torch.empty(0)

    def compute(self) -> Summary:
        """Mean, interval and counts of all scores."""
        return summary(self.per_image)


def summarise(scores: pd.DataFrame, by: str = "method", resamples: int = RESAMPLES) -> pd.DataFrame:
    """Means with bootstrap 95 % intervals, over images and, for what was learned, over seeds.

    The bootstrap draws seeds, then images, the same ones for all drawn seeds: the interval covers both
    another training run and other images.

    Args:
        scores: one row per image and seed; columns ``by``, ``seed`` (any one value for what learned
            nothing), ``image``, and the measures.
        by: the column that names the methods.
        resamples: of the bootstrap.

    Returns:
        One row per method and measure: ``mean``, ``low``, ``high``, ``n`` (images that count, for which
        every seed has a score), ``skipped`` and ``seeds``.

    Raises:
        ValueError: several scores of one seed and image, or no resample.
    """
    positive(resamples=resamples)
    rows = []
    for method, own in scores.groupby(by, sort=False):
        for measure in scores.columns.drop([by, "seed", "image"]):
            table = own.pivot(index="seed", columns="image", values=measure).to_numpy()  # (S, N)
            counted = table[:, ~np.isnan(table).any(axis=0)]
            mean, low, high = _two_level(counted, resamples)
            row = {by: method, "measure": measure, "mean": mean, "low": low, "high": high}
            row |= {"n": counted.shape[1], "skipped": table.shape[1] - counted.shape[1]}
            rows.append(row | {"seeds": len(table)})
    return pd.DataFrame(rows)


def _two_level(scores: np.ndarray, resamples: int) -> tuple[float, float, float]:
    """Mean of scores (S, N), and its interval over seeds and images drawn with replacement."""
    if not scores.size:
        return float("nan"), float("nan"), float("nan")
    seeds, images = _draws(*scores.shape, resamples)
    means = ((seeds @ scores) * images).sum(1) / scores.size  # (R,)
    return _with_interval(scores.mean(), means)


@lru_cache(maxsize=8)
def _draws(seeds: int, images: int, resamples: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each resample takes each seed (R, S) and each image (R, N)."""
    rng = np.random.default_rng(0)
    taken = [(rng.integers(0, seeds, seeds), rng.integers(0, images, images)) for _ in range(resamples)]
    return (
        np.stack([np.bincount(own, minlength=seeds) for own, _ in taken]).astype(float),
        np.stack([np.bincount(own, minlength=images) for _, own in taken]).astype(float),
    )


def stated(
    table: pd.DataFrame, measures: Mapping[str, str], by: str = "method", digits: int = 2
) -> pd.DataFrame:
    """A table to be read: ``mean [low, high]``, one row per method and one column per measure.

    Args:
        table: what :func:`summarise` returns; by: its column that names the methods.
        measures: per measure to be shown, its heading.
        digits: after the point.
    """
    own = table[table["measure"].isin(measures)]
    mean, low, high = (own[part].map(f"{{:.{digits}f}}".format) for part in ("mean", "low", "high"))
    shown = own.assign(shown=mean + " [" + low + ", " + high + "]")
    wide = shown.pivot(index=by, columns="measure", values="shown").loc[table[by].unique(), list(measures)]
    return wide.rename(columns=measures).rename_axis(columns=None)
