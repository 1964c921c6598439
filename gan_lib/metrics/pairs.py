"""Which of two methods is better: shares of images won, and paired tests."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, product

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon
from statsmodels.stats.multitest import multipletests

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


def paired_tests(
    scores: pd.DataFrame, measures: str | Sequence[str], methods: Sequence[str], against: Sequence[str]
) -> pd.DataFrame:
    """Wilcoxon signed-rank tests, image by image, with Holm's correction over all of them.

        paired_tests(scores, ["road", "adcc"], ["contrastive_lsft"], ["grad_cam", "saliency"])

    Scores of a method's seeds are averaged first, where all have one, so that the images are the only
    sample: the tests speak of these trained generators, not of other trainings.

    Args:
        scores: as :func:`gan_lib.metrics.judge` gives them.
        measures: one of its columns, or several.
        methods, against: both sides of the comparisons; none is compared with itself.

    Returns:
        One row per measure and pair: ``measure``, ``method``, ``against``, ``difference`` (mean of
        method - against, NaN without images), ``n`` images, ``p``, and ``p_holm``.
    """
    rows = []
    for measure in [measures] if isinstance(measures, str) else measures:
        runs = scores.pivot(index="image", columns=["method", "seed"], values=measure)
        means = {method: runs[[method]].mean(axis=1, skipna=False) for method in {*methods, *against}}
        for method, other in product(methods, against):
            if method != other:
                # In float32 small p-values become 0.
                difference = (means[method] - means[other]).dropna().astype(float)
                row: dict[str, object] = {"measure": measure, "method": method, "against": other}
                row |= {"difference": float(difference.mean()), "n": len(difference)}
                rows.append(row | {"p": float(wilcoxon(difference).pvalue) if difference.any() else 1.0})
    tests = pd.DataFrame(rows, columns=["measure", "method", "against", "difference", "n", "p"])
    return tests.assign(p_holm=multipletests(tests["p"], method="holm")[1] if len(tests) else [])


def verdicts(tests: pd.DataFrame, level: float = 0.05) -> pd.DataFrame:
    """Against how many a method is ``better``, ``level`` or ``worse``, at this level of ``p_holm``: a row per
    measure and method of tests that :func:`paired_tests` made."""
    better = np.sign(tests["difference"]) * tests["measure"].map(_sign)
    found = better.where(tests["p_holm"] < level, 0.0)
    named = tests.assign(verdict=found.map({1.0: "better", 0.0: "level", -1.0: "worse"}))
    table = named.pivot_table("p", ["measure", "method"], "verdict", "count", fill_value=0, sort=False)
    return table.reindex(columns=["better", "level", "worse"], fill_value=0)
