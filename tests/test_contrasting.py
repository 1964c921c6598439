"""Hyperplanes against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from gan_lib.contrasting.hyperplanes import fit_hyperplanes


def clouds(classes=4, channels=12, spread=1.0, seed=0):
    drawn = torch.Generator().manual_seed(seed)
    centres = 2 * torch.rand(classes, channels, generator=drawn)
    return {
        3 * label: (centre + spread * torch.randn(60 + 20 * label, channels, generator=drawn)).relu()
        for label, centre in enumerate(centres)
    }


@pytest.mark.parametrize("strength", [0.01, 1.0])
@pytest.mark.parametrize("spread", [0.2, 1.0])
def test_every_pair_is_scikit_learns(strength, spread):
    vectors = clouds(spread=spread)
    planes = fit_hyperplanes(vectors, strength, tolerance=1e-6, max_iterations=100)
    for i, (one, own) in enumerate(vectors.items()):
        for j, (other, its) in enumerate(vectors.items()):
            if i >= j:
                continue
            both = torch.cat([own, its]).double().numpy()
            label = np.repeat([1, 0], [len(own), len(its)])
            model = LogisticRegression(C=strength, tol=1e-10, max_iter=10000).fit(both, label)
            made = torch.cat([planes.normal[i, j], planes.offset[i, j, None]]).numpy()
            expected = np.append(model.coef_[0], model.intercept_)
            assert np.abs(made - expected).max() < 2e-3 * np.abs(expected).max()
            assert torch.equal(planes.normal[j, i], -planes.normal[i, j])
            distance = planes.distance(own, one, other)
            theirs = model.decision_function(own.double().numpy()) / np.linalg.norm(model.coef_)
            assert np.allclose(distance.numpy(), theirs, atol=0.02 * np.abs(theirs).max())


def test_directions_point_from_class_to_class():
    vectors = clouds(spread=0.2)
    planes = fit_hyperplanes(vectors)
    direction = planes.direction(0, 3)
    assert direction.norm() == pytest.approx(1, abs=1e-5)
    assert ((vectors[3].mean(0) - vectors[0].mean(0)) @ direction) > 0
    assert (planes.distance(vectors[0], 0, 3) > 0).float().mean() > 0.98
    assert (planes.distance(vectors[3], 0, 3) < 0).float().mean() > 0.98


def test_what_cannot_be_contrasted():
    vectors = clouds()
    with pytest.raises(ValueError, match="two classes"):
        fit_hyperplanes({1: vectors[0]})
    with pytest.raises(ValueError, match="no vectors"):
        fit_hyperplanes({0: vectors[0], 1: torch.zeros(0, 12)})
    planes = fit_hyperplanes(vectors)
    with pytest.raises(ValueError, match="itself"):
        planes.distance(vectors[0], 3, 3)
    with pytest.raises(KeyError, match="class 1"):
        planes.distance(vectors[0], 0, 1)


def test_equal_classes_have_a_defined_plane():
    own = torch.rand(30, 5)
    planes = fit_hyperplanes({0: own, 1: own.clone()})
    assert torch.isfinite(planes.normal).all()
    assert planes.distance(own, 0, 1).isfinite().all()
    constant = fit_hyperplanes({0: torch.ones(3, 4), 1: torch.ones(2, 4)})
    assert constant.normal.isfinite().all()
