"""Which of a class's activations are typical of it: their density under a mixture of Gaussians.

arXiv 2502.03422 restricts contrasting concepts, as an option, to places whose density is high enough. What is
rare among a class's own evidence, a border, a second object, then has no part in its concepts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits
from torch import Tensor

from gan_lib.core.options import positive

DIRECTIONS = 16  # principal components; few vectors say nothing about the density in all channels
VARIANCE_FLOOR = 1e-3  # of the mean variance of a principal component


def log_density(vectors: Tensor, gaussians: int = 4, seed: int = 0) -> Tensor:
    """Log density (M,) of vectors (M, C) under a mixture of Gaussians that is fitted to them.

    In the first 16 principal components: ``log p(a) = log sum_j pi_j N(a; mu_j, diag(sigma_j^2))``, by
    expectation maximisation. Vectors that are all the same have the same density, 0.

        log_density(torch.tensor([[0.0], [1.0], [2.0], [9.0]]), gaussians=1)  # the last is the lowest

    Args:
        gaussians: at most as many as there are different vectors.
        seed: of the start.

    Raises:
        ValueError: no vector, or a count below 1.
    """
    positive(vectors=len(vectors), gaussians=gaussians)
    centred = vectors.double() - vectors.double().mean(0)
    directions = torch.linalg.svd(centred, full_matrices=False).Vh[:DIRECTIONS]
    reduced = centred @ directions.T  # (M, D)
    scale = float(reduced.square().mean().sqrt())  # so that the floor means the same in every layer
    if scale == 0:
        return torch.zeros(len(vectors)).to(vectors)
    data = (reduced / scale).cpu().numpy()
    count = min(gaussians, len(np.unique(data.round(9), axis=0)))
    model = GaussianMixture(count, covariance_type="diag", random_state=seed, reg_covar=VARIANCE_FLOOR)
    with threadpool_limits(1, "blas"):
        scores = model.fit(data).score_samples(data)
    return torch.tensor(scores - reduced.shape[1] * math.log(scale)).to(vectors)


def typical_places(
    vectors: Mapping[int, Tensor], share: float, gaussians: int = 4, seed: int = 0
) -> dict[int, Tensor]:
    """Per class, which of its vectors (M, C) are the ``share`` with the highest density: (M,) bool.

        planes.keeping(typical_places(planes.vectors, 0.75))  # concepts of typical places only

    The number kept is rounded, and at least one; of equal densities the first count.

    Raises:
        ValueError: a share outside of (0, 1], or as :func:`log_density`.
    """
    if not 0 < share <= 1:
        raise ValueError(f"the share of places that are kept is above 0 and at most 1, not {share}")
    return {
        label: _highest(log_density(own, gaussians, seed), max(1, round(share * len(own))))
        for label, own in vectors.items()
    }


def places_at_random(keep: Mapping[int, Tensor], seed: int = 0) -> dict[int, Tensor]:
    """As many places of every class as ``keep`` has, (M,) bool, but drawn at random: its control."""
    drawn = torch.Generator().manual_seed(seed)
    return {
        label: _highest(torch.rand(len(own), generator=drawn), int(own.sum())).to(own.device)
        for label, own in keep.items()
    }


def _highest(values: Tensor, count: int) -> Tensor:
    """The ``count`` highest of values (M,), as (M,) bool; of equal ones the first."""
    chosen = torch.zeros(len(values), dtype=torch.bool, device=values.device)
    chosen[values.sort(descending=True, stable=True).indices[:count]] = True
    return chosen
