"""Fills and blends worked out by hand."""

from __future__ import annotations

import pytest
import torch

from gan_lib.core.masking import FILLS, blend, filling, masked_images, pixel_ranks, top_share

RED = torch.tensor([0.2, 0.6, 1.0, 0.6]).view(1, 1, 2, 2)
PICTURE = RED * torch.tensor([1.0, 0.5, 0.0]).view(1, 3, 1, 1)


def test_blend_shows_the_image_where_the_map_is_high():
    images, hidden = torch.full((1, 3, 1, 2), 0.8), torch.full((1, 3, 1, 2), 0.2)
    made = blend(images, hidden, torch.tensor([0.25, 1.0]).view(1, 1, 1, 2))
    assert made[0, 0, 0].tolist() == pytest.approx([0.8 * 0.25 + 0.2 * 0.75, 0.8])


def test_black_and_mean():
    quarter = torch.full((1, 1, 2, 2), 0.25)
    assert not filling(PICTURE, "black").any()
    assert torch.allclose(masked_images(PICTURE, quarter), PICTURE / 4)
    assert filling(PICTURE, "mean")[0, :, 1, 0].tolist() == pytest.approx([0.6, 0.3, 0.0])
    made = masked_images(PICTURE, quarter, "mean")
    assert made[0, 0].flatten().tolist() == pytest.approx([0.5, 0.6, 0.7, 0.6])


def test_blur_is_a_gaussian_of_a_tenth_of_the_side_cut_off_at_two_sigma():
    point = torch.zeros(1, 3, 17, 20)  # sigma 2, four pixels to each side
    point[:, :, 8, 10] = 1.0
    taps = torch.arange(-4.0, 5.0).square().div(-8).exp()
    made = filling(point, "blur")
    expected = torch.outer(taps, taps) / taps.sum() ** 2
    assert torch.allclose(made[0, 1, 4:13, 6:15], expected, atol=1e-6)
    assert not made[..., :6].any()
    half = masked_images(point, torch.full((1, 1, 17, 20), 0.5), "blur")
    assert half[0, 0, 8, 10].item() == pytest.approx(0.5 + 0.5 * expected[4, 4].item())


def test_fills_look_at_each_image_alone():
    images = torch.rand(3, 3, 12, 8)
    for fill in FILLS:
        assert torch.allclose(filling(images, fill)[1:2], filling(images[1:2], fill), atol=1e-6)


def test_unknown_fills_and_fills_of_another_shape(monkeypatch):
    with pytest.raises(KeyError, match="did you mean blur"):
        filling(PICTURE, "blurr")
    monkeypatch.setattr(FILLS, "_things", dict(FILLS._things))
    FILLS.register("flat", lambda images: images[:, :1])
    with pytest.raises(ValueError, match=r"\(1, 1, 2, 2\)"):
        filling(PICTURE, "flat")


def test_the_highest_pixels_ties_in_reading_order():
    maps = torch.tensor([[0.1, 0.9, 0.5, 0.9], [0.3, 0.3, 0.3, 0.3]]).view(2, 1, 2, 2)
    assert pixel_ranks(maps).flatten(1).tolist() == [[3, 0, 2, 1], [0, 1, 2, 3]]
    assert top_share(maps, 0.5).flatten(1).int().tolist() == [[0, 1, 0, 1], [1, 1, 0, 0]]
    each = top_share(maps, torch.tensor([0.25, 0.75])).flatten(1).sum(1)
    assert each.tolist() == [1, 3]
    assert not top_share(maps, 0.0).any()
    assert top_share(maps, 1.0).all()
