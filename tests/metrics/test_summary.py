"""Means and intervals: of one measure, over seeds and images, over processes."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import distributed

from gan_lib.metrics import PerImage, dice_at_area, stated, summarise, summary

NAN = math.nan
SCORES = {
    "one value": [3.0],
    "constant": [0.1] * 7,
    "constant, large": [1e8 / 3] * 5,
    "one rare large": [0.0] * 5000 + [1e6],
    "two apart": [-5.0, 5.0],
    "with gaps": [NAN, 1.0, 2.0, NAN],
    "noise": np.random.default_rng(3).normal(size=40).tolist(),
}


def table_of(scores, method="m"):
    """Scores (S, N) as a table."""
    return pd.DataFrame(
        [
            {"method": method, "seed": seed, "image": image, "score": score}
            for seed, row in enumerate(scores)
            for image, score in enumerate(row)
        ]
    )


@pytest.mark.parametrize("name", SCORES)
def test_every_mean_lies_in_its_interval(name):
    values = SCORES[name]
    counted = [value for value in values if not math.isnan(value)]
    found = summary(torch.tensor(values))
    assert found.low <= found.mean <= found.high
    assert found.mean == pytest.approx(np.mean(counted), rel=1e-6)
    assert (found.n, found.skipped) == (len(counted), len(values) - len(counted))
    for seeds in (1, 3):
        row = summarise(table_of([values] * seeds), resamples=200).iloc[0]
        assert row["low"] <= row["mean"] <= row["high"]
        assert row["mean"] == pytest.approx(np.mean(counted))
        assert (row["n"], row["skipped"], row["seeds"]) == (len(counted), len(values) - len(counted), seeds)
        # An interval of a mean spans less than the values do.
        assert min(counted) - 1e-6 <= row["low"] <= row["high"] <= max(counted) * (1 + 1e-9) + 1e-6


def test_nothing_to_count():
    for scores in (torch.full((2,), NAN), torch.empty(0)):
        found = summary(scores)
        assert [math.isnan(part) for part in found[:3]] == [True] * 3
        assert found[3:] == (0, len(scores))
    row = summarise(table_of([[NAN, 1.0], [1.0, NAN]])).iloc[0]  # no image counts for both seeds
    assert row[["mean", "low", "high"]].isna().all()
    assert (row["n"], row["skipped"], row["seeds"]) == (0, 2, 2)
    for summarised in (
        lambda: summary(torch.ones(2), resamples=0),
        lambda: summarise(table_of([[1.0]]), resamples=0),
    ):
        with pytest.raises(ValueError, match="resamples must be at least 1"):
            summarised()


def test_bootstrap_is_seeded_and_covers():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(100):
        found = summary(torch.tensor(rng.normal(size=60)), seed=trial, resamples=300)
        covered += found.low <= 0 <= found.high
    assert 88 <= covered <= 99
    scores = torch.rand(20)
    assert summary(scores, 3) == summary(scores, 3)


def test_the_bootstrap_by_hand():
    """Two images, 0 and 1: a resample's mean is 0, 0.5 or 1, so the 2.5 % quantiles are 0 and 1."""
    assert summary(torch.tensor([0.0, 1.0]))[:3] == (0.5, 0.0, 1.0)
    assert summarise(table_of([[0.0, 1.0]])).loc[0, ["mean", "low", "high"]].tolist() == [0.5, 0.0, 1.0]
    assert summarise(table_of([[0.0], [1.0]])).loc[0, ["mean", "low", "high"]].tolist() == [0.5, 0.0, 1.0]


def test_both_levels_count():
    """As many seeds as images, and the same spread of either: the interval is as wide for both."""
    values = np.linspace(0, 1, 12)
    over_images, over_seeds = (
        summarise(table_of(scores)).iloc[0]
        for scores in (np.tile(values, (12, 1)), np.tile(values[:, None], (1, 12)))
    )
    for row in (over_images, over_seeds):
        assert row["mean"] == pytest.approx(0.5)
        # The standard error of the mean of 12 values, 1.96 of it to both sides.
        expected = 2 * 1.96 * values.std() / math.sqrt(12)
        assert row["high"] - row["low"] == pytest.approx(expected, rel=0.15)
    both = summarise(table_of(values[:, None] + values)).iloc[0]
    assert both["high"] - both["low"] == pytest.approx(math.sqrt(2) * expected, rel=0.15)


def test_summary_over_seeds_and_images():
    rng = np.random.default_rng(0)
    learned = np.array([[0.0], [1.0], [2.0]]) + rng.normal(scale=0.1, size=(3, 50))
    fixed = np.array([[NAN, *np.zeros(49)]])
    table = summarise(pd.concat([table_of(learned, "learned"), table_of(fixed, "fixed")]), resamples=400)
    assert table["method"].tolist() == ["learned", "fixed"]
    learned, fixed = table.iloc[0], table.iloc[1]
    assert learned["mean"] == pytest.approx(1, abs=0.05)
    assert learned["high"] - learned["low"] > 1  # seeds differ far more than images
    assert (learned["seeds"], learned["n"]) == (3, 50)
    assert (fixed["mean"], fixed["n"], fixed["skipped"]) == (0, 49, 1)
    with pytest.raises(ValueError, match="duplicate"):
        summarise(pd.concat([table_of([[1.0]]), table_of([[2.0]])]))


def test_stated():
    rows = [("a", "x", 1.0, 0.5, 2.0), ("a", "y", 3.0, 3.0, 3.0), ("b", "x", -1.234, -2.0, 0.0)]
    table = pd.DataFrame(rows, columns=["method", "measure", "mean", "low", "high"])
    shown = stated(table, {"x": "the x [%]"})
    assert shown["the x [%]"].to_dict() == {"a": "1.00 [0.50, 2.00]", "b": "-1.23 [-2.00, 0.00]"}
    both = stated(table, {"y": "y", "x": "x"}, digits=1)
    assert list(both) == ["y", "x"]
    assert both.loc["a"].tolist() == ["3.0 [3.0, 3.0]", "1.0 [0.5, 2.0]"]
    assert both.loc["b"].isna().tolist() == [True, False]


# -- several batches and processes --------------------------------------------------------------------


def _shared_maps():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(8, 1, 6, 6, generator=generator), torch.rand(8, 1, 6, 6, generator=generator) > 0.7


def test_batches_add_up():
    maps, evidence = _shared_maps()
    metric = PerImage(dice_at_area)
    assert metric.per_image.shape == (0,)
    for rows in (slice(0, 3), slice(3, None)):
        metric.update(maps=maps[rows], evidence=evidence[rows])
    assert torch.equal(metric.per_image, dice_at_area(maps, evidence))
    assert metric.compute() == summary(dice_at_area(maps, evidence))
    metric.reset()
    assert metric.per_image.shape == (0,)


def _one_of_two(rank, folder):
    distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        maps, evidence = _shared_maps()
        own = slice(0, 3) if rank == 0 else slice(3, None)
        metric = PerImage(dice_at_area)
        metric.update(maps[own], evidence[own])
        (folder / f"{rank}.json").write_text(json.dumps(metric.compute()._asdict()))
    finally:
        distributed.destroy_process_group()


def test_processes_agree_on_the_summary_of_all_images(tmp_path):
    """Images split unevenly over two processes: each computes what one process computes of all."""
    torch.multiprocessing.spawn(_one_of_two, (tmp_path,), nprocs=2)
    expected = summary(dice_at_area(*_shared_maps()))
    for rank in range(2):
        made = json.loads((tmp_path / f"{rank}.json").read_text())
        assert made["n"] == expected.n == 8
        assert made["mean"] == pytest.approx(expected.mean)
        assert [made["low"], made["high"]] == pytest.approx([expected.low, expected.high])
