"""Methods that draw: RISE and expected gradients, worked out by hand on CNNs of one line."""

from __future__ import annotations

import pytest
import torch
from captum.attr import IntegratedGradients
from torch import nn

from gan_lib.core.masking import filling
from gan_lib.explainers import RISE, ExpectedGradients


class Squares(nn.Module):
    """logit 1 = the sum of all squares, logit 0 = 0: the gradient at a point is twice the point."""

    def __init__(self):
        super().__init__()
        self.one = nn.Parameter(torch.ones(()))

    def forward(self, images):
        total = self.one * images.square().sum((1, 2, 3))
        return torch.stack([0 * total, total], 1)


def test_expected_gradients_by_hand():
    """(x - r) * 2 (r + a (x - r)), averaged: x^2 - r^2 for a spread evenly."""
    images = torch.rand(2, 3, 4, 4)
    references = torch.rand(5, 3, 4, 4)
    made = ExpectedGradients(Squares(), samples=4000, references=references).attributions(images, 1)
    expected = images.square() - references.square().mean(0)
    assert torch.allclose(made, expected, atol=5e-3)


def test_one_sample_of_expected_gradients_by_hand():
    images, references = torch.rand(2, 3, 4, 4), torch.rand(3, 3, 4, 4)
    explainer = ExpectedGradients(Squares(), samples=2, references=references, seed=5)
    turns, shares = explainer.ways(3)
    terms = [
        2 * (images - references[turn]) * (references[turn] + share * (images - references[turn]))
        for turn, share in zip(turns, shares, strict=True)
    ]
    assert torch.allclose(explainer.attributions(images, 1), (terms[0] + terms[1]) / 2, atol=1e-6)


def test_references_take_turns_and_points_are_spread():
    explainer = ExpectedGradients(Squares(), samples=10)
    turns, shares = explainer.ways(4)
    assert turns.bincount().tolist() == [3, 3, 2, 2]
    assert ((10 * shares).long() == torch.arange(10)).all(), "one in every tenth of the way"
    assert not torch.equal(turns, ExpectedGradients(Squares(), samples=10, seed=1).ways(4)[0])
    assert not torch.equal(turns, torch.arange(10) % 4), "else a reference would always lie equally far"


@pytest.mark.parametrize("fill", ["black", "blur"])
def test_of_one_reference_they_are_integrated_gradients(tiny_net, images, fill):
    """Captum's, from the same baseline: within .01 of the largest, both by 200 points."""
    own = ExpectedGradients(tiny_net, samples=200, references=fill).attributions(images, 2)
    expected = IntegratedGradients(tiny_net).attribute(
        images, filling(images, fill), target=2, n_steps=200, method="riemann_trapezoid"
    )
    assert torch.allclose(own, expected.float(), atol=1e-2 * expected.abs().max())


def test_references_that_do_not_fit(tiny_net, images):
    for wrong in (torch.rand(2, 3, 8, 8), torch.rand(3, 16, 16), torch.rand(0, 3, 16, 16)):
        with pytest.raises(ValueError, match=r"references are \(R, 3, 16, 16\), as the images are, not"):
            ExpectedGradients(tiny_net, references=wrong).attribute(images)
    with pytest.raises(KeyError, match="fill"):
        ExpectedGradients(tiny_net, references="tea").attribute(images)
    with pytest.raises(ValueError, match="samples"):
        ExpectedGradients(tiny_net, samples=0)


def test_rise_is_the_sum_of_masks_by_probability(colour_net):
    """Equation 6, mask by mask."""
    images = torch.rand(2, 3, 9, 11)
    explainer = RISE(colour_net, masks=20, cells=3, keep=0.4, seed=2)
    masks = torch.cat(list(explainer.masks((9, 11), 7)))
    assert masks.shape == (20, 1, 9, 11)
    found = [colour_net(images * mask).softmax(1)[:, 2] for mask in masks]
    expected = sum(p.view(2, 1, 1, 1) * mask for p, mask in zip(found, masks, strict=True)) / (20 * 0.4)
    with torch.no_grad():
        made = explainer.raw(images, torch.tensor([2, 2]))
    assert torch.allclose(made, expected, atol=1e-5)


def test_masks_are_coarse_shifted_and_kept_as_often_as_asked():
    explainer = RISE(nn.Identity(), masks=3000, cells=4, keep=0.3)
    masks = torch.cat(list(explainer.masks((16, 16), 500)))
    assert masks.min() >= 0
    assert masks.max() <= 1
    assert masks.mean((0, 1)).min() > 0.26, "everywhere"
    assert masks.mean((0, 1)).max() < 0.34
    assert (masks[..., 1:] - masks[..., :-1]).abs().max() < 0.26, "a cell of four pixels, enlarged bilinearly"
    steps = (masks[:, 0, 0, 1:] - masks[:, 0, 0, :-1]).abs() > 1e-6
    assert steps.any(0).all(), "shifted: no border lies where another could not"
    assert torch.equal(torch.cat(list(explainer.masks((16, 16), 7))), masks)
    assert not torch.equal(torch.cat(list(RISE(nn.Identity(), 3000, 4, 0.3, 1).masks((16, 16), 500))), masks)


def test_rise_finds_the_place_that_counts(colour_net):
    """Red in the upper left alone, green all over: red wins only where it is seen."""
    picture = torch.zeros(1, 3, 16, 16)
    picture[:, 0, :8, :8], picture[:, 1] = 1.0, 0.1
    maps = RISE(colour_net, masks=400, cells=4).attribute(picture, 0)
    assert maps[..., :8, :8].mean() > 2 * maps[..., 8:, 8:].mean()


@pytest.mark.parametrize("method", [RISE, ExpectedGradients])
def test_a_map_is_the_same_alone_and_in_any_batch(tiny_net, images, method):
    explainer = method(tiny_net, 40)
    together = explainer.attribute(images, [2, 0, 1])
    alone = torch.cat([explainer.attribute(images[i : i + 1], (2, 0, 1)[i]) for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-5)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    explainer.attribute(images)
    assert torch.equal(torch.rand(3), expected)


def test_options_of_rise(tiny_net):
    for wrong in ({"masks": 0}, {"cells": 0}, {"keep": 0.0}, {"keep": 1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            RISE(tiny_net, **wrong)
