"""Crops pasted by hand: free places against looking at every one, probabilities of a CNN that sees mean colours."""

from __future__ import annotations

import math

import pandas as pd
import pytest
import torch
from torch import nn

from gan_lib.classifiers import make_classifier
from gan_lib.concepts.contrasting import (
    control_colour,
    free_places,
    insert_crop,
    insertion_table,
    scaled_crop,
)

OPAQUE = torch.ones(1, 2, 2)
RED = torch.tensor([1.0, 0.0, 0.0])[:, None, None].expand(3, 2, 2)


@pytest.fixture
def green():
    """Two images of 4 x 4 pixels, of green 0.2."""
    images = torch.zeros(2, 3, 4, 4)
    images[:, 1] = 0.2
    return images


def softmax(*logits):
    made = [math.exp(own) for own in logits]
    return [own / sum(made) for own in made]


def test_probabilities_by_hand(colour_net, green):
    """Logits are 20 times the mean colour: green 4; with 4 of 16 pixels red, 5 and 3; with 4 black, 0 and 3."""
    made = insert_crop(colour_net, green, RED, one=0, other=1)
    assert len(made.rows) == 2
    row = made.rows.iloc[1]
    for state, expected in (
        ("before", softmax(0, 4, 0)),
        ("pasted", softmax(5, 3, 0)),
        ("control", softmax(0, 3, 0)),
    ):
        assert row[f"one_{state}"] == pytest.approx(expected[0], abs=1e-6), state
        assert row[f"other_{state}"] == pytest.approx(expected[1], abs=1e-6), state
    assert row[["prediction", "prediction_pasted", "prediction_control"]].tolist() == [1, 0, 1]
    assert torch.equal(green, torch.zeros_like(green).index_fill(1, torch.tensor([1]), 0.2)), "as it was"
    left, top = int(row["left"]), int(row["top"])
    place = (1, slice(None), slice(top, top + 2), slice(left, left + 2))
    assert torch.equal(made.pasted[place], RED)
    assert not made.control[place].any()
    assert (made.pasted != green).any(1).sum() == (made.control != green).any(1).sum() == 8


def test_a_place_of_ones_own_and_a_colour(colour_net, green):
    made = insert_crop(colour_net, green, RED, 0, 1, colour=(0.5, 0.25, 1.0), at=(2, 1))
    assert made.rows[["left", "top"]].to_numpy().tolist() == [[2, 1]] * 2
    assert torch.equal(made.pasted[0, :, 1:3, 2:], RED)
    assert torch.equal(made.control[0, :, 2, 3], torch.tensor([0.5, 0.25, 1.0]))
    assert (made.pasted != green)[0].any(0).nonzero().tolist() == [[1, 2], [1, 3], [2, 2], [2, 3]]


def test_what_is_half_transparent_is_pasted_so(colour_net, green):
    """Opacity 0, 0.25, 0.5 and 1 over green 0.2, of red and of the black control."""
    alpha = torch.tensor([[0.0, 0.25], [0.5, 1.0]])[None]
    made = insert_crop(colour_net, green, torch.cat([RED, alpha]), 0, 1, at=(0, 0))
    assert made.pasted[0, 0, :2, :2].tolist() == [[0, 0.25], [0.5, 1]]
    shown = [[pytest.approx(0.2), pytest.approx(0.15)], [pytest.approx(0.1), 0]]
    assert made.pasted[0, 1, :2, :2].tolist() == shown
    assert made.control[0, 1, :2, :2].tolist() == shown
    assert not made.control[0, 0].any()


@pytest.mark.parametrize("seed", range(8))
def test_free_places_against_looking_at_every_one(seed):
    drawn = torch.Generator().manual_seed(seed)
    height, width, tall, wide = torch.randint(1, 9, (4,), generator=drawn).tolist()
    height, width = height + tall, width + wide
    evidence = torch.rand(3, 1, height, width, generator=drawn)
    alpha = torch.rand(1, tall, wide, generator=drawn)
    for own, (left, top) in zip(evidence, free_places(evidence, alpha).tolist(), strict=True):
        hidden = {
            (x, y): float((own[0, y : y + tall, x : x + wide] * alpha[0]).sum())
            for y in range(height - tall + 1)
            for x in range(width - wide + 1)
        }
        assert (left, top) == min(hidden, key=hidden.get)


def test_of_places_that_are_equally_free_it_is_the_farthest():
    evidence = torch.zeros(4, 1, 6, 8)
    evidence[0, 0, 5, 7] = 1  # in the lower right corner: the upper left one
    evidence[1, 0, 1, 6] = 3  # at the upper right: the lower left
    evidence[2, 0, :, :4] = 0.5  # the left half: the right edge; above and below are as far, so above
    assert free_places(evidence, OPAQUE).tolist() == [[0, 0], [0, 4], [6, 0], [0, 0]], "the last has none"
    assert free_places(evidence[:1], torch.ones(1, 6, 8)).tolist() == [[0, 0]], "there is one place only"


def test_the_place_is_free_of_what_the_prediction_rests_on(colour_net):
    """Green in the left upper corner is what speaks for green; the crop goes to the opposite one."""
    images = torch.zeros(2, 3, 8, 8)
    images[0, 1, :3, :3] = 1
    images[1, 1, 5:, 5:] = 1
    made = insert_crop(colour_net, images, RED, 0, 1)
    assert made.rows[["left", "top"]].to_numpy().tolist() == [[6, 6], [0, 0]]
    blue = images.flip(1)  # of whatever class is predicted, not of the two that are asked about
    blue[:, 2], blue[:, 1] = images[:, 1], 0
    assert insert_crop(colour_net, blue, RED, 0, 1).rows["left"].tolist() == [6, 0]


def test_the_table_by_hand():
    """One gains 0.5 and 0.1 with the crop, 0 and 0.1 with the control: 0.5 and 0 of it is the crop's own."""
    rows = pd.DataFrame(
        {
            "one_before": [0.1, 0.2],
            "one_pasted": [0.6, 0.3],
            "one_control": [0.1, 0.3],
            "other_before": [0.8, 0.6],
            "other_pasted": [0.3, 0.6],
            "other_control": [0.7, 0.6],
        }
    )
    made = insertion_table(rows).set_index(["class", "what"])
    expected = {
        "one": {"before": 0.15, "pasted": 0.45, "control": 0.2}
        | {"pasted - before": 0.3, "control - before": 0.05, "pasted - control": 0.25},
        "other": {"before": 0.7, "pasted": 0.45, "control": 0.65}
        | {"pasted - before": -0.25, "control - before": -0.05, "pasted - control": -0.2},
    }
    for name, own in expected.items():
        assert made.loc[name, "mean"].to_dict() == pytest.approx(own)
    assert set(made["n"]) == {2}
    assert (made["low"] <= made["mean"]).all()
    assert (made["mean"] <= made["high"]).all()
    # t with one degree of freedom is 12.7: as wide as what there is. Of 40 images it is narrow, and paired.
    assert made.loc[("one", "pasted - control"), ["low", "high"]].tolist() == pytest.approx([0, 0.5])
    many = pd.concat([rows.iloc[:1]] * 39 + [rows.iloc[1:]], ignore_index=True)
    many = insertion_table(many).set_index(["class", "what"])
    error = 0.5 * math.sqrt(0.025 * 0.975 / 39)
    change = many.loc[("one", "pasted - control")]
    assert change["mean"] == pytest.approx(0.4875)
    assert change["low"] == pytest.approx(0.4875 - 2.0227 * error, abs=1e-4)
    rows.loc[1, "one_pasted"] = float("nan")
    lost = insertion_table(rows).set_index(["class", "what"])
    assert lost.loc[("one", "pasted"), ["mean", "n", "skipped"]].tolist() == [0.6, 1, 1]


def test_scaled_crops():
    """The longer side is so much of the image's shorter one; what is transparent lends no colour."""
    crop = torch.rand(3, 20, 40, generator=torch.Generator().manual_seed(0))
    made = scaled_crop(crop, 0.5, (64, 100))
    assert made.shape == (4, 16, 32)
    assert torch.allclose(made[3], torch.ones(16, 32))
    assert made[:3].mean() == pytest.approx(crop.mean().item(), abs=0.01)
    assert scaled_crop(crop, 1.0, (64, 100)).shape == (4, 32, 64)
    assert scaled_crop(crop, 0.001, (64, 100)).shape == (4, 1, 1)
    striped = torch.cat([torch.ones(1, 8, 8), torch.zeros(2, 8, 8), torch.zeros(1, 8, 8)])
    striped[3, :, ::2] = 1
    striped[:3, :, 1::2] = 0.3  # grey that cannot be seen
    small = scaled_crop(striped, 0.25, (16, 16))
    assert small.shape == (4, 4, 4)
    inside = small[:, :, 1:-1]
    assert torch.allclose(inside[0], torch.ones(4, 2), atol=1e-4), "red"
    assert torch.allclose(inside[1:3], torch.zeros(2, 4, 2), atol=1e-4)
    assert torch.allclose(inside[3], torch.full((4, 2), 0.5), atol=0.1)
    for share in (0, -1, 1.01, float("nan")):
        with pytest.raises(ValueError, match="share of the image's shorter side"):
            scaled_crop(crop, share, (64, 64))


def test_colours_of_controls(colour_net):
    cnn = make_classifier("resnet18", ["a", "b"])
    assert control_colour(cnn) == (0, 0, 0)
    assert control_colour(cnn, "mean") == pytest.approx((0.485, 0.456, 0.406))
    assert control_colour(colour_net, "black") == (0, 0, 0)
    with pytest.raises(ValueError, match="wrap the CNN"):
        control_colour(colour_net, "mean")
    with pytest.raises(ValueError, match="black or mean, not 'grey'"):
        control_colour(cnn, "grey")


@pytest.mark.parametrize(
    ("crop", "told"),
    [
        (torch.rand(2, 2), "a crop is"),
        (torch.rand(2, 2, 2), "a crop is"),
        (torch.rand(3, 0, 2), "a crop is"),
        (torch.ones(3, 2, 2, dtype=torch.uint8), "a crop is"),
        (torch.full((3, 2, 2), 1.5), r"lie in \[0, 1\]"),
        (torch.full((3, 2, 2), math.nan), r"lie in \[0, 1\]"),
        (torch.zeros(4, 2, 2), "transparent everywhere"),
        (torch.rand(3, 5, 2), "5x2 pixels, larger than the images of 4x4"),
        (torch.rand(3, 2, 5), "2x5 pixels, larger"),
    ],
)
def test_crops_that_cannot_be_pasted(colour_net, green, crop, told):
    with pytest.raises(ValueError, match=told):
        insert_crop(colour_net, green, crop, 0, 1)


def test_questions_that_cannot_be_asked(colour_net, green):
    with pytest.raises(ValueError, match="both are 1"):
        insert_crop(colour_net, green, RED, 1, 1)
    for one, other in ((0, 3), (-1, 0)):
        with pytest.raises(ValueError, match="classes 0 to 2"):
            insert_crop(colour_net, green, RED, one, other)
    for at in ((3, 0), (0, 3), (-1, 0), (0, -1)):
        with pytest.raises(ValueError, match="sticks out"):
            insert_crop(colour_net, green, RED, 0, 1, at=at)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    with pytest.raises(ValueError, match="places"):
        insert_crop(flat, green, RED, 0, 1)
    assert len(insert_crop(flat, green, RED, 0, 1, at=(0, 0)).rows) == 2
