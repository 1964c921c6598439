"""Relevance of conditions: of generators of which it is known what they rely on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from captum.attr import FeatureAblation

from gan_lib.core.maps import min_max
from gan_lib.gan.conditions import ConditionMaker, condition_maker
from gan_lib.gan.generators import make_generator
from gan_lib.gan.relevance import (
    MEASURES,
    ConditionedGenerator,
    as_parts,
    first_against_last,
    first_ranked,
    mean_conditions,
    objective,
    over_depth,
    rank_agreement,
    relevance,
    relevance_maps,
    shares,
    zero_conditions,
)

SMALL = {"width": 8, "condition_hidden": 8, "condition_channels": 8, "sft_hidden": 8, "stem_stride": 4}


def small(variant, features=()):
    torch.manual_seed(0)
    count = len(features) or 3
    generator = make_generator(variant, conditions=count, blocks=2, features=features, **SMALL)
    for parameter in generator.parameters():  # far from zero: every condition makes a difference
        torch.nn.init.normal_(parameter, std=0.2)
    return generator.eval()


@pytest.fixture(params=["lsft", "gsft", "lsft features", "gsft features"])
def case(request, images):
    variant, _, kind = request.param.partition(" ")
    drawn = torch.Generator().manual_seed(2)
    if kind:
        generator = small(variant, (5, 4, 2))
        given = [9 * torch.rand(3, c, s, s, generator=drawn) for c, s in ((5, 8), (4, 4), (2, 4))]
        return generator, images, given
    return small(variant), images, torch.rand(3, 3, 16, 16, generator=drawn)


@pytest.mark.parametrize("measure", MEASURES)
def test_every_measure_of_every_generator(case, measure):
    generator, images, given = case
    weights = [tensor.clone() for tensor in generator.state_dict().values()]
    seen = ConditionedGenerator(generator.train(), mean_conditions(given))
    made = relevance(seen, images, given, measure)
    assert made.shape == (3, 3)
    assert made.min() >= 0
    assert (made > 0).all(), "every condition makes a difference"
    assert generator.training
    assert all(p.grad is None for p in generator.parameters())
    assert all(torch.equal(a, b) for a, b in zip(weights, generator.state_dict().values(), strict=True))
    apart = relevance(seen, images, given, measure, batch_size=1)
    assert torch.allclose(apart, made, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_condition_that_is_absent_already_does_not_matter(case, measure):
    generator, images, given = case
    parts = list(as_parts(given))
    parts[1] = parts[1].mean(0, keepdim=True).expand_as(parts[1])
    given = torch.cat(parts, 1) if isinstance(given, torch.Tensor) else parts
    made = relevance(ConditionedGenerator(generator, mean_conditions(given)), images, given, measure)
    there = made[:, [0, 2]].amax(0).min()
    assert there > 1e-5
    assert made[:, 1].abs().max() < 0.02 * there


def test_ablation_is_captums(case):
    """Leaving out the mass of one condition: Captum's feature ablation of whole conditions."""
    generator, images, given = case
    parts = as_parts(given)
    seen = ConditionedGenerator(generator, zero_conditions(given))
    full = seen.maps(images, parts).detach()

    def mass(*conditions):
        return objective(seen.maps(images, conditions), full, "mass")

    masks = tuple(torch.full((1, 1, 1, 1), i) for i in range(3))
    with torch.no_grad():
        expected = FeatureAblation(mass).attribute(tuple(parts), feature_mask=masks)
        for i in range(3):
            own = mass(*parts) - mass(*seen.without(parts, i))
            assert torch.allclose(own, expected[i].flatten(1)[:, 0], atol=1e-6)


def test_integrated_gradients_add_up(case):
    from gan_lib.gan.relevance.measures import _gradients

    generator, images, given = case
    parts = as_parts(given)
    seen = ConditionedGenerator(generator, mean_conditions(given))
    total = sum(own.sum((1, 2, 3)) for own in _gradients(seen, images, parts, "mass", steps=300))
    full, none = seen.maps(images, parts), seen.maps(images, seen.nothing(parts))
    expected = objective(full, full, "mass") - objective(none, full, "mass")
    assert torch.allclose(total, expected, atol=2e-3 * float(expected.detach().abs().max()) + 1e-5)


def test_relevance_maps(case):
    generator, images, given = case
    maps = relevance_maps(ConditionedGenerator(generator, mean_conditions(given)), images, given)
    assert maps.shape == (3, 3, 16, 16)
    assert maps.amax((1, 2, 3)).tolist() == pytest.approx([1, 1, 1])
    assert maps.min() >= 0


def test_another_images_condition_stands_in(images):
    generator = small("lsft")
    given = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    given[2] = given[1]  # the second image's stands in for the third's: no change
    seen = ConditionedGenerator(generator, None)
    made = relevance(seen, images, given, "leave_one_out")
    assert torch.allclose(relevance(seen, images, given, "leave_one_out", batch_size=1), made, atol=1e-6)
    maps = relevance_maps(seen, images, given)
    assert torch.allclose(relevance_maps(seen, images, given, batch_size=2), maps, atol=1e-4)
    with pytest.raises(ValueError, match="at least two images"):
        relevance(seen, images[:1], given[:1], "leave_one_out")
    assert made[2].max() < 1e-6
    assert made[0].min() > 1e-6


def test_objectives():
    full = torch.rand(2, 1, 8, 8)
    assert objective(full, full, "dice").tolist() == pytest.approx([1, 1])
    assert objective(torch.zeros_like(full), full, "dice").tolist() == [0, 0]
    assert torch.allclose(objective(full, full, "mass"), full.mean((1, 2, 3)))
    with pytest.raises(ValueError, match="mass"):
        objective(full, full, "iou")
    with pytest.raises(ValueError, match="leave_one_out"):
        relevance(ConditionedGenerator(small("lsft"), None), full, full, "guess")


def test_tables_of_known_relevances():
    made = torch.tensor([[1.0, 0, 3], [2, 0, 2], [0, 0, 0]])
    assert shares(made)[:2].tolist() == [[0.25, 0, 0.75], [0.5, 0, 0.5]]
    depth = over_depth(made)
    assert depth["condition"].tolist() == [1, 2, 3]
    assert depth["share"].tolist() == pytest.approx([0.375, 0, 0.625])
    assert ((depth["low"] <= depth["share"]) & (depth["share"] <= depth["high"])).all()
    found = first_against_last(made)
    assert found["difference"] == pytest.approx(0.25)
    assert found["d"] == pytest.approx(0.25 / (0.5**2 / 2) ** 0.5)
    assert found["low"] <= 0.25 <= found["high"]
    assert first_ranked(made, 2) == pytest.approx(1 / 3)
    agreement = rank_agreement({"a": made, "same": 2 * made, "opposite": 5 - made})
    assert agreement.loc["a", "same"] == pytest.approx(1)
    assert agreement.loc["opposite", "a"] == pytest.approx(-1)


@pytest.mark.parametrize("kind", ["grad_cams", "last_grad_cam", "features", "planted"])
def test_alternative_conditions(tiny_net, images, kind):
    reference = ConditionMaker(tiny_net, (16, 16), 2)
    maker = condition_maker(kind, tiny_net, (16, 16), 2)
    made, plain = maker(images), reference(images)
    assert torch.equal(made.target, plain.target)
    assert made.cgma.shape == (3, 1 if kind == "last_grad_cam" else 2, 16, 16)
    assert made.cgma.min() >= 0
    assert made.cgma.max() <= 1
    if kind == "grad_cams":
        assert torch.equal(made.cgma, plain.grad_cams)
    if kind == "last_grad_cam":
        assert torch.equal(made.cgma, plain.grad_cams[:, -1:])
    if kind == "features":
        activation = tiny_net.features[:1](images).relu().mean(1, keepdim=True)
        assert torch.allclose(made.cgma[:, :1], min_max(activation), atol=1e-5)
        assert not torch.equal(made.cgma, plain.grad_cams)
    if kind == "planted":
        assert torch.equal(made.cgma[:, :1], plain.target)
        assert torch.equal(maker(images).cgma, made.cgma)
        assert not torch.equal(made.cgma[0, 1], made.cgma[1, 1])
        assert torch.equal(maker(images[1:2]).cgma[0, 1], made.cgma[1, 1])


def test_alternatives_that_there_are_not(tiny_net):
    with pytest.raises(KeyError, match="grad_cams"):
        condition_maker("tea leaves", tiny_net, (16, 16), 2)
    with pytest.raises(ValueError, match=r"0\.\.1"):
        condition_maker("planted/2", tiny_net, (16, 16), 2)
