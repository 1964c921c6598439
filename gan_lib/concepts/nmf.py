"""Non-negative matrix factorisation of many matrices at once, and encoding with a fixed basis.

Hierarchical alternating least squares (Cichocki & Phan, 2009), in the accelerated form of Gillis &
Glineur (2012): the two products with the data, which cost the most, serve several sweeps over the factors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

EPSILON = 1e-12
SWEEPS = 3  # over either factor for each product with the data


@dataclass(frozen=True)
class Factorisation:
    """``data ~ weights @ basis``, of P matrices.

    Attributes:
        weights: (P, N, k), non-negative.
        basis: (P, k, C), non-negative; every vector has length 1, and the one with the largest weights
            comes first. A vector that is not needed is zero.
        error: (P,) Frobenius norm of what is left, as a share of the data's.
    """

    weights: Tensor
    basis: Tensor
    error: Tensor


def nmf(
    data: Tensor,
    components: int,
    start: str = "nndsvda",
    seed: int = 0,
    tolerance: float = 1e-4,
    max_iterations: int = 200,
) -> Factorisation:
    """Factorise non-negative matrices.

        made = nmf(activations.flatten(0, 2)[None], components=6)
        made.basis[0]    # (6, C): the concept vectors

    Args:
        data: (P, N, C), non-negative. Matrices of fewer rows may be padded with rows of zeros: their weights
            are 0. They and the other matrices do move the start, and so which minimum is found.
        components: number k of basis vectors.
        start: ``nndsvda`` (Boutsidis & Gallopoulos, 2008, zeros filled with the mean) or ``random``, by the
            seed either way.
        tolerance: the end is reached when no matrix's error falls by more than this share of itself.

    Raises:
        ValueError: negative or non-finite data, fewer rows or columns than components, or an unknown start.
    """
    if data.ndim != 3:
        raise ValueError(f"data is (P, N, C), not {tuple(data.shape)}")
    if not torch.isfinite(data).all() or (data < 0).any():
        raise ValueError("data holds negative or non-finite values, which no non-negative factors make")
    if not 1 <= components <= min(data.shape[1:]):
        shape = tuple(data.shape)
        raise ValueError(f"{components} components need at least as many rows and columns: {shape}")
    norm = data.flatten(1).norm(dim=1)  # (P,)
    weights, basis = _start(data, components, start, seed)
    rows, basis = weights.mT.contiguous().clone(), basis.clone()  # (P, k, N), (P, k, C)
    before = torch.full_like(norm, torch.inf)
    for _ in range(max_iterations):
        _sweep(rows, basis @ data.mT, basis @ basis.mT, SWEEPS)
        products, gram = rows @ data, rows @ rows.mT  # (P, k, C), (P, k, k)
        _sweep(basis, products, gram, SWEEPS)
        error = _error(norm, products, gram, basis)
        if bool((error >= (1 - tolerance) * before).all()):
            break
        before = error
    weights, basis = _canonical(rows.mT, basis)
    left = (data - weights @ basis).flatten(1).norm(dim=1)
    return Factorisation(weights, basis, left / norm.clamp(min=EPSILON))


def encode(data: Tensor, basis: Tensor, tolerance: float = 1e-5, max_iterations: int = 500) -> Tensor:
    """Non-negative weights (..., N, k) with which a fixed basis comes nearest to data (..., N, C).

    Non-negative least squares for all rows at once, by coordinate descent, until no weight moves by more than
    a share of the largest. The basis (..., k, C) may have negative values.

    Raises:
        ValueError: another number of columns.
    """
    if data.shape[-1] != basis.shape[-1]:
        raise ValueError(f"data has {data.shape[-1]} columns, the basis {basis.shape[-1]}")
    products, gram = basis @ data.mT, basis @ basis.mT  # (..., k, N), (..., k, k)
    scale = gram.diagonal(dim1=-2, dim2=-1).clamp(min=EPSILON)  # (..., k)
    rows = (products / scale[..., None]).clamp(min=0)
    for _ in range(max_iterations):
        old = rows.clone()
        _sweep(rows, products, gram, 1)
        if not rows.numel() or (rows - old).abs().max() <= tolerance * rows.abs().max():
            break
    return rows.mT


def _sweep(factor: Tensor, products: Tensor, gram: Tensor, sweeps: int) -> None:
    """Coordinate descent in place: every row of a factor (..., k, M) in turn."""
    for _ in range(sweeps):
        for j in range(factor.shape[-2]):
            own = gram[..., j, j, None]  # (..., 1)
            rest = products[..., j, :] - (gram[..., None, j, :] @ factor)[..., 0, :]  # (..., M)
            row = (factor[..., j, :] + rest / own.clamp(min=EPSILON)).clamp(min=0)
            factor[..., j, :] = torch.where(own > EPSILON, row, factor[..., j, :])


def _error(norm: Tensor, products: Tensor, gram: Tensor, basis: Tensor) -> Tensor:
    """Relative error (P,) from the products that the sweeps needed anyway."""
    crossed = (products.double() * basis.double()).sum((1, 2))
    squared = (gram.double() * (basis @ basis.mT).double()).sum((1, 2))
    left = (norm.double() ** 2 - 2 * crossed + squared).clamp(min=0).sqrt()
    return (left / norm.double().clamp(min=EPSILON)).to(norm)


def _canonical(weights: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    lengths = basis.norm(dim=2)  # (P, k)
    basis = basis / lengths.clamp(min=EPSILON)[..., None]
    weights = weights * lengths[:, None, :]
    order = weights.sum(1).argsort(dim=1, descending=True)  # (P, k)
    basis = basis.gather(1, order[..., None].expand_as(basis))
    weights = weights.gather(2, order[:, None, :].expand_as(weights))
    return weights, basis


def _start(data: Tensor, components: int, start: str, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    count, rows, columns = data.shape
    mean = data.mean((1, 2))  # (P,)
    if start == "random":
        scale = (mean / components).sqrt()[:, None, None]
        weights = torch.rand(count, rows, components, generator=generator).to(data)
        basis = torch.rand(count, components, columns, generator=generator).to(data)
        return 2 * scale * weights, 2 * scale * basis
    if start != "nndsvda":
        raise ValueError(f"start is 'nndsvda' or 'random', not {start!r}")
    left, sizes, right = _leading(data, components, generator)
    # Of every pair of singular vectors the larger of its positive and its negative halves (the first
    # pair of a non-negative matrix has one sign).
    halves = [
        (side.clamp(min=0), other.clamp(min=0)) for side, other in ((left, right), (-left, -right))
    ]  # each (P, N, k), (P, C, k)
    strengths = torch.stack([a.norm(dim=1) * b.norm(dim=1) for a, b in halves])  # (2, P, k)
    first = strengths[0] >= strengths[1]
    weights, basis = (torch.where(first[:, None], halves[0][i], halves[1][i]) for i in (0, 1))
    strength = strengths.amax(0)
    scale = (sizes * strength).sqrt()[:, None]  # (P, 1, k)
    weights = scale * weights / weights.norm(dim=1, keepdim=True).clamp(min=EPSILON)
    basis = scale * basis / basis.norm(dim=1, keepdim=True).clamp(min=EPSILON)
    fill = mean[:, None, None]
    return torch.where(weights > 0, weights, fill), torch.where(basis > 0, basis, fill).mT.contiguous()


def _leading(data: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Leading singular vectors (P, N, k), values (P, k) and vectors (P, C, k), by random projection."""
    wide = min(count + 10, *data.shape[1:])
    probe = torch.randn(len(data), data.shape[2], wide, generator=generator).to(data)
    for _ in range(2):
        probe = torch.linalg.qr(data.mT @ (data @ probe)).Q  # (P, C, wide)
    left, sizes, right = torch.linalg.svd(data @ probe, full_matrices=False)
    right = (probe @ right.mT)[..., :count]
    return left[..., :count], sizes[:, :count], right
