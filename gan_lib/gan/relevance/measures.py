"""How much each condition matters to a generator's output, measured in independent ways.

Attribution (Captum, with the conditions as features), ablation (take one away, or leave only one
there), and the strength of the modulation that a condition causes. All return one number per image and
condition, not below 0; what is compared between measures is their order and their shares.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from captum.attr import IntegratedGradients, ShapleyValueSampling
from torch import Tensor

from gan_lib.core.maps import upsample
from gan_lib.core.runtime import quiet, seeded
from gan_lib.gan.relevance.conditions import ConditionedGenerator, Conditions, as_parts, objective

Parts = tuple[Tensor, ...]


def relevance(
    seen: ConditionedGenerator,
    images: Tensor,
    conditions: Conditions,
    measure: str,
    target: str = "dice",
    batch_size: int = 64,
) -> Tensor:
    """Relevance (N, n) of the n conditions for every image.

        relevance(ConditionedGenerator(generator, mean_conditions(c)), images, c, "leave_one_out")

    Measures:

    * ``integrated_gradients``: Captum's, from the absent conditions to the given ones; absolute values
      summed over a condition.
    * ``shapley``: Captum's Shapley value sampling over whole conditions, 10 permutations; absolute.
    * ``leave_one_out``: the mean absolute change of the map when the condition is taken away.
    * ``leave_one_in``: the mean absolute change of the map when it alone is added to none.
    * ``modulation``: how much the condition moves scale and shift of the SFT layers, root mean square
      over channels and places, against the condition taken away.

    Args:
        seen: the generator, and what stands in place of an absent condition.
        images: (N, 3, H, W) in [0, 1].
        conditions: their conditions: (N, n, H, W), or n activations (N, C_l, H_l, W_l).
        measure: one of ``MEASURES``.
        target: the objective of the two attributions (:func:`gan_lib.gan.relevance.objective`).
        batch_size: images at a time; the gradients of large generators take much memory.

    Raises:
        ValueError: another measure or objective.
    """
    if measure not in MEASURES:
        raise ValueError(f"measure is one of {MEASURES}, not {measure!r}")
    made = [
        _BY_NAME[measure](some, images[rows], tuple(parts), target)
        for rows, some, parts in seen.batches(as_parts(conditions), batch_size)
    ]
    return torch.cat(made).float().cpu()


def relevance_maps(
    seen: ConditionedGenerator,
    images: Tensor,
    conditions: Conditions,
    target: str = "dice",
    batch_size: int = 64,
) -> Tensor:
    """Where each condition matters: absolute integrated gradients, summed over its channels.

    Arguments as for :func:`relevance`.

    Returns:
        (N, n, H, W), of every image on one scale: its largest value is 1.
    """
    size = (images.shape[-2], images.shape[-1])
    made = []
    for rows, some, parts in seen.batches(as_parts(conditions), batch_size):
        gradients = _gradients(some, images[rows], tuple(parts), target)
        places = [own.abs().sum(1, keepdim=True) for own in gradients]
        # Sums are kept when a small activation (B, 1, H_l, W_l) is drawn large.
        drawn = [upsample(own, size) * own[0].numel() / (size[0] * size[1]) for own in places]
        made.append(torch.cat(drawn, dim=1))  # (B, n, H, W)
    maps = torch.cat(made)
    return maps / maps.amax((1, 2, 3), keepdim=True).clamp(min=1e-12)


def _gradients(
    seen: ConditionedGenerator, images: Tensor, parts: Parts, target: str, steps: int = 16
) -> tuple[Tensor, ...]:
    """Captum's integrated gradients of every condition, from none of them."""
    with torch.no_grad():
        full = seen.maps(images, parts)

    def forward(*given: Tensor) -> Tensor:
        *own, pictures, reference = given
        return objective(seen.maps(pictures, own), reference, target)

    with torch.enable_grad(), quiet():
        made: tuple[Tensor, ...] = IntegratedGradients(forward).attribute(
            tuple(part.detach() for part in parts),
            seen.nothing(parts),
            additional_forward_args=(images, full),
            n_steps=steps,
            internal_batch_size=len(images),
        )
    return tuple(own.detach() for own in made)


def _integrated(seen: ConditionedGenerator, images: Tensor, parts: Parts, target: str) -> Tensor:
    return torch.stack([own.abs().sum((1, 2, 3)) for own in _gradients(seen, images, parts, target)], dim=1)


@torch.no_grad()
def _shapley(
    seen: ConditionedGenerator, images: Tensor, parts: Parts, target: str, samples: int = 10
) -> Tensor:
    full, nothing = seen.maps(images, parts), seen.nothing(parts)

    def forward(present: Tensor) -> Tensor:
        """The objective when of every image those conditions (B, n) are there that are 1."""
        own = [
            torch.where(present[:, i, None, None, None] > 0, part, none)
            for i, (part, none) in enumerate(zip(parts, nothing, strict=True))
        ]
        return objective(seen.maps(images, own), full, target)

    everything = torch.ones(len(images), len(parts), device=images.device)
    with seeded(0), quiet():
        made: Tensor = ShapleyValueSampling(forward).attribute(everything, n_samples=samples)
    return made.abs()


@torch.no_grad()
def _left_out(seen: ConditionedGenerator, images: Tensor, parts: Parts, target: str) -> Tensor:
    full = seen.maps(images, parts)
    changed = [seen.maps(images, seen.without(parts, i)) for i in range(len(parts))]
    return torch.stack([(maps - full).abs().mean((1, 2, 3)) for maps in changed], dim=1)


@torch.no_grad()
def _left_in(seen: ConditionedGenerator, images: Tensor, parts: Parts, target: str) -> Tensor:
    none = seen.maps(images, seen.nothing(parts))
    changed = [seen.maps(images, seen.only(parts, i)) for i in range(len(parts))]
    return torch.stack([(maps - none).abs().mean((1, 2, 3)) for maps in changed], dim=1)


@torch.no_grad()
def _moved(seen: ConditionedGenerator, images: Tensor, parts: Parts, target: str) -> Tensor:
    full = seen.modulations(images, parts)
    rows = []
    for index in range(len(parts)):
        other = seen.modulations(images, seen.without(parts, index))
        squares = [(a - b).square().mean((1, 2, 3)) for a, b in zip(other, full, strict=True)]  # (B,) each
        rows.append(torch.stack(squares).sum(0).sqrt())
    return torch.stack(rows, dim=1)


_BY_NAME: dict[str, Callable[[ConditionedGenerator, Tensor, Parts, str], Tensor]] = {
    "integrated_gradients": _integrated,
    "shapley": _shapley,
    "leave_one_out": _left_out,
    "leave_one_in": _left_in,
    "modulation": _moved,
}
MEASURES = tuple(_BY_NAME)
