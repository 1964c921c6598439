"""Which of two methods is better: shares of images won, and paired tests."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon
from statsmodels.stats.multitest import multipletests


def per_image(scores: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Scores of one measure: one row per image, one column per method, the mean over its seeds.

    Args:
        scores: as :func:`gan_lib.metrics.explanation_scores` gives them.
        measure: one of its columns.
    """
    methods = list(dict.fromkeys(scores["method"]))
    table = scores.pivot_table(index="image", columns="method", values=measure)
    return table.reindex(columns=methods)


def win_shares(
    scores: pd.DataFrame, measure: str = "drop_black", lower_is_better: bool = True
) -> pd.DataFrame:
    """Share of the images, in per cent, on which the method of a row is better than that of a column.

    Draws count for neither; images on which either has no score do not count; the diagonal is NaN.
    With ``drop_black`` this is the *win %* of arXiv 2301.08067. Where a method has several seeds, shares
    are averaged over the pairs of seeds.

    Args:
        scores: as :func:`gan_lib.metrics.explanation_scores` gives them.
        measure: one of its columns.
        lower_is_better: true for a drop.
    """
    sign = -1 if lower_is_better else 1
    images = sorted(scores["image"].unique())
    runs = {
        method: own.pivot(index="seed", columns="image", values=measure).reindex(columns=images).to_numpy()
        for method, own in scores.groupby("method", sort=False)
    }  # (S, N) each
    table = pd.DataFrame(np.nan, index=list(runs), columns=list(runs))
    for (first, own), (second, other) in product(runs.items(), repeat=2):
        if first != second:
            difference = sign * (own[:, None] - other[None])  # (S, S', N)
            counted = np.isfinite(difference)
            table.loc[first, second] = 100 * (difference > 0).sum() / max(1, counted.sum())
    return table


def wins_against(
    scores: pd.DataFrame, measure: str, other: str, lower_is_better: bool = True
) -> pd.DataFrame:
    """Per image, whether every method was better or worse than another one; equal counts for neither.

    Args:
        scores: as :func:`gan_lib.metrics.explanation_scores` gives them.
        measure: one of its columns.
        other: the method that the others compete with, of one seed.
        lower_is_better: true for a drop.

    Returns:
        ``method``, ``seed``, ``image``, ``won`` and ``lost``, 100 or 0; NaN where a score is missing.
    """
    reference = scores[scores["method"] == other].set_index("image")[measure]
    difference = scores[measure].to_numpy() - reference.loc[scores["image"]].to_numpy()
    signed = -difference if lower_is_better else difference
    table = scores[["method", "seed", "image"]].reset_index(drop=True)
    for name, holds in (("won", signed > 0), ("lost", signed < 0)):
        table[name] = np.where(np.isnan(signed), np.nan, 100.0 * holds)
    return table


def paired_tests(
    scores: pd.DataFrame, measures: str | Sequence[str], methods: Sequence[str], against: Sequence[str]
) -> pd.DataFrame:
    """Wilcoxon signed-rank tests, image by image, with Holm's correction over all of them.

        paired_tests(scores, ["road", "adcc"], ["contrastive_lsft"], ["grad_cam", "saliency"])

    Args:
        scores: as :func:`gan_lib.metrics.explanation_scores` gives them. The scores of a method's
            seeds are averaged first, so that the images are the only sample: the tests speak of these
            trained generators, not of other trainings.
        measures: one of its columns, or several.
        methods: one side of the comparisons.
        against: the other side.

    Returns:
        One row per measure and pair: ``measure``, ``method``, ``against``, ``difference`` (mean of
        method - against), ``n`` images, ``p``, and ``p_holm``.
    """
    rows = []
    for measure in [measures] if isinstance(measures, str) else measures:
        table = per_image(scores, measure)
        for method, other in product(methods, against):
            both = table[[method, other]].dropna()
            difference = (both[method] - both[other]).astype(float)  # in float32 small p-values become 0
            row: dict[str, object] = {"measure": measure, "method": method, "against": other}
            row |= {"difference": float(difference.mean()), "n": len(difference)}
            rows.append(row | {"p": float(wilcoxon(difference).pvalue) if difference.any() else 1.0})
    tests = pd.DataFrame(rows)
    if len(tests):
        tests["p_holm"] = multipletests(tests["p"], method="holm")[1]
    return tests
