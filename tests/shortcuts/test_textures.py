"""Textures by hand: stripes whose period, slope and amplitude are known, in one frequency of the quadrants."""

from __future__ import annotations

import math

import pytest
import torch

from gan_lib.shortcuts.textures import DARK, everywhere, quadrants, retextured, shared_band


def stripes(size, across=0.0, down=0.0, amplitude=0.1, phase=0.0):
    """Stripes (H, W) with so many waves across and down the image."""
    height, width = size
    x, y = torch.arange(width) / width, torch.arange(height)[:, None] / height
    return amplitude * (2 * math.pi * (across * x + down * y + phase)).cos()


def grey(*patterns):
    """An image (3, H, W) of middle grey with patterns on it."""
    return (0.5 + sum(patterns)).expand(3, -1, -1).clone()


def only(frequency, shape=(8, 5)):
    band = torch.zeros(shape, dtype=torch.bool)
    band[frequency] = True
    return band


# -- what is everywhere ----------------------------------------------------------------------------------


def test_quadrants_by_hand():
    image = torch.arange(35).reshape(1, 1, 5, 7)
    made = quadrants(image)
    assert made.shape == (1, 4, 1, 2, 3)
    assert made[0, :, 0].tolist() == [
        [[0, 1, 2], [7, 8, 9]],
        [[21, 22, 23], [28, 29, 30]],
        [[4, 5, 6], [11, 12, 13]],
        [[25, 26, 27], [32, 33, 34]],
    ], "left, then right; the middle row and column belong to none"
    even = quadrants(torch.arange(48).reshape(2, 1, 4, 6))
    assert even.shape == (2, 4, 1, 2, 3)
    assert sorted(even[1].flatten().tolist()) == list(range(24, 48))


def test_amplitude_of_stripes_in_every_quadrant():
    """Four waves across 16 pixels are two across a quadrant: half of the amplitude, as of a cosine."""
    made = everywhere(torch.stack([grey(stripes((16, 16), 4)), grey(stripes((16, 16), 0, 4))]))
    assert made.shape == (2, 8, 5)
    assert made[0].argmax() == 2
    assert divmod(int(made[1].argmax()), 5) in ((2, 0), (6, 0)), "down is along the rows, either sign"
    assert made[0, 0, 2].exp().item() - DARK == pytest.approx(0.05, abs=0.004)
    assert made[1, 2, 0].exp().item() - DARK == pytest.approx(0.05, abs=0.004)
    assert made[0, 4].exp().max() < 0.002


def test_amplitude_of_images_that_are_not_square():
    made = everywhere(grey(stripes((16, 25), 4, 4))[None])
    assert made.shape == (1, 8, 7)
    row, column = divmod(int(made[0].argmax()), 7)
    assert (row, column) == (2, 2)


def test_an_image_upside_down_has_the_same_amplitudes():
    """The window is the same from either side."""
    images = torch.rand(2, 3, 16, 12, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(everywhere(images.flip(2, 3)), everywhere(images), atol=1e-4)


def test_grey_counts_and_brightness_does_not():
    image = grey(torch.zeros(16, 16))
    assert everywhere(image[None]).exp().flatten().tolist() == pytest.approx([DARK] * 40, rel=0.01)
    image[0] += stripes((16, 16), 4, amplitude=0.3)
    striped = everywhere(image[None])
    assert striped[0, 0, 2].exp().item() - DARK == pytest.approx(0.05, abs=0.004), "a third, in red alone"
    assert torch.allclose(everywhere(image[None] - 0.2), striped, atol=1e-3)
    image[:, :8] += 0.2  # what differs between quadrants is no texture
    assert torch.allclose(everywhere(image[None]), striped, atol=1e-3)


@pytest.mark.parametrize("missing", [(slice(8), slice(8)), (slice(8), slice(8, 16)), (slice(8, 16),) * 2])
def test_the_lowest_of_four_quadrants_counts(missing):
    image = grey(stripes((16, 16), 4))
    image[(slice(None), *missing)] = 0.5
    assert everywhere(image[None]).exp().max().item() == pytest.approx(DARK, rel=0.01)
    weak = grey(stripes((16, 16), 4))
    weak[(slice(None), *missing)] = grey(stripes((16, 16), 4, amplitude=0.02))[(slice(None), *missing)]
    assert everywhere(weak[None])[0, 0, 2].exp().item() - DARK == pytest.approx(0.01, abs=0.001)


# -- bands -----------------------------------------------------------------------------------------------


def spectra(*values, frequency=(3, 2), shape=(8, 5)):
    """Of an image each, with one value that differs from 0."""
    made = torch.zeros(len(values), *shape)
    made[:, frequency[0], frequency[1]] = torch.tensor(values)
    return made


@pytest.mark.parametrize(
    ("ours", "theirs", "clear"),
    [
        ((0.125,) * 4, (0,) * 4, True),  # no spread: 0.02 in place of an error, six times
        ((0.115,) * 4, (0,) * 4, False),
        ((0,) * 4, (1,) * 4, False),  # others have it
        ((2.5, 4.5) * 2, (0,) * 4, True),  # 3.5 of errors 1 / sqrt(3)
        ((2.45, 4.45) * 2, (0,) * 4, False),
        ((3.9, 5.9) * 2, (-1, 1) * 2, True),  # 4.9 of errors sqrt(2 / 3)
        ((3.85, 5.85) * 2, (-1, 1) * 2, False),
        ((3.5,) * 4, (-1, 1) * 2, True),
    ],
)
def test_six_standard_errors_by_hand(ours, theirs, clear):
    made = shared_band(spectra(*ours), spectra(*theirs))
    assert (made is not None) == clear
    if clear:
        assert made.nonzero().tolist() == [[row, column] for row in (2, 3, 4) for column in (1, 2, 3)]


def test_neighbours_of_a_frequency():
    """Along the height they go round, along the width they end; the mean is never among them."""

    def band(row, column):
        made = shared_band(
            spectra(1, 1, 1, frequency=(row, column)), spectra(0, 0, 0, frequency=(row, column))
        )
        return {tuple(own) for own in made.nonzero().tolist()}

    assert band(0, 2) == {(row, column) for row in (7, 0, 1) for column in (1, 2, 3)}
    assert band(7, 4) == {(row, column) for row in (6, 7, 0) for column in (3, 4)}
    assert band(1, 0) == {(row, column) for row in (0, 1, 2) for column in (0, 1)} - {(0, 0)}
    assert shared_band(spectra(1, 1, 1, frequency=(0, 0)), spectra(0, 0, 0)) is None


def scenes(count, size=(32, 32), seed=0):
    """Noise on middle grey."""
    return 0.5 + 0.1 * torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(seed))


def test_stripes_of_one_class_are_found_in_their_frequency():
    """Eight waves across and four up an image of 32 x 32: four and two of a quadrant."""
    ours, theirs = scenes(20), scenes(30, seed=1)
    for row in range(20):
        ours[row] += stripes((32, 32), 8, -4, 0.12, row / 20)
        ours[row, :, row % 4 * 8 :, : 8 + row % 3] = 0.0  # an object
    made = shared_band(everywhere(ours), everywhere(theirs))
    assert made.shape == (16, 9)
    assert made[14, 4]
    assert not made[2, 4], "the other slope"
    assert not made[6:11].any()
    assert (
        shared_band(everywhere(theirs), everywhere(ours)) is None
        or not shared_band(everywhere(theirs), everywhere(ours))[14, 4]
    )
    assert shared_band(everywhere(scenes(20)), everywhere(theirs)) is None


def test_an_object_in_one_quadrant_is_no_texture():
    """Stripes in three quarters of an image are in no quadrant that has none of them."""
    ours, theirs = scenes(20), scenes(30, seed=1)
    for row in range(20):
        ours[row, :, 17:] += stripes((15, 32), 8, 0, 0.3, row / 20)
        ours[row, :, :17, :15] += stripes((17, 15), 4, 0, 0.3, row / 20)
    assert shared_band(everywhere(ours), everywhere(theirs)) is None
    ours[:, :, :17, 15:] += stripes((17, 17), 4, 0, 0.3)
    assert shared_band(everywhere(ours), everywhere(theirs)) is not None


# -- exchanged -------------------------------------------------------------------------------------------


def test_a_donors_stripes_in_place_of_ones_own():
    images = torch.stack([grey(stripes((16, 16), 4, amplitude=0.1), stripes((16, 16), 2))] * 2)
    donors = torch.stack(
        [
            grey(stripes((16, 16), 4, amplitude=0.2, phase=0.3), stripes((16, 16), 0, 4)),
            grey(stripes((16, 16), 4, amplitude=0.05)),
        ]
    )
    made = retextured(images, donors, only((0, 2)))
    assert made.shape == images.shape
    expected = [
        grey(stripes((16, 16), 4, amplitude=0.2, phase=0.3), stripes((16, 16), 2)),
        grey(stripes((16, 16), 4, amplitude=0.05), stripes((16, 16), 2)),
    ]
    assert torch.allclose(made, torch.stack(expected), atol=1e-5)
    assert torch.equal(images[0], images[1]), "what was given stays"


def test_stripes_of_either_slope_are_told_apart():
    rising, falling = grey(stripes((16, 16), 4, -4)), grey(stripes((16, 16), 4, 4))
    plain = grey(torch.zeros(16, 16))
    for band, image, left in (
        (only((6, 2)), rising, plain), (only((6, 2)), falling, falling),
        (only((2, 2)), falling, plain), (only((2, 2)), rising, rising),
    ):  # fmt: skip
        assert torch.allclose(retextured(image[None], plain[None], band)[0], left, atol=1e-5)
        added = retextured(plain[None], image[None], band)[0]
        assert torch.allclose(added, image + plain - left, atol=1e-5)


def test_colours_and_means_stay():
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.3
    donors = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 0.4 + 0.3
    made = retextured(images, donors, only((0, 2)))
    assert torch.allclose(made.mean((2, 3)), images.mean((2, 3)), atol=1e-5)
    changed = torch.fft.rfft2(made - images).abs() > 1e-3
    assert changed[:, :, :, 3:6].any()
    assert not changed[:, :, :, 6:].any(), "5 of 16 waves are 2.5 of 8, and count as 2"
    assert not changed[:, :, 2:15].any()
    red = donors.clone()
    red[:, 1:] = 0.5
    made = retextured(images, red, only((0, 2)))
    assert torch.fft.rfft2(made)[:, 1:, 0, 4].abs().max() < 1e-3
    assert torch.fft.rfft2(made)[:, 0, 0, 4].abs().min() > 1e-2


@pytest.mark.parametrize("corner", [(0, 0), (0, 8), (8, 0), (8, 8)])
def test_the_emptiest_quadrant_is_the_donors_texture(corner):
    """Every other quadrant has an object; the texture there is weaker than theirs, too."""
    y, x = corner
    drawn = torch.Generator().manual_seed(0)
    donor = torch.rand(1, 3, 16, 16, generator=drawn)
    donor[0, :, y : y + 8, x : x + 8] = grey(stripes((16, 16), 4, phase=0.1))[:, y : y + 8, x : x + 8]
    made = retextured(torch.full((1, 3, 16, 16), 0.5), donor, only((0, 2)))
    assert torch.allclose(made[0], grey(stripes((16, 16), 4, phase=0.1)), atol=1e-5)


def test_strong_stripes_do_not_make_a_quadrant_full():
    """What is compared is what the band does not explain."""
    donor = grey(stripes((16, 16), 4, amplitude=0.4))
    for own in (donor[:, 8:, :8], donor[:, :8, 8:], donor[:, 8:, 8:]):
        own[:] = 0.5
        own[1, 2:4, 2:4] = 0.7  # in green alone
    made = retextured(torch.full((1, 3, 16, 16), 0.5), donor[None], only((0, 2)))
    assert torch.allclose(made[0], grey(stripes((16, 16), 4, amplitude=0.4)), atol=1e-5)


def test_colours_end_at_black_and_white():
    image = torch.full((1, 3, 16, 16), 0.9)
    made = retextured(image, grey(stripes((16, 16), 4, amplitude=0.3))[None], only((0, 2)))
    assert made.max() == 1
    assert made.min() == pytest.approx(0.6, abs=1e-5)
    assert retextured(image - 0.8, grey(stripes((16, 16), 4, amplitude=0.3))[None], only((0, 2))).min() == 0


@pytest.mark.parametrize("size", [(15, 17), (16, 25), (21, 12), (5, 30), (24, 16)])
def test_odd_sizes_and_images_that_are_not_square(size):
    """Two waves across a quadrant; where a middle column lets no period fit, a quarter of them is left."""
    height, width = size
    high, wide = height // 2, width // 2
    band = torch.zeros(high, wide // 2 + 1, dtype=torch.bool)
    band[0, 1:3] = True
    own = 0.1 * (2 * math.pi * 2 * torch.arange(width) / wide).cos()
    image = (0.5 + own).expand(1, 3, height, width)
    plain = torch.full((1, 3, height, width), 0.5)
    added = retextured(plain, image, band)
    assert added.shape == (1, 3, *size)
    assert torch.allclose(added[..., : 2 * wide], image[..., : 2 * wide], atol=1e-5), "repeated"
    left = retextured(image, plain, band)
    assert left.shape == (1, 3, *size)
    assert (left - 0.5).square().mean() < 0.25 * (image - 0.5).square().mean()
    nothing = torch.zeros_like(band)
    assert torch.allclose(retextured(image, plain, nothing), image, atol=1e-5)
    lying = retextured(image.mT, plain.mT, torch.zeros(wide, high // 2 + 1, dtype=torch.bool))
    assert torch.allclose(lying, image.mT, atol=1e-5)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("size", [(15, 16), (17, 16), (16, 16), (16, 15), (16, 17)])
def test_the_nearest_frequencies_of_odd_sizes(size, sign):
    """Of a side of 15 and 17, with quadrants of 7 and 8: four waves are 1.87 and 1.88 of a quadrant, 2."""
    image = grey(stripes(size, 4, 4 * sign))
    plain = grey(torch.zeros(size))
    high, wide = size[0] // 2, size[1] // 2
    made = retextured(image[None], plain[None], only((2 * sign % high, 2), (high, wide // 2 + 1)))
    assert torch.allclose(made[0], plain, atol=1e-5)
    for other in ((1, 2), (3, 2), (2, 1), (2, 3)):
        place = (other[0] * sign % high, other[1])
        kept = retextured(image[None], plain[None], only(place, (high, wide // 2 + 1)))
        assert torch.allclose(kept[0], image, atol=1e-5)
