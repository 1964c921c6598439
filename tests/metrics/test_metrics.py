"""Measures of maps, by hand."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import spearmanr

from gan_lib.metrics import (
    agreement,
    average_drop,
    class_probability,
    class_similarity,
    dice,
    dice_at_area,
    distinct_values,
    increase_in_confidence,
    iou_at_area,
    judge,
    masked_images,
    mass_inside,
    pointing_game,
    rank_correlation,
    region_scores,
    similarity_scores,
)

NAN = math.nan


def same(found, expected):
    return found.tolist() == pytest.approx(expected, nan_ok=True)


def region(*rows):
    mask = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    mask[..., list(rows), :] = True
    return mask


def test_dice_by_hand():
    maps, target = torch.zeros(3, 1, 4, 4), torch.zeros(3, 1, 4, 4)
    maps[0, 0, :2], target[0, 0, 1:3] = 1, 1  # two rows each, one shared
    maps[1, 0, 0], target[1, 0, 0] = 0.6, 0.9
    assert same(dice(maps, target), [0.5, 1.0, NAN])
    assert same(dice(maps, target > 0), [0.5, 1.0, NAN])
    assert same(dice(maps, target, threshold=0.7), [0.5, 0.0, NAN])


def test_average_drop_and_increase_by_hand():
    before, after = torch.tensor([0.8, 0.5, 0.9]), torch.tensor([0.4, 0.6, 0.9])
    assert same(average_drop(before, after), [50, 0, 0])
    assert same(increase_in_confidence(before, after), [0, 100, 0])


def test_masked_images():
    images = torch.rand(2, 3, 20, 20)
    ones, zeros = torch.ones(2, 1, 20, 20), torch.zeros(2, 1, 20, 20)
    for fill in ("black", "blur"):
        assert torch.allclose(masked_images(images, ones, fill), images)
    assert not masked_images(images, zeros).any()
    blurred = masked_images(images, zeros, "blur")
    assert blurred.std() < images.std() / 3
    assert blurred.mean() == pytest.approx(images.mean().item(), abs=0.02)
    with pytest.raises(KeyError, match="fill"):
        masked_images(images, ones, "no such fill")


def test_scores_of_a_perfect_and_an_empty_map(tiny_net, images):
    explained = tiny_net(images).argmax(1)
    ones = torch.ones(3, 1, 16, 16)
    maps = {("full", 0): ones, ("empty", 4): torch.zeros_like(ones)}
    table = judge(tiny_net, images, maps, explained, reference=ones, batch_size=2).scores
    full, empty = table[table["method"] == "full"], table[table["method"] == "empty"]
    assert full["dice"].tolist() == [1, 1, 1]
    assert full["drop_black"].abs().max() < 1e-3
    assert empty["seed"].tolist() == [4, 4, 4]
    assert empty["dice"].tolist() == [0, 0, 0]
    probability = class_probability(tiny_net, images, explained)
    black = class_probability(tiny_net, torch.zeros_like(images), explained)
    expected = 100 * (probability - black).clamp(min=0) / probability
    assert torch.allclose(torch.tensor(empty["drop_black"].to_numpy()), expected, atol=1e-3)


def test_overlap_at_area_asks_for_the_order_only():
    maps = torch.arange(16.0).view(1, 1, 4, 4) / 16  # highest in the last rows
    evidence = torch.cat([region(3), region(2), region(1, 2, 3), region(2, 3), region(0, 3), region()])
    maps = maps.expand(6, -1, -1, -1)
    assert same(dice_at_area(maps, evidence), [1, 0, 1, 1, 0.5, NAN])
    assert same(dice_at_area(maps**8, evidence), [1, 0, 1, 1, 0.5, NAN])
    assert same(iou_at_area(maps, evidence), [1, 0, 1, 1, 4 / 12, NAN])
    with pytest.raises(ValueError, match="boolean mask"):
        dice_at_area(maps, evidence.float())


def test_pointing_game():
    maps = torch.zeros(1, 1, 4, 4)
    maps[..., 1, 2] = 1
    maps = torch.cat([maps.expand(4, -1, -1, -1), torch.ones(1, 1, 4, 4)])  # a flat map points nowhere
    evidence = torch.cat([region(2), region(1), region(3), region(), region(0)])
    assert same(pointing_game(maps, evidence), [0, 1, 0, NAN, 0])
    assert same(pointing_game(maps, evidence, tolerance=1), [1, 1, 0, NAN, 0])


def test_mass_inside():
    maps = torch.full((2, 1, 4, 4), 0.25)
    maps[0, :, 0], maps[1] = 1, 0
    assert same(mass_inside(maps, region(0)), [4 / 7, NAN])
    assert same(mass_inside(maps, region(0), top=True), [1, NAN])
    assert same(mass_inside(maps[:1], region(1)), [1 / 7])
    assert same(mass_inside(maps[:1], region(1), top=True), [0])


def test_distinct_values():
    maps = torch.linspace(0, 1, 16).view(1, 1, 4, 4)
    binary = (maps > 0.5).float()
    evidence = torch.cat([region(0), region(0, 3), region()])
    assert same(distinct_values(torch.cat([maps, binary, maps]), evidence), [4, 2, NAN])
    assert same(distinct_values(maps / 17, region(0)), [4])  # 256 steps: 0 to 3 of 255


def test_rank_correlation_is_scipys_with_ties():
    generator = torch.Generator().manual_seed(0)
    first = (torch.rand(3, 1, 8, 8, generator=generator) * 5).round()
    second = first + (torch.rand(3, 1, 8, 8, generator=generator) * 3).round()
    expected = [spearmanr(a.flatten(), b.flatten()).statistic for a, b in zip(first, second, strict=True)]
    assert rank_correlation(first, second).tolist() == pytest.approx(expected, abs=1e-6)
    assert rank_correlation(first, torch.zeros(3, 1, 8, 8)).isnan().all()
    assert same(agreement([first, second]), expected)


def test_agreement_of_three_and_of_constant_maps():
    maps = torch.arange(16.0).view(1, 1, 4, 4)
    assert same(agreement([maps, maps**2, -maps]), [-1 / 3])  # 1, -1 and -1
    assert same(agreement([maps, torch.zeros_like(maps)]), [0])
    with pytest.raises(ValueError, match="two methods or more"):
        agreement([maps])


def test_scores_at_matched_area(tiny_net, images):
    """A map of ones has no drop at all; reduced to its highest pixels it has."""
    explained = tiny_net(images).argmax(1)
    evidence = torch.zeros(3, 1, 16, 16, dtype=torch.bool)
    evidence[..., :4, :] = True
    maps = {("ones", 0): torch.ones(3, 1, 16, 16), ("evidence", 0): evidence.float()}
    scores = judge(tiny_net, images, maps, explained, evidence=evidence, areas=[0.25]).scores
    ones, own = scores[scores["method"] == "ones"], scores[scores["method"] == "evidence"]
    assert (ones["drop_black"] == 0).all()
    assert (ones["area"] == 1).all()
    assert (own["area"] == 0.25).all()
    # Equal values are taken in reading order: here that is the same quarter.
    assert ones["drop_black@25"].to_numpy() == pytest.approx(own["drop_black"].to_numpy(), abs=1e-3)
    assert own["drop_black@25"].to_numpy() == pytest.approx(own["drop_black"].to_numpy(), abs=1e-3)
    assert (own["evidence_dice"] == 1).all()
    assert (own["pointing"] == 1).all()
    assert (ones["pointing"] == 0).all()
    assert (ones["distinct_values"] == 1).all()
    assert "dice" not in scores


EMBEDDINGS = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 3.0], [1.0, 1.0]])
CLASSES = torch.tensor([0, 0, 1, 1, 2])


def test_class_similarity_by_hand():
    similarity = class_similarity(EMBEDDINGS, CLASSES, 4)
    half = 0.5**0.5
    expected = torch.tensor([[1, 0, half], [0, 1, half], [half, half, NAN]], dtype=torch.float64)
    assert torch.allclose(similarity.matrix[:3, :3], expected, equal_nan=True)
    assert similarity.matrix[3].isnan().all()
    assert same(similarity.within, [1, 1, 1, 1, NAN])
    assert same(similarity.between, [half / 3] * 4 + [half])
    table = similarity_scores({"images": EMBEDDINGS, "halves": EMBEDDINGS / 2}, CLASSES, 4)
    assert table["method"].tolist() == ["images"] * 5 + ["halves"] * 5
    assert table["image"].tolist() == [0, 1, 2, 3, 4] * 2
    for kind in ("images", "halves"):  # lengths do not matter; the class of one has no similarity within
        own = table[table["method"] == kind]
        assert own["within"].tolist()[:4] == pytest.approx([1] * 4)
        assert own["within"].isna().tolist() == [False] * 4 + [True]
        assert own["between"].tolist() == pytest.approx([half / 3] * 4 + [half])


def test_share_of_maps_in_a_region():
    maps = torch.full((2, 1, 4, 4), 0.25)
    maps[:, :, 0] = 1
    table = region_scores({("a", 3): maps, ("b", 0): maps.flip(2)}, region(0))
    assert list(table) == ["method", "seed", "image", "inside"]
    assert table["inside"].tolist() == pytest.approx([4 / 7, 4 / 7, 1 / 7, 1 / 7])
    assert table["seed"].tolist() == [3, 3, 0, 0]
    assert region_scores({("a", 0): maps}, region(0), top=True)["inside"].tolist() == [1, 1]
