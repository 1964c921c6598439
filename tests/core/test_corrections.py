"""Holm's correction, by hand and as statsmodels has it."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.multitest import multipletests

from gan_lib.core.corrections import holm

NAN = math.nan


def test_holm_by_hand():
    # Smallest first: 3 * 0.01, 2 * 0.03, and 1 * 0.04, which would be less than the one before it.
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.4]) == pytest.approx([0.9, 0.8])
    assert holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])
    found = holm(pd.Series([NAN, 0.02, NAN, 0.03], index=[4, 3, 2, 1]))
    assert np.isnan(found[[0, 2]]).all()
    assert found[[1, 3]] == pytest.approx([0.04, 0.04])
    assert holm([]).shape == (0,)
    assert np.isnan(holm([NAN])).all()


@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_holm_is_statsmodels(count):
    p = np.random.default_rng(count).beta(0.3, 3, count).round(3)  # small ones, some of them equal
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1], abs=1e-12)
