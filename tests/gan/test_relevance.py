"""Relevance of conditions: of generators of which it is known what they rely on."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from captum.attr import FeatureAblation

from gan_lib.gan.generators import make_generator
from gan_lib.gan.relevance import (
    MEASURES,
    ConditionedGenerator,
    all_relevances,
    as_parts,
    first_against_last,
    first_ranked,
    mean_conditions,
    over_depth,
    overlap,
    rank_agreement,
    relevance,
    relevance_maps,
    shares,
    stand_ins,
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
    """Leaving one condition out, as it moves the overlap: Captum's feature ablation of whole conditions."""
    generator, images, given = case
    parts = as_parts(given)
    seen = ConditionedGenerator(generator, zero_conditions(given))
    full = seen.maps(images, parts).detach()

    def still(*conditions):
        return overlap(seen.maps(images, conditions), full)

    masks = tuple(torch.full((1, 1, 1, 1), i) for i in range(3))
    with torch.no_grad():
        expected = FeatureAblation(still).attribute(tuple(parts), feature_mask=masks)
        for i in range(3):
            own = still(*parts) - still(*seen.without(parts, i))
            assert torch.allclose(own, expected[i].flatten(1)[:, 0], atol=1e-6)


def test_integrated_gradients_add_up(case):
    from gan_lib.gan.relevance.measures import _gradients

    generator, images, given = case
    parts, images = tuple(part.double() for part in as_parts(given)), images.double()
    seen = ConditionedGenerator(generator.double(), zero_conditions(parts))
    total = sum(own.sum((1, 2, 3)) for own in _gradients(seen, images, parts, steps=100))
    full, none = seen.maps(images, parts), seen.maps(images, seen.nothing(parts))
    # The way from nothing crosses the kinks of many ReLUs, each an error of the order of a step.
    assert torch.allclose(total, 1 - overlap(none, full), rtol=3e-2, atol=1e-6)


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


def test_overlap_by_hand():
    """2 * 0.5 / (0.5 + 1) where half of the map is left, 2 * 0.5 / (0.25 + 1) where all of it is half as high."""
    full = torch.ones(4, 1, 2, 2)
    maps = torch.stack([full[0], full[0] * torch.tensor([1.0, 0.0]), full[0] / 2, 0 * full[0]])
    assert overlap(maps, full).tolist() == pytest.approx([1, 2 / 3, 0.8, 0])
    assert overlap(maps[3:], maps[3:]).tolist() == [1], "two empty maps are the same"
    with pytest.raises(KeyError, match="leave_one_out"):
        relevance(ConditionedGenerator(ByWeights(1.0), None), full, full, "leave_out")


def ends(relevance):
    """First against last, of one generator by one measure."""
    return first_against_last({("lsft", 0): {"a": relevance}}).iloc[0].drop(["generator", "measure"])


def test_tables_of_known_relevances():
    """Shares of .25, 0, .75 and .5, 0, .5; on the third image nothing matters."""
    made = torch.tensor([[1.0, 0, 3], [2, 0, 2], [0, 0, 0]])
    assert shares(made)[:2].tolist() == [[0.25, 0, 0.75], [0.5, 0, 0.5]]
    assert shares(made)[2].isnan().all()
    depth = over_depth({("lsft", 0): {"a": made, "b": made.flip(1)}})
    assert depth["condition"].tolist() == [1, 2, 3] * 2
    assert depth["measure"].tolist() == ["a"] * 3 + ["b"] * 3
    assert depth["share"].tolist() == pytest.approx([0.375, 0, 0.625, 0.625, 0, 0.375])
    assert depth[["low", "high"]].iloc[0].tolist() == pytest.approx([0.25, 0.5])
    assert depth[["n", "skipped"]].iloc[0].tolist() == [2, 1]
    found = ends(made)
    assert found["difference"] == pytest.approx(0.25)
    assert [found["low"], found["high"]] == pytest.approx([0, 0.5])
    assert found["d"] == pytest.approx(0.25 / (0.5**2 / 2) ** 0.5)
    assert ends(made.flip(1))["difference"] == pytest.approx(-0.25)
    assert first_ranked(made, 2).tolist() == [1, 0, 0], "a draw is no first place"
    assert first_ranked(made, 0).tolist() == [0, 0, 0]


def between(table, one, other):
    return table[(table["measure"] == one) & (table["other"] == other)].iloc[0]


def test_agreement_by_hand():
    """Ranks 1, 2, 3 against 1, 3, 2: 1 - 6 * 2 / (3 * 8) = 0.5; the second image's order is turned round."""
    first, second = torch.tensor([[1.0, 2, 3], [1, 2, 3]]), torch.tensor([[10.0, 30, 20], [3, 2, 1]])
    agreement = rank_agreement({("lsft", 0): {"a": first, "b": second, "same": 2 * first}})
    assert (
        between(agreement, "a", "b")["mean"] == between(agreement, "b", "a")["mean"] == pytest.approx(-0.25)
    )
    assert between(agreement, "a", "same")["mean"] == pytest.approx(1)
    tied = rank_agreement({("lsft", 0): {"a": first[:1], "b": torch.tensor([[5.0, 5, 6]])}})
    assert between(tied, "a", "b")["mean"] == pytest.approx(1.5 / 3**0.5), "ranks of -1, 0, 1 and -.5, -.5, 1"
    flat = rank_agreement({("lsft", 0): {"a": first, "b": torch.tensor([[1.0, 1, 1], [1, 2, 3]])}})
    assert between(flat, "a", "b")[["mean", "n", "skipped"]].tolist() == pytest.approx([1, 1, 1])


def test_cnns_are_the_sample():
    """Two CNNs, with images of their own: shares of the first condition .5 and 1, and .7 and .6."""
    first = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    second = torch.tensor([[0.7, 0.3], [0.6, 0.4]])
    given = {("lsft", 0): {"a": first}, ("gsft", 0): {"a": first}, ("lsft", 1): {"a": second}}
    depth = over_depth(given)
    assert depth["generator"].tolist() == ["lsft"] * 2 + ["gsft"] * 2
    assert depth.iloc[0][["share", "n", "seeds", "cnns"]].tolist() == pytest.approx([0.7, 4, 2, 2])
    assert depth.iloc[2]["share"] == pytest.approx(0.75)
    ends_of = first_against_last(given).set_index("generator")
    assert ends_of.loc["lsft", "difference"] == pytest.approx((-0.5 - 0.3) / 2)
    effects = [-0.5 / 0.5**0.5, -0.3 / (0.1**2 * 2) ** 0.5]  # of each CNN, then their mean
    assert ends_of.loc["lsft", "d"] == pytest.approx(sum(effects) / 2, rel=1e-4)


def test_intervals_hold_their_value():
    made = torch.tensor([[1.0, 1.0]]).repeat(100, 1)
    made[0, 1] = 9.0
    for given in (made, made.flip(1), made[:1]):
        found = ends(given)
        assert found["low"] <= found["difference"] <= found["high"]
    depth = over_depth({("lsft", seed): {"a": made[seed:]} for seed in range(3)})
    assert (depth["low"] <= depth["share"]).all()
    assert (depth["share"] <= depth["high"]).all()
    assert depth["share"].sum() == pytest.approx(1)


def test_nothing_matters_or_nothing_is_there():
    nothing = torch.zeros(2, 3)
    assert ends(nothing)[["difference", "low", "high", "d"]].isna().all()
    assert over_depth({("lsft", 0): {"a": nothing}})["share"].isna().all()
    one = ends(torch.tensor([[1.0, 3.0]]))
    assert one["difference"] == pytest.approx(0.5)
    assert math.isnan(one["d"])
    assert first_ranked(nothing[:0], 0).shape == (0,)
    with pytest.raises(ValueError, match="images must be at least 1"):
        mean_conditions(torch.zeros(0, 3, 4, 4))


def test_stand_ins(images):
    """Of conditions that are the mean themselves nothing is relevant by the mean, but by zeros."""
    generator = small("lsft")
    drawn = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    given = drawn.clone()
    given[:, 1] = drawn[:1, 1]
    made = stand_ins(generator, images, given)
    assert list(made) == ["mean", "zero", "another image's"]
    for name, absent in (
        ("mean", mean_conditions(given)),
        ("zero", zero_conditions(given)),
        ("another image's", None),
    ):
        assert list(made[name]) == ["leave_one_out", "leave_one_in"]
        expected = relevance(ConditionedGenerator(generator, absent), images, given, "leave_one_out")
        assert torch.equal(made[name]["leave_one_out"], expected)
    second = {name: shares(own["leave_one_out"])[:, 1].mean() for name, own in made.items()}
    assert max(second["mean"], second["another image's"]) < 1e-4 < second["zero"]


class ByWeights(torch.nn.Module):
    """A map that is a weighted mean of its conditions, the same at every place."""

    def __init__(self, *weights):
        super().__init__()
        self.weights, self.sizes = torch.tensor(weights).view(1, -1, 1, 1), SimpleNamespace(features=())

    def forward(self, images, conditions):
        return (self.weights * conditions).sum(1, keepdim=True)


def test_measures_by_hand():
    """Map = .5 a + .25 b + 0 c, with a = b = c = 1 against 0.

    Taken away, a and b lower it by .5 and .25; alone they raise it by as much. On the straight way from nothing
    the overlap rises from 0 to 1, two thirds of it by a. For Shapley values the overlap is 0.75 / 0.8125 with
    a alone and 0.6 with b alone; orders count as often as they were drawn, so that only their sum is known.
    """
    given, images = torch.ones(2, 3, 2, 2), torch.zeros(2, 3, 2, 2)
    seen = ConditionedGenerator(ByWeights(0.5, 0.25, 0.0), zero_conditions(given))
    for measure in ("leave_one_out", "leave_one_in"):
        made = relevance(seen, images, given, measure)
        assert made[1].tolist() == pytest.approx([0.5, 0.25, 0], abs=1e-6), measure
    gradients = relevance(seen, images, given, "integrated_gradients")
    assert gradients[0].tolist() == pytest.approx([2 / 3, 1 / 3, 0], abs=1e-4)
    values, alone = relevance(seen, images, given, "shapley")[1].tolist(), (0.75 / 0.8125, 0.6)
    assert sum(values) == pytest.approx(1, abs=1e-5)
    assert 1 - alone[1] < values[0] < alone[0]
    assert values[2] == pytest.approx(0, abs=1e-6)
    maps = relevance_maps(seen, images, given)
    assert maps[0, :, 1, 1].tolist() == pytest.approx([1, 0.5, 0], abs=1e-6)
    given = given * torch.tensor([0.0, 1]).view(2, 1, 1, 1)
    seen = ConditionedGenerator(ByWeights(0.5, 0.25, 0.0), mean_conditions(given))
    half = relevance(seen, images, given, "leave_one_out")
    assert half[0].tolist() == pytest.approx([0.25, 0.125, 0]), "half a unit from the mean"


def test_relevance_maps_keep_sums():
    """Two conditions of the same weight, one as a map of 4 x 4 and one as a single number: equal in sum."""

    class Both(ByWeights):
        def forward(self, images, conditions):
            large, small = conditions
            return (large.mean((2, 3), keepdim=True) + small).expand(-1, 1, 4, 4) / 2

    generator = Both(1.0, 1.0)
    generator.sizes.features = (1, 1)
    given = [torch.ones(1, 1, 4, 4), torch.ones(1, 1, 1, 1)]
    seen = ConditionedGenerator(generator, zero_conditions(given))
    maps = relevance_maps(seen, torch.zeros(1, 3, 4, 4), given)
    assert maps.flatten().tolist() == pytest.approx([1] * 32, abs=1e-4)


def test_modulation_by_hand():
    """One layer moves by 3 in every channel, the other by 4: the root of 9 + 16."""
    parts = (torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))

    class Moved(ConditionedGenerator):
        def modulations(self, images, given):
            return [given[0].expand(1, 6, 2, 2), 4 / 3 * given[0].expand(1, 2, 2, 2)]

    seen = Moved(ByWeights(1.0, 1.0), [part + 3 for part in parts])
    made = relevance(seen, torch.zeros(1, 3, 2, 2), list(parts), "modulation")
    assert made.tolist() == [pytest.approx([5, 0])]


def test_a_measure_from_outside(images, monkeypatch):
    monkeypatch.setattr(MEASURES, "_things", dict(MEASURES._things))
    MEASURES.register("brightness", lambda seen, images, parts: torch.cat(parts, 1).mean((2, 3)))
    given = torch.rand(3, 3, 16, 16)
    found = all_relevances(small("lsft"), images, given)
    assert torch.allclose(found["brightness"], given.mean((2, 3)))
