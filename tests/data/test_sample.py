from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from gan_lib.data import ImageData, ImageSplit, image_folder


def split_of(labels, **columns):
    images = torch.arange(len(labels), dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2)
    return ImageSplit(images, torch.tensor(labels), **columns)


def furthest_from_share(labels, order):
    """How far any class is from its share in any beginning of an order, in images."""
    labels = np.asarray(labels)
    found = np.cumsum(labels[order.numpy(), None] == np.unique(labels), axis=0)  # (N, K)
    share = np.arange(1, len(labels) + 1)[:, None] * (labels[:, None] == np.unique(labels)).mean(0)
    return np.abs(found - share).max()


def test_an_order_worked_out_by_hand():
    """Four of class 7 and two of class 3. The 7s belong to places 0-1, 1-2, 3-4, 4-5, the 3s to 0-2, 3-5.

    Place 0: the 7 must come before place 2, the 3 before 3, so a 7. Place 1: the second 7 and the 3 must both
    come before 3, so the lot decides, and place 2 has the other. Places 3 to 5 repeat it.
    """
    labels = torch.tensor([7, 3, 7, 7, 3, 7])
    seen = set()
    for seed in range(40):
        order = split_of(labels.tolist()).sample(None, seed)
        assert sorted(order.tolist()) == list(range(6))
        drawn = labels[order].tolist()
        assert [drawn[0], drawn[3]] == [7, 7]
        assert sorted(drawn[1:3]) == sorted(drawn[4:]) == [3, 7]
        seen.add(tuple(order.tolist()))
    assert len(seen) > 20  # of 4! * 2! * 2 * 2 orders
    assert {order[0] for order in seen} == {0, 2, 3, 5}  # every 7 comes first in some


def test_the_same_rows_on_every_platform():
    order = split_of([0] * 5 + [1] * 3 + [2] * 4).sample(None, seed=38)
    assert order.tolist() == [1, 8, 7, 0, 10, 5, 2, 11, 3, 9, 4, 6]


@pytest.mark.parametrize("seed", range(30))
def test_every_beginning_holds_the_classes_in_proportion(seed):
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(rng.integers(1, 12), rng.choice([0.1, 0.5, 5])))
    labels = rng.choice(len(shares), rng.integers(1, 300), p=shares).tolist()
    order = split_of(labels).sample(None, seed)
    assert sorted(order.tolist()) == list(range(len(labels)))
    assert furthest_from_share(labels, order) < 1


def test_many_small_classes_do_not_crowd_out_a_large_one():
    """All due in the middle, ten classes of one image would come in a row; the share allows one or two."""
    labels = [0] * 90 + list(range(1, 11))
    assert furthest_from_share(labels, split_of(labels).sample(None, seed=0)) < 1


def test_draws_are_disjoint_and_seeded_and_know_only_labels():
    labels = torch.arange(5).repeat_interleave(8)  # sorted by class, as folders are
    split = split_of(labels.tolist())
    first, second, rest = split.sample(15, 3), split.sample(10, 3, skip=15), split.sample(None, 3, skip=25)
    assert torch.equal(torch.cat([first, second, rest]), split.sample(None, 3))
    assert [torch.bincount(labels[rows]).tolist() for rows in (first, second, rest)] == [
        [3] * 5,
        [2] * 5,
        [3] * 5,
    ]
    assert not torch.equal(first, split.sample(15, 4))
    other = ImageSplit(torch.zeros(40, 3, 9, 9, dtype=torch.uint8), labels)
    assert torch.equal(other.sample(15, 3), first)
    assert len(split.sample(99, 3)) == 40
    assert len(split.sample(99, 3, skip=38)) == 2
    assert split.sample(0, 3).tolist() == split.sample(None, 3, skip=40).tolist() == []
    for wrong in ({"count": -1}, {"count": 1, "skip": -1}):
        with pytest.raises(ValueError, match="negative"):
            split.sample(**wrong, seed=0)


def test_examples_are_of_all_classes_in_their_order():
    split = split_of([2, 0, 1, 0, 2, 0, 1, 0])  # four of class 0, two of 1 and 2
    assert [int(split.labels[row]) for row in split.examples(4, seed=0)] == [0, 0, 1, 2]
    assert sorted(split.examples(None, seed=0).tolist()) == list(range(8))
    assert split.examples(4, seed=0).tolist() != split.examples(4, seed=3).tolist()


def test_of_more_classes_than_images_some_at_even_distances():
    """Of classes 0 to 8 three: the middles of the thirds, 1, 4 and 7. However large the others are."""
    labels = [label for label in range(9) for _ in range(30 if label in (0, 2, 3) else 2)]
    split = split_of(labels)
    seen = {tuple(split.examples(3, seed).tolist()) for seed in range(20)}
    assert {tuple(labels[row] for row in rows) for rows in seen} == {(1, 4, 7)}
    assert len(seen) > 4  # of 2 * 2 * 2 draws
    assert [labels[row] for row in split.examples(1, 0)] == [4]
    assert split.examples(0, 0).tolist() == []
    with pytest.raises(ValueError, match="negative"):
        split.examples(-1, 0)


def test_examples_of_a_folder_with_many_classes(tmp_path):
    for split, count in (("train", 2), ("test", 1)):
        for label in range(100):
            folder = tmp_path / split / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (4, 4)).save(folder / f"{number}.png")
    train = image_folder(tmp_path, size=4).train
    assert train.labels[train.examples(20, 0)].tolist() == list(range(2, 100, 5))


def test_a_split_is_known_by_its_contents(tmp_path, scenes):
    split = split_of([0, 1, 1])
    assert split.fingerprint == split_of([0, 1, 1]).fingerprint
    masks = torch.zeros(3, 1, 2, 2, dtype=torch.bool)
    others = [split_of([0, 1, 0]), split_of([0, 1, 1], masks=masks), split_of([0, 1, 1], marks=masks)]
    others += [split.subset([1, 0, 2]), split.subset([0, 1])]
    assert len({split.fingerprint, *(other.fingerprint for other in others)}) == 6
    scenes.save(tmp_path)
    loaded, again = ImageData.load(tmp_path), ImageData.load(tmp_path)
    assert loaded.train.fingerprint == again.train.fingerprint != loaded.test.fingerprint
