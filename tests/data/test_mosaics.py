"""Mosaics and pairs, worked out by hand."""

from __future__ import annotations

import pytest
import torch

from gan_lib.data import mosaic, unlike_pairs

# Two images of 2 x 4 pixels, alike in all colours.
ONE = torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]]).expand(1, 3, 2, 4) / 100
OTHER = torch.tensor([[10.0, 20, 30, 40], [50, 60, 70, 80]]).expand(1, 3, 2, 4) / 100


@pytest.mark.parametrize(
    ("kind", "expected", "is_first"),
    [
        ("beside", [[1, 2, 3, 4, 10, 20, 30, 40], [5, 6, 7, 8, 50, 60, 70, 80]], [[1] * 4 + [0] * 4] * 2),
        (
            "above",
            [[1, 2, 3, 4], [5, 6, 7, 8], [10, 20, 30, 40], [50, 60, 70, 80]],
            [[1] * 4] * 2 + [[0] * 4] * 2,
        ),
        ("halves", [[2, 3, 20, 30], [6, 7, 60, 70]], [[1, 1, 0, 0]] * 2),
    ],
)
def test_joined_images(kind, expected, is_first):
    joined, region = mosaic(ONE, OTHER, kind)
    assert torch.allclose(joined, torch.tensor(expected).float().expand(1, 3, -1, -1) / 100)
    assert torch.equal(region[0, 0], torch.tensor(is_first).bool())


def test_a_small_image_is_pasted_into_the_lower_right_corner():
    first, second = torch.zeros(2, 3, 4, 6), torch.full((2, 3, 4, 6), 0.5)
    joined, region = mosaic(first, second, "pasted")
    shown = torch.zeros(4, 6)
    shown[2:, 3:] = 0.5
    assert torch.allclose(joined, shown.expand(2, 3, -1, -1))
    assert torch.equal(region[0, 0], shown == 0)
    assert not first.any(), "the images stay as they are"


def test_what_makes_no_mosaic():
    with pytest.raises(ValueError, match="make no mosaic"):
        mosaic(ONE, OTHER[..., :2])
    with pytest.raises(ValueError, match="not 'around'"):
        mosaic(ONE, OTHER, "around")


def test_pairs_are_of_two_classes_and_every_image_is_in_one_at_most():
    classes = torch.tensor([0, 1, 2] * 7)
    left, right = unlike_pairs(classes, seed=3)
    assert 0 < len(left) == len(right) <= 10
    assert (classes[left] != classes[right]).all()
    assert len({*left.tolist(), *right.tolist()}) == 2 * len(left)
    assert torch.equal(left, unlike_pairs(classes, seed=3)[0])
    assert not torch.equal(left, unlike_pairs(classes, seed=4)[0])
    alike = unlike_pairs(torch.ones(6, dtype=torch.long), seed=0)
    assert [len(own) for own in alike] == [3, 3], "of the one class that there is"


def test_few_images_make_pairs_of_two_classes():
    for seed in range(20):
        left, right = unlike_pairs(torch.tensor([0, 0, 1, 1]), seed)
        assert len(left) > 0
        assert (left // 2 != right // 2).all()
