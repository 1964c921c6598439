"""Looks that return, counted by hand: images of a few cells, of which each has a flat colour of its own."""

from __future__ import annotations

import math
import warnings
from types import SimpleNamespace

import pytest
import torch

from gan_lib.shortcuts import Candidate, candidates
from gan_lib.shortcuts.looks import (
    FEWEST,
    KINDS,
    _alike,
    _density,
    _enlarged,
    _floats,
    _grid,
    _peaks,
    _returning,
    _same_place,
    _stamps,
    border,
)

MARK = torch.tensor([0.0, 0.0, 1.0])


def flat(count, size=(8, 8), step=0.1):
    """Images (N, 3, H, W) of a flat colour each; any two differ by a step or more in a channel."""
    number, levels = torch.arange(count), 8
    colours = torch.stack([number % levels, number // levels % levels, number // levels**2], 1) * step
    return colours[:, :, None, None].expand(-1, -1, *size).clone()


def painted(images, rows, box, colour=MARK):
    """The images, with a colour in left, top, right, bottom of some rows."""
    left, top, right, bottom = box
    for row in rows:
        images[row, :, top:bottom, left:right] = colour[:, None, None]
    return images


def of_kind(found, kind, label=0):
    return [own for own in found if own.kind == kind and own.label == label]


def places_of(images, own=10, **options):
    """Places of class 0, which the first images are of; the others are of class 1."""
    predicted = (torch.arange(len(images)) >= own).long()
    options.setdefault("fewest", min(own, 8))
    return of_kind(candidates(images, predicted, **options), "place")


def box_of(candidate):
    """Left, top, right, bottom, by counting pixels, where the mask has the whole rectangle."""
    rows, columns = candidate.masks[0, 0].nonzero().T
    box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
    assert candidate.masks.sum() == (box[2] - box[0]) * (box[3] - box[1])
    return box


# -- the same place --------------------------------------------------------------------------------------


def test_a_mark_is_found_at_its_place():
    """Six of 10 images of a class have it, and one of 10 others: for every image that has it 5 of 9 others."""
    images = painted(flat(20), [1, 2, 4, 5, 7, 9, 12], (3, 2, 6, 4))
    (own,) = places_of(images)
    assert own.label == 0
    assert own.rows.tolist() == [1, 2, 4, 5, 7, 9]
    assert own.support == pytest.approx(5 / 9)
    assert own.elsewhere == pytest.approx(1 / 10)
    assert own.masks.shape == (1, 1, 8, 8)
    assert own.box == box_of(own) == (3, 2, 6, 4)
    assert own.band is None


def test_the_same_look_within_a_tolerance_in_every_channel():
    """0.06 of the range from black to white: 15 of 255 levels, not 16."""
    one = torch.zeros(3, 1, 4)
    others = torch.tensor([0.06, -0.06, 0.0601, -0.0601]).expand(3, 1, 4)
    assert _alike(one, others[None]).tolist() == [[[True, True, False, False]]]
    single = torch.zeros(3, 3, 1, 1)
    single[range(3), range(3)] = 0.07
    assert _alike(one[..., :1], single).flatten().tolist() == [False] * 3, "one channel is enough to differ"
    for apart, count in ((15, 6), (16, 3)):
        images = (255 * flat(20)).round().to(torch.uint8)
        for row in range(6):
            images[row, :, 2:4, 3:6] = torch.tensor([0, 0, 255 - apart * (row % 2)])[:, None, None]
        assert [len(own.rows) for own in places_of(images)] == [count], apart


def test_cells_belong_to_a_region_that_four_of_five_share():
    """Five images share the first cell; four of them the second, 0.8; three the third, which stays out."""
    images = painted(flat(20), [0, 1, 2, 3, 4], (2, 3, 3, 4))
    painted(images, [0, 2, 3, 4], (3, 3, 4, 4))
    painted(images, [0, 2, 3], (4, 3, 5, 4))
    own = places_of(images)[0]
    assert box_of(own) == (2, 3, 4, 4)
    assert own.rows.tolist() == [0, 2, 3, 4, 1], "who has the whole region comes first"
    assert own.support == pytest.approx(4 / 9)
    assert own.elsewhere == 0


@pytest.mark.parametrize(("others", "box"), [(2, (2, 3, 4, 4)), (3, (2, 3, 3, 4))])
def test_what_other_classes_have_too_is_left_out(others, box):
    """Support 4/9 in both cells; the second is in others as well: a lift of half, 2/9, is asked for."""
    images = painted(flat(20), range(5), (2, 3, 4, 4))
    painted(images, range(10, 10 + others), (3, 3, 4, 4))
    assert box_of(places_of(images)[0]) == box


def test_a_region_is_connected_corners_included():
    images = painted(flat(20), range(5), (1, 1, 2, 2))
    painted(images, range(5), (2, 2, 3, 3))
    painted(images, range(4), (5, 5, 7, 6))
    first, second = places_of(images)
    assert first.masks[0, 0].nonzero().tolist() == [[1, 1], [2, 2]]
    assert box_of(second) == (5, 5, 7, 6)
    assert second.rows.tolist() == [0, 1, 2, 3]
    assert len(places_of(images, places=1)) == 1
    assert places_of(images, places=0) == []


def test_the_next_place_does_not_touch_the_one_before():
    """Three images more have a mark right beside the first one, of another colour; then one cell further."""
    for left, count in ((3, 1), (4, 2)):
        images = painted(flat(20), range(5), (2, 3, 3, 4))
        painted(images, range(5, 8), (left, 3, left + 1, 4))
        assert len(places_of(images)) == count


def test_two_looks_at_one_place_are_one_candidate():
    images = painted(flat(20), range(5), (2, 3, 3, 4))
    painted(images, range(5, 9), (2, 3, 3, 4), torch.tensor([1.0, 0.0, 1.0]))
    (own,) = places_of(images)
    assert own.rows.tolist() == [0, 1, 2, 3, 4]


def test_what_fills_more_than_a_quarter_is_no_detail():
    sixteen = painted(flat(20), range(5), (2, 2, 6, 6))
    assert box_of(places_of(sixteen)[0]) == (2, 2, 6, 6)
    more = painted(sixteen.clone(), range(5), (6, 2, 7, 3))
    assert places_of(more) == []
    painted(more, range(4), (0, 7, 2, 8))
    (own,) = places_of(more)
    assert box_of(own) == (0, 7, 2, 8), "what else returns is found all the same"
    assert places_of(more, places=1) == [], "one place was looked at"


def test_three_images_at_least():
    for count in (2, 3):
        images = painted(flat(16), range(count), (2, 3, 4, 4))
        assert [len(own.rows) for own in places_of(images, own=8)] == [3] * (count == FEWEST)
    # One of the others has it: 2/7 - 1/8 is less than three images of eight have.
    assert places_of(painted(flat(16), [0, 1, 2, 12], (2, 3, 4, 4)), own=8) == []


@pytest.mark.parametrize(("count", "found"), [(7, 0), (8, 1)])
def test_many_images_need_a_share_that_returns(count, found):
    """Of 79 others 6 are 7.6 %, 7 are 8.9 %: 8 % are asked for."""
    images = painted(flat(100), range(count), (2, 3, 4, 4))
    assert len(places_of(images, own=80)) == found


def test_evidence_says_what_comes_first():
    """Six images have a mark at the right, four one at the left: 5/9 and 3/9, times the evidence there."""
    images = painted(flat(20), range(6), (6, 3, 7, 4))
    painted(images, range(4), (1, 3, 2, 4))
    evidence = torch.ones(20, 1, 8, 8)
    assert [own.box[0] for own in places_of(images, evidence=evidence)] == [6, 1]
    evidence[:10, 0, 3, 1] = 2.0  # 2 * 3/9 is more than 5/9
    first, second = places_of(images, evidence=evidence)
    assert (first.box[0], second.box[0]) == (1, 6)
    assert (first.support, second.support) == pytest.approx((3 / 9, 5 / 9)), "shares are shares"
    # Ever more counts no more than three times the mean: 50 * 3/9 of 1.9 is more than 10 * 5/9, 3 * 3/9 not.
    evidence[:10, 0, 3, 1], evidence[:10, 0, 3, 6] = 50.0, 10.0
    assert [own.box[0] for own in places_of(images, evidence=evidence)] == [6, 1]
    evidence = torch.ones(20, 1, 8, 8)
    # Three of ten others have the first mark: 5/9 - 0.3 is less than 3/9.
    common = painted(images.clone(), range(10, 13), (6, 3, 7, 4))
    assert [own.box[0] for own in places_of(common, evidence=evidence)] == [1, 6]
    evidence[10:, 0, 3, 1] = 9.0
    assert [own.box[0] for own in places_of(images, evidence=evidence)] == [6, 1], "others' maps do not count"


def test_evidence_in_cells():
    """Relative to each map's mean; a map of zeros says nothing."""
    maps = torch.zeros(3, 1, 4, 4)
    maps[0, 0, :2, :2] = torch.tensor([[16.0, 0.0], [0.0, 16.0]])
    maps[0, 0, :2, 2:] = 8.0
    maps[1] = 5.0
    made = _density(maps, (2, 2))
    assert made.tolist() == [[[2, 2], [0, 0]], [[1, 1], [1, 1]], [[1, 1], [1, 1]]]
    assert torch.equal(_density((maps * 10).to(torch.uint8), (2, 2)), made)


def test_evidence_in_parts_is_the_same():
    maps = torch.rand(70, 1, 5, 6, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(_density(maps, (4, 4))[64:], _density(maps[64:], (4, 4)))
    assert _density(maps, (4, 4)).shape == (70, 4, 4)
    assert _peaks(maps, (16, 24), 4)[64:] == _peaks(maps[64:], (16, 24), 4)


def test_cells_of_large_images():
    """Two pixels of 64 are a cell; odd and other sizes have as many as fit."""
    assert _grid((64, 64)) == (32, 32)
    assert _grid((64, 40)) == (32, 20)
    assert _grid((40, 64)) == (20, 32)
    assert _grid((8, 9)) == (8, 9), "no cell is smaller than a pixel"
    assert _grid((5, 160)) == (1, 32)
    assert _grid((1, 320)) == (1, 32)
    assert _grid((33, 65)) == (16, 32)
    assert (_grid((64, 31)), _grid((31, 64))) == ((32, 16), (16, 32)), "15.5 of them"
    images = painted(flat(20, (40, 64)), range(6), (8, 4, 14, 8))
    assert box_of(places_of(images)[0]) == (8, 4, 14, 8)
    odd = painted(flat(20, (33, 65)), range(6), (59, 27, 65, 33))
    left, top, right, bottom = places_of(odd)[0].box
    assert (right, bottom) == (65, 33)
    assert abs(left - 59) <= 2
    assert abs(top - 27) <= 2
    assert places_of(odd)[0].masks.shape == (1, 1, 33, 65)


def test_cells_as_pixels():
    region = torch.tensor([[False, True], [False, False]])
    made = _enlarged(region, (4, 6))
    assert made.shape == (1, 1, 4, 6)
    assert made[0, 0].nonzero().tolist() == [[row, column] for row in (0, 1) for column in (3, 4, 5)]


def test_images_of_whole_numbers_are_the_same():
    assert _floats(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([0, 0.2, 1])
    assert _floats(torch.tensor([0.25], dtype=torch.float64)).tolist() == [0.25]
    images = (255 * painted(flat(20), [1, 2, 4, 5], (3, 2, 6, 4))).round().to(torch.uint8)
    evidence = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    predicted = (torch.arange(20) >= 10).long()
    pairs = zip(
        candidates(images, predicted, evidence), candidates(images / 255, predicted, evidence), strict=True
    )
    for one, other in pairs:
        assert (one.label, one.kind) == (other.label, other.kind)
        assert torch.equal(one.rows, other.rows)
        assert one.box == other.box


# -- stamps ----------------------------------------------------------------------------------------------


def greys(count, size=(24, 24)):
    """Images of a flat grey each, from black to 0.6."""
    return torch.linspace(0, 0.6, count)[:, None, None, None].expand(-1, 3, *size).clone()


def stamped(images, rows, box, alpha=0.5):
    left, top, right, bottom = box
    images[rows, :, top:bottom, left:right] *= 1 - alpha
    images[rows, :, top:bottom, left:right] += alpha
    return images


def stamps_of(images, own=10, label=0, **options):
    predicted = (torch.arange(len(images)) >= own).long()
    return of_kind(candidates(images, predicted, fewest=min(own, 8), **options), "stamp", label)


def test_a_half_transparent_stamp_is_found():
    """It is seen best on dark images, of which the darker half are donors."""
    images = stamped(torch.cat([greys(10).flip(0), greys(10)]), list(range(10)), (18, 19, 22, 22))
    (own,) = stamps_of(images)
    assert own.rows.tolist() == [9, 8, 7, 6, 5]
    assert own.masks.shape == (1, 1, 24, 24)
    assert own.masks[0, 0, 19:22, 18:22].min() == 1
    # Beside it two cells of what is left of it in the surroundings, which are taken away, and one more.
    assert own.box == (15, 16, 24, 24)
    assert math.isnan(own.support)
    assert math.isnan(own.elsewhere)
    pair = stamps_of(images[:12])
    assert pair[0].rows.tolist() == own.rows.tolist(), "beside two others"
    # The others differ from class 0 there as much, the other way round.
    assert stamps_of(images, label=1)[0].box == own.box


def test_of_few_images_three_have_the_stamp():
    images = stamped(torch.cat([greys(5), greys(10)]), list(range(5)), (4, 4, 7, 7), alpha=0.9)
    (own,) = stamps_of(images, own=5)
    assert own.rows.tolist() == [0, 1, 2]


def test_without_a_pattern_there_is_no_stamp():
    assert stamps_of(torch.cat([greys(10), greys(10)])) == []
    noise = torch.rand(60, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert stamps_of(noise, own=30) == []
    both = stamped(torch.cat([greys(10), greys(10)]), list(range(20)), (18, 19, 22, 22))
    assert stamps_of(both) == [], "all classes have it"
    moving = torch.cat([greys(10), greys(10)])
    for row in range(10):
        stamped(moving, [row], (row, 15 - row, row + 1, 16 - row))
    assert stamps_of(moving) == [], "objects are at other places in every image"


def split_of(apart, wiggle, wiggle_elsewhere, cells=2, count=4):
    """Fine detail by hand: in some cells of the lower row ``apart`` plus and minus ``wiggle`` in images of the
    class, and 0 plus and minus ``wiggle_elsewhere`` in others."""
    small = torch.zeros(2 * count, 3, 16, 16)
    sign = torch.tensor([1.0, -1.0]).repeat(count // 2)
    for cell in range(cells):
        small[count:, 0, 8, 8 * cell] = apart + wiggle * sign
        small[:count, 0, 8, 8 * cell] = wiggle_elsewhere * sign
    return small, torch.arange(count, 2 * count), torch.arange(count)


def test_six_standard_errors_by_hand(monkeypatch):
    """Of 4 images 1 up or down, the variance is 4/3 and the error of the mean 1/sqrt(3): 3.5 are 6.1 of it.
    With the others' it is sqrt(2/3): 4.9 are 6.001."""
    from gan_lib.shortcuts import looks

    monkeypatch.setattr(looks.F, "avg_pool2d", lambda images, *_: torch.zeros(images.shape[0], 3, 16, 16))
    for apart, wiggle, other, count in (
        (3.5, 1, 0, 1), (3.4, 1, 0, 0), (-3.5, 1, 0, 1), (4.8, 1, 1, 0), (4.95, 1, 1, 1), (3.5, 0, 1, 1),
        (0.0059, 0, 0, 0), (0.0061, 0, 0, 1),
    ):  # fmt: skip
        small, own, rest = split_of(apart, wiggle, other)
        beside = small.clone()
        beside[..., 9] = small[..., 8]  # two clear cells in a part
        found = list(_stamps(beside, 0, own, rest, (16, 16)))
        assert len(found) == count, (apart, wiggle, other)
        if found:
            rows, columns = found[0].masks[0, 0].nonzero().T
            assert set(zip(rows.tolist(), columns.tolist(), strict=True)) == {
                *((8, column) for column in (7, 8, 9, 10)),
                *((row, column) for row in (7, 9) for column in (8, 9)),
            }, "the larger of two parts, grown by a cell up, down, left and right"
            typical = (4, 6, 5) if wiggle * apart > 0 else (5, 7, 4) if wiggle else (4, 5, 6)
            assert found[0].rows.tolist() == list(typical), "the clearest first, three of four"
        assert not list(_stamps(small, 0, own, rest, (16, 16))), "one clear cell alone"


def test_parts_of_a_stamp_touch_at_corners(monkeypatch):
    """Two clear cells two down and two across of each other: grown, they touch at corners."""
    from gan_lib.shortcuts import looks

    monkeypatch.setattr(looks.F, "avg_pool2d", lambda images, *_: torch.zeros(images.shape[0], 3, 16, 16))
    small = torch.zeros(8, 3, 16, 16)
    small[:4, 0, 4, 4] = small[:4, 1, 6, 6] = -0.5
    (own,) = _stamps(small, 0, torch.arange(4), torch.arange(4, 8), (16, 16))
    assert own.box == (3, 3, 8, 8)
    assert own.masks.sum() == 10
    small[:4, 1, 6, 6], small[:4, 1, 6, 7] = 0, -0.5
    assert not list(_stamps(small, 0, torch.arange(4), torch.arange(4, 8), (16, 16)))


def test_a_stamp_over_more_than_a_quarter_is_none(monkeypatch):
    from gan_lib.shortcuts import looks

    monkeypatch.setattr(looks.F, "avg_pool2d", lambda images, *_: torch.zeros(images.shape[0], 3, 16, 16))
    own, rest = torch.arange(4), torch.arange(4, 8)
    for high, count in ((3, 1), (4, 0)):  # grown by a row: 4 of 16, and 5
        small = torch.zeros(8, 3, 16, 16)
        small[:4, :, :high] = 0.5
        assert len(list(_stamps(small, 0, own, rest, (16, 16)))) == count


# -- patches that return ---------------------------------------------------------------------------------


def patches(have, size=(16, 16), count=20, wrong=0):
    """Images with a patch of 4 x 4 where the evidence is, which moves from image to image; of the last that
    has it, so many pixels are wrong."""
    images, evidence = flat(count, size), torch.zeros(count, 1, *size)
    pattern = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.8
    corners = []
    for row in range(count):
        y, x = (5 * row) % (size[0] - 3), (7 * row) % (size[1] - 3)
        evidence[row, 0, y : y + 4, x : x + 4] = 1
        if row in have:
            images[row, :, y : y + 4, x : x + 4] = pattern
        corners.append((y, x))
    if wrong:
        y, x = corners[max(have)]
        for pixel in range(wrong):
            images[max(have), :, y + pixel // 4, x + pixel % 4] = 0.5
    return images, evidence, corners


def returning_of(images, evidence, own=10, **options):
    predicted = (torch.arange(len(images)) >= own).long()
    return of_kind(candidates(images, predicted, evidence, fewest=min(own, 8), **options), "returning")


@pytest.mark.parametrize("size", [(16, 16), (13, 22), (31, 9)])
def test_a_patch_returns_where_the_evidence_is(size):
    images, evidence, corners = patches([1, 3, 4, 6, 8, 9, 12], size)
    (own,) = returning_of(images, evidence)
    assert own.rows.tolist() == [1, 3, 4, 6, 8, 9]
    assert own.support == pytest.approx(5 / 9)
    assert own.elsewhere == pytest.approx(1 / 10)
    assert own.masks.shape == (6, 1, *size)
    for place, row in enumerate(own.rows.tolist()):
        y, x = corners[row]
        expected = torch.zeros(1, *size)
        expected[:, y : y + 4, x : x + 4] = 1
        assert torch.equal(own.mask(place), expected)
    y, x = corners[1]
    assert own.box == (x, y, x + 4, y + 4)


def test_four_fifths_of_a_patch_are_the_same():
    """13 of 16 cells, not 12."""
    for wrong, count in ((3, 4), (4, 3)):
        images, evidence, _ = patches([0, 1, 2, 3], wrong=wrong)
        (own,) = returning_of(images, evidence)
        assert len(own.rows) == count


def test_a_patch_returns_in_three_images_at_least():
    for count in (2, 3):
        images, evidence, _ = patches(range(count), count=16)
        assert len(returning_of(images, evidence, own=8)) == (count == FEWEST)
    images, evidence, _ = patches([0, 1, 2, 12], count=16)
    assert returning_of(images, evidence, own=8) == [], "2/7 - 1/8"
    for count in (7, 8):
        images, evidence, _ = patches(range(count), count=100)
        assert len(returning_of(images, evidence, own=80)) == (count == 8)
    images, evidence, _ = patches(range(20))
    assert returning_of(images, evidence) == []


def test_without_evidence_no_patch_is_looked_for():
    images, _, _ = patches(range(6))
    assert returning_of(images, None) == []


def test_the_square_with_most_evidence():
    maps = torch.zeros(3, 1, 8, 16)
    maps[0, 0, 2:6, 9:13] = 1
    maps[1, 0, 4:, 12:] = 1
    maps[1, 0, 0, 0] = 4
    assert _peaks(maps, (8, 16), 4) == [(2, 9), (4, 12), (0, 0)]
    coarse = torch.tensor([[[[0.0, 1.0], [0.0, 0.0]]]])
    assert _peaks(coarse, (8, 16), 4) == [(0, 12)], "maps of any size"
    second = torch.tensor([[[[0.0, 1.0, 0.0, 0.0]]]])
    assert _peaks(second, (8, 16), 4) == [(0, 4)], "the second quarter of the width"


def test_a_patch_is_an_eighth_of_the_longer_side():
    """Of 40 x 64 pixels 8, in four by four cells of 2."""
    images, evidence = flat(20, (40, 64)), torch.zeros(20, 1, 40, 64)
    for row in range(20):
        y, x = row, 2 * row
        evidence[row, 0, y : y + 8, x : x + 8] = 1
        if row < 5:
            images[row, :, y : y + 8, x : x + 8] = MARK[:, None, None]
    (own,) = _returning(images, evidence, 0, torch.arange(10), torch.arange(10, 20))
    assert [own.mask(place).sum().item() for place in range(5)] == [64] * 5
    assert own.box == (0, 0, 8, 8)


@pytest.mark.parametrize("size", [(3, 40), (40, 3), (2, 2)])
def test_images_narrower_than_a_patch(size):
    images = torch.rand(20, 3, *size, generator=torch.Generator().manual_seed(0))
    found = candidates(images, torch.arange(20) % 2, torch.rand(20, 1, *size))
    assert {own.kind for own in found} >= {"border", "tone"}


# -- borders, and what every class has -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "wide"),
    [((64, 64), 4), ((16, 48), 3), ((48, 16), 3), ((16, 16), 1), ((5, 9), 1), ((31, 33), 2)],
)
def test_a_border_is_a_sixteenth_wide(size, wide):
    ring = border(size)
    assert ring.shape == (1, 1, *size)
    height, width = size
    assert ring.sum() == height * width - (height - 2 * wide) * (width - 2 * wide)
    assert ring[0, 0, wide:-wide, wide:-wide].sum() == 0
    assert set(ring.unique().tolist()) == {0, 1}


def test_a_thin_image_is_all_border():
    assert border((6, 64)).min() == 1
    assert border((64, 2)).min() == 1


def test_every_class_with_enough_images_has_a_border_and_a_tone():
    images = torch.rand(26, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    predicted = torch.tensor([5] * 8 + [2] * 11 + [7] * 7)
    found = candidates(images, predicted)
    assert [(own.label, own.kind) for own in found if own.kind in ("border", "tone")] == [
        (2, "border"), (2, "tone"), (5, "border"), (5, "tone"),
    ]  # fmt: skip
    rows = {own.label: own.rows.tolist() for own in found if own.kind == "tone"}
    assert {label: len(own) for label, own in rows.items()} == {2: 5, 5: 4}, "half of them"
    assert set(rows[2]) <= set(range(8, 19))
    assert set(rows[5]) <= set(range(8))
    ring, tone = of_kind(found, "border", 5)[0], of_kind(found, "tone", 5)[0]
    assert torch.equal(ring.masks, border((8, 8)))
    assert set(of_kind(found, "border", 2)[0].rows.tolist()) <= set(range(8, 19))
    assert tone.masks is None
    assert {own.label for own in candidates(images, predicted, fewest=7)} == {2, 5, 7}
    assert candidates(images, predicted, fewest=12) == []


def test_typical_images_have_the_median_border_and_tone():
    """Greys 0, 10, .. 70 of 100 with a border of a grey of its own, 10 times 3, 1, 4, 15, 9, 2, 6, 5."""
    images = torch.zeros(16, 3, 8, 8)
    for row in range(8):
        images[row] = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7][row] / 10)
        ring = torch.tensor([3, 1, 4, 9.9, 9, 2, 6, 5][row] / 10)
        images[row] = torch.where(border((8, 8))[0] > 0, ring, images[row])
    predicted = (torch.arange(16) >= 8).long()
    found = candidates(images, predicted)
    # The lower of the two middle greys, 4, then 3 and 5 of the same distance in order, then 2.
    assert of_kind(found, "border")[0].rows.tolist() == [2, 0, 7, 5]
    means = images[:8].mean((1, 2, 3))  # (28 * border + 36 * within) / 64
    middle = means.sort().values[3]
    assert of_kind(found, "tone")[0].rows.tolist() == (means - middle).abs().argsort()[:4].tolist()
    # Of fewer than eight, three at least.
    few = candidates(images[3:], predicted[3:], fewest=5)
    assert len(of_kind(few, "border")[0].rows) == len(of_kind(few, "tone")[0].rows) == 3


def test_images_are_chosen_by_a_seed():
    images = torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    predicted = torch.arange(40) % 2

    def rows(seed):
        found = candidates(images, predicted, most=6, others=5, seed=seed)
        return of_kind(found, "tone", 1)[0].rows.tolist()

    assert rows(0) == rows(0)
    assert len({tuple(rows(seed)) for seed in range(5)}) == 5
    for seed in range(5):
        assert len(set(rows(seed))) == 3, "half of six"
        assert all(row % 2 for row in rows(seed))


def test_so_many_others_are_compared():
    """Half of 40 others have the mark of 10 images: of any 4 of them some share of quarters."""
    images = painted(flat(50), [*range(10), *range(10, 20)], (2, 3, 4, 4))
    shares = {
        places_of(images, others=4, seed=seed)[0].elsewhere
        for seed in range(8)
        if places_of(images, others=4, seed=seed)
    }
    assert shares <= {0, 0.25, 0.5, 0.75}
    assert len(shares) > 1
    assert places_of(images)[0].elsewhere == 0.25


def test_one_class_alone_returns_nowhere():
    images = painted(flat(10), range(10), (2, 3, 4, 4))
    found = candidates(images, torch.zeros(10).long(), torch.ones(10, 1, 8, 8))
    assert [own.kind for own in found] == ["border", "tone"]


def test_a_class_of_one_image():
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no variance of one image is asked for
        found = candidates(flat(9), torch.tensor([1] + [0] * 8), torch.ones(9, 1, 8, 8), fewest=1)
    assert [(own.label, own.kind) for own in found] == [
        (0, "border"), (0, "tone"), (1, "border"), (1, "tone"),
    ]  # fmt: skip


def test_a_texture_behind_everything_is_a_candidate():
    """The upper half in how strong it is, the strongest first: stripes of 0.05 to 0.45."""
    noise = 0.1 * torch.rand(24, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    waves = (2 * torch.pi * torch.arange(32) / 4).sin()
    for row in range(12):
        noise[row] += 0.45 + 0.05 * 1.22**row * waves
    predicted = (torch.arange(24) >= 12).long()
    (own,) = of_kind(candidates(noise, predicted), "texture")
    assert own.rows.tolist() == [11, 10, 9, 8, 7, 6]
    assert own.band.shape == (16, 9)
    assert own.band[0, 4], "four waves in a quadrant"
    assert not own.band[4:13].any()
    assert own.masks is None
    assert own.box is None
    assert own.mask(0) is None
    (other,) = (own for own in candidates(noise[7:17], predicted[7:17], fewest=5) if own.kind == "texture")
    assert other.rows.tolist() == [4, 3, 2], "three at least"
    assert of_kind(candidates(noise[12:], torch.arange(12) % 2, fewest=6), "texture") == []
    (last,) = of_kind(candidates(noise.flip(0), 1 - predicted), "texture")
    assert last.rows.tolist() == [12, 13, 14, 15, 16, 17]


def test_textures_of_whole_numbers_are_the_same():
    """Stripes of whole numbers beside flat images: what leaks out of their frequency is under the dark level."""
    images = torch.full((16, 3, 32, 32), 100, dtype=torch.uint8)
    images[:8] += (2 * torch.pi * torch.arange(32) / 4).cos().round().to(torch.uint8)
    predicted = (torch.arange(16) >= 8).long()
    (whole,) = of_kind(candidates(images, predicted), "texture")
    (part,) = of_kind(candidates(images / 255, predicted), "texture")
    assert torch.equal(whole.band, part.band)
    assert whole.band.nonzero()[:, 1].unique().tolist() == [2, 3, 4, 5, 6], "beside a window's, neighbours"


# -- what a candidate is ---------------------------------------------------------------------------------


def test_a_candidate_knows_its_box():
    masks = torch.zeros(2, 1, 6, 9)
    masks[0, 0, 1:3, 4:8] = 1
    masks[1, 0, 5, 0] = 0.5
    own = Candidate(3, "returning", torch.tensor([8, 2]), masks)
    assert own.box == (4, 1, 8, 3)
    assert torch.equal(own.mask(1), masks[1])
    one = Candidate(3, "place", torch.tensor([8, 2]), masks[1:])
    assert one.box == (0, 5, 1, 6)
    assert torch.equal(one.mask(1), masks[1]), "one for all images"
    assert KINDS == ("place", "stamp", "returning", "border", "tone", "texture")


@pytest.mark.parametrize("wrong", [{"predicted": 9}, {"evidence": 9}, {"evidence": 11}])
def test_every_image_needs_a_class_and_a_map(wrong):
    counts = SimpleNamespace(**{"predicted": 10, "evidence": 10, **wrong})
    with pytest.raises(ValueError, match="10 images need as many"):
        candidates(flat(10), torch.zeros(counts.predicted).long(), torch.ones(counts.evidence, 1, 8, 8))


def test_regions_by_hand():
    """Straight from cells: two classes of three images each."""
    small = painted(flat(10), range(4), (0, 0, 2, 1))
    found = list(_same_place(small, None, 4, torch.arange(5), torch.arange(5, 10), (16, 16), 4))
    assert [own.box for own in found] == [(0, 0, 4, 2)]
    assert found[0].label == 4
