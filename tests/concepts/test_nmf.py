"""Factorisation: planted factors, scikit-learn, padding, encoding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment, nnls
from sklearn.decomposition import NMF

from gan_lib.concepts.nmf import encode, nmf


def planted(count=2, rows=300, columns=40, components=5, noise=0.0, seed=0):
    drawn = torch.Generator().manual_seed(seed)
    basis = torch.rand(count, components, columns, generator=drawn)
    basis *= torch.rand(count, components, columns, generator=drawn) < 0.3
    weights = torch.rand(count, rows, components, generator=drawn)
    weights *= torch.rand(count, rows, components, generator=drawn) < 0.4
    data = weights @ basis + noise * torch.rand(count, rows, columns, generator=drawn)
    return data, torch.nn.functional.normalize(basis, dim=2)


@pytest.mark.parametrize("start", ["nndsvda", "random"])
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_planted_factors_are_found(start, noise):
    data, basis = planted(noise=noise)
    made = nmf(data, 5, start, tolerance=1e-6, max_iterations=2000)
    assert made.error.max() < (0.01 if noise == 0 else 0.1)
    for found, true in zip(made.basis, basis, strict=True):
        cosines = (found @ true.T).numpy()
        rows, columns = linear_sum_assignment(-cosines)
        assert cosines[rows, columns].min() > 0.95


def test_what_is_returned():
    data, _ = planted(noise=0.05)
    made = nmf(data, 5)
    assert made.weights.shape == (2, 300, 5)
    assert made.basis.shape == (2, 5, 40)
    assert min(made.weights.min(), made.basis.min()) >= 0
    assert torch.allclose(made.basis.norm(dim=2), torch.ones(2, 5), atol=1e-5)
    assert (made.weights.sum(1).diff(dim=1) <= 0).all()
    left = (data - made.weights @ made.basis).flatten(1).norm(dim=1) / data.flatten(1).norm(dim=1)
    assert torch.allclose(made.error, left, atol=1e-5)
    again = nmf(data, 5)
    assert torch.equal(again.basis, made.basis)


def test_as_good_as_scikit_learn_from_the_same_start(monkeypatch):
    data, _ = planted(1, 500, 60, 8, noise=0.3)
    drawn = torch.Generator().manual_seed(1)
    weights = torch.rand(1, 500, 6, generator=drawn)
    basis = torch.rand(1, 6, 60, generator=drawn)
    with monkeypatch.context() as patched:
        patched.setitem(nmf.__globals__, "_start", lambda *_: (weights, basis))
        made = nmf(data, 6, tolerance=1e-6, max_iterations=1000)
    model = NMF(6, init="custom", max_iter=2000, tol=1e-6)
    theirs = model.fit_transform(data[0].numpy(), W=weights[0].numpy().copy(), H=basis[0].numpy().copy())
    left = np.linalg.norm(data[0].numpy() - theirs @ model.components_) / data[0].norm()
    assert made.error[0] <= 1.01 * left
    started = nmf(data, 6)
    model = NMF(6, init="nndsvda", max_iter=500, random_state=0).fit(data[0].numpy())
    assert started.error[0] <= 1.01 * model.reconstruction_err_ / data[0].norm()


def test_rows_of_zeros_and_other_matrices_leave_the_error():
    data, _ = planted(noise=0.05)
    alone = nmf(data[:1], 4, tolerance=0, max_iterations=30)
    padded = torch.cat([data, torch.zeros(2, 17, 40)], 1)
    together = nmf(padded, 4, tolerance=0, max_iterations=30)
    assert torch.allclose(together.error[0], alone.error[0], rtol=2e-2)
    assert together.weights[:, 300:].max() < 1e-6


def test_an_all_zero_matrix_and_too_many_components_for_its_rank():
    made = nmf(torch.zeros(1, 8, 6), 2)
    assert made.error.tolist() == [0]
    assert torch.isfinite(made.basis).all()
    rank_one = torch.rand(10, 1) @ torch.rand(1, 6)
    made = nmf(rank_one[None], 3)
    assert made.error.max() < 0.02
    assert torch.isfinite(made.weights).all()


@pytest.mark.parametrize(
    ("data", "components", "reason"),
    [
        (-torch.ones(1, 4, 4), 2, "negative"),
        (torch.full((1, 4, 4), torch.nan), 2, "non-finite"),
        (torch.ones(1, 4, 9), 5, "components"),
        (torch.ones(4, 9), 2, r"\(P, N, C\)"),
    ],
)
def test_what_cannot_be_factorised_is_refused(data, components, reason):
    with pytest.raises(ValueError, match=reason):
        nmf(data, components)


def test_unknown_start():
    with pytest.raises(ValueError, match="nndsvda"):
        nmf(torch.rand(1, 5, 5), 2, start="svd")


def test_encoding_is_non_negative_least_squares():
    drawn = torch.Generator().manual_seed(0)
    basis = torch.rand(4, 20, generator=drawn)
    data = torch.rand(2, 7, 20, generator=drawn) - 0.2
    made = encode(data, basis, tolerance=1e-7, max_iterations=5000)
    expected = [[nnls(basis.T.numpy(), row.numpy())[0] for row in part] for part in data]
    assert np.allclose(made.numpy(), np.array(expected), atol=1e-3)
    with pytest.raises(ValueError, match="columns"):
        encode(data, torch.rand(4, 19))
