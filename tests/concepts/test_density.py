"""Typical places: densities by hand and against scikit-learn and SciPy, and planes of which few vectors speak."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA

from gan_lib.concepts.contrasting import (
    Hyperplanes,
    contrasting_concepts,
    log_density,
    places_at_random,
    typical_places,
)

TOY = torch.tensor([[0.0], [1.0], [2.0], [9.0]])


def test_one_gaussian_by_hand():
    """Mean 3, variance (9 + 4 + 1 + 36) / 4 = 12.5; the floor adds a thousandth of it."""
    variance = 12.5 * 1.001
    wanted = [-0.5 * math.log(2 * math.pi * variance) - far**2 / (2 * variance) for far in (3, 2, 1, 6)]
    assert log_density(TOY, gaussians=1).tolist() == pytest.approx(wanted, abs=1e-5)


def test_the_sparsest_quarter_drops_out():
    kept = typical_places({5: TOY, 7: TOY.flip(0)}, 0.75, gaussians=1)
    assert {label: own.tolist() for label, own in kept.items()} == {
        5: [True, True, True, False],
        7: [False, True, True, True],
    }
    assert typical_places({5: TOY}, 0.25, gaussians=1)[5].tolist() == [False, False, True, False]
    assert typical_places({5: TOY}, 1.0)[5].all()
    assert typical_places({5: TOY}, 0.01)[5].sum() == 1, "at least one"


def test_one_gaussian_in_principal_components():
    drawn = torch.Generator().manual_seed(0)
    vectors = torch.randn(200, 24, generator=drawn) @ torch.randn(24, 24, generator=drawn)
    reduced = PCA(16).fit_transform(vectors.double().numpy())
    floor = 1e-3 * (reduced**2).mean()
    made = multivariate_normal(np.zeros(16), np.diag(reduced.var(0) + floor)).logpdf(reduced)
    assert np.allclose(log_density(vectors, gaussians=1), made, atol=1e-3)


def test_two_groups_are_typical_and_what_lies_between_is_not():
    """Under one Gaussian the middle is the densest place, under two the sparsest."""
    drawn = torch.Generator().manual_seed(1)
    groups = torch.cat([0.1 * torch.randn(50, 3, generator=drawn) + place for place in (0.0, 4.0)])
    vectors = torch.cat([groups, torch.full((1, 3), 2.0)])
    assert int(log_density(vectors, gaussians=2).argmin()) == 100
    assert int(log_density(vectors, gaussians=1).argmax()) == 100
    assert not typical_places({0: vectors}, 100 / 101, gaussians=2)[0][100]


def test_densities_do_not_depend_on_the_scale_but_for_a_constant():
    vectors = torch.randn(60, 4, generator=torch.Generator().manual_seed(2))
    apart = log_density(vectors, 3) - log_density(1000 * vectors, 3)
    assert apart.tolist() == pytest.approx([4 * math.log(1000)] * 60, abs=1e-2)


def test_few_and_equal_vectors():
    assert log_density(torch.ones(3, 5)).tolist() == [0, 0, 0]
    assert log_density(torch.ones(1, 5)).tolist() == [0]
    assert torch.isfinite(log_density(torch.eye(2), gaussians=4)).all()
    assert typical_places({0: torch.ones(4, 2)}, 0.5)[0].tolist() == [True, True, False, False]
    with pytest.raises(ValueError, match="vectors must be at least 1"):
        log_density(torch.ones(0, 5))
    for share in (0.0, 1.1, -1.0):
        with pytest.raises(ValueError, match="above 0 and at most 1"):
            typical_places({0: TOY}, share)


def test_as_many_at_random():
    keep = {3: torch.arange(100) < 30, 4: torch.arange(10) < 7}
    made = places_at_random(keep, seed=1)
    assert {label: int(own.sum()) for label, own in made.items()} == {3: 30, 4: 7}
    assert not torch.equal(made[3], keep[3])
    assert torch.equal(made[3], places_at_random(keep, seed=1)[3])
    assert not torch.equal(made[3], places_at_random(keep, seed=2)[3])


def test_the_planes_stay_and_only_what_is_kept_speaks():
    drawn = torch.Generator().manual_seed(3)
    clouds = {
        label: (torch.randn(40, 6, generator=drawn) + 2 * torch.eye(6)[label]).relu() for label in (0, 1, 2)
    }
    planes = Hyperplanes(clouds)
    few = planes.keeping({0: torch.arange(40) < 20, 1: torch.zeros(40, dtype=torch.bool)})
    assert list(few.vectors) == [0], "of 1 nothing is kept, and 2 is not named"
    assert torch.equal(few.plane(0, 1)[0], planes.plane(0, 1)[0])
    assert torch.equal(few.plane(0, 2)[0], Hyperplanes(clouds).plane(0, 2)[0]), "fitted later, to all"
    distances = planes.distance(clouds[0][:20], 0, 1)
    wanted = (clouds[0][:20] * distances[:, None])[distances > 0]
    assert torch.allclose(few.speaking(0, 1), wanted)
    assert len(planes.vectors[0]) == 40
    assert contrasting_concepts(few, 0, 1, 2).shape == (2, 6)
    with pytest.raises(KeyError, match="no hyperplanes of class 5"):
        few.plane(0, 5)
