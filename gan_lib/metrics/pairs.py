"""Which of two methods is better: shares of images won, and paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, product

import numpy as np
import pandas as pd

from gan_lib.core.corrections import holm
from gan_lib.metrics.base import interval_of
from gan_lib.metrics.intervals import Interval
from gan_lib.metrics.measures import column


def _sign(measure: str) -> int:
    """1 where higher is better, -1 where lower is, as the measure was registered."""
    return 1 if column(measure)[0].higher_is_better else -1


def win_shares(scores: pd.DataFrame, measure: str = "drop_black") -> pd.DataFrame:
    """Share of the images, in per cent, on which the method of a row is better than that of a column.

    With ``drop_black`` this is the *win %* of arXiv 2301.08067. Draws count for neither, images without
    either score not at all; NaN where none counts, as on the diagonal. Each seed is compared with each.

    Args:
        scores: as :func:`gan_lib.metrics.judge` gives them.
        measure: one of its columns.

    Raises:
        KeyError: a column of no registered measure.
    """
    sign, images = _sign(measure), scores["image"].unique()
    runs = {
        method: own.pivot(index="seed", columns="image", values=measure).reindex(columns=images).to_numpy()
        for method, own in scores.groupby("method", sort=False)
    }  # (S, N) each
    table = pd.DataFrame(np.nan, index=list(runs), columns=list(runs))
    for first, second in permutations(runs, 2):
        difference = sign * (runs[first][:, None] - runs[second][None])  # (S, S', N)
        counted = difference[~np.isnan(difference)]
        table.loc[first, second] = 100 * (counted > 0).sum() / len(counted) if len(counted) else np.nan
    return table


def wins_against(scores: pd.DataFrame, measure: str, other: str) -> pd.DataFrame:
    """Per image, whether every method was better or worse than another one; equal counts for neither.

    Args:
        scores, measure: as for :func:`win_shares`.
        other: the method that the others compete with, of one seed.

    Returns:
        ``method``, ``seed``, ``image``, ``won`` and ``lost``, 100 or 0; NaN where a score is missing.

    Raises:
        KeyError: a column of no registered measure; ValueError: several seeds of the other method.
    """
    reference = scores[scores["method"] == other].pivot(index="image", columns="method", values=measure)
    difference = scores[measure].to_numpy() - reference[other].reindex(scores["image"]).to_numpy()
    signed = _sign(measure) * difference
    table = scores[["method", "seed", "image"]].reset_index(drop=True)
    for name, holds in (("won", signed > 0), ("lost", signed < 0)):
        table[name] = np.where(np.isnan(signed), np.nan, 100.0 * holds)
    return table


def differences(
    scores: pd.DataFrame, measures: str | Sequence[str], methods: Sequence[str], against: Sequence[str]
) -> pd.DataFrame:
    """Differences of methods, paired on the same CNN and image, with 95 % intervals and Holm's correction.

        differences(scores, ["road", "adcc"], ["contrastive_lsft"], ["grad_cam", "saliency"])

    What two methods have in common, a CNN or an image that is hard for both, cancels. Intervals and p-values
    cover CNNs, generators and images (:mod:`gan_lib.metrics.intervals`): with one CNN and one generator they
    speak of these only.

    Args:
        scores: as :func:`gan_lib.metrics.judge` gives them. A method of one seed only, on images that the
            other method's seeds share, is compared with each of these.
        measures: one of its columns, or several.
        methods, against: both sides of the comparisons; none is compared with itself.

    Returns:
        One row per measure and pair: ``measure``, ``method``, ``against``; ``mean`` of method - against (NaN
        without images), ``low``, ``high``, ``n`` and ``skipped`` images, ``p`` of Student's t, ``seeds``,
        ``cnns``, and ``p_holm``, corrected over all rows.
    """
    rows = []
    for measure in [measures] if isinstance(measures, str) else measures:
        for method, other in product(methods, against):
            if method != other:
                paired = _paired(scores, measure, method, other)
                row = {"measure": measure, "method": method, "against": other}
                counts = {"seeds": paired["seed"].nunique(), "cnns": paired["cnn"].nunique()}
                rows.append({**row, **interval_of(paired, "difference")._asdict(), **counts})
    columns = ["measure", "method", "against", *Interval._fields, "seeds", "cnns"]
    return corrected(pd.DataFrame(rows, columns=columns))


def corrected(tests: pd.DataFrame) -> pd.DataFrame:
    """Tests with ``p_holm``, Holm's correction of ``p`` over all rows: of several tables of
    :func:`differences`, put together, over all of these."""
    return tests.assign(p_holm=holm(tests["p"]))


def _paired(scores: pd.DataFrame, measure: str, method: str, other: str) -> pd.DataFrame:
    """``seed``, ``cnn``, ``image`` and ``difference`` of two methods' scores."""
    known = scores if "cnn" in scores else scores.assign(cnn=0)
    one, two = (
        known.loc[known["method"] == name, ["seed", "cnn", "image", measure]] for name in (method, other)
    )
    alone = [len(own["seed"].unique()) == 1 for own in (one, two)]
    on = ["cnn", "image"] if any(alone) else ["seed", "cnn", "image"]
    pairs = one.merge(two, on=on, suffixes=("", "_of_other"))
    if alone[0] and not alone[1]:
        pairs = pairs.drop(columns="seed").rename(columns={"seed_of_other": "seed"})
    difference = pairs[measure].astype(float) - pairs[f"{measure}_of_other"].astype(float)
    return pairs[["seed", "cnn", "image"]].assign(difference=difference)


def verdicts(tests: pd.DataFrame, level: float = 0.05) -> pd.DataFrame:
    """Against how many a method is ``better``, ``level`` or ``worse``, at this level of ``p_holm``: a row per
    measure and method of :func:`differences`."""
    better = np.sign(tests["mean"]) * tests["measure"].map(_sign)
    found = better.where(tests["p_holm"] < level, 0.0)
    named = tests.assign(verdict=found.map({1.0: "better", 0.0: "level", -1.0: "worse"}))
    table = named.pivot_table("p", ["measure", "method"], "verdict", "count", fill_value=0, sort=False)
    return table.reindex(columns=["better", "level", "worse"], fill_value=0)
