from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import distributed

from gan_lib.metrics import (
    AverageDrop,
    Dice,
    DiceAtArea,
    DistinctValues,
    IncreaseInConfidence,
    MassInside,
    MeanArea,
    PointingGame,
    RankCorrelation,
    bootstrap,
    class_probability,
    class_similarity,
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


def region(*rows):
    mask = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    mask[..., list(rows), :] = True
    return mask


def test_dice_at_area_asks_for_the_order_only():
    maps = torch.arange(16.0).view(1, 1, 4, 4) / 16  # highest in the last rows
    dice = DiceAtArea()
    dice.update(maps, region(3))
    dice.update(maps**8, region(2))
    dice.update(maps, region(1, 2, 3))
    dice.update(maps, region())
    assert dice.per_image[:3].tolist() == [1.0, 0.0, 1.0]
    assert dice.compute().skipped == 1


def test_pointing_game():
    maps = torch.zeros(1, 1, 4, 4)
    maps[..., 1, 2] = 1
    game, tolerant = PointingGame(), PointingGame(tolerance=1)
    for metric in (game, tolerant):
        metric.update(maps, region(2))
        metric.update(maps, region(1))
        metric.update(maps, region(3))
    game.update(torch.ones(1, 1, 4, 4), region(0))  # a flat map points nowhere
    game.update(maps, region())
    assert game.per_image[:4].tolist() == [0, 1, 0, 0]
    assert math.isnan(game.per_image[4])
    assert tolerant.per_image.tolist() == [1, 1, 0]


def test_mass_inside():
    maps = torch.full((1, 1, 4, 4), 0.25)
    maps[..., 0, :] = 1
    inside, top = MassInside(), MassInside(top=True)
    inside.update(maps, region(0))
    top.update(maps, region(0))
    inside.update(torch.zeros(1, 1, 4, 4), region(0))
    assert inside.per_image[0] == pytest.approx(4 / 7)
    assert top.per_image.tolist() == [1.0]
    assert inside.compute().skipped == 1


def test_distinct_values_and_area():
    maps = torch.linspace(0, 1, 16).view(1, 1, 4, 4)
    values, area = DistinctValues(), MeanArea()
    values.update(maps, region(0))
    values.update((maps > 0.5).float(), region(0, 3))
    values.update(maps, region())
    area.update(maps)
    assert values.per_image[:2].tolist() == [4, 2]
    assert values.compute().skipped == 1
    assert area.compute().mean == pytest.approx(0.5)


def test_rank_correlation_is_scipys_with_ties():
    from scipy.stats import spearmanr

    generator = torch.Generator().manual_seed(0)
    first = (torch.rand(3, 1, 8, 8, generator=generator) * 5).round()
    second = first + (torch.rand(3, 1, 8, 8, generator=generator) * 3).round()
    metric = RankCorrelation()
    metric.update(first, second)
    metric.update(first[:1], torch.zeros(1, 1, 8, 8))
    expected = [spearmanr(a.flatten(), b.flatten()).statistic for a, b in zip(first, second, strict=True)]
    assert metric.per_image[:3].tolist() == pytest.approx(expected, abs=1e-6)
    assert metric.compute().skipped == 1


def test_scores_at_matched_area(tiny_net, images):
    """A map of ones has no drop at all; reduced to its highest pixels it has."""
    explained = tiny_net(images).argmax(1)
    evidence = torch.zeros(3, 1, 16, 16, dtype=torch.bool)
    evidence[..., :4, :] = True
    maps = {("ones", 0): torch.ones(3, 1, 16, 16), ("evidence", 0): evidence.float()}
    scores = explanation_scores(tiny_net, images, maps, explained, evidence=evidence, areas=[0.25])
    ones, own = scores[scores["method"] == "ones"], scores[scores["method"] == "evidence"]
    assert (ones["drop_black"] == 0).all()
    assert (ones["area"] == 1).all()
    # Equal values are taken in reading order: here that is the same quarter.
    assert ones["drop_black@25"].to_numpy() == pytest.approx(own["drop_black"].to_numpy(), abs=1e-3)
    assert own["drop_black@25"].to_numpy() == pytest.approx(own["drop_black"].to_numpy(), abs=1e-3)
    assert (own["evidence_dice"] == 1).all()
    assert (own["pointing"] == 1).all()
    assert (ones["pointing"] == 0).all()
    assert (ones["distinct_values"] == 1).all()
    assert "dice" not in scores


def test_class_similarity_by_hand():
    embeddings = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 3.0], [1.0, 1.0]])
    similarity = class_similarity(embeddings, torch.tensor([0, 0, 1, 1, 2]), 4)
    half = 0.5**0.5
    expected = torch.tensor([[1, 0, half], [0, 1, half], [half, half, torch.nan]], dtype=torch.float64)
    assert torch.allclose(similarity.matrix[:3, :3], expected, equal_nan=True)
    assert similarity.matrix[3].isnan().all()
    assert similarity.within[:4].tolist() == pytest.approx([1, 1, 1, 1])
    assert math.isnan(similarity.within[4])
    assert similarity.between.tolist() == pytest.approx([half / 3] * 4 + [half])


# -- several processes --------------------------------------------------------------------------------


def _one_of_two(rank, folder):
    distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        maps, evidence = _shared_maps()
        own = slice(0, 3) if rank == 0 else slice(3, None)
        metric = DiceAtArea()
        metric.update(maps[own], evidence[own])
        summary = metric.compute()
        (folder / f"{rank}.json").write_text(json.dumps(summary._asdict()))
    finally:
        distributed.destroy_process_group()


def _shared_maps():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(8, 1, 6, 6, generator=generator), torch.rand(8, 1, 6, 6, generator=generator) > 0.7


def test_processes_agree_on_the_summary_of_all_images(tmp_path):
    """Images split unevenly over two processes: each computes what one process computes of all."""
    torch.multiprocessing.spawn(_one_of_two, (tmp_path,), nprocs=2)
    metric = DiceAtArea()
    metric.update(*_shared_maps())
    expected = metric.compute()
    for rank in range(2):
        made = json.loads((tmp_path / f"{rank}.json").read_text())
        assert made["n"] == expected.n == 8
        assert made["mean"] == pytest.approx(expected.mean)
        assert [made["low"], made["high"]] == pytest.approx([expected.low, expected.high])
