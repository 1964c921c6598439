"""Means and intervals: of one measure, over seeds and images, over processes."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import t as student
from torch import distributed

from gan_lib.metrics import PerImage, dice_at_area, stated, summarise, summary
from gan_lib.metrics.intervals import dealt_images, same_images

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


def dealt_table(scores, method="m"):
    """Scores of each seed, of images that no other seed has."""
    rows = [(seed, score) for seed, own in enumerate(scores) for score in own]
    table = pd.DataFrame(rows, columns=["seed", "score"])
    return table.assign(method=method, image=range(len(table)))


@pytest.mark.parametrize("name", SCORES)
def test_every_mean_lies_in_its_interval(name):
    values = SCORES[name]
    counted = [value for value in values if not math.isnan(value)]
    found = summary(torch.tensor(values, dtype=torch.float64))
    assert found.low <= found.mean <= found.high
    assert found.mean == pytest.approx(np.mean(counted), rel=1e-6)
    assert (found.n, found.skipped) == (len(counted), len(values) - len(counted))
    shuffled = np.random.default_rng(0).permutation(values)
    for scores in ([values], [values] * 3, [values, shuffled], [values, [v + 1 for v in values]]):
        counts = np.array(scores)[:, ~np.isnan(scores).any(0)]
        row = summarise(table_of(scores)).iloc[0]
        assert row["low"] <= row["mean"] <= row["high"]
        assert row["mean"] == pytest.approx(counts.mean())
        assert (row["n"], row["skipped"]) == (counts.shape[1], len(values) - counts.shape[1])
        assert (row["seeds"], row["cnns"]) == (len(scores), 1)
        # An interval of a mean spans no more than the values do.
        slack = 1e-9 * np.abs(counts).max()  # of rounding
        assert counts.min() - slack <= row["low"] <= row["high"] <= counts.max() + slack
    row = summarise(dealt_table([values, [v + 1 for v in values]])).iloc[0]
    assert row["low"] <= row["mean"] <= row["high"]
    assert row["mean"] == pytest.approx(np.mean(counted) + 0.5)


def test_nothing_to_count():
    for scores in (torch.full((2,), NAN), torch.empty(0)):
        found = summary(scores)
        assert [math.isnan(part) for part in found[:3]] == [True] * 3
        assert found[3:5] == (0, len(scores))
    row = summarise(table_of([[NAN, 1.0], [1.0, NAN]])).iloc[0]  # no image counts for both seeds
    assert row[["mean", "low", "high"]].isna().all()
    assert (row["n"], row["skipped"], row["seeds"]) == (0, 2, 2)
    row = summarise(dealt_table([[NAN], [NAN, NAN]])).iloc[0]
    assert row[["mean", "low", "high"]].isna().all()
    assert (row["n"], row["skipped"], row["seeds"]) == (0, 3, 2)
    alone = summary(torch.tensor([2.0]))
    assert (alone.mean, alone.low, alone.high, alone.n, alone.p) == (2.0, 2.0, 2.0, 1, 1.0)


def test_one_network_by_hand():
    """The images 1, 2, 3 and 6: mean 3, variance 14 / 3, standard error sqrt(14 / 12) = 1.0801; t with three
    degrees of freedom is 3.1824, so that the interval would be 3 +- 3.4374, and no image is below 1 or above
    6. With 100 times as many degrees of freedom nothing is cut off."""
    found = summary(torch.tensor([1.0, 2.0, 3.0, 6.0]))
    assert (found.mean, found.low, found.high) == (3.0, 1.0, 6.0)
    slope = 3 / math.sqrt(14 / 12) / math.sqrt(3)  # of t = 2.7775; with three degrees its tail is elementary
    assert found.p == pytest.approx(1 - 2 / math.pi * (slope / (1 + slope**2) + math.atan(slope)))
    many = summary(torch.tensor([1.0, 2.0, 3.0, 6.0]).repeat(100))
    error = math.sqrt(3.5 * 400 / 399 / 400)  # of the variance 14 / 4 of four equally frequent values
    assert [many.low, many.high] == pytest.approx([3 - 1.9659 * error, 3 + 1.9659 * error], abs=1e-4)


def test_dealt_images_by_hand():
    """Networks with means 10, 14 and 12 (of other numbers of images): mean 12, standard error 2 / sqrt(3), t
    with two degrees of freedom 4.3027."""
    scores = [[0.0, 20.0], [14.0, 4.0, 24.0], [12.0, NAN, 0.0, 24.0]]
    found = dealt_images([np.array(own) for own in scores])
    half = 4.3027 * 2 / math.sqrt(3)
    assert [found.mean, found.low, found.high] == pytest.approx([12, 12 - half, 12 + half], abs=1e-3)
    assert (found.n, found.skipped) == (8, 1)
    assert found.p == pytest.approx(2 * student.sf(12 / (2 / math.sqrt(3)), 2))
    row = summarise(dealt_table(scores).assign(cnn=lambda own: own["seed"] // 2)).iloc[0]
    assert row[["mean", "low", "high"]].tolist() == pytest.approx([12, 12 - half, 12 + half], abs=1e-3)
    assert row[["n", "skipped", "seeds", "cnns"]].tolist() == [8, 1, 3, 2]
    # A network without a score does not count, neither in the mean nor among the degrees of freedom.
    fewer = dealt_images([np.array(own) for own in [*scores, [NAN]]])
    assert (fewer[:3], fewer.skipped) == (found[:3], 2)


def test_the_same_images_by_hand():
    """Two networks and three images, (0, 3, 6) and (2, 5, 8): images differ by 3, networks by 2, nothing is
    left over. MS_S = 3 * 2 = 6, MS_N = 2 * 9 = 18, MS_E = 0, so V = 24 / 6 = 4. Its degrees of freedom are
    4^2 / (1^2 / 1 + 3^2 / 2) = 16 / 5.5."""
    found = same_images(np.array([[0.0, 3.0, 6.0], [2.0, 5.0, 8.0]]))
    half = student.ppf(0.975, 16 / 5.5) * 2
    assert found.mean == 4
    assert [found.low, found.high] == [max(4 - half, 0), min(4 + half, 8)] == [0, 8]
    wide = np.array([[0.0, 3.0, 6.0], [2.0, 5.0, 8.0]]).repeat(40, axis=1)
    # V = MS_S / (S N) + MS_N / (S N): var of the networks' means / 2, and of 120 images' means / 120.
    parts = [2 / 2, 6 * 120 / 119 / 120]
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 1 + parts[1] ** 2 / 119)
    half = student.ppf(0.975, freedom) * math.sqrt(sum(parts))
    found = same_images(wide)
    assert [found.low, found.high] == pytest.approx([max(4 - half, 0), min(4 + half, 8)])
    # What is neither the images' nor the networks' is not counted twice.
    noisy = np.array([[0.0, 4.0], [4.0, 0.0]])  # both have a mean of 2, and so have both images
    assert same_images(noisy)[:3] == (2.0, 2.0, 2.0)


def test_one_image_leaves_the_networks():
    found = same_images(np.array([[1.0], [3.0], [5.0]]))
    half = 4.3027 * 2 / math.sqrt(3)
    assert [found.mean, found.low, found.high] == pytest.approx([3, max(1, 3 - half), min(5, 3 + half)])


@pytest.mark.parametrize("networks", [3, 5])
@pytest.mark.parametrize("dealt", [True, False])
def test_intervals_hold_the_truth_in_95_of_100_cases(networks, dealt):
    """Networks differ by 2.5 (CNNs) and 1 (generators), images by 20, as measured here; truth is 0."""
    rng, trials, held = np.random.default_rng(0), 1500, 0
    for _ in range(trials):
        spread = rng.normal(scale=2.5, size=(networks, 1)) + rng.normal(scale=1, size=(networks, 1))
        if dealt:
            found = dealt_images(list(spread + rng.normal(scale=20, size=(networks, 100 // networks))))
        else:
            images = rng.normal(scale=20, size=100)
            found = same_images(spread + images + rng.normal(scale=3, size=(networks, 100)))
        held += found.low <= 0 <= found.high
    assert 93 <= 100 * held / trials <= 97


def test_intervals_over_images_only_would_not():
    """What the others are for: one network's images say nothing of the next network."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(500):
        found = summary(torch.tensor(rng.normal(scale=2.7) + rng.normal(scale=20, size=100 * 3)))
        held += found.low <= 0 <= found.high
    assert held / 5 < 70


def test_images_that_some_seeds_lack_are_skipped():
    rows = pd.concat([table_of([[1.0, 2.0]]), table_of([[3.0, 4.0, 9.0]]).assign(seed=1)])
    row = summarise(rows).iloc[0]
    assert row[["mean", "n", "skipped", "seeds"]].tolist() == [2.5, 2, 1, 2]
    with pytest.raises(ValueError, match="duplicate"):
        summarise(pd.concat([table_of([[1.0]]), table_of([[2.0]])]))


def test_every_method_has_its_own_interval():
    rng = np.random.default_rng(0)
    learned = np.array([[0.0], [1.0], [2.0]]) + rng.normal(scale=0.1, size=(3, 50))
    fixed = np.array([[NAN, *np.zeros(49)]])
    table = summarise(pd.concat([table_of(learned, "learned"), table_of(fixed, "fixed")]))
    assert table["method"].tolist() == ["learned", "fixed"]
    assert table.loc[0, "high"] - table.loc[0, "low"] > 1  # seeds differ far more than images
    assert table["seeds"].tolist() == [3, 1]
    assert table["n"].tolist() == [50, 49]
    assert table.loc[1, ["mean", "low", "high", "skipped"]].tolist() == [0, 0, 0, 1]


def test_stated():
    rows = [("a", "x", 1.0, 0.5, 2.0), ("a", "y", 3.0, 3.0, 3.0), ("b", "x", -1.234, -2.0, 0.0)]
    table = pd.DataFrame(rows, columns=["method", "measure", "mean", "low", "high"])
    shown = stated(table, {"x": "the x [%]"})
    assert shown["the x [%]"].to_dict() == {"a": "1.00 [0.50, 2.00]", "b": "-1.23 [-2.00, 0.00]"}
    both = stated(table, {"y": "y", "x": "x"}, digits=1)
    assert list(both) == ["y", "x"]
    assert both.loc["a"].tolist() == ["3.0 [3.0, 3.0]", "1.0 [0.5, 2.0]"]
    assert both.loc["b"].isna().tolist() == [True, False]
    table.loc[0, ["low", "high"]] = float("nan")  # as authors report it
    assert stated(table, {"x": "x"})["x"].tolist() == ["1.00", "-1.23 [-2.00, 0.00]"]


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
