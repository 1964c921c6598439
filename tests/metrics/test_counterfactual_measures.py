"""Maps against the same images without their evidence, on a CNN and an image that can be worked out."""

from __future__ import annotations

import math

import pytest
import torch

from gan_lib.metrics import (
    Probe,
    average_precision,
    differing,
    headings,
    judge,
    perturbation_curves,
)

# A red square of 2 x 2 pixels at the upper left of 4 x 4 grey ones; without it, all is grey.
GREY = torch.full((1, 3, 4, 4), 0.2)
IMAGE = GREY.clone()
IMAGE[..., :2, :2] = torch.tensor([1.0, 0, 0])[:, None, None]
EVIDENCE = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
EVIDENCE[..., :2, :2] = True
RED = torch.tensor([0])


def probability(red: float, others: float) -> float:
    """Of class 0 by the CNN of colours, from the image's mean red and mean green and blue."""
    return math.exp(20 * red) / (math.exp(20 * red) + 2 * math.exp(20 * others))


WITH, WITHOUT = probability((4 + 12 * 0.2) / 16, 12 * 0.2 / 16), 1 / 3


def test_where_images_differ():
    assert torch.equal(differing(IMAGE, GREY), EVIDENCE)
    blue = IMAGE.clone()
    blue[:, 2, 3, 3] = 0.3
    assert differing(IMAGE, blue).nonzero().tolist() == [[0, 0, 3, 3]], "one colour is enough"
    with pytest.raises(ValueError, match=r"counterfactuals \(1, 3, 4, 3\) for images \(1, 3, 4, 4\)"):
        differing(IMAGE, GREY[..., :3])


def test_average_precision_by_hand():
    maps = torch.tensor([[0.9, 0.5, 0.7, 0.1], [0.1, 0.2, 0.3, 0.4], [0.5] * 4, [0.3, 0.1, 0.3, 0.1]])
    evidence = torch.tensor([True, True, False, False]).expand(4, 1, 1, 4)
    expected = [
        0.5 * 1 + 0.5 * 2 / 3,
        0.5 * 1 / 3 + 0.5 * 2 / 4,
        0.5,  # equal values count together
        0.5 * 1 / 2 + 0.5 * 2 / 4,
    ]
    assert average_precision(maps.view(4, 1, 1, 4), evidence).tolist() == pytest.approx(expected)
    assert average_precision(maps.view(4, 1, 1, 4), evidence[:1]).tolist() == pytest.approx(expected)
    assert average_precision(maps[:1].view(1, 1, 1, 4), evidence[:1] & False).isnan().all()
    with pytest.raises(ValueError, match="boolean mask"):
        average_precision(maps.view(4, 1, 1, 4), evidence.float())


@pytest.fixture
def maps():
    """What finds the square, a little of it first; and what ranks it last."""
    found = EVIDENCE.float() * 0.5
    found[..., 0, 0] = 1
    return {("found", 0): found, ("missed", 1): 1 - found}


def test_scores_by_hand(colour_net, maps):
    given = {"counterfactuals": GREY, "steps": 4, "areas": (0.25,), "fills": ()}
    scores = judge(colour_net, IMAGE, maps, RED, **given).scores.set_index("method")
    found, missed = scores.loc["found"], scores.loc["missed"]
    assert found[["differing_pointing", "differing_mass", "differing_precision"]].tolist() == [1, 1, 1]
    assert missed["differing_pointing"] == 0
    assert missed["differing_mass"] == pytest.approx(1.5 / 13.5)
    # Three pixels come at 0.5, after the twelve of 1; the last one is the sixteenth.
    assert missed["differing_precision"] == pytest.approx(0.75 * 3 / 15 + 0.25 * 4 / 16)
    falls, rises = (WITH + 7 * WITHOUT) / 8, (WITHOUT + 7 * WITH) / 8  # at once, in the first of four steps
    late_fall, late_rise = (7 * WITH + WITHOUT) / 8, (7 * WITHOUT + WITH) / 8
    assert found["deletion_rerendered"] == pytest.approx(falls, abs=1e-6)
    assert found["insertion_rerendered"] == pytest.approx(rises, abs=1e-6)
    assert found["insertion - deletion_rerendered"] == pytest.approx(rises - falls, abs=1e-6)
    assert missed["deletion_rerendered"] == pytest.approx(late_fall, abs=1e-6)
    assert missed["insertion_rerendered"] == pytest.approx(late_rise, abs=1e-6)
    assert missed["insertion - deletion_rerendered"] == pytest.approx(late_rise - late_fall, abs=1e-6)
    assert found["drop_rerendered@25"] == pytest.approx(0, abs=1e-4)
    assert missed["drop_rerendered@25"] == pytest.approx(100 * (WITH - WITHOUT) / WITH, abs=1e-4)
    half = probability(
        (1 + 3 * 0.6 + 12 * 0.2) / 16, (3 * 0.1 + 12 * 0.2) / 16
    )  # found is 0.5 at three pixels
    assert found["drop_rerendered"] == pytest.approx(100 * (WITH - half) / WITH, abs=1e-4)
    assert found["increase_rerendered@25"] == 0


def test_every_image_has_its_own_counterfactual(colour_net, maps):
    images = torch.cat([IMAGE, IMAGE.flip(1), IMAGE.flip(2)])
    others = torch.cat([GREY, GREY, images[2:]])  # nothing changes in the last one
    three = {key: own.expand(3, -1, -1, -1) for key, own in maps.items()}
    given = {"steps": 4, "areas": (0.25,), "counterfactuals": others}
    target = torch.tensor([0, 2, 0])
    scores = judge(colour_net, images, three, target, **given, batch_size=2).scores
    found = scores[scores["method"] == "found"].set_index("image")
    assert found.loc[1, "deletion_rerendered"] == pytest.approx((WITH + 7 * WITHOUT) / 8, abs=1e-6)
    assert found.loc[2, "deletion_rerendered"] == pytest.approx(WITH, abs=1e-6)
    assert found.loc[2, "drop_rerendered@25"] == pytest.approx(0, abs=1e-4)
    where = ["differing_pointing", "differing_mass", "differing_precision"]
    assert found.loc[2, where].isna().all(), "nothing differs, so nothing can be found"
    assert found.loc[:1, where].eq(1).all(axis=None)
    plain = judge(colour_net, images, three, target, steps=4, areas=(0.25,)).scores
    assert list(plain) == [name for name in scores if "rerendered" not in name and "differing" not in name]
    assert scores[list(plain)].equals(plain), "what else there is stays as it was"


def test_without_steps_there_are_no_curves(colour_net, maps):
    scores = judge(colour_net, IMAGE, maps, RED, counterfactuals=GREY, fills=("black",)).scores
    assert [name for name in scores if "rerendered" in name] == ["drop_rerendered", "increase_rerendered"]
    assert headings(["drop_rerendered"])["drop_rerendered"] == ("drop\nrerendered", False)
    assert headings(["deletion_rerendered"]) == {}, "for the main table, the difference of both"


def test_curves_with_other_images_in_place_of_hidden_pixels(colour_net, maps):
    probe, own = Probe(colour_net), maps["found", 0]
    curves = perturbation_curves(probe, IMAGE, own, RED, steps=4, fill=GREY)
    assert curves.deletion[0].tolist() == pytest.approx([WITH, *[WITHOUT] * 4], abs=1e-6)
    assert curves.insertion[0].tolist() == pytest.approx([WITHOUT, *[WITH] * 4], abs=1e-6)
    with pytest.raises(ValueError, match="does not stand for images"):
        perturbation_curves(probe, IMAGE, own, RED, fill=GREY[:, :1])


@pytest.mark.parametrize(
    ("others", "message"),
    [
        (GREY[..., :2], "counterfactuals"),
        (GREY.expand(2, -1, -1, -1), "1 images, but not as many of counterfactuals"),
        (255 * GREY, "lie in"),
        ((255 * GREY).byte(), "divide by 255"),
    ],
)
def test_counterfactuals_that_do_not_fit(colour_net, maps, others, message):
    with pytest.raises(ValueError, match=message):
        judge(colour_net, IMAGE, maps, RED, counterfactuals=others)
