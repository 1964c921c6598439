"""Optimising a mask's weights, a batch of images at once, each as if it were alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from gan_lib.core.masking import blend
from gan_lib.inversion.mask import channel_mask

Objective = Callable[[Tensor, Tensor], Tensor]
VANISHED = 1e-3  # largest weight from which a mask counts as gone


@dataclass(frozen=True)
class InversionOptions:
    """How one of the two steps is optimised.

    :data:`STEP_1` and :data:`STEP_2` have the published numbers, and keep the best weights, not the last.

    Attributes:
        iterations: of Adam, at most.
        learning_rate: of Adam.
        halved_every: iterations after which the learning rate is halved; 0 keeps it.
        sparsity: of the objective's ``sum(w)``.
        area: of the mask's mean.
        total_variation: of the mean difference between neighbouring pixels of the mask.
        tolerance: an image stops when its lowest objective went down by less than this share of its
            start's size within ``patience`` iterations; 0 never stops.
        patience: iterations.
        keep: ``best``, the weights of the lowest objective, or ``last``, as published. Masks do not
            depend on the weights' scale, so that the penalty may shrink all of them to nothing, which
            leaves no mask: such weights are never the best.

    Raises:
        ValueError: a setting out of its range.
    """

    iterations: int = 10
    learning_rate: float = 0.01
    halved_every: int = 0
    sparsity: float = 10.0
    area: float = 0.0
    total_variation: float = 0.0
    tolerance: float = 0.0
    patience: int = 5
    keep: str = "best"

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "keep":
                if value not in ("best", "last"):
                    raise ValueError(f"keep is 'best' or 'last', not {value!r}")
            elif not value >= 0 or (field.name in ("iterations", "patience") and value < 1):
                raise ValueError(f"{field.name} cannot be {value}")


STEP_1 = InversionOptions()
STEP_2 = InversionOptions(iterations=70, halved_every=10, sparsity=1.0)


@dataclass(frozen=True)
class Inversion:
    """What was found for a batch of images.

    Attributes:
        weights: (B, C), not below 0.
        masks: (B, 1, H, W) in [0, 1].
        trace: (B, T + 1) objective at the start and after each iteration; NaN from where an image
            stopped.
        iterations: (B,) int64, how many an image took.
    """

    weights: Tensor
    masks: Tensor
    trace: Tensor
    iterations: Tensor

    def __getitem__(self, rows: slice | Tensor) -> Inversion:
        """Some of the images."""
        return replace(self, **{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def inside_and_outside(images: Tensor, hidden: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Foreground ``x m + p (1 - m)`` and background ``x (1 - m) + p m`` of images and what hides them."""
    shown = masks.to(images.dtype)
    return blend(images, hidden, shown), blend(hidden, images, shown)


def mask_penalty(weights: Tensor, masks: Tensor, options: InversionOptions) -> Tensor:
    """The part (B,) of the objective that does not look at the CNN, of weights (B, C) and their masks."""
    penalty = options.sparsity * weights.sum(1)
    if options.area:
        penalty = penalty + options.area * masks.mean((1, 2, 3))
    if options.total_variation:
        steps = masks.diff(dim=2).abs().mean((1, 2, 3)) + masks.diff(dim=3).abs().mean((1, 2, 3))
        penalty = penalty + options.total_variation * steps
    return penalty


def optimise(
    objective: Objective,
    start: Tensor,
    activations: Tensor,
    size: tuple[int, int],
    options: InversionOptions,
) -> Inversion:
    """Projected Adam on the weights of every image, which knows of no other image.

    Args:
        objective: from masks (b, 1, H, W) of some of the images and their rows (b,) to (b,), without the
            penalties of ``options``.
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
    every = torch.arange(len(weights), device=weights.device)
    trace = weights.new_full((len(weights), options.iterations + 1), torch.nan)
    lowest, best = weights.new_full((len(weights),), torch.inf), weights.clone()
    taken, running = torch.zeros_like(every), torch.ones_like(every, dtype=torch.bool)
    for iteration in range(options.iterations + 1):
        rows = every[running]
        last = iteration == options.iterations
        with torch.set_grad_enabled(not last):
            own = weights[rows].requires_grad_(not last)
            masks = channel_mask(own, activations[rows], size)
            values = objective(masks, rows) + mask_penalty(own, masks, options)  # (b,)
        trace[rows, iteration], taken[rows] = values.detach(), iteration
        better = (values.detach() < lowest[rows]) & ((own.detach().amax(1) > VANISHED) | (iteration == 0))
        lowest[rows[better]], best[rows[better]] = values.detach()[better], own.detach()[better]
        if options.tolerance and iteration >= options.patience:
            before = trace[rows, : iteration - options.patience + 1].amin(1)
            running[rows] = before - lowest[rows] >= options.tolerance * trace[rows, 0].abs()
        if last or not running.any():
            break
        (gradient,) = torch.autograd.grad(values.sum(), own)
        weights.grad = torch.zeros_like(weights).index_copy(0, rows, gradient)
        kept = weights.clone()
        adam.step()
        halving.step()
        weights.clamp_(min=0)
        weights[~running] = kept[~running]
    chosen = best if options.keep == "best" else weights
    masks = channel_mask(chosen, activations, size)
    return Inversion(chosen, masks, trace, taken)
