"""Optimising a mask's weights, a batch of images at once, each as if it were alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal

import pandas as pd
import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor

from gan_lib.core.masking import blend
from gan_lib.core.options import options
from gan_lib.inversion.mask import channel_mask

VANISHED = 1e-3  # largest weight from which a mask counts as gone


@options
class InversionOptions:
    """How one of the two steps is optimised; values out of their range raise ``ValueError``.

    :data:`STEP_1` has the published numbers, :data:`STEP_2` has not, :data:`PUBLISHED_STEP_2` has. All keep
    the best weights, not the last.

    Attributes:
        iterations, learning_rate: of Adam.
        halved_every: iterations after which the learning rate is halved; 0 keeps it.
        sparsity: of the objective's ``sum(w)``.
        area: of the mask's mean.
        keep: ``best``, the weights of the lowest objective, or ``last``, as published. Masks do not
            depend on the weights' scale, so that the penalty may shrink all of them to nothing, which
            leaves no mask: such weights are never the best.
        score: of the class, in step 2: ``logit``, as published, or ``log_odds`` against all other classes.
            A logit rises with whatever is like the class, and so with objects of classes like it.
        start: of step 2: step 1's weights (``saliency``), as published, or these times how much each channel
            speaks for the class (``evidence``, :meth:`gan_lib.inversion.GuidedInversion.evidence`).
    """

    iterations: PositiveInt = 10
    learning_rate: NonNegativeFloat = 0.01
    halved_every: NonNegativeInt = 0
    sparsity: NonNegativeFloat = 10.0
    area: NonNegativeFloat = 0.0
    keep: Literal["best", "last"] = "best"
    score: Literal["logit", "log_odds"] = "logit"
    start: Literal["saliency", "evidence"] = "saliency"


STEP_1 = InversionOptions()
PUBLISHED_STEP_2 = InversionOptions(iterations=70, halved_every=10, sparsity=1.0)
# Steps of 0.01, halved every ten, move a weight of 0.1 by 0.2 at most, and the penalty, which pulls at all
# alike, uses that up. Steps as long as the weights and a smaller penalty let channels be chosen, a price for
# the mask's area keeps out what speaks for nothing, and a start where channels speak for the class keeps a
# high price from settling on another object: chosen on mosaics of training photographs.
STEP_2 = InversionOptions(
    iterations=20,
    learning_rate=0.1,
    halved_every=10,
    sparsity=0.3,
    area=40.0,
    score="log_odds",
    start="evidence",
)


@dataclass(frozen=True)
class Inversion:
    """What was found for a batch of images.

    Attributes:
        weights: (B, C), not below 0.
        masks: (B, 1, H, W) in [0, 1].
        trace: (B, T + 1) objective at the start and after each iteration.
    """

    weights: Tensor
    masks: Tensor
    trace: Tensor

    def __getitem__(self, rows: slice | Tensor) -> Inversion:
        """Some of the images."""
        return replace(self, **{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def inside_and_outside(images: Tensor, hidden: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Foreground ``x m + p (1 - m)`` and background ``x (1 - m) + p m`` of images and what hides
    them, (B, 3, H, W) both, under masks (B, 1, H, W)."""
    shown = masks.to(images.dtype)
    return blend(images, hidden, shown), blend(hidden, images, shown)


def optimise(
    objective: Callable[[Tensor], Tensor],
    start: Tensor,
    activations: Tensor,
    size: tuple[int, int],
    options: InversionOptions,
) -> Inversion:
    """Projected Adam on the weights of every image, which knows of no other image.

    Args:
        objective: from masks (B, 1, H, W) to (B,), without the penalties of ``options``.
        start: (B, C) weights.
        activations: (B, C, h, w), constant.
        size: H, W of the masks.
        options: of the step.

    Raises:
        ValueError: weights that do not fit the activations, or below 0.
    """
    if start.shape != activations.shape[:2]:
        raise ValueError(f"activations {tuple(activations.shape)} take no weights {tuple(start.shape)}")
    if (start < 0).any():
        raise ValueError("weights are not below 0")
    weights = start.detach().clone()  # (B, C)
    adam = torch.optim.Adam([weights], lr=options.learning_rate)
    halving = torch.optim.lr_scheduler.StepLR(adam, options.halved_every or options.iterations + 1, 0.5)
    lowest, best, trace = weights.new_full((len(weights),), torch.inf), weights, []
    for iteration in range(options.iterations + 1):
        last = iteration == options.iterations
        with torch.set_grad_enabled(not last):
            own = weights.clone().requires_grad_(not last)
            masks = channel_mask(own, activations, size)
            values = objective(masks) + options.sparsity * own.sum(1)  # (B,)
            if options.area:
                values = values + options.area * masks.mean((1, 2, 3))
        reached = values.detach()
        better = (reached < lowest) & ((weights.amax(1) > VANISHED) | (iteration == 0))
        lowest, best = reached.where(better, lowest), weights.where(better[:, None], best)
        trace.append(reached)
        if not last:
            (weights.grad,) = torch.autograd.grad(values.sum(), own)
            adam.step()
            halving.step()
            weights.clamp_(min=0)
    chosen = best if options.keep == "best" else weights
    return Inversion(chosen, channel_mask(chosen, activations, size), torch.stack(trace, 1))


def convergence(found: Mapping[str, Inversion]) -> pd.DataFrame:
    """Objectives over the iterations, as shares of the size that they started at, by what was optimised.

    Returns:
        Columns ``method``, ``iteration``, ``objective`` (the images' median), ``objective_low`` and
        ``objective_high`` (quartiles).
    """
    tables = []
    for title, own in found.items():
        shares = own.trace / own.trace[:, :1].abs()  # (B, T + 1)
        quartiles = shares.quantile(shares.new_tensor([0.25, 0.5, 0.75]), dim=0).T.cpu().numpy()
        table = pd.DataFrame(quartiles, columns=["objective_low", "objective", "objective_high"])
        tables.append(table.assign(method=title).rename_axis("iteration").reset_index())
    columns = ["method", "iteration", "objective", "objective_low", "objective_high"]
    return pd.concat(tables, ignore_index=True)[columns]
