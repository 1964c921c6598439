"""Who wins against whom, and whether that is more than chance."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from gan_lib.metrics import differences, verdicts, win_shares, wins_against

NAN = math.nan


def table_of(runs, measure="drop_black"):
    """Scores by method and seed, one per image, as a table."""
    return pd.DataFrame(
        [
            {"method": method, "seed": seed, "image": image, measure: score}
            for (method, seed), scores in runs.items()
            for image, score in enumerate(scores)
        ]
    )


def test_win_shares_by_hand():
    runs = {
        ("a", 0): [1, 2, 3, NAN],
        ("b", 0): [2, 2, 1, 0],
        ("b", 1): [0, 5, 5, 5],
        ("c", 0): [NAN, NAN, NAN, 1],
    }
    lower = win_shares(table_of(runs), "drop_black")
    assert lower.loc["a", "b"] == pytest.approx(100 * 3 / 6)  # images 0 to 2, both seeds: 3 won, 1 a draw
    assert lower.loc["b", "a"] == pytest.approx(100 * 2 / 6)
    assert lower.loc["b", "c"] == 50
    assert math.isnan(lower.loc["a", "c"])  # no image in common
    assert math.isnan(lower.loc["a", "a"])
    higher = win_shares(table_of(runs, "mass"), "mass")
    assert higher.loc["a", "b"] == lower.loc["b", "a"]
    with pytest.raises(KeyError, match="column of none"):
        win_shares(table_of(runs, "luck"), "luck")


def test_wins_against_by_hand():
    runs = {("Grad-CAM", 0): [5, 5, 5], ("ours", 0): [1, 5, 9], ("ours", 1): [1, 1, NAN]}
    made = wins_against(table_of(runs), "drop_black", "Grad-CAM")
    assert made["won"].tolist() == pytest.approx([0, 0, 0, 100, 0, 0, 100, 100, NAN], nan_ok=True)
    assert made["lost"].tolist() == pytest.approx([0, 0, 0, 0, 0, 100, 0, 0, NAN], nan_ok=True)
    higher = wins_against(table_of(runs, "mass"), "mass", "Grad-CAM")
    assert higher["won"].tolist()[3:6] == [0, 0, 100]
    shuffled = table_of(runs).sample(frac=1, random_state=0)
    again = wins_against(shuffled, "drop_black", "Grad-CAM").sort_values(["method", "seed", "image"])
    assert again["lost"].tolist() == pytest.approx(made["lost"].tolist(), nan_ok=True)
    with pytest.raises(ValueError, match="duplicate"):
        wins_against(table_of(runs), "drop_black", "ours")


def test_differences_are_paired_on_cnn_and_image():
    """Two CNNs, each with images of its own: ours is better by 1 and 3 on one, by 2 on the other."""
    rows = [
        ("ours", 0, "x", "0/0", 4.0), ("ours", 0, "x", "0/1", 5.0), ("ours", 1, "y", "1/0", 70.0),
        ("poor", 0, "x", "0/1", 8.0), ("poor", 0, "x", "0/0", 5.0), ("poor", 1, "y", "1/0", 72.0),
        ("poor", 1, "y", "1/1", 99.0),
    ]  # fmt: skip
    scores = pd.DataFrame(rows, columns=["method", "seed", "cnn", "image", "drop_black"])
    row = differences(scores, "drop_black", ["ours"], ["poor"]).iloc[0]
    assert row["mean"] == pytest.approx((-2 - 2) / 2)
    assert row[["n", "seeds", "cnns"]].tolist() == [3, 2, 2]
    assert row["low"] == row["high"] == -2, "both CNNs say the same, however hard their images are"
    assert differences(scores, "drop_black", ["poor"], ["ours"]).iloc[0]["mean"] == 2


def test_one_seed_of_a_baseline_is_compared_with_all_of_a_generators():
    base = np.random.default_rng(0).random(40)
    runs = {("good", 0): base - 0.1, ("good", 1): base - 0.3, ("poor", 0): base, ("same", 0): base}
    made = differences(table_of(runs), "drop_black", ["good", "same"], ["poor"]).set_index("method")
    assert made.loc["good", "mean"] == pytest.approx(-0.2)
    assert made.loc["good", ["n", "seeds", "cnns"]].tolist() == [40, 2, 1]
    assert made.loc["same", ["mean", "p", "p_holm"]].tolist() == [0, 1, 1]
    turned = differences(table_of(runs), "drop_black", ["poor"], ["good"]).iloc[0]
    assert turned["mean"] == pytest.approx(0.2)
    assert turned["seeds"] == 2
    # One seed each: Student's t over images, as scipy has it.
    noisy = base - 0.05 + np.random.default_rng(1).normal(scale=0.2, size=40)
    row = differences(table_of({("a", 0): noisy, ("b", 0): base}), "drop_black", ["a"], ["b"]).iloc[0]
    expected = ttest_1samp(noisy - base, 0)
    assert row["p"] == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval()
    assert row[["low", "high"]].tolist() == pytest.approx([interval.low, interval.high])


def test_holms_correction_by_hand():
    """The smallest of three p-values times three, the next times two, none below the one before."""
    rng = np.random.default_rng(1)
    base = rng.random(30)
    runs = {
        (name, 0): base + shift + rng.normal(scale=0.2, size=30)
        for name, shift in zip("abc", (-0.2, 0.1, 0.0), strict=True)
    }
    made = differences(table_of({**runs, ("poor", 0): base}), "drop_black", ["a", "b", "c"], ["poor"])
    p = made["p"].tolist()
    assert p == sorted(p)
    assert p[2] > 0.1
    expected = [3 * p[0], max(3 * p[0], 2 * p[1]), max(3 * p[0], 2 * p[1], p[2])]
    assert made["p_holm"].tolist() == pytest.approx(expected)


def test_an_image_counts_where_every_seed_has_a_score():
    runs = {("ours", 0): [1, 2, NAN, 4], ("ours", 1): [3, 2, 100, 4], ("poor", 0): [0, 0, 0, NAN]}
    row = differences(table_of(runs), "drop_black", ["ours"], ["poor", "ours"]).iloc[0]
    assert row["mean"] == 2  # images 0 and 1; the third would count with one seed alone
    assert row["n"] == 2
    nothing = differences(table_of(runs), "drop_black", ["ours"], ["ours"])
    columns = ["measure", "method", "against", "mean", "low", "high", "n", "skipped", "p", "seeds", "cnns"]
    assert list(nothing) == [*columns, "p_holm"]
    assert nothing.empty


def test_verdicts_by_hand():
    rows = [("drop_black", "a", -1, 0.01), ("drop_black", "a", -1, 0.2), ("drop_black", "a", 1, 0.01)]
    rows += [("road", "a", 1, 0.04), ("road", "a", 1, 0.05), ("road", "a", NAN, 1.0)]
    counts = verdicts(pd.DataFrame(rows, columns=["measure", "method", "mean", "p_holm"]).assign(p=0.0))
    assert counts.loc[("drop_black", "a"), ["better", "level", "worse"]].tolist() == [1, 1, 1]
    assert counts.loc[("road", "a"), ["better", "level", "worse"]].tolist() == [1, 2, 0]


def test_verdicts_have_all_columns():
    rows = [("road", "a", 1.0, 0.01)]
    counts = verdicts(pd.DataFrame(rows, columns=["measure", "method", "mean", "p_holm"]).assign(p=0.0))
    assert list(counts.columns) == ["better", "level", "worse"]
    assert counts.iloc[0].tolist() == [1, 0, 0]
