"""What all training of GANs shares: networks and optimisers, schedule, checkpoints, log, resume.

All randomness follows from the seed and the step, so that a run that was killed and started again
ends with the same weights as one that was not.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning_fabric import Fabric
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gan_lib.core.capture import frozen
from gan_lib.core.checksums import DamagedError
from gan_lib.core.options import Decay, Seed, Share, options
from gan_lib.core.runtime import progress
from gan_lib.core.storage import atomic_path, load_checkpoint, save_checkpoint
from gan_lib.data.rows import batch_rows
from gan_lib.gan.generators import Generator, generator_recipe
from gan_lib.gan.objectives import Adversarial, discriminator_accuracy, discriminator_loss, generator_loss


@options
class Schedule:
    """How a GAN explainer is trained; the defaults are those of arXiv 2301.08067.

    Attributes:
        epochs: passes over the training images.
        max_steps: the run ends after so many steps, if its epochs have not ended before.
        batch_size: images per step.
        learning_rate: of the generator's Adam; discriminator_learning_rate: of the discriminator's.
        beta1: first moment's decay of both.
        adversarial_weight: of the generator's adversarial loss; 0 leaves the discriminator out.
        discriminator_weight: of the discriminator's loss.
        discriminator_every: the discriminator is updated at every so many steps (the paper's
            "strategy 2"; 100 in the published code).
        adversarial: ``bce`` or ``hinge``.
        warmup_steps: steps over which both learning rates rise from zero.
        final_learning_rate: share of the learning rate that is left at the end; it falls as a cosine.
        clip_gradient: largest norm of the generator's gradient; 0 for any.
        ema_decay: of the moving average of the generator's weights; 0 switches the average off.
        checkpoint_every: steps between checkpoints.
        seed: decides the order of the images, and whatever else is random.
    """

    epochs: PositiveInt = 25
    max_steps: PositiveInt | None = None
    batch_size: PositiveInt = 32
    learning_rate: PositiveFloat = 2e-4
    discriminator_learning_rate: PositiveFloat = 2e-4
    beta1: Decay = 0.5
    adversarial_weight: NonNegativeFloat = 1.0
    discriminator_weight: NonNegativeFloat = 0.3
    discriminator_every: PositiveInt = 1
    adversarial: Adversarial = "bce"
    warmup_steps: NonNegativeInt = 0
    final_learning_rate: Share = 1.0
    clip_gradient: NonNegativeFloat = 0.0
    ema_decay: Decay = 0.999
    checkpoint_every: PositiveInt = 200
    seed: Seed = 0

    def steps(self, count: int) -> int:
        """Steps of the whole run on so many images."""
        steps = self.epochs * -(-count // self.batch_size)
        return steps if self.max_steps is None else min(steps, self.max_steps)

    def rate(self, step: int, total: int) -> float:
        """The share of both learning rates at a step of ``total``: warm-up, then a cosine."""
        cosine = (1 + math.cos(math.pi * step / max(1, total))) / 2
        share = self.final_learning_rate + (1 - self.final_learning_rate) * cosine
        return share * min(1.0, (step + 1) / max(1, self.warmup_steps))


class GANState:
    """Networks, on the device and in training mode, and their optimisers under one schedule.

    Attributes:
        average: the moving average of the generator's weights.
        best: averaged weights at ``best_criterion``, the lowest so far.
    """

    def __init__(
        self, generator: Generator, discriminator: nn.Module, options: Schedule, fabric: Fabric
    ) -> None:
        for network in (generator, discriminator):
            network.to(fabric.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.generator, self.discriminator = generator, discriminator
        self.options, self.fabric = options, fabric
        betas = (options.beta1, 0.999)
        rates = (options.learning_rate, options.discriminator_learning_rate)
        self.generator_optimizer, self.discriminator_optimizer = (
            torch.optim.Adam(network.parameters(), rate, betas, fused=True)
            for network, rate in zip((generator, discriminator), rates, strict=True)
        )
        averaging = get_ema_multi_avg_fn(options.ema_decay)
        self.average = AveragedModel(generator, multi_avg_fn=averaging, use_buffers=False)
        self.step, self.best, self.best_criterion = 0, dict[str, Tensor](), math.inf

    def save(self, path: Path, identity: str, log: Sequence[Mapping[str, Any]] = ()) -> None:
        """Write a checkpoint, with the log so far."""
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        best = {"best": self.best, "best_criterion": self.best_criterion}
        about = {"made_from": self._made_from(identity), "step": self.step, "log": [dict(row) for row in log]}
        save_checkpoint(path, {**parts, **best, **about})

    def load(self, path: Path, identity: str) -> list[dict[str, Any]]:
        """Read a checkpoint and return its log; one of something else raises ``ValueError``, one that is not
        what was written ``DamagedError``."""
        saved = load_checkpoint(path)
        for name, value in self._made_from(identity).items():
            if saved["made_from"][name] != value:
                raise ValueError(f"{path} was made with {name}: {saved['made_from'][name]}")
        for name, part in self._parts().items():
            part.load_state_dict(saved[name])
        # Moments get the memory layout of their parameters. The fused Adam walks through both side by side:
        # with a channels-last parameter and contiguous moments, as loaded, it is silently wrong.
        for optimizer in (self.generator_optimizer, self.discriminator_optimizer):
            for parameter, moments in optimizer.state.items():
                for name, moment in moments.items():
                    if moment.shape == parameter.shape:
                        moments[name] = torch.empty_like(parameter).copy_(moment)
        self.step, self.best, self.best_criterion = saved["step"], saved["best"], saved["best_criterion"]
        log: list[dict[str, Any]] = saved["log"]
        return log

    def _made_from(self, identity: str) -> dict[str, Any]:
        made = {"other options": asdict(self.options), "another generator": generator_recipe(self.generator)}
        return made | {"other images or another CNN": identity}

    def _parts(self) -> dict[str, Any]:
        return {name: part for name, part in vars(self).items() if hasattr(part, "load_state_dict")}

    def set_rates(self, share: float) -> None:
        """Set both learning rates to a share of what the schedule says."""
        options = self.options
        for optimizer, rate in (
            (self.generator_optimizer, options.learning_rate),
            (self.discriminator_optimizer, options.discriminator_learning_rate),
        ):
            for group in optimizer.param_groups:
                group["lr"] = rate * share

    def update(
        self,
        losses: dict[str, Tensor],
        total: Tensor,
        real: tuple[Tensor, Tensor],
        fake: tuple[Tensor, Tensor],
    ) -> dict[str, float]:
        """One step of the generator, of its moving average and, when it is due, of the discriminator.

        Args:
            losses: what is logged of the generator, by name; those of the adversarial game are added.
            total: its objective without the adversarial loss.
            real: what the discriminator takes, two tensors (B, ...).
            fake: the same of what the generator made, within its graph.
        """
        options = self.options
        if options.adversarial_weight > 0:
            with frozen(self.discriminator), self.fabric.autocast():
                fooled = self.discriminator(*fake).float()  # (B,)
            losses["adversarial"] = generator_loss(fooled, options.adversarial)
            total = total + options.adversarial_weight * losses["adversarial"]
        self.generator_optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(total)
        if options.clip_gradient > 0:
            nn.utils.clip_grad_norm_(self.generator.parameters(), options.clip_gradient)
        self.generator_optimizer.step()
        self.average.update_parameters(self.generator)
        if options.adversarial_weight > 0:
            losses |= self._discriminate(real, fake)
        return {name: loss.item() for name, loss in losses.items()}

    def _discriminate(self, real: tuple[Tensor, Tensor], fake: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        is_due = self.step % self.options.discriminator_every == 0
        # One pass over both halves: 2B pairs.
        both = [torch.cat([first, second.detach()]) for first, second in zip(real, fake, strict=True)]
        with torch.set_grad_enabled(is_due), self.fabric.autocast():
            real_logits, fake_logits = self.discriminator(*both).float().chunk(2)  # (B,)
        loss = discriminator_loss(real_logits, fake_logits, self.options.adversarial)
        if is_due:
            self.discriminator_optimizer.zero_grad(set_to_none=True)
            self.fabric.backward(self.options.discriminator_weight * loss)
            self.discriminator_optimizer.step()
        accuracy = discriminator_accuracy(real_logits, fake_logits)
        return {"discriminator": loss.detach(), "discriminator_accuracy": accuracy}

    def keep_if_best(self, criterion: float) -> None:
        """Remember the averaged weights when the criterion is the lowest so far."""
        if criterion < self.best_criterion:
            self.best_criterion = criterion
            weights = self.average.module.state_dict()
            self.best = {name: value.detach().clone() for name, value in weights.items()}


def train_gan(
    state: GANState,
    step: Callable[[Tensor], dict[str, float]],
    count: int,
    folder: Path,
    identity: str = "",
    validate: Callable[[], float] | None = None,
    validate_every: int = 1,
) -> pd.DataFrame:
    """Run all steps of a schedule, from the last checkpoint if the folder holds one.

    Args:
        state: the generator ends with its averaged weights (with ``validate``: those with the lowest
            criterion), it and the discriminator on the CPU and in eval mode.
        step: one update for the rows (B,) of the ``count`` training images; returns losses by name.
        folder: receives ``log.csv`` and ``checkpoint.safetensors``.
        identity: tells images and CNN from others; a checkpoint of others is refused.
        validate: the criterion, lower is better, of ``state.average``, after every ``validate_every``-th and
            the last step; in the log as ``criterion``.

    Returns:
        The log: ``step``, ``epoch``, and a column per loss; one row per step.

    Raises:
        ValueError: another run's checkpoint.
        FloatingPointError: a loss is no longer finite.
    """
    options, total = state.options, state.options.steps(count)
    path, checkpoint = folder / "log.csv", folder / "checkpoint.safetensors"
    log: list[dict[str, Any]] = []
    if checkpoint.is_file():
        try:
            log = state.load(checkpoint, identity)  # rows that a kill left behind the checkpoint go
        except DamagedError as error:
            warnings.warn(f"training begins anew: {error}", stacklevel=2)
    try:
        left = islice(_batches(count, options), state.step, total)
        for epoch, rows in progress(left, "training the GAN", total - state.step):
            state.set_rates(options.rate(state.step, total))
            losses = step(rows)
            if validate is not None and ((state.step + 1) % validate_every == 0 or state.step + 1 == total):
                losses["criterion"] = validate()
                state.keep_if_best(losses["criterion"])
            if not all(map(math.isfinite, losses.values())):
                raise FloatingPointError(f"step {state.step}: a loss is not finite: {losses}")
            log.append({"step": state.step, "epoch": epoch, **losses})
            state.step += 1
            if state.step % options.checkpoint_every == 0:
                state.save(checkpoint, identity, log)
    finally:
        _write(log, path)
    state.generator.load_state_dict(state.best or state.average.module.state_dict())
    for network in (state.generator, state.discriminator):
        network.zero_grad(set_to_none=True)
        network.to("cpu").eval()
    return pd.read_csv(path)


def _batches(count: int, options: Schedule) -> Iterator[tuple[int, Tensor]]:
    """Epoch, from 1, and rows (B,) of every step; each epoch's order follows from the seed."""
    for epoch in range(options.epochs):
        for rows in batch_rows(count, options.batch_size, shuffle_seed=100_000 * options.seed + epoch):
            yield epoch + 1, rows


def _write(log: list[dict[str, Any]], path: Path) -> None:
    with atomic_path(path) as temporary:  # a kill here loses no row
        pd.DataFrame(log).to_csv(temporary, index=False)
