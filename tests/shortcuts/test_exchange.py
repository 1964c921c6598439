"""Exchange tests with a CNN that sees one pixel: which predictions turn is known."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from toys import Pixel, Tone, coloured

from gan_lib.shortcuts import Candidate, exchange_test, pasted
from gan_lib.shortcuts.exchange import balanced
from gan_lib.shortcuts.looks import border
from gan_lib.shortcuts.textures import retextured

COLUMNS = ["test", "image", "donor", "control_donor", "effect", "control", "gain", "control_gain"]


def square(size=(8, 8), top=2, left=3, side=2):
    mask = torch.zeros(1, 1, *size)
    mask[..., top : top + side, left : left + side] = 1
    return mask


def place(label, rows, masks=None):
    return Candidate(label, "place", torch.tensor(rows), square() if masks is None else masks)


def asked(labels, candidate, cnn=None, images=None, **options):
    """The test's table, of images of these labels, which are predicted."""
    images = coloured(labels) if images is None else images
    given = (cnn or Pixel().eval(), lambda rows: images[rows], torch.tensor(labels), candidate)
    return exchange_test(*given, **options)


def of_test(table, name):
    return table[table["test"] == name].reset_index(drop=True)


# -- pasted ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(8, 8), (7, 12), (13, 5)])
@pytest.mark.parametrize("kind", ["place", "stamp", "returning", "border"])
def test_pixels_under_a_mask_are_pasted(kind, size):
    drawn = torch.Generator().manual_seed(0)
    images, donors = torch.rand(2, 3, *size, generator=drawn), torch.rand(2, 3, *size, generator=drawn)
    masks = torch.cat([square(size, 1, 2), border(size)])
    masks[0, 0, 0, 0] = 0.25
    made = pasted(images, donors, masks, Candidate(0, kind, torch.arange(2), masks))
    assert made.shape == images.shape
    inside = masks.expand(-1, 3, -1, -1) == 1
    assert torch.equal(made[inside], donors[inside])
    outside = masks.expand(-1, 3, -1, -1) == 0
    assert torch.equal(made[outside], images[outside])
    assert torch.allclose(made[0, :, 0, 0], 0.75 * images[0, :, 0, 0] + 0.25 * donors[0, :, 0, 0])


@pytest.mark.parametrize("size", [(8, 8), (7, 12)])
def test_a_tone_is_the_mean_colour(size):
    images, donors = torch.full((2, 3, *size), 0.5), torch.full((2, 3, *size), 0.3)
    images[:, :, 0, 0], donors[:, 1] = 0.9, 0.55
    donors[1] = 1.0
    own = Candidate(0, "tone", torch.arange(2))
    made = pasted(images, donors, None, own)
    change = 0.4 / (size[0] * size[1])
    assert made[0, :, -1, -1].tolist() == pytest.approx([0.3 - change, 0.55 - change, 0.3 - change])
    assert (made - images)[0, 0].std() < 1e-6, "everywhere alike"
    assert made[0].mean((1, 2)).tolist() == pytest.approx([0.3, 0.55, 0.3])
    assert made[1, :, 0, 0].tolist() == [1, 1, 1], "no brighter than white"
    assert pasted(images, donors - 0.5, None, own).min() == 0


@pytest.mark.parametrize("size", [(16, 16), (15, 22)])
def test_a_texture_is_retextured(size):
    drawn = torch.Generator().manual_seed(0)
    images, donors = torch.rand(2, 3, *size, generator=drawn), torch.rand(2, 3, *size, generator=drawn)
    band = torch.zeros(size[0] // 2, size[1] // 2 // 2 + 1, dtype=torch.bool)
    band[0, 2] = True
    own = Candidate(0, "texture", torch.arange(2), band=band)
    assert torch.equal(pasted(images, donors, None, own), retextured(images, donors, band))


# -- who receives, who gives -----------------------------------------------------------------------------

MANY = [0] * 5 + [1] * 12 + [2] * 7 + [0] * 2


def test_every_paste_turns_the_prediction_and_no_control_does():
    table = asked(MANY, place(0, [4, 1, 24]), count=6)
    assert list(table) == COLUMNS
    made = of_test(table, "pasted")
    assert made["effect"].tolist() == [1] * 6
    assert made["control"].tolist() == [0] * 6
    assert made["donor"].tolist() == [4, 1, 24, 4, 1, 24], "the candidate's, in its order, in turn"
    labels = torch.tensor(MANY)
    for row in made.to_dict("records"):
        assert {int(labels[row["image"]]), int(labels[row["control_donor"]])} == {1, 2}, "a third class"
    assert made["image"].nunique() == 6
    assert of_test(table, "hidden")["image"].tolist() == [4, 1, 24]


def test_gains_by_hand():
    """Logits of 9 for the pixel's channel, 0 for both others."""
    bright = float(torch.tensor([9.0, 0, 0]).softmax(0)[0])
    dark = (1 - bright) / 2
    table = asked(MANY, place(0, [4, 1]), count=4)
    made, hidden = of_test(table, "pasted"), of_test(table, "hidden")
    assert made["gain"].tolist() == pytest.approx([bright - dark] * 4)
    assert made["control_gain"].tolist() == pytest.approx([0] * 4, abs=1e-6)
    assert hidden["gain"].tolist() == pytest.approx([bright - dark] * 2)
    assert hidden["control_gain"].tolist() == pytest.approx([0] * 2, abs=1e-6)


def test_a_gain_without_an_effect():
    """A fainter colour of the class raises its probability, and turns nothing."""
    images = coloured(MANY)
    images[4, :, 2:4, 3:5] = torch.tensor([0.5, 0.6, 0.6])[:, None, None]
    made = of_test(asked(MANY, place(0, [4]), images=images, count=4), "pasted")
    assert made["effect"].tolist() == [0] * 4
    faint = float(torch.tensor([5.0, 6, 6]).softmax(0)[0])
    before = float(torch.tensor([0.0, 9, 0]).softmax(0)[0])
    assert made["gain"].tolist() == pytest.approx([faint - before] * 4, abs=1e-6)


def test_what_is_hidden_and_its_control():
    """Every image with the look gets the place of another class, and of the next image that has it."""
    table = asked(MANY, place(0, [4, 1, 24, 3]), count=3)
    hidden = of_test(table, "hidden")
    assert hidden["image"].tolist() == [4, 1, 24], "not more than asked for"
    assert hidden["control_donor"].tolist() == [1, 24, 3]
    assert all(MANY[row] for row in hidden["donor"])
    assert hidden["donor"].nunique() == 3
    assert hidden["effect"].tolist() == [1, 1, 1]
    assert hidden["control"].tolist() == [0, 0, 0]
    around = of_test(asked(MANY, place(0, [4, 1, 24, 3]), count=9), "hidden")
    assert around["control_donor"].tolist() == [1, 24, 3, 4], "after the last comes the first"
    assert {MANY[row] for row in hidden["donor"]} == {1, 2}, "classes in turn"


def test_a_control_that_loses_the_class_counts():
    images = coloured(MANY)
    images[1, :, 2:4, 3:5] = 0.0
    images[1, 2, 2:4, 3:5] = 0.9  # has not what it is said to have
    hidden = of_test(asked(MANY, place(0, [4, 1]), images=images, count=3), "hidden")
    assert hidden["control"].tolist() == [1, 0]
    assert hidden["effect"].tolist() == [1, 1]
    assert hidden["control_gain"].tolist()[0] > 0.9
    made = of_test(asked(MANY, place(0, [1, 4]), images=images, count=4), "pasted")
    assert made["effect"].tolist() == [0, 1, 0, 1]


def test_nothing_is_hidden_of_one_image_alone():
    assert set(asked(MANY, place(0, [4]))["test"]) == {"pasted"}
    assert set(asked(MANY, place(0, [4, 1]))["test"]) == {"pasted", "hidden"}
    assert set(asked(MANY, place(0, [4, 1]), hide=False)["test"]) == {"pasted"}
    assert set(asked(MANY, place(0, [4, 1]), count=1)["test"]) == {"pasted"}


def test_an_image_of_another_class_has_nothing_to_lose():
    """Row 6 has the look, and is predicted as class 1."""
    hidden = of_test(asked(MANY, place(0, [4, 6, 1]), count=5), "hidden")
    assert hidden["image"].tolist() == [4, 1]
    assert hidden["control_donor"].tolist() == [6, 4], "the one after itself"
    assert "hidden" not in set(asked(MANY, place(0, [6, 7]))["test"])


def test_few_others_are_used_again():
    labels = [0] * 5 + [1] * 2
    table = asked(labels, place(0, [0, 1, 2, 3, 4]), count=9)
    assert sorted(of_test(table, "pasted")["image"]) == [5, 6]
    assert sorted(of_test(table, "hidden")["donor"].value_counts()) == [2, 3]
    assert set(of_test(table, "hidden")["donor"]) == {5, 6}


def test_two_classes_have_no_third():
    """The control is then another image of the receiver's own class, itself only where it is alone."""
    made = of_test(asked([0] * 4 + [1] * 5, place(0, [0, 1])), "pasted")
    assert (made["control_donor"] >= 4).all()
    assert (made["control_donor"] != made["image"]).all()
    assert made["control"].sum() == 0
    alone = of_test(asked([0] * 4 + [1], place(0, [0, 1])), "pasted")
    assert alone[["image", "control_donor"]].to_numpy().tolist() == [[4, 4]]


def test_one_class_alone_has_no_table():
    table = asked([0] * 6, place(0, [0, 1, 2]))
    assert list(table) == COLUMNS
    assert table.empty


def test_controls_are_drawn_from_all_other_images():
    drawn = set()
    for seed in range(20):
        made = of_test(asked(MANY, place(0, [0]), count=1, seed=seed), "pasted")
        drawn |= set(made["control_donor"])
    assert len(drawn) > 8
    assert all(MANY[row] for row in drawn)


def test_images_that_were_skipped_are_not_used_again():
    first = of_test(asked(MANY, place(0, [0, 1]), count=5, seed=3), "pasted")["image"].tolist()
    rest = of_test(asked(MANY, place(0, [0, 1]), count=30, seed=3, skip=5), "pasted")["image"].tolist()
    assert not set(first) & set(rest)
    assert sorted(first + rest) == [row for row, label in enumerate(MANY) if label]
    few = of_test(asked(MANY, place(0, [0, 1]), count=4, seed=3, skip=5), "pasted")["image"].tolist()
    assert few == rest[:4]
    assert of_test(asked(MANY, place(0, [0, 1]), count=4, skip=19), "pasted").empty


def test_seeds():
    one, two = (asked(MANY, place(0, [0, 1]), count=6, seed=5) for _ in range(2))
    assert one.equals(two)
    drawn = {
        tuple(of_test(asked(MANY, place(0, [0]), count=6, seed=seed), "pasted")["image"]) for seed in range(5)
    }
    assert len(drawn) == 5


def test_donors_are_at_most_as_many_as_images():
    """The most typical two of four, where two images are asked for."""
    made = of_test(asked(MANY, place(0, [24, 3, 1, 0]), count=2), "pasted")
    assert made["donor"].tolist() == [24, 3]
    made = of_test(asked(MANY, place(0, [24, 3, 1, 0]), count=2, skip=1), "pasted")
    assert made["donor"].tolist() == [24, 3]


def test_every_donors_own_mask_is_pasted():
    """Of two donors only the second has its patch where the CNN looks."""
    masks = torch.cat([square(top=5, left=0), square()])
    own = Candidate(0, "returning", torch.tensor([4, 1]), masks)
    table = asked(MANY, own, count=6)
    assert of_test(table, "pasted")["effect"].tolist() == [0, 1, 0, 1, 0, 1]
    assert of_test(table, "hidden")["effect"].tolist() == [0, 1]
    held = Candidate(0, "returning", torch.tensor([6, 4, 1]), masks[[0, 0, 1]])
    assert of_test(asked(MANY, held, count=6), "hidden")["effect"].tolist() == [0, 1]


def test_tones_are_exchanged():
    images = torch.rand(26, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.1 + 0.4
    for row, label in enumerate(MANY):
        images[row, label] += 0.2
    table = asked(MANY, Candidate(0, "tone", torch.tensor([0, 1, 2])), Tone().eval(), images, count=6)
    for name in ("pasted", "hidden"):
        assert of_test(table, name)["effect"].min() == 1
        assert of_test(table, name)["control"].max() == 0


def test_the_cnn_is_left_as_it_was():
    cnn = nn.Sequential(Pixel(), nn.Identity().eval()).train()
    cnn[1].eval()
    table = asked(MANY, place(0, [0, 1]), cnn, count=6)
    assert of_test(table, "pasted")["effect"].tolist() == [1] * 6, "in evaluation mode, without dropout"
    assert (cnn.training, cnn[0].training, cnn[0].dropout.training, cnn[1].training) == (True,) * 3 + (False,)
    assert cnn[0].scale.grad is None
    assert cnn[0].scale.requires_grad
    assert not any(own._forward_hooks for own in cnn.modules())


# -- classes in turn -------------------------------------------------------------------------------------


def test_classes_in_turn():
    """Of five, two and one: three of different classes, then two, then the rest of the largest."""
    predicted = torch.tensor([9, 4, 4, 4, 4, 4, 7, 7, 2, 9])
    rows = torch.arange(1, 9)
    for seed in range(5):
        made = balanced(rows, predicted, 8, torch.Generator().manual_seed(seed))
        assert sorted(made.tolist()) == rows.tolist()
        labels = predicted[made].tolist()
        assert set(labels[:3]) == {2, 4, 7}
        assert set(labels[3:5]) == {4, 7}
        assert labels[5:] == [4, 4, 4]
        part = balanced(rows, predicted, 4, torch.Generator().manual_seed(seed))
        assert part.tolist() == made[:4].tolist()
    orders = {
        tuple(balanced(rows, predicted, 8, torch.Generator().manual_seed(seed)).tolist()) for seed in range(9)
    }
    assert len(orders) == 9
    drawn = torch.Generator().manual_seed(0)
    assert len(balanced(rows, predicted, 99, drawn)) == 8
    assert len(balanced(rows, predicted, 0, drawn)) == 0
    assert len(balanced(rows[:0], predicted, 4, drawn)) == 0
