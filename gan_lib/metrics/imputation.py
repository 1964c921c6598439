"""Removed pixels filled in from their neighbours (ROAD's noisy linear imputation).

Every unknown pixel shall be the weighted mean of its neighbours, 1/6 for the four beside it and 1/12
for the four across (Rong et al., ICML 2022, section 4). That is one sparse linear system per image,
symmetric and positive definite. It is solved for all images at once by conjugate gradients, with a
multigrid cycle as preconditioner, in place of a sparse direct solver per image.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

DAMPING = 0.8  # of the Jacobi smoother
COARSEST = 4  # pixels a side
AT_ONCE = 100_000  # pixels: more do not fit into the cache of a CPU


def impute(
    images: Tensor,
    known: Tensor,
    noise: float = 0.0,
    seed: int = 0,
    tolerance: float = 1e-5,
    iterations: int = 200,
) -> Tensor:
    """Images whose unknown pixels are filled in linearly from the known ones.

        filled = impute(images, ~top_share(maps, 0.2))

    Args:
        images: (B, C, H, W).
        known: (B, 1, H, W) bool; an image without any known pixel becomes its mean colour.
        noise: standard deviation of what is added to the filled-in pixels; the paper's is 0.01.
        seed: of the noise.
        tolerance: relative residual at which the solver stops.
        iterations: at most.

    Returns:
        (B, C, H, W).
    """
    at_once = max(1, AT_ONCE // (images.shape[-2] * images.shape[-1]))
    if len(images) > at_once:
        parts = [
            impute(some, seen, 0.0, seed, tolerance, iterations)
            for some, seen in zip(images.split(at_once), known.split(at_once), strict=True)
        ]
        filled = torch.cat(parts)
        return _noisy(filled, ~known, noise, seed)
    unknown = ~known.expand(len(images), 1, *images.shape[-2:])
    pixels = images.float()
    blind = unknown.flatten(1).all(1)[:, None, None, None]
    mask = (unknown & ~blind).float()
    finest = _Level(mask, pixels.shape[1])
    right = mask * finest.neighbours(pixels * (1 - mask))  # (B, C, H, W)
    solution = _conjugate_gradients(finest, right, tolerance, iterations)
    filled = torch.where(mask > 0, solution, pixels)
    filled = torch.where(blind, pixels.mean((2, 3), keepdim=True), filled)
    return _noisy(filled, unknown, noise, seed).to(images.dtype)


def _noisy(images: Tensor, unknown: Tensor, noise: float, seed: int) -> Tensor:
    if not noise:
        return images
    drawn = noise * torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    return torch.where(unknown, images + drawn.to(images), images)


class _Level:
    """The equations of masks (B, 1, h, w), 1 where a pixel is unknown, and coarser ones below them.

    A coarser pixel is unknown where all four pixels that it stands for are. Where known pixels lie
    scattered there is nothing for it to correct, and nothing to be corrected: no error is smooth.
    """

    def __init__(self, mask: Tensor, channels: int) -> None:
        self.mask, self.size = mask, mask.shape[-2:]
        # Memory that all iterations use again: fresh memory costs more than the sums written to it.
        shape = (len(mask), channels, *self.size)
        self.down, self.across, self.product, self.solution = (mask.new_empty(shape) for _ in range(4))
        around = self.neighbours(torch.ones_like(self.down))[:1, :1]  # less than 1 at the image's borders
        self.own, self.others = (around + 1 / 3) * mask, mask / 12
        self.smoother = DAMPING * mask / around
        self.coarser: _Level | None = None
        if max(self.size) > COARSEST:
            self.coarser = _Level(-F.max_pool2d(-_even(mask, 1.0), 2), channels)

    def binomial(self, values: Tensor) -> Tensor:
        """Values (B, C, h, w) under the kernel (1, 2, 1) down and across, zeros around the image.

        That is 12 times the weights of the neighbours, and 4 in the middle.
        """
        down = torch.mul(values, 2, out=self.down)
        down[..., 1:, :] += values[..., :-1, :]
        down[..., :-1, :] += values[..., 1:, :]
        across = torch.mul(down, 2, out=self.across)
        across[..., 1:] += down[..., :-1]
        across[..., :-1] += down[..., 1:]
        return across

    def neighbours(self, values: Tensor) -> Tensor:
        """Weighted sums of the eight neighbours of values (B, C, h, w)."""
        return (self.binomial(values) - 4 * values) / 12

    def multiply(self, values: Tensor) -> Tensor:
        """The matrix times values (B, C, h, w) that are 0 where pixels are known."""
        product = torch.mul(self.own, values, out=self.product)
        return product.addcmul_(self.others, self.binomial(values), value=-1)

    def rest(self, residual: Tensor, solution: Tensor) -> Tensor:
        """What a solution leaves of a residual."""
        return torch.sub(residual, self.multiply(solution), out=self.product)

    def precondition(self, residual: Tensor) -> Tensor:
        """About the solution for a residual (B, C, h, w): one V-cycle, symmetric."""
        solution = torch.mul(self.smoother, residual, out=self.solution)
        if self.coarser is None:
            for _ in range(4):
                solution.addcmul_(self.smoother, self.rest(residual, solution))
            return solution
        rest = _even(self.rest(residual, solution))
        coarse = _halved(_halved(rest, -2), -1) * self.coarser.mask
        step = F.interpolate(
            self.coarser.precondition(coarse), scale_factor=2.0, mode="bilinear", align_corners=False
        )
        solution.addcmul_(self.mask, step[..., : self.size[0], : self.size[1]])
        return solution.addcmul_(self.smoother, self.rest(residual, solution))


def _even(values: Tensor, fill: float = 0.0) -> Tensor:
    """Values with an even number of rows and columns."""
    if values.shape[-1] % 2 == values.shape[-2] % 2 == 0:
        return values
    return F.pad(values, (0, values.shape[-1] % 2, 0, values.shape[-2] % 2), value=fill)


def _halved(values: Tensor, dim: int) -> Tensor:
    """Half as many values along a dimension: the transpose of doubling them linearly."""
    pairs = values.unflatten(dim, (-1, 2))
    first, second = pairs.select(dim, 0), pairs.select(dim, 1)
    result = 0.75 * (first + second)
    count = result.shape[dim]
    result.narrow(dim, 1, count - 1).add_(second.narrow(dim, 0, count - 1), alpha=0.25)
    result.narrow(dim, 0, count - 1).add_(first.narrow(dim, 1, count - 1), alpha=0.25)
    result.narrow(dim, 0, 1).add_(first.narrow(dim, 0, 1), alpha=0.25)
    result.narrow(dim, count - 1, 1).add_(second.narrow(dim, count - 1, 1), alpha=0.25)
    return result


def _conjugate_gradients(system: _Level, right: Tensor, tolerance: float, iterations: int) -> Tensor:
    """Solutions (B, C, H, W) of all systems; every channel of every image is one of its own."""

    def inner(first: Tensor, second: Tensor) -> Tensor:
        return torch.mul(first, second, out=system.down).sum((2, 3), keepdim=True)  # (B, C, 1, 1)

    solution = system.precondition(right).clone()
    residual = right - system.multiply(solution)
    wanted = tolerance**2 * inner(right, right)
    direction = torch.zeros_like(right)
    before = torch.ones_like(wanted)
    for _ in range(iterations):
        if bool((inner(residual, residual) <= wanted).all()):
            break
        conditioned = system.precondition(residual)
        now = inner(residual, conditioned)
        direction.mul_(now / before.clamp(min=1e-30)).add_(conditioned)
        moved = system.multiply(direction)
        size = now / inner(direction, moved).clamp(min=1e-30)
        solution.addcmul_(size, direction)
        residual.addcmul_(size, moved, value=-1)
        before = now
    return solution
