"""A linear classifier for every pair of classes, all pairs solved at once.

The pairwise classifiers of arXiv 2502.03422 (section 3.3) are regularised logistic regressions. Of K
classes there are K (K - 1) / 2, and every class's vectors take part in K - 1 of them, so scores and
gradients of all pairs are one batched product per class. Newton's equations are solved by conjugate
gradients, without ever forming a Hessian.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence


@dataclass(frozen=True)
class Hyperplanes:
    """Hyperplanes between all pairs of K classes.

    Attributes:
        classes: (K,) class numbers.
        normal: (K, K, C): of [i, j] the normal, not scaled, that points from class j to class i. That of
            [j, i] is its negative; the diagonal is zero.
        offset: (K, K): an activation a is on i's side where ``a @ normal[i, j] + offset[i, j] > 0``.
    """

    classes: Tensor
    normal: Tensor
    offset: Tensor

    def distance(self, activations: Tensor, one: int, other: int) -> Tensor:
        """Signed distances (...) of activations (..., C) from the plane, positive on class ``one``'s side.

        Raises:
            KeyError: a class without hyperplanes.
            ValueError: twice the same class.
        """
        i, j = self.index(one), self.index(other)
        if i == j:
            raise ValueError(f"there is no hyperplane between class {one} and itself")
        normal = self.normal[i, j].to(activations)
        length = normal.norm().clamp(min=1e-12)
        return (activations @ normal + self.offset[i, j].to(activations)) / length

    def direction(self, start: int, end: int) -> Tensor:
        """The unit normal (C,) that points from one class to another."""
        return F.normalize(self.normal[self.index(end), self.index(start)], dim=0)

    def index(self, label: int) -> int:
        """Where a class stands among ``classes``.

        Raises:
            KeyError: it is not there.
        """
        found = (self.classes == label).nonzero()
        if not len(found):
            raise KeyError(f"no hyperplanes of class {label}; there are those of {self.classes.tolist()}")
        return int(found[0, 0])


def fit_hyperplanes(
    vectors: Mapping[int, Tensor],
    strength: float = 1.0,
    tolerance: float = 1e-4,
    max_iterations: int = 30,
) -> Hyperplanes:
    """Logistic regression for every pair of classes.

        planes = fit_hyperplanes({0: cats, 1: dogs, 2: birds})
        planes.distance(activations, 0, 1)    # how much they speak for 0 rather than 1

    Minimises ``strength * sum_n log(1 + exp(-y_n (a_n @ w + b))) + |w|^2 / 2`` for every pair, which is
    scikit-learn's ``LogisticRegression(C=strength)``. All pairs stop when the gradient of each has fallen
    to ``tolerance`` of what it was at the start.

    Args:
        vectors: per class number (N_i, C), at least one.
        strength: of the data against the regularisation; scikit-learn's C.
        tolerance: relative, of the gradient's largest component.
        max_iterations: Newton steps.

    Raises:
        ValueError: fewer than two classes, or a class without vectors.
    """
    if len(vectors) < 2:
        raise ValueError(f"contrasting needs two classes, not {list(vectors)}")
    empty = [label for label, own in vectors.items() if not len(own)]
    if empty:
        raise ValueError(f"classes {empty} have no vectors")
    problem = _Problem(list(vectors.values()), strength)
    solution = _newton(problem, tolerance, max_iterations)  # (K, K, C + 1)
    # Fitted on centred and scaled vectors; back to the given ones.
    normal = solution[..., :-1] / problem.scale
    offset = solution[..., -1] - normal @ problem.centre
    return Hyperplanes(torch.tensor(list(vectors)), normal, offset)


class _Problem:
    """The loss of all pairs: value, gradient, and products with the Hessian.

    Solutions are (K, K, D), D = C + 1 with the offset last, and antisymmetric: [i, j] = -[j, i].
    """

    def __init__(self, vectors: list[Tensor], strength: float) -> None:
        whole = torch.cat(vectors).float()
        # Centring makes offset and normal nearly independent, which conjugate gradients are glad of.
        self.centre = whole.mean(0)  # (C,)
        self.scale = whole.std(0, correction=0).pow(2).mean().sqrt().clamp(min=1e-12)
        padded = pad_sequence(list(vectors), batch_first=True).float()  # (K, N, C)
        there = pad_sequence([torch.ones(len(own), device=own.device) for own in vectors], batch_first=True)
        ones = torch.ones_like(padded[..., :1])
        self.vectors = torch.cat([(padded - self.centre) / self.scale, ones], 2) * there[..., None]
        self.there, self.strength = there[..., None], strength  # (K, N, 1)
        count = len(vectors)
        self.pairs = ~torch.eye(count, dtype=torch.bool, device=whole.device)  # (K, K)
        decay = torch.full((self.vectors.shape[2],), float(self.scale**-2), device=whole.device)
        decay[-1] = 0  # the offset is not regularised
        self.decay = decay

    def margins(self, solution: Tensor) -> Tensor:
        """How far each class's vectors are on their own side, (K, N, K)."""
        return self.vectors @ solution.mT  # (K, N, D) @ (K, D, K)

    def value(self, margins: Tensor, solution: Tensor) -> Tensor:
        """The loss (K, K) of every pair."""
        own = (F.softplus(-margins) * self.there).sum(1)  # (K, K)
        return self.strength * (own + own.T) + (self.decay * solution.square()).sum(2) / 2

    def gradient(self, margins: Tensor, solution: Tensor) -> Tensor:
        """(K, K, D)."""
        pulled = (torch.sigmoid(-margins) * self.there).mT @ self.vectors  # (K, K, D)
        return self.masked(self.decay * solution - self.strength * (pulled - pulled.transpose(0, 1)))

    def curvature(self, margins: Tensor) -> Tensor:
        """What each vector adds to the Hessian, (K, N, K)."""
        chance = torch.sigmoid(margins)
        return chance * (1 - chance) * self.there

    def hessian(self, curvature: Tensor, direction: Tensor) -> Tensor:
        """The Hessian times a direction, (K, K, D)."""
        own = (curvature * (self.vectors @ direction.mT)).mT @ self.vectors  # (K, K, D)
        # Of the other class's vectors the direction has the other sign, and so has what they add.
        return self.masked(self.decay * direction + self.strength * (own - own.transpose(0, 1)))

    def diagonal(self, curvature: Tensor) -> Tensor:
        """The Hessian's diagonal, (K, K, D)."""
        own = curvature.mT @ self.vectors.square()
        return self.decay + self.strength * (own + own.transpose(0, 1)) + 1e-12

    def masked(self, value: Tensor) -> Tensor:
        return value * self.pairs[..., None]


def _newton(problem: _Problem, tolerance: float, max_iterations: int) -> Tensor:
    count, _, size = problem.vectors.shape
    solution = torch.zeros(count, count, size, device=problem.vectors.device)
    margins = problem.margins(solution)
    gradient = problem.gradient(margins, solution)
    limit = tolerance * gradient.abs().amax(2).clamp(min=1e-12)  # (K, K)
    for _ in range(max_iterations):
        if (gradient.abs().amax(2) <= limit).all():
            break
        step = _conjugate_gradients(problem, problem.curvature(margins), gradient)
        solution, margins = _line_search(problem, solution, margins, step, gradient)
        gradient = problem.gradient(margins, solution)
    return solution


def _conjugate_gradients(problem: _Problem, curvature: Tensor, gradient: Tensor, most: int = 100) -> Tensor:
    """An inexact solution (K, K, D) of Newton's equations, of each pair for itself."""
    diagonal = problem.diagonal(curvature)
    step = torch.zeros_like(gradient)
    rest = -gradient
    scaled = rest / diagonal
    direction = scaled
    product = (rest * scaled).sum(2, keepdim=True)  # (K, K, 1)
    first = product
    for _ in range(most):
        moved = problem.hessian(curvature, direction)
        length = product / (direction * moved).sum(2, keepdim=True).clamp(min=1e-30)
        step, rest = step + length * direction, rest - length * moved
        scaled = rest / diagonal
        before, product = product, (rest * scaled).sum(2, keepdim=True)
        if (product <= 0.01 * first).all():
            break
        direction = scaled + product / before.clamp(min=1e-30) * direction
    return step


def _line_search(
    problem: _Problem, solution: Tensor, margins: Tensor, step: Tensor, gradient: Tensor
) -> tuple[Tensor, Tensor]:
    """Halve the step of every pair until its loss falls."""
    before = problem.value(margins, solution)
    slope = (gradient * step).sum(2)
    moved = problem.margins(step)
    share = torch.ones_like(before)  # (K, K)
    for _ in range(12):
        new = solution + share[..., None] * step
        new_margins = margins + share[:, None] * moved
        value = problem.value(new_margins, new)
        bad = value > before + 1e-4 * share * slope + 1e-6 * before.abs()
        if not bad.any():
            break
        share = torch.where(bad, share / 2, share)
    return new, new_margins
