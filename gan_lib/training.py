"""Supervised training of a GAN explainer: Grad-CAM is the target (arXiv 2301.08067, section 4).

The generator minimises ``adversarial + 100 * mean |map - target|``; the discriminator learns to tell
(image, target) from (image, generated map). Lightning Fabric owns device and precision; the loop is
plain. All randomness follows from the seed and the step, so that a run that was killed and started
again ends with the same weights as one that was not.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import pandas as pd
import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gan_lib.conditions import StoredConditions
from gan_lib.data import ImageSplit
from gan_lib.data.images import batch_rows
from gan_lib.generators import Discriminator, Generator, generator_recipe, make_generator
from gan_lib.objectives import discriminator_accuracy, discriminator_loss, generator_loss
from gan_lib.runtime import make_fabric, progress
from gan_lib.storage import (
    load_checkpoint,
    load_tensors,
    read_json,
    save_checkpoint,
    save_tensors,
    write_json,
)

LOG_COLUMNS = (
    "step",
    "epoch",
    "reconstruction",
    "adversarial",
    "discriminator",
    "discriminator_accuracy",
)


@dataclass(frozen=True)
class TrainingOptions:
    """How a GAN explainer is trained; the defaults are the paper's.

    Attributes:
        epochs: passes over the training images.
        batch_size: images per step.
        learning_rate: of both Adam optimisers.
        discriminator_learning_rate: of the discriminator's.
        beta1: first moment's decay of both.
        reconstruction_weight: of the mean absolute error to the target.
        discriminator_weight: of the discriminator's loss.
        discriminator_every: the discriminator is updated at every so many steps (the paper's
            "strategy 2"; 100 in the published code).
        adversarial: ``bce`` or ``hinge``.
        warmup_steps: steps over which both learning rates rise from zero.
        final_learning_rate: share of the learning rate that is left at the end; it falls as a cosine.
        ema_decay: of the moving average of the generator's weights; 0 switches the average off.
        checkpoint_every: steps between checkpoints.
        seed: decides the order of the images.
    """

    epochs: int = 25
    batch_size: int = 32
    learning_rate: float = 2e-4
    discriminator_learning_rate: float = 2e-4
    beta1: float = 0.5
    reconstruction_weight: float = 100.0
    discriminator_weight: float = 0.3
    discriminator_every: int = 1
    adversarial: str = "bce"
    warmup_steps: int = 0
    final_learning_rate: float = 1.0
    ema_decay: float = 0.999
    checkpoint_every: int = 200
    seed: int = 0


@dataclass
class _State:
    """Everything that a checkpoint holds."""

    generator: Generator
    discriminator: Discriminator
    generator_optimizer: torch.optim.Optimizer
    discriminator_optimizer: torch.optim.Optimizer
    average: AveragedModel
    step: int = 0

    def save(self, path: Path, options: TrainingOptions) -> None:
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        save_checkpoint(path, {**parts, "step": self.step, "options": asdict(options)})

    def load(self, path: Path, options: TrainingOptions) -> None:
        saved = load_checkpoint(path)
        if saved["options"] != asdict(options):
            raise ValueError(f"{path} was made with other options: {saved['options']}")
        for name, part in self._parts().items():
            part.load_state_dict(saved[name])
        for optimizer in (self.generator_optimizer, self.discriminator_optimizer):
            _match_layout(optimizer)
        self.step = saved["step"]

    def _parts(self) -> dict[str, Any]:
        return {name: part for name, part in vars(self).items() if name != "step"}


def _match_layout(optimizer: torch.optim.Optimizer) -> None:
    """Give loaded moments the memory layout of their parameters.

    The fused Adam walks through parameter and moments side by side in memory: with a channels-last
    parameter and contiguous moments, as a checkpoint holds them, it is silently wrong.
    """
    for parameter, moments in optimizer.state.items():
        for name, moment in moments.items():
            if moment.shape == parameter.shape:
                moments[name] = torch.empty_like(parameter).copy_(moment)


def train_supervised(
    generator: Generator,
    discriminator: Discriminator,
    images: ImageSplit,
    conditions: StoredConditions,
    folder: Path,
    options: TrainingOptions | None = None,
    fabric: Fabric | None = None,
    tensorboard: bool = False,
) -> pd.DataFrame:
    """Train a generator with Grad-CAM as its target.

        log = train_supervised(generator, Discriminator(), data.train, conditions, Path("run"))

    Args:
        generator: trained in place; it ends with the averaged weights, on the CPU, in eval mode.
        discriminator: trained in place.
        images: the images; row i belongs to row i of ``conditions``.
        conditions: what :func:`gan_lib.conditions.compute_conditions` stored for these images.
        folder: receives ``log.csv`` and ``checkpoint.safetensors``, and a call that finds a
            checkpoint there goes on from it.
        options: schedule; a checkpoint of another schedule is refused.
        fabric: device and precision; by default a GPU with bf16 if there is one.
        tensorboard: log there too, in ``folder/tensorboard``.

    Returns:
        One row per step: ``step``, ``epoch``, ``reconstruction`` (mean absolute error),
        ``adversarial`` and ``discriminator`` (losses), ``discriminator_accuracy`` (0..1, before the
        update). Also in ``log.csv``.

    Raises:
        ValueError: images and conditions that do not belong together, or another run's checkpoint.
        FloatingPointError: a loss is no longer finite.
    """
    options, fabric = options or TrainingOptions(), fabric or make_fabric()
    if len(images) != len(conditions):
        raise ValueError(f"{len(images)} images but {len(conditions)} conditions")
    if conditions.count != generator.sizes.conditions:
        raise ValueError(f"{conditions.count} conditions for a generator of {generator.sizes.conditions}")
    for network in (generator, discriminator):
        network.to(fabric.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    betas = (options.beta1, 0.999)
    state = _State(
        generator,
        discriminator,
        torch.optim.Adam(generator.parameters(), options.learning_rate, betas, fused=True),
        torch.optim.Adam(discriminator.parameters(), options.discriminator_learning_rate, betas, fused=True),
        AveragedModel(generator, multi_avg_fn=get_ema_multi_avg_fn(options.ema_decay)),
    )
    checkpoint = folder / "checkpoint.safetensors"
    if checkpoint.is_file():
        state.load(checkpoint, options)
    logger = TensorBoardLogger(folder, name="tensorboard", version="") if tensorboard else None
    total = options.epochs * -(-len(images) // options.batch_size)
    with _open_log(folder / "log.csv", state.step) as log:
        steps = _rows_from(state.step, len(images), options)
        for epoch, rows in progress(steps, "training the GAN", total - state.step):
            losses = _step(state, images, conditions, rows, total, options, fabric)
            values = {"step": state.step, "epoch": epoch + 1, **losses}
            log.write(values)
            if logger is not None:
                logger.log_metrics(losses, state.step)
            state.step += 1
            if state.step % options.checkpoint_every == 0:
                log.file.flush()  # the log must reach as far as the checkpoint
                state.save(checkpoint, options)
    if options.ema_decay > 0:
        generator.load_state_dict(state.average.module.state_dict())
    generator.to("cpu").eval()
    discriminator.to("cpu").eval()
    return pd.read_csv(folder / "log.csv")


def _rows_from(step: int, count: int, options: TrainingOptions) -> Iterator[tuple[int, Tensor]]:
    """Epoch and rows of every step from ``step`` on; each epoch's order follows from the seed."""
    per_epoch = -(-count // options.batch_size)
    for epoch in range(step // per_epoch, options.epochs):
        batches = list(batch_rows(count, options.batch_size, shuffle_seed=100_000 * options.seed + epoch))
        skipped = step % per_epoch if epoch == step // per_epoch else 0
        for rows in batches[skipped:]:
            yield epoch, rows


def _step(
    state: _State,
    images: ImageSplit,
    conditions: StoredConditions,
    rows: Tensor,
    total: int,
    options: TrainingOptions,
    fabric: Fabric,
) -> dict[str, float]:
    """One update of the generator and, when it is due, of the discriminator."""
    device = fabric.device
    pictures = images.batch(rows).images.to(device)  # (B, 3, H, W)
    given = conditions[rows]
    cgma = given.cgma.to(device)  # (B, n, H, W)
    target = given.target.to(device)  # (B, 1, H, W)
    _set_learning_rates(state, total, options)

    with fabric.autocast():
        made = state.generator(pictures, cgma)  # (B, 1, H, W)
        with _frozen(state.discriminator):
            fooled = state.discriminator(pictures, made).float()  # (B,)
    reconstruction = F.l1_loss(made.float(), target)
    adversarial = generator_loss(fooled, options.adversarial)
    state.generator_optimizer.zero_grad(set_to_none=True)
    fabric.backward(adversarial + options.reconstruction_weight * reconstruction)
    state.generator_optimizer.step()
    state.average.update_parameters(state.generator)

    is_due = state.step % options.discriminator_every == 0
    with torch.set_grad_enabled(is_due), fabric.autocast():
        # One pass over both halves: 2B pairs.
        pairs = torch.cat([target.to(made.dtype), made.detach()])
        logits = state.discriminator(pictures.repeat(2, 1, 1, 1), pairs).float()
    real, fake = logits.chunk(2)
    loss = discriminator_loss(real, fake, options.adversarial)
    if is_due:
        state.discriminator_optimizer.zero_grad(set_to_none=True)
        fabric.backward(options.discriminator_weight * loss)
        state.discriminator_optimizer.step()
    losses = {
        "reconstruction": reconstruction.item(),
        "adversarial": adversarial.item(),
        "discriminator": loss.item(),
        "discriminator_accuracy": discriminator_accuracy(real, fake).item(),
    }
    if not all(map(torch.isfinite, map(torch.tensor, losses.values()))):
        raise FloatingPointError(f"step {state.step}: a loss is not finite: {losses}")
    return losses


def _set_learning_rates(state: _State, total: int, options: TrainingOptions) -> None:
    # A function of the step alone, so that no schedule needs to be saved.
    cosine = (1 + torch.cos(torch.tensor(torch.pi * state.step / max(1, total))).item()) / 2
    share = options.final_learning_rate + (1 - options.final_learning_rate) * cosine
    share *= min(1.0, (state.step + 1) / max(1, options.warmup_steps))
    for optimizer, rate in (
        (state.generator_optimizer, options.learning_rate),
        (state.discriminator_optimizer, options.discriminator_learning_rate),
    ):
        for group in optimizer.param_groups:
            group["lr"] = rate * share


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """Within the block gradients flow through the module but not into its parameters."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


class _Log:
    """Rows of a CSV file."""

    def __init__(self, file: TextIO) -> None:
        self.file = file
        self._writer = csv.DictWriter(file, LOG_COLUMNS)
        self._writer.writeheader()

    def write(self, row: Mapping[str, object]) -> None:
        self._writer.writerow(row)


@contextmanager
def _open_log(path: Path, step: int) -> Iterator[_Log]:
    """A CSV log that continues at ``step``: rows that a kill left behind the checkpoint are dropped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept: list[dict[str, str]] = []
    if step > 0:
        with path.open(newline="") as file:
            kept = [
                row
                for row in csv.DictReader(file)
                if (row["step"] or "").isdecimal() and int(row["step"]) < step
            ]
    with path.open("w", newline="") as file:
        log = _Log(file)
        for row in kept:
            log.write(row)
        yield log


def save_generator(generator: Generator, folder: Path) -> None:
    """Write weights (safetensors) and recipe (JSON) to a folder."""
    save_tensors(folder / "generator.safetensors", generator.state_dict())
    write_json(folder / "generator.json", generator_recipe(generator))


def load_generator(folder: Path) -> Generator:
    """Read a generator written by :func:`save_generator`, in eval mode.

    Raises:
        FileNotFoundError: no generator at ``folder``.
    """
    if not (folder / "generator.json").is_file():
        raise FileNotFoundError(f"no generator at {folder}")
    generator = make_generator(**read_json(folder / "generator.json"))
    generator.load_state_dict(load_tensors(folder / "generator.safetensors"))
    return generator.eval()
