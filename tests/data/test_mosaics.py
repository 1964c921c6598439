"""Mosaics and pairs, worked out by hand."""

from __future__ import annotations

import pytest
import torch

from gan_lib.data import mosaic, overlaid, quarters, unlike_groups, unlike_pairs

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


def test_pairs_are_those_of_the_committed_figures():
    """Drawn when there were only pairs: a random order, its first half beside its second."""
    order = torch.randperm(9, generator=torch.Generator().manual_seed(5))
    classes = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2])
    pairs = [(a, b) for a, b in zip(order[:4].tolist(), order[4:8].tolist(), strict=True) if a % 3 != b % 3]
    left, right = unlike_pairs(classes, seed=5)
    assert [*zip(left.tolist(), right.tolist(), strict=True)] == pairs
    for few in (0, 1):
        assert [len(own) for own in unlike_pairs(torch.zeros(few, dtype=torch.long), 0)] == [0, 0]


def test_four_images_in_reading_order():
    images = torch.tensor([1.0, 2, 3, 4, 5, 6, 7, 8]).view(2, 4, 1, 1, 1).expand(2, 4, 3, 1, 2) / 10
    pictures, regions = quarters(images)
    shown = torch.tensor([[[1.0, 1, 2, 2], [3, 3, 4, 4]], [[5, 5, 6, 6], [7, 7, 8, 8]]]) / 10
    assert torch.equal(pictures, shown[:, None].expand(-1, 3, -1, -1))
    assert regions.shape == (4, 1, 1, 2, 4)
    for place, region in enumerate(regions):
        assert torch.equal(region[0, 0], shown[0] == images[0, place, 0, 0, 0])


@pytest.mark.parametrize("shape", [(2, 3, 3, 4, 4), (2, 4, 1, 4, 4), (4, 3, 4, 4)])
def test_images_that_do_not_come_in_fours(shape):
    with pytest.raises(ValueError, match=r"in fours are \(B, 4, 3, H, W\), not"):
        quarters(torch.zeros(shape))


def test_two_images_in_one():
    both = overlaid(ONE, OTHER)
    expected = torch.tensor([[5.5, 11, 16.5, 22], [27.5, 33, 38.5, 44]]).expand(1, 3, 2, 4) / 100
    assert torch.allclose(both, expected)
    with pytest.raises(ValueError, match="cannot be overlaid"):
        overlaid(ONE, OTHER[..., :2])


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_groups_are_of_different_classes_and_every_image_is_in_one_at_most(size):
    classes = torch.arange(6).repeat(20)
    groups = unlike_groups(classes, size, seed=1)
    assert groups.shape[1] == size
    assert 0 < len(groups) <= 120 // size
    assert all(len(set(own)) == size for own in classes[groups].tolist())
    assert len(groups.unique()) == groups.numel()
    assert torch.equal(groups, unlike_groups(classes, size, seed=1))
    assert not torch.equal(groups, unlike_groups(classes, size, seed=2)[: len(groups)])


def test_a_group_with_a_class_twice_is_left_out():
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0)).view(3, 10).T.tolist()
    classes = torch.arange(30) % 5
    expected = [own for own in order if len({row % 5 for row in own}) == 3]
    assert unlike_groups(classes, 3, seed=0).tolist() == expected
    assert len(expected) < 10


def test_few_images_make_a_group_of_all_their_classes():
    for seed in range(20):
        groups = unlike_groups(torch.tensor([0, 0, 0, 1, 2, 2]), 3, seed)
        assert len(groups) > 0
        assert all(sorted(own) == [0, 1, 2] for own in torch.tensor([0, 0, 0, 1, 2, 2])[groups].tolist())
        assert len(groups.unique()) == groups.numel()


def test_groups_that_cannot_be():
    with pytest.raises(ValueError, match="3 classes make no groups of 4 different ones"):
        unlike_groups(torch.tensor([0, 1, 2, 2]), 4, seed=0)
    with pytest.raises(ValueError, match="size must be at least 1"):
        unlike_groups(torch.tensor([0, 1]), 0, seed=0)
