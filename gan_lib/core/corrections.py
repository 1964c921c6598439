"""Corrections of p-values for how many there are."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """p-values corrected for how many there are (S. Holm 1979, Scandinavian Journal of Statistics 6, 65-70):
    of m, the k-th smallest times m - k + 1, at most 1 and at least what a smaller one became.

        holm([0.01, 0.04, 0.03])    # 0.03, 0.06, 0.06

    (statsmodels' has Python look for cyclic garbage each time, which takes longer than all else here.)

    Args:
        p: (m,) of p-values; those that are NaN stay so and do not count.
    """
    given = np.asarray(p, dtype=float)  # (m,)
    order = np.argsort(given, kind="stable")[: np.count_nonzero(~np.isnan(given))]  # NaN comes last
    weighted = given[order] * np.arange(len(order), 0, -1)  # (tests,)
    made = np.full_like(given, np.nan)
    made[order] = np.minimum(np.maximum.accumulate(weighted), 1.0)
    return made
