"""What all training of GANs shares: networks and optimisers, schedule, checkpoints, log, resume.

All randomness follows from the seed and the step, so that a run that was killed and started again
ends with the same weights as one that was not.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import pandas as pd
import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gan_lib.core.runtime import progress
from gan_lib.core.storage import atomic_path, load_checkpoint, save_checkpoint
from gan_lib.data.images import batch_rows
from gan_lib.gan.generators import Generator, generator_recipe


@dataclass(frozen=True)
class Schedule:
    """How a GAN explainer is trained; the defaults are those of arXiv 2301.08067.

    Attributes:
        epochs: passes over the training images.
        max_steps: the run ends after so many steps, if its epochs have not ended before.
        batch_size: images per step.
        learning_rate: of both Adam optimisers.
        discriminator_learning_rate: of the discriminator's.
        beta1: first moment's decay of both.
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

    epochs: int = 25
    max_steps: int | None = None
    batch_size: int = 32
    learning_rate: float = 2e-4
    discriminator_learning_rate: float = 2e-4
    beta1: float = 0.5
    discriminator_weight: float = 0.3
    discriminator_every: int = 1
    adversarial: str = "bce"
    warmup_steps: int = 0
    final_learning_rate: float = 1.0
    clip_gradient: float = 0.0
    ema_decay: float = 0.999
    checkpoint_every: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.batch_size, self.discriminator_every, self.checkpoint_every) < 1:
            raise ValueError("batch_size, discriminator_every and checkpoint_every must be at least 1")


@dataclass
class GANState:
    """Everything that a checkpoint holds."""

    generator: Generator
    discriminator: nn.Module
    generator_optimizer: torch.optim.Optimizer
    discriminator_optimizer: torch.optim.Optimizer
    average: AveragedModel
    step: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)  # averaged weights at the lowest criterion
    best_criterion: float = math.inf

    @classmethod
    def new(
        cls, generator: Generator, discriminator: nn.Module, options: Schedule, fabric: Fabric
    ) -> GANState:
        """Move both networks to the device, in training mode, and give them optimisers."""
        for network in (generator, discriminator):
            network.to(fabric.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        betas = (options.beta1, 0.999)
        return cls(
            generator,
            discriminator,
            torch.optim.Adam(generator.parameters(), options.learning_rate, betas, fused=True),
            torch.optim.Adam(
                discriminator.parameters(), options.discriminator_learning_rate, betas, fused=True
            ),
            AveragedModel(generator, multi_avg_fn=get_ema_multi_avg_fn(options.ema_decay), use_buffers=False),
        )

    def save(self, path: Path, options: Schedule, identity: str) -> None:
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        best = {"best": self.best, "best_criterion": self.best_criterion}
        save_checkpoint(path, {**parts, **best, **self._made_from(options, identity), "step": self.step})

    def load(self, path: Path, options: Schedule, identity: str) -> None:
        saved = load_checkpoint(path)
        if saved["options"] != asdict(options):
            raise ValueError(f"{path} was made with other options: {saved['options']}")
        if any(saved[name] != value for name, value in self._made_from(options, identity).items()):
            raise ValueError(f"{path} is of another generator, or of other images or another CNN")
        for name, part in self._parts().items():
            part.load_state_dict(saved[name])
        for optimizer in (self.generator_optimizer, self.discriminator_optimizer):
            _match_layout(optimizer)
        self.step, self.best, self.best_criterion = saved["step"], saved["best"], saved["best_criterion"]

    def _made_from(self, options: Schedule, identity: str) -> dict[str, Any]:
        recipe = generator_recipe(self.generator)
        return {"options": asdict(options), "recipe": recipe, "identity": identity}

    def _parts(self) -> dict[str, Any]:
        return {name: part for name, part in vars(self).items() if hasattr(part, "load_state_dict")}

    def update_generator(self, loss: Tensor, options: Schedule, fabric: Fabric) -> None:
        """One step of the generator, and of its moving average."""
        self.generator_optimizer.zero_grad(set_to_none=True)
        fabric.backward(loss)
        if options.clip_gradient > 0:
            nn.utils.clip_grad_norm_(self.generator.parameters(), options.clip_gradient)
        self.generator_optimizer.step()
        self.average.update_parameters(self.generator)

    def update_discriminator(self, loss: Tensor, fabric: Fabric) -> None:
        """One step of the discriminator."""
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        fabric.backward(loss)
        self.discriminator_optimizer.step()

    def keep_if_best(self, criterion: float) -> None:
        """Remember the averaged weights when the criterion is the lowest so far."""
        if criterion < self.best_criterion:
            self.best_criterion = criterion
            weights = self.average.module.state_dict()
            self.best = {name: value.detach().clone() for name, value in weights.items()}


def _match_layout(optimizer: torch.optim.Optimizer) -> None:
    """Give loaded moments the memory layout of their parameters.

    The fused Adam walks through parameter and moments side by side in memory: with a channels-last
    parameter and contiguous moments, as a checkpoint holds them, it is silently wrong.
    """
    for parameter, moments in optimizer.state.items():
        for name, moment in moments.items():
            if moment.shape == parameter.shape:
                moments[name] = torch.empty_like(parameter).copy_(moment)


def train_gan(
    state: GANState,
    step: Callable[[Tensor], dict[str, float]],
    count: int,
    folder: Path,
    options: Schedule,
    tensorboard: bool = False,
    validate: Callable[[], float] | None = None,
    validate_every: int = 1,
    identity: str = "",
) -> pd.DataFrame:
    """Run all steps of a schedule, from the last checkpoint if the folder holds one.

    Args:
        state: networks and optimisers; the generator ends with its averaged weights (with
            ``validate``: those with the lowest criterion), both on the CPU and in eval mode.
        step: one update for the rows (B,) of the training images; returns losses by name.
        count: number of training images.
        folder: receives ``log.csv`` and ``checkpoint.safetensors``.
        options: schedule; a checkpoint of another schedule is refused.
        tensorboard: log there too, in ``folder/tensorboard``.
        validate: the criterion, lower is better, of ``state.average``.
        validate_every: steps between validations; the last step is always followed by one. Its
            column in the log is ``criterion``, empty at other steps.
        identity: tells images and CNN from others; a checkpoint of others is refused.

    Returns:
        The log: ``step``, ``epoch``, and a column per loss; one row per step.

    Raises:
        ValueError: another run's checkpoint.
        FloatingPointError: a loss is no longer finite.
    """
    checkpoint = folder / "checkpoint.safetensors"
    if checkpoint.is_file():
        state.load(checkpoint, options, identity)
    logger = TensorBoardLogger(folder, name="tensorboard", version="") if tensorboard else None
    total = options.epochs * -(-count // options.batch_size)
    if options.max_steps is not None:
        total = min(total, options.max_steps)
    with _open_log(folder / "log.csv", state.step) as log:
        steps = islice(_rows_from(state.step, count, options), max(0, total - state.step))
        for epoch, rows in progress(steps, "training the GAN", total - state.step):
            set_learning_rates(state, total, options)
            losses = step(rows)
            if not all(map(math.isfinite, losses.values())):
                raise FloatingPointError(f"step {state.step}: a loss is not finite: {losses}")
            if validate is not None:
                losses["criterion"] = math.nan
                if (state.step + 1) % validate_every == 0 or state.step + 1 == total:
                    losses["criterion"] = validate()
                    if not math.isfinite(losses["criterion"]):
                        raise FloatingPointError(f"step {state.step}: the criterion is not finite")
                    state.keep_if_best(losses["criterion"])
            log.write({"step": state.step, "epoch": epoch + 1, **losses})
            if logger is not None:
                logger.log_metrics(losses, state.step)
            state.step += 1
            if state.step % options.checkpoint_every == 0:
                log.file.flush()  # the log must reach as far as the checkpoint
                state.save(checkpoint, options, identity)
    if state.best:
        state.generator.load_state_dict(state.best)
    elif options.ema_decay > 0:
        state.generator.load_state_dict(state.average.module.state_dict())
    for network in (state.generator, state.discriminator):
        network.zero_grad(set_to_none=True)
        network.to("cpu").eval()
    return pd.read_csv(folder / "log.csv")


def _rows_from(step: int, count: int, options: Schedule) -> Iterator[tuple[int, Tensor]]:
    """Epoch and rows of every step from ``step`` on; each epoch's order follows from the seed."""
    per_epoch = -(-count // options.batch_size)
    for epoch in range(step // per_epoch, options.epochs):
        batches = list(batch_rows(count, options.batch_size, shuffle_seed=100_000 * options.seed + epoch))
        skipped = step % per_epoch if epoch == step // per_epoch else 0
        for rows in batches[skipped:]:
            yield epoch, rows


def set_learning_rates(state: GANState, total: int, options: Schedule) -> None:
    """Warm-up, then a cosine: a function of the step alone, so that no schedule needs to be saved."""
    cosine = (1 + math.cos(math.pi * state.step / max(1, total))) / 2
    share = options.final_learning_rate + (1 - options.final_learning_rate) * cosine
    share *= min(1.0, (state.step + 1) / max(1, options.warmup_steps))
    for optimizer, rate in (
        (state.generator_optimizer, options.learning_rate),
        (state.discriminator_optimizer, options.discriminator_learning_rate),
    ):
        for group in optimizer.param_groups:
            group["lr"] = rate * share


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
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
    """Rows of a CSV file whose columns are those of the first row."""

    def __init__(self, file: TextIO, columns: list[str]) -> None:
        self.file = file
        self._writer = csv.DictWriter(file, columns) if columns else None

    def write(self, row: Mapping[str, object]) -> None:
        if self._writer is None:
            self._writer = csv.DictWriter(self.file, list(row))
            self._writer.writeheader()
        self._writer.writerow(row)


@contextmanager
def _open_log(path: Path, step: int) -> Iterator[_Log]:
    """A CSV log that continues at ``step``: rows that a kill left behind the checkpoint are dropped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept: list[dict[str, str]] = []
    columns: list[str] = []
    if step > 0:
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or ())
            kept = [row for row in reader if (row["step"] or "").isdecimal() and int(row["step"]) < step]
    # Beside and into place: a kill here loses no row.
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        if columns:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(kept)
    with path.open("a", newline="") as file:
        yield _Log(file, columns)
