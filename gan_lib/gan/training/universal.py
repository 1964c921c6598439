"""Universal training: one generator for all CNNs, whose conditions mean the same in each of them.

Every step is about another CNN of a pool, with the objective of the contrastive training. Trained on one CNN
the generator learns that CNN; on many, how conditions speak for a class. At some steps it also draws maps for
a copy of the CNN whose last layers were drawn anew. What it draws for both follows the picture, not the CNN,
and is penalised (a sanity check, Adebayo et al., NeurIPS 2018, as a training signal).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from lightning_fabric import Fabric
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from gan_lib.classifiers import randomised
from gan_lib.core.inputs import weight_of
from gan_lib.core.options import options
from gan_lib.core.runtime import make_fabric
from gan_lib.core.storage import tensor_bytes
from gan_lib.data import ImageSplit
from gan_lib.gan.conditions import EvidenceMaker
from gan_lib.gan.generators import Generator, ProjectionDiscriminator
from gan_lib.gan.objectives import likeness_loss
from gan_lib.gan.training.contrastive import CNNTask, ContrastiveOptions
from gan_lib.gan.training.loop import GANState, train_gan


@options
class UniversalOptions(ContrastiveOptions):
    """Schedule and objective of the universal training; see :class:`ContrastiveOptions`.

    Attributes:
        likeness_weight: of the penalty on maps that stay as they were when the CNN forgets; 0 for none.
        likeness_every: every so many steps has it.
        forgetting_stages: a forgetful copy has drawn one part in so many of the CNN's layers anew, the last.
        forgetful: copies of every CNN, in turn.
    """

    max_steps: PositiveInt | None = 1000
    epochs: PositiveInt = 100
    likeness_weight: NonNegativeFloat = 1.0
    likeness_every: PositiveInt = 2
    forgetting_stages: PositiveInt = 4
    forgetful: PositiveInt = 2


@dataclass(frozen=True)
class Member:
    """A CNN of the pool, behind its conditions, and the images that it is asked about."""

    maker: EvidenceMaker
    images: ImageSplit


def train_universal(
    generator: Generator,
    pool: Sequence[Member],
    folder: Path,
    options: UniversalOptions | None = None,
    fabric: Fabric | None = None,
    watched: Sequence[Member] = (),
    discriminator: ProjectionDiscriminator | None = None,
) -> pd.DataFrame:
    """Train a generator on a pool of CNNs, with no map to learn from.

        pool = [Member(EvidenceMaker(cnn, (64, 64)), data.train) for cnn in cnns]
        generator = make_generator("lsft", conditions=5, features=pool[0].maker.channels, prior=True)
        log = train_universal(generator, pool, Path("run"))

    Args:
        generator: trained in place (:func:`gan_lib.gan.training.loop.train_gan`).
        pool: CNNs with images, of any classes; they are left as they are.
        folder: receives ``log.csv`` and a checkpoint; a call that finds one there goes on from it.
        options: schedule and objective; a checkpoint of others is refused.
        fabric: device and precision; by default a GPU with bf16 if there is one.
        watched: CNNs that nothing is trained on; where there are some, the criterion is about them alone.
        discriminator: of explained images from originals, of one class, for CNNs have different ones.

    Returns:
        One row per step, as :func:`gan_lib.gan.training.train_contrastive` gives them, with ``member``, the
        place of the step's CNN in the pool, and ``likeness``.

    Raises:
        ValueError: no CNN, conditions that differ in number or are not the generator's, too few images, or
            another run's checkpoint.
        FloatingPointError: a loss is no longer finite.
    """
    options, fabric = options or UniversalOptions(), fabric or make_fabric()
    discriminator = discriminator or ProjectionDiscriminator(1)
    if not pool:
        raise ValueError("a pool needs at least one CNN")
    if odd := {own.maker.channels for own in (*pool, *watched)} - {tuple(generator.sizes.features)}:
        raise ValueError(
            f"conditions of {odd.pop()} channels, the generator takes {generator.sizes.features}"
        )
    counts = [len(own.images) - options.held_out for own in (*pool, *watched)]
    if min(counts) < 2 or options.held_out < 2:
        raise ValueError(f"{min(counts) + options.held_out} images, {options.held_out} held out: too few")
    homes = [(own.maker, weight_of(own.maker.cnn).device) for own in (*pool, *watched)]
    try:
        state = GANState(generator, discriminator, options, fabric)
        asked, judged = (
            [CNNTask(own.maker.to(fabric.device), own.images, options, fabric) for own in members]
            for members in (pool, watched)
        )
        trainer = _Trainer(state, asked, judged or asked, options)
        seen = [tensor_bytes(own.embeddings) for own in (*asked, *judged)]
        identity = hashlib.sha256(b"".join(seen)).hexdigest()
        count, every = max(counts[: len(pool)]), options.validate_every
        return train_gan(state, trainer.step, count, folder, identity, trainer.criterion, every)
    finally:
        for maker, home in homes:
            maker.to(home)


class _Trainer:
    """The steps of a training for a pool of CNNs."""

    def __init__(
        self, state: GANState, pool: Sequence[CNNTask], judged: Sequence[CNNTask], options: UniversalOptions
    ) -> None:
        self.state, self.pool, self.judged, self.options = state, pool, judged, options
        count = max(2, 256 // len(pool))
        first = [own.first(count).activations for own in pool]
        state.generator.prepare([values(column) for column in zip(*first, strict=True)])
        self.forgetful: list[list[EvidenceMaker]] = [[] for _ in pool]
        for own, copies in zip(pool, self.forgetful, strict=True):
            assert isinstance(own.maker, EvidenceMaker)
            copies += _forgetful(own.maker, options) if options.likeness_weight > 0 else []

    def member(self, step: int) -> int:
        """Whose turn it is: each once a round, in an order that follows from the seed."""
        turn, place = divmod(step, len(self.pool))
        generator = torch.Generator().manual_seed(1_000_003 * self.options.seed + turn)
        return int(torch.randperm(len(self.pool), generator=generator)[place])

    def step(self, rows: Tensor) -> dict[str, float]:
        """One update of the generator and, when it is due, of the discriminator."""
        state, options, step = self.state, self.options, self.state.step
        member = self.member(step)
        cnn = self.pool[member]
        task = cnn.task(rows % (len(cnn.images) - options.held_out), step)
        logits = cnn.drawn(state.generator, task)
        losses, shown = cnn.losses(logits, task, step, options.fill(step))
        total = cnn.weighted(losses)
        if self.forgetful[member] and step % options.likeness_every == 0:
            copies = self.forgetful[member]
            maker = copies[step // options.likeness_every % len(copies)]
            conditions = maker(task.pictures, task.classes).activations
            with state.fabric.autocast():
                others = state.generator.logits(task.pictures, conditions).float()
            losses["likeness"] = likeness_loss(logits, others)
            total = total + options.likeness_weight * losses["likeness"]
        nobody = torch.zeros_like(task.classes)
        made = state.update(losses, total, (task.pictures, nobody), (shown, nobody))
        return {**made, "member": member}

    def criterion(self) -> float:
        """The averaged generator's objective on held-out images, the mean over the CNNs."""
        generator, held_out = self.state.average.module, self.options.held_out
        each = [
            own.criterion(generator, torch.arange(len(own.images) - held_out, len(own.images)))
            for own in self.judged
        ]
        return sum(each) / len(each)


def values(activations: Sequence[Tensor]) -> Tensor:
    """All values of activations (B, C, h, w) of any sizes, (N, C, 1, 1)."""
    flat = [own.transpose(0, 1).flatten(1) for own in activations]  # (C, B * h * w)
    return torch.cat(flat, dim=1).T[:, :, None, None]


def _forgetful(maker: EvidenceMaker, options: UniversalOptions) -> list[EvidenceMaker]:
    """Copies of a CNN that have forgotten their last layers, behind the same layers' conditions."""
    example = torch.zeros(1, 3, *maker.image_size).to(weight_of(maker.cnn))
    copies = []
    for number in range(options.forgetful):
        seed = 1_000_003 * options.seed + number
        _, cnn = next(randomised(maker.cnn, example, options.forgetting_stages, seed))
        copies.append(maker.on(cnn.requires_grad_(False)))
    return copies
