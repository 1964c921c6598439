"""A linear classifier for every pair of classes, fitted when it is first asked for.

The pairwise classifiers of arXiv 2502.03422 (section 3.3) are regularised logistic regressions; here they are
scikit-learn's, on one thread: on several, products of this size wait for each other. Of 1000 classes there
are 499,500 pairs, but no test asks for all: the insertion test needs two per class.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional as F

TOLERANCE = 1e-6  # of the gradient; at scikit-learn's 1e-4 normals are up to 6 degrees off


class Hyperplanes:
    """Logistic regression between any two of several classes.

        planes = Hyperplanes({0: cats, 1: dogs, 2: birds})
        planes.distance(activations, 0, 1)    # how much they speak for 0 rather than 1

    Minimises ``strength * sum_n log(1 + exp(-y_n (a_n @ w + b))) + |w|^2 / 2``.

    Args:
        vectors: per class number (N_i, C), at least one.
        strength: of the data against the regularisation; scikit-learn's C.

    Raises:
        ValueError: fewer than two classes, or a class without vectors.
    """

    def __init__(self, vectors: Mapping[int, Tensor], strength: float = 1.0) -> None:
        if len(vectors) < 2:
            raise ValueError(f"contrasting needs two classes, not {list(vectors)}")
        empty = [label for label, own in vectors.items() if not len(own)]
        if empty:
            raise ValueError(f"classes {empty} have no vectors")
        self.vectors, self.strength = dict(vectors), strength
        self._fitted_to = self.vectors
        self._fitted: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def plane(self, one: int, other: int) -> tuple[Tensor, Tensor]:
        """Normal (C,), not scaled, and offset (): ``a @ normal + offset`` is above 0 on class ``one``'s side.

        Those of (other, one) are the negatives.

        Raises:
            KeyError: a class without vectors.
            ValueError: twice the same class.
        """
        for label in (one, other):
            if label not in self._fitted_to:
                raise KeyError(f"no hyperplanes of class {label}; there are those of {list(self._fitted_to)}")
        if one == other:
            raise ValueError(f"there is no hyperplane between class {one} and itself")
        pair = (min(one, other), max(one, other))
        if pair not in self._fitted:
            self._fitted[pair] = self._fit(*pair)
        normal, offset = self._fitted[pair]
        return (normal, offset) if one < other else (-normal, -offset)

    def _fit(self, one: int, other: int) -> tuple[Tensor, Tensor]:
        own, its = self._fitted_to[one], self._fitted_to[other]
        both = torch.cat([own, its]).double().cpu().numpy()  # (N_one + N_other, C)
        with threadpool_limits(1, "blas"):
            model = LogisticRegression(C=self.strength, tol=TOLERANCE, max_iter=1000)
            model.fit(both, np.arange(len(both)) < len(own))
        return torch.tensor(model.coef_[0]).to(own), torch.tensor(model.intercept_[0]).to(own)

    def keeping(self, keep: Mapping[int, Tensor]) -> Hyperplanes:
        """The same planes, fitted to all vectors, of which only some speak for their class.

            planes.keeping(typical_places(planes.vectors, 0.75))

        Args:
            keep: per class (N_i,) bool; a class that is missing, or of which no vector is kept, has none
                that could speak: it is not among the ``vectors``.
        """
        kept = {label: self.vectors[label][own.to(self.vectors[label].device)] for label, own in keep.items()}
        made = copy.copy(self)  # shares the planes that are fitted already, or will be
        made.vectors = {label: own for label, own in kept.items() if len(own)}
        return made

    def distance(self, activations: Tensor, one: int, other: int) -> Tensor:
        """Signed distances (...) of activations (..., C) from the plane, positive on class ``one``'s side."""
        normal, offset = (part.to(activations) for part in self.plane(one, other))
        return (activations @ normal + offset) / normal.norm().clamp(min=1e-12)

    def direction(self, start: int, end: int) -> Tensor:
        """The unit normal (C,) that points from one class to another."""
        return F.normalize(self.plane(end, start)[0], dim=0)

    def speaking(self, one: int, other: int) -> Tensor:
        """The vectors (M, C) of class ``one`` on its side of the plane, each times its distance from it."""
        weights = self.distance(self.vectors[one], one, other).clamp(min=0)  # (N_one,)
        return (self.vectors[one] * weights[:, None])[weights > 0]
