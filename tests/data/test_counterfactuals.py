"""Images drawn again with one thing changed: equal to the data set's where nothing is, and elsewhere alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gan_lib.data import digits_in_scenes
from gan_lib.data.counterfactuals import (
    on_grey,
    on_other_scenes,
    with_second_digit,
    without_digit,
    without_mark,
)
from gan_lib.data.scenes import Layers, behind, digit_samples, first_visible, scene_layers

SET = {"train": 20, "test": 12, "size": 32, "seed": 5, "validation": 4, "confounded": True}
DRAWN = dict(scene_layers(**SET))
CHANGES = [without_digit, without_mark, on_grey, on_other_scenes, with_second_digit]


@pytest.fixture(scope="module")
def data():
    return digits_in_scenes(**SET)


@pytest.fixture(scope="module")
def layers():
    """Of digits alone: no mark hides what is changed."""
    return dict(scene_layers(train=10, test=24, size=32, seed=2))["test"]


@pytest.fixture
def simple():
    """Two images of 2 x 2 pixels: a digit at the upper left, half of one beside it, a mark at the lower right."""
    opacity = torch.tensor([[1.0, 0.4], [0, 0]]).expand(2, 1, 2, 2)
    marks = torch.tensor([[False, False], [False, True]]).expand(2, 1, 2, 2)
    scenes = torch.tensor([0.2, 0.6])[:, None, None, None].expand(2, 3, 2, 2)
    colours, mark_colours = torch.tensor([[1.0, 0, 0], [0, 0, 1.0]]), torch.tensor([[0, 1.0, 0]] * 2)
    corners, labels = torch.ones(2, 2), torch.tensor([3, 4])
    return Layers(scenes, ((opacity, colours),), corners, labels, marks, mark_colours, torch.arange(100))


@pytest.mark.parametrize("split", ["train", "test", "validation", "conflict"])
def test_nothing_changed_is_the_data_sets_image(data, split):
    rows = torch.tensor([3, 0])
    again, own = DRAWN[split][rows], data[split].subset(rows)
    assert torch.equal(again.rendered(), own.images)
    assert torch.equal(again.masks, own.masks)
    assert torch.equal(again.marks, own.marks)
    assert torch.equal(again.labels, own.labels)
    assert DRAWN.keys() == data.splits.keys()
    assert len(DRAWN[split]) == len(data[split])
    assert torch.equal(DRAWN[split][1:3].rendered(), data[split].images[1:3])


def test_layers_by_hand(simple):
    red = [51 + 0.4 * (255 - 51), 51 * 0.6, 51 * 0.6]  # 0.6 of the scene, 0.4 of the digit
    image = simple.rendered()[0].permute(1, 2, 0)  # (2, 2, 3)
    assert image.tolist() == [
        [[255, 0, 0], [round(value) for value in red]],
        [[51, 51, 51], [0, 255, 0]],
    ]
    assert simple.masks[0, 0].tolist() == [[True, False], [False, False]], "0.4 is not the digit"
    empty = without_digit(simple)
    assert empty.rendered()[1, 0].tolist() == [[153, 153], [153, 0]], "the mark stays"
    assert not empty.masks.any()
    assert without_mark(simple).rendered()[0, :, 1, 1].tolist() == [51, 51, 51]
    assert torch.equal(without_mark(simple).rendered()[..., 0, :], simple.rendered()[..., 0, :])
    assert on_grey(simple).rendered()[1, :, 1, 0].tolist() == [128, 128, 128]
    assert on_grey(simple).rendered()[1, :, 0, 0].tolist() == [0, 0, 255]


def test_without_its_digit_an_image_differs_where_the_digit_is(layers):
    images, empty = layers.rendered(), without_digit(layers).rendered()
    differs = (images != empty).any(1, keepdim=True)
    drawn = layers.digits[0][0] > 0
    assert not (differs & ~drawn).any()
    assert (differs & layers.masks).sum() / layers.masks.sum() > 0.99
    assert torch.equal(empty, (layers.scenes * 255).round().to(torch.uint8))


def test_other_scenes_behind_the_same_digits(layers):
    changed = on_other_scenes(layers, seed=1)
    images, others = layers.rendered().float(), changed.rendered().float()
    solid = (layers.digits[0][0] == 1).expand_as(images)
    assert torch.equal(images[solid], others[solid])
    assert (images != others)[~solid].float().mean() > 0.9
    contrast = contrasts(changed)
    assert (contrast >= 0.35).float().mean() > 0.8, "the digit can be seen there too"
    assert not torch.equal(others, on_other_scenes(layers, seed=2).rendered().float())


def contrasts(layers):
    colours = layers.digits[-1][1] - behind(layers.scenes, layers.masks)
    return (colours @ torch.tensor([0.299, 0.587, 0.114])).abs()


def test_the_first_that_is_visible_else_the_best():
    differences = torch.tensor([[0.1, -0.5, 0.9], [0.1, -0.3, 0.2]])[..., None].expand(2, 3, 3)
    assert first_visible(differences).tolist() == [1, 1]


def test_a_second_digit_of_another_class_lies_behind_in_the_far_corner(layers):
    changed = with_second_digit(layers, seed=0)
    second, own = changed.digits[0][0], layers.digits[0][0]
    images, others = layers.rendered(), changed.rendered()
    solid = (own == 1).expand_as(images)
    assert torch.equal(images[solid], others[solid])
    assert torch.equal(changed.masks, layers.masks), "the evidence for the label is the digit in front"
    for opacity, (x, y) in zip(second[:, 0], layers.corners.tolist(), strict=True):
        rows, columns = (opacity > 0).nonzero().float().mean(0).tolist()
        assert (columns > 15.5) == (x > 0)
        assert (rows > 15.5) == (y > 0)
        assert (opacity > 0).any(1).sum() <= 0.5 * 32, "as small as digits are"
    assert ((images != others).any(1, keepdim=True) & (second == 0)).sum() == 0


def test_the_second_digit_is_one_of_the_splits_and_not_of_the_images_class(layers, monkeypatch):
    samples, classes = digit_samples()
    asked = []

    def placed(digits, *given):
        asked.append(digits)
        return torch.zeros(len(digits), 1, 32, 32)

    monkeypatch.setattr("gan_lib.data.counterfactuals.placed", placed)
    with_second_digit(layers, seed=0)
    (digits,) = asked
    rows = [int((samples == own).flatten(1).all(1).nonzero()[0, 0]) for own in digits]
    assert (classes[rows] != layers.labels).all()
    assert set(rows) <= set(layers.pool.tolist())
    assert len(classes[rows].unique()) > 4


@pytest.mark.parametrize("change", CHANGES)
def test_an_image_changes_the_same_way_in_any_company(change):
    test = DRAWN["conflict"]
    whole, order = change(test), torch.tensor([4, 0, 9])
    assert torch.equal(change(test[order]).rendered(), whole.rendered()[order])
    assert torch.equal(change(test[[9]]).rendered(), whole.rendered()[[9]])
    assert torch.equal(test.rendered(), DRAWN["conflict"].rendered()), "what is given stays as it is"
    assert not torch.equal(whole.rendered(), test.rendered())


def test_without_its_mark_an_image_is_clean():
    marked = DRAWN["conflict"]
    images, clean = marked.rendered(), without_mark(marked).rendered()
    differs = (images != clean).any(1, keepdim=True)
    assert not (differs & ~marked.marks).any()
    assert differs.sum() / marked.marks.sum() > 0.99
    assert not without_mark(marked).marks.any()
    plain = replace(marked, marks=None)
    with pytest.raises(ValueError, match="no marks"):
        without_mark(plain)
    assert torch.equal(plain.rendered(), clean), "drawn in the same way"
