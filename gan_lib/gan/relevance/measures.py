"""How much each condition matters to a generator's output, measured in independent ways.

Attribution (Captum, with the conditions as features), ablation (take one away, or leave only one there), and
the strength of the modulation: one number per image and condition, not below 0. What is compared between
measures is their order and their shares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from captum.attr import IntegratedGradients, ShapleyValueSampling
from torch import Tensor

from gan_lib.core.maps import upsample
from gan_lib.core.registry import Registry
from gan_lib.core.runtime import quiet, seeded
from gan_lib.gan.generators import Generator
from gan_lib.gan.relevance.conditions import (
    ConditionedGenerator,
    Conditions,
    Parts,
    mean_conditions,
    overlap,
)

Measure = Callable[[ConditionedGenerator, Tensor, Parts], Tensor]

PERMUTATIONS = 10
MEASURES: Registry[Measure] = Registry("measure of relevance")


def relevance(
    seen: ConditionedGenerator, images: Tensor, conditions: Conditions, measure: str, batch_size: int = 64
) -> Tensor:
    """Relevance (N, n) of the n conditions for every image.

        relevance(ConditionedGenerator(generator, mean_conditions(c)), images, c, "leave_one_out")

    Args:
        seen: the generator, and what stands in place of an absent condition.
        images: (N, 3, H, W) in [0, 1].
        conditions: their conditions: (N, n, H, W), or n activations (N, C_l, H_l, W_l).
        measure: ``integrated_gradients``, ``shapley``, ``leave_one_out``, ``leave_one_in`` or ``modulation``.
        batch_size: images at a time; the gradients of large generators take much memory.

    Raises:
        KeyError: an unknown measure.
        ValueError: no image, or not as many conditions as images.
    """
    batches = seen.batches(images, conditions, batch_size)
    return torch.cat([MEASURES[measure](*batch) for batch in batches]).float().cpu()


def all_relevances(
    generator: Generator, images: Tensor, conditions: Conditions, batch_size: int = 64
) -> dict[str, Tensor]:
    """:func:`relevance` by every measure, with the mean of these images' conditions for an absent one:
    (B, n) by name."""
    seen = ConditionedGenerator(generator, mean_conditions(conditions))
    return {name: relevance(seen, images, conditions, name, batch_size=batch_size) for name in MEASURES}


def relevance_maps(
    seen: ConditionedGenerator, images: Tensor, conditions: Conditions, batch_size: int = 64
) -> Tensor:
    """Where each condition matters (N, n, H, W): absolute integrated gradients, summed over its channels.

    Arguments as for :func:`relevance`. All conditions of an image are on one scale: its largest value is 1.
    """
    size = (images.shape[-2], images.shape[-1])
    made = []
    for batch in seen.batches(images, conditions, batch_size):
        places = [own.abs().sum(1, keepdim=True) for own in _gradients(*batch)]
        # Sums are kept when a small activation (B, 1, H_l, W_l) is drawn large.
        drawn = [upsample(own, size) * own[0].numel() / (size[0] * size[1]) for own in places]
        made.append(torch.cat(drawn, dim=1))  # (B, n, H, W)
    maps = torch.cat(made)
    return maps / maps.amax((1, 2, 3), keepdim=True).clamp(min=1e-12)


def _gradients(
    seen: ConditionedGenerator, images: Tensor, parts: Parts, steps: int = 16
) -> tuple[Tensor, ...]:
    """Captum's integrated gradients of every condition, from none of them."""
    with torch.no_grad():
        full = seen.maps(images, parts)

    def forward(*given: Tensor) -> Tensor:
        *own, pictures, reference = given
        return overlap(seen.maps(pictures, own), reference)

    with torch.enable_grad(), quiet():
        made: tuple[Tensor, ...] = IntegratedGradients(forward).attribute(
            tuple(part.detach() for part in parts),
            seen.nothing(parts),
            additional_forward_args=(images, full),
            n_steps=steps,
            internal_batch_size=len(images),
        )
    return tuple(own.detach() for own in made)


@MEASURES.register("integrated_gradients")
def integrated_gradients(seen: ConditionedGenerator, images: Tensor, parts: Parts) -> Tensor:
    """Captum's, from the absent conditions to the given; absolute values summed over a condition: (B, n)."""
    return torch.stack([own.abs().sum((1, 2, 3)) for own in _gradients(seen, images, parts)], dim=1)


@MEASURES.register("shapley")
@torch.no_grad()
def shapley(seen: ConditionedGenerator, images: Tensor, parts: Parts) -> Tensor:
    """Captum's Shapley value sampling over whole conditions; absolute, (B, n)."""
    full, nothing = seen.maps(images, parts), seen.nothing(parts)

    def forward(present: Tensor) -> Tensor:
        """The overlap when of every image those conditions (B, n) are there that are 1."""
        there = present.T[..., None, None, None] > 0  # (n, B, 1, 1, 1)
        own = [torch.where(*each) for each in zip(there, parts, nothing, strict=True)]
        return overlap(seen.maps(images, own), full)

    everything = torch.ones(len(images), len(parts), device=images.device)
    with seeded(0), quiet():
        made: Tensor = ShapleyValueSampling(forward).attribute(everything, n_samples=PERMUTATIONS)
    return made.abs()


@MEASURES.register("leave_one_out")
@torch.no_grad()
def leave_one_out(seen: ConditionedGenerator, images: Tensor, parts: Parts) -> Tensor:
    """The mean absolute change of the map when the condition is taken away, (B, n)."""
    return _changes(seen, images, parts, (seen.without(parts, i) for i in range(len(parts))))


@MEASURES.register("leave_one_in")
@torch.no_grad()
def leave_one_in(seen: ConditionedGenerator, images: Tensor, parts: Parts) -> Tensor:
    """The mean absolute change of the map when the condition alone is added to none, (B, n)."""
    return _changes(seen, images, seen.nothing(parts), (seen.only(parts, i) for i in range(len(parts))))


def _changes(seen: ConditionedGenerator, images: Tensor, parts: Parts, others: Iterable[Parts]) -> Tensor:
    """Mean absolute change of the map (B, n) when others of the conditions are there."""
    before = seen.maps(images, parts)
    return torch.stack([(seen.maps(images, own) - before).abs().mean((1, 2, 3)) for own in others], dim=1)


@MEASURES.register("modulation")
@torch.no_grad()
def modulation(seen: ConditionedGenerator, images: Tensor, parts: Parts) -> Tensor:
    """How far the condition moves scale and shift of the SFT layers: root of the layers' mean squares
    over channels and places, added up, against the condition taken away; (B, n)."""
    full, moved = seen.modulations(images, parts), []
    for index in range(len(parts)):
        other = seen.modulations(images, seen.without(parts, index))
        squares = [(a - b).square().mean((1, 2, 3)) for a, b in zip(other, full, strict=True)]  # (B,) each
        moved.append(torch.stack(squares).sum(0).sqrt())
    return torch.stack(moved, dim=1)
