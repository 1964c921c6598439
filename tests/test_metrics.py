from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

from gan_lib.metrics import (
    AverageDrop,
    Dice,
    IncreaseInConfidence,
    bootstrap,
    class_probability,
    explanation_scores,
    masked_images,
    summarise,
)


def test_dice_by_hand_and_skipped():
    maps, target = torch.zeros(3, 1, 4, 4), torch.zeros(3, 1, 4, 4)
    maps[0, 0, :2], target[0, 0, 1:3] = 1, 1  # two rows each, one shared
    maps[1, 0, 0], target[1, 0, 0] = 0.6, 0.9
    dice = Dice()
    dice.update(maps[:2], target[:2])
    dice.update(maps[2:], target[2:])
    assert dice.per_image[:2].tolist() == [0.5, 1.0]
    summary = dice.compute()
    assert summary.mean == pytest.approx(0.75)
    assert (summary.n, summary.skipped) == (2, 1)
    dice.reset()
    dice.update(maps[:1], target[:1] > 0)
    assert dice.compute().mean == 0.5


def test_average_drop_and_increase_by_hand():
    before, after = torch.tensor([0.8, 0.5, 0.9]), torch.tensor([0.4, 0.6, 0.9])
    drop, increase = AverageDrop(), IncreaseInConfidence()
    drop.update(before, after)
    increase.update(before, after)
    assert drop.per_image.tolist() == pytest.approx([50, 0, 0])
    assert increase.compute().mean == pytest.approx(100 / 3)


def test_nothing_to_count():
    dice = Dice()
    dice.update(torch.zeros(2, 1, 2, 2), torch.zeros(2, 1, 2, 2))
    summary = dice.compute()
    assert math.isnan(summary.mean)
    assert summary.skipped == 2


def test_bootstrap_is_seeded_and_covers():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(100):
        low, high = bootstrap(torch.tensor(rng.normal(size=60)), seed=trial, resamples=300)
        covered += low <= 0 <= high
    assert 88 <= covered <= 99
    scores = torch.rand(20)
    assert bootstrap(scores, 3) == bootstrap(scores, 3)


def test_masked_images():
    images = torch.rand(2, 3, 20, 20)
    ones, zeros = torch.ones(2, 1, 20, 20), torch.zeros(2, 1, 20, 20)
    for fill in ("black", "blur"):
        assert torch.allclose(masked_images(images, ones, fill), images)
    assert not masked_images(images, zeros).any()
    blurred = masked_images(images, zeros, "blur")
    assert blurred.std() < images.std() / 3
    assert blurred.mean() == pytest.approx(images.mean().item(), abs=0.02)
    with pytest.raises(ValueError, match="fill"):
        masked_images(images, ones, "white")


def test_scores_of_a_perfect_and_an_empty_map(tiny_net, images):
    explained = tiny_net(images).argmax(1)
    ones = torch.ones(3, 1, 16, 16)
    maps = {("full", 0): ones, ("empty", 4): torch.zeros_like(ones)}
    table = explanation_scores(tiny_net, images, maps, explained, ones, batch_size=2)
    full, empty = table[table["method"] == "full"], table[table["method"] == "empty"]
    assert full["dice"].tolist() == [1, 1, 1]
    assert full["drop_black"].abs().max() < 1e-3
    assert empty["seed"].tolist() == [4, 4, 4]
    assert empty["dice"].tolist() == [0, 0, 0]
    probability = class_probability(tiny_net, images, explained)
    black = class_probability(tiny_net, torch.zeros_like(images), explained)
    expected = 100 * (probability - black).clamp(min=0) / probability
    assert torch.allclose(torch.tensor(empty["drop_black"].to_numpy()), expected, atol=1e-3)


def test_summary_over_seeds_and_images():
    rng = np.random.default_rng(0)
    rows = [
        {"method": "learned", "seed": seed, "image": image, "score": shift + rng.normal(scale=0.1)}
        for seed, shift in enumerate((0.0, 1.0, 2.0))
        for image in range(50)
    ]
    rows += [
        {"method": "fixed", "seed": 0, "image": image, "score": float(image == 0)} for image in range(50)
    ]
    rows[150]["score"] = math.nan
    table = summarise(pd.DataFrame(rows), resamples=400).set_index("method")
    learned, fixed = table.loc["learned"], table.loc["fixed"]
    assert learned["mean"] == pytest.approx(1, abs=0.05)
    assert learned["high"] - learned["low"] > 1  # seeds differ far more than images
    assert (learned["seeds"], learned["n"]) == (3, 50)
    assert (fixed["mean"], fixed["n"], fixed["skipped"]) == (0, 49, 1)
