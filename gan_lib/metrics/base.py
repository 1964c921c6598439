"""One score per image first, then a summary with an interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from gan_lib.metrics.intervals import Interval, dealt_images, same_images

LABELS = ("seed", "image", "cnn")  # columns of scores that are no measures


def summary(scores: Tensor) -> Interval:
    """Mean, interval over images and counts of scores (N,); NaN means not defined.

    summary(dice(maps, reference))
    """
    return same_images(scores.detach().cpu().double().numpy()[None])


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

    def compute(self) -> Interval:
        """Mean, interval and counts of all scores."""
        return summary(self.per_image)


def summarise(scores: pd.DataFrame, by: str = "method") -> pd.DataFrame:
    """Means with 95 % intervals over networks and images (:mod:`gan_lib.metrics.intervals`).

    Args:
        scores: one row per image and seed; columns ``by``, ``seed`` (of the CNN, of the generator, or of
            both: seed i is CNN i with generator i), ``image``, the measures, and ``cnn``, which tells the
            CNNs apart where there are several. The images are each of one seed, or the same for all; of the
            latter, those that lack a seed's score are skipped.
        by: the column that names the methods.

    Returns:
        One row per method and measure: ``mean``, ``low``, ``high``, ``n`` (images that count), ``skipped``,
        ``seeds`` and ``cnns``.

    Raises:
        ValueError: several scores of one seed and image.
    """
    rows = []
    for method, own in scores.groupby(by, sort=False):
        counts = {"seeds": own["seed"].nunique(), "cnns": own["cnn"].nunique() if "cnn" in own else 1}
        for measure in scores.columns.drop([by, *LABELS], errors="ignore"):
            made = interval_of(own, measure)
            rows.append({by: method, "measure": measure, **made._asdict(), **counts})
    columns = [by, "measure", *Interval._fields, "seeds", "cnns"]  # also where there is no measure
    return pd.DataFrame(rows, columns=columns).drop(columns="p")


def intervals_by(scores: pd.DataFrame, by: Sequence[str], value: str, named: str = "mean") -> pd.DataFrame:
    """Interval of one column for each part of scores: ``by``, then ``named``, ``low``, ``high``, ``n``,
    ``skipped``, ``seeds`` and ``cnns``; scores and errors as for :func:`summarise`."""
    rows = []
    for key, own in scores.groupby(list(by), sort=False):
        counts = {"seeds": own["seed"].nunique(), "cnns": own["cnn"].nunique() if "cnn" in own else 1}
        rows.append({**dict(zip(by, key, strict=True)), **interval_of(own, value)._asdict(), **counts})
    return pd.DataFrame(rows).drop(columns="p").rename(columns={"mean": named})


def interval_of(scores: pd.DataFrame, measure: str) -> Interval:
    """The interval of one method's measure, of scores as for :func:`summarise`; two of one seed and
    image raise ``ValueError``."""
    seeds, judged = scores["seed"].nunique(), scores.groupby("image", sort=False).size()
    if scores.duplicated(["seed", "image"]).any():
        raise ValueError("duplicate scores of one seed and image")
    if seeds > 1 and (judged == 1).all():
        return dealt_images([own[measure].to_numpy() for _, own in scores.groupby("seed", sort=False)])
    return same_images(scores.pivot(index="seed", columns="image", values=measure).to_numpy())


def stated(
    table: pd.DataFrame, measures: Mapping[str, str], by: str = "method", digits: int = 2
) -> pd.DataFrame:
    """A table to be read: ``mean [low, high]``, or the mean alone where nobody said its interval, one row per
    method and one column per measure.

    Args:
        table: what :func:`summarise` returns; by: its column that names the methods.
        measures: per measure to be shown, its heading.
        digits: after the point.
    """
    own = table[table["measure"].isin(measures)]
    mean, low, high = (own[part].map(f"{{:.{digits}f}}".format) for part in ("mean", "low", "high"))
    interval = (" [" + low + ", " + high + "]").where(own["low"].notna(), "")
    shown = own.assign(shown=mean + interval)
    wide = shown.pivot(index=by, columns="measure", values="shown").loc[table[by].unique(), list(measures)]
    return wide.rename(columns=measures).rename_axis(columns=None)
