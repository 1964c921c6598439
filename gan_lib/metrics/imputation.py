"""Removed pixels filled in from their neighbours, as ROAD has it (Rong et al., ICML 2022, section 4).

Every unknown pixel shall be the weighted mean of its neighbours, 1/6 for the four beside it and 1/12 for
the four across: one sparse linear system per image, symmetric and positive definite. All are solved at once:
full multigrid, from images of a few pixels up to the whole, makes a first guess, and conjugate gradients
with a multigrid cycle as preconditioner do the rest (Trottenberg, Oosterlee and Schueller, Multigrid, 2001).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

DAMPING = 0.8  # of the Jacobi smoother
COARSEST = 8  # pixels a side: few enough for a matrix of all pairs of pixels
AT_ONCE = 110_000  # pixels: more do not fit into the cache of a CPU
ON_GPU = 64  # images
ITERATIONS = 200  # of conjugate gradients, at most
FAINT = 1e-4  # root mean square of a right side that counts as none: images are in [0, 1]


class Imputer:
    """Fills in unknown pixels, again and again: what the shape of the images settles is done once.

    imputer = Imputer(tolerance=1e-5)  # relative residual at which the solver stops
    fillings = [imputer(images, ~top_share(maps, share)) for share in (0.1, 0.5, 0.9)]
    """

    def __init__(self, tolerance: float = 1e-5) -> None:
        self.tolerance = tolerance
        self.levels: dict[tuple[object, ...], _Level] = {}

    @torch.no_grad()
    def __call__(self, images: Tensor, known: Tensor, noise: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) filled in where they are not known (B, 1, H, W), with noise (B, C, H, W) there.

        An image without any known pixel becomes its mean colour.
        """
        if not len(images):
            return images.clone()
        unknown = ~known
        blind = unknown.flatten(1).all(1)  # (B,)
        mask = (unknown & ~blind[:, None, None, None]).float()
        pixels = images.float()
        filled = pixels * (1 - mask)
        at_once = self.at_once(images)
        for seen, here in zip(filled.split(at_once), mask.split(at_once), strict=True):
            key = (*seen.shape, seen.device)
            finest = self.levels[key] = self.levels.get(key) or _Level(seen)
            finest.set(here)
            seen += _conjugate_gradients(finest, finest.right(seen), finest.guess(seen), self.tolerance)
        if blind.any():
            filled[blind] = pixels[blind].mean((2, 3), keepdim=True).expand_as(pixels[blind])
        if noise is not None:
            filled.addcmul_(unknown.float(), noise)
        return filled.to(images.dtype)

    def at_once(self, images: Tensor) -> int:
        """How many of such images (..., H, W) are solved together."""
        pixels = images.shape[-2] * images.shape[-1]
        return max(1, AT_ONCE // pixels) if images.device.type == "cpu" else ON_GPU


class _Level:
    """The equations of masks (B, 1, h, w), 1 where a pixel is unknown, and coarser ones below them.

    A coarser pixel is unknown where all four pixels that it stands for are. Where known pixels lie
    scattered there is nothing for it to correct, and nothing to be corrected: no error is smooth.
    Memory, of images like those given (B, C, h, w), is taken once: fresh memory costs more than the sums.
    """

    def __init__(self, like: Tensor) -> None:
        self.size = height, width = like.shape[-2:]
        self.down, self.across, self.product, self.solution = (torch.empty_like(like) for _ in range(4))
        self.own, self.others, self.smoother = (like.new_empty(len(like), 1, *self.size) for _ in range(3))
        ones = like.new_ones(1, 1, *self.size)
        self.around = like.new_empty(1, 1, *self.size)  # weight of the neighbours: < 1 at the image's borders
        self.around.copy_(self.neighbours(ones.expand_as(like))[:1, :1])
        self.coarser: _Level | None = None
        if max(self.size) > COARSEST:
            self.coarser = _Level(like.new_empty(*like.shape[:2], -(-height // 2), -(-width // 2)))
            self.rows, self.columns = (_doubling(like, side) for side in self.size)
        else:
            pairs = torch.kron(*(_tridiagonal(like, side) for side in self.size)) / 12  # (h * w, h * w)
            self.matrix = torch.diag((self.around + 1 / 3).flatten()) - pairs

    def set(self, mask: Tensor) -> None:
        """Take the equations of another mask (B, 1, h, w)."""
        self.mask = mask
        torch.mul(mask, self.around + 1 / 3, out=self.own)
        torch.div(mask, 12, out=self.others)
        torch.mul(mask, DAMPING / self.around, out=self.smoother)
        if self.coarser is not None:
            share = F.avg_pool2d(_even(mask, 1.0), 2)
            self.seen = (1 - share).clamp(min=1e-6)
            self.coarser.set((share == 1).to(mask))
        else:
            unknown = mask.flatten(1)  # (B, h * w)
            known = torch.diag_embed(1 - unknown)  # left alone
            self.inverse = torch.linalg.inv(unknown[:, :, None] * self.matrix * unknown[:, None] + known)

    def binomial(self, values: Tensor) -> Tensor:
        """Values (B, C, h, w) under the kernel (1, 2, 1) down and across: 12 times the weights, 4 within."""
        down = torch.mul(values, 2, out=self.down)
        down[..., 1:, :] += values[..., :-1, :]
        down[..., :-1, :] += values[..., 1:, :]
        across = torch.mul(down, 2, out=self.across)
        across[..., 1:] += down[..., :-1]
        across[..., :-1] += down[..., 1:]
        return across

    def neighbours(self, values: Tensor) -> Tensor:
        """Weighted sums of the eight neighbours of values (B, C, h, w)."""
        return self.binomial(values).sub_(values, alpha=4).div_(12)

    def right(self, pixels: Tensor) -> Tensor:
        """The right side (B, C, h, w) that images (B, C, h, w), zero where unknown, give the equations."""
        return self.mask * self.neighbours(pixels)

    def multiply(self, values: Tensor) -> Tensor:
        """The matrix times values (B, C, h, w) that are 0 where pixels are known."""
        product = torch.mul(self.own, values, out=self.product)
        return product.addcmul_(self.others, self.binomial(values), value=-1)

    def precondition(self, residual: Tensor) -> Tensor:
        """About the solution for a residual (B, C, h, w) from elsewhere: one symmetric V-cycle."""
        if self.coarser is None:
            return torch.bmm(residual.flatten(2), self.inverse).view_as(residual)
        solution = torch.mul(self.smoother, residual, out=self.solution)
        rest = torch.sub(residual, self.multiply(solution), out=self.product)
        coarse = (self.rows.mT @ rest @ self.columns).mul_(self.coarser.mask)
        step = self.coarser.precondition(coarse)
        solution.addcmul_(self.mask, self.doubled(step))
        rest = torch.sub(residual, self.multiply(solution), out=self.product)
        return solution.addcmul_(self.smoother, rest)

    def guess(self, pixels: Tensor) -> Tensor:
        """A first guess at the unknown pixels, zero so far, of pixels (B, C, h, w), from a smaller image."""
        if self.coarser is None:
            return self.precondition(self.right(pixels))
        fewer = F.avg_pool2d(_even(pixels), 2) / self.seen  # the mean of what is known
        found = self.coarser.guess(fewer)
        if self.coarser.coarser is not None:
            rest = self.coarser.right(fewer).sub_(self.coarser.multiply(found))
            found += self.coarser.precondition(rest)
        return self.doubled(fewer.add_(found)).mul_(self.mask)

    def doubled(self, values: Tensor) -> Tensor:
        """The next coarser level's values (B, C, h / 2, w / 2), linearly in between."""
        return self.rows @ values @ self.columns.mT


def _even(values: Tensor, fill: float = 0.0) -> Tensor:
    """Values with an even number of rows and columns."""
    if values.shape[-1] % 2 == values.shape[-2] % 2 == 0:
        return values
    return F.pad(values, (0, values.shape[-1] % 2, 0, values.shape[-2] % 2), value=fill)


def _doubling(like: Tensor, side: int) -> Tensor:
    """Values between those of half as many pixels, as a matrix (side, half of it): linear interpolation."""
    half = torch.eye(-(-side // 2), dtype=like.dtype, device=like.device)
    return F.interpolate(half[None], scale_factor=2.0, mode="linear")[0, :, :side].mT.contiguous()


def _tridiagonal(like: Tensor, side: int) -> Tensor:
    """The kernel (1, 2, 1) as a matrix (side, side)."""
    ones = like.new_ones(side)
    return torch.diag(2 * ones) + torch.diag(ones[1:], 1) + torch.diag(ones[1:], -1)


def _conjugate_gradients(system: _Level, right: Tensor, solution: Tensor, tolerance: float) -> Tensor:
    """Solutions (B, C, H, W) of all systems, from a guess; every channel is a system of its own."""

    def inner(first: Tensor, second: Tensor) -> Tensor:
        return torch.mul(first, second, out=system.down).sum((2, 3), keepdim=True)  # (B, C, 1, 1)

    residual = right - system.multiply(solution)
    # Beside black pixels the right side is 0 and so is the solution, but no guess is exactly that.
    wanted = tolerance**2 * inner(right, right).clamp(min=FAINT**2 * right[0, 0].numel())
    direction = torch.zeros_like(right)
    before = torch.ones_like(wanted)
    for _ in range(ITERATIONS):
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
