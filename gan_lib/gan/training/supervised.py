"""Supervised training of a GAN explainer: Grad-CAM is the target (arXiv 2301.08067, section 4).

The generator minimises ``adversarial + 100 * mean |map - target|``; the discriminator learns to tell
(image, target) from (image, generated map).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional as F

from gan_lib.core.runtime import make_fabric
from gan_lib.data import ImageSplit
from gan_lib.gan.conditions import StoredConditions
from gan_lib.gan.generators import Discriminator, Generator
from gan_lib.gan.objectives import discriminator_accuracy, discriminator_loss, generator_loss, saturation_loss
from gan_lib.gan.training.loop import GANState, Schedule, frozen, train_gan

SATURATED = 4.0  # where a sigmoid's slope is below 0.02


@dataclass(frozen=True)
class TrainingOptions(Schedule):
    """Schedule and objective of the supervised training; the defaults are the paper's.

    Attributes:
        reconstruction_weight: of the mean absolute error to the target.
        adversarial_weight: of the generator's adversarial loss; 0 leaves the discriminator out.
        saturation_weight: of the penalty on logits beyond +-4 (
            :func:`gan_lib.gan.objectives.saturation_loss`).
            Where Grad-CAMs are empty over more than half of the image, a map that is zero everywhere is
            what lowers the mean absolute error first, and its sigmoid no longer learns.
    """

    reconstruction_weight: float = 100.0
    adversarial_weight: float = 1.0
    saturation_weight: float = 0.0


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
        conditions: what :func:`gan_lib.gan.conditions.compute_conditions` stored for these images.
        folder: receives ``log.csv`` and ``checkpoint.safetensors``, and a call that finds a
            checkpoint there goes on from it.
        options: schedule; a checkpoint of another schedule is refused.
        fabric: device and precision; by default a GPU with bf16 if there is one.
        tensorboard: log there too, in ``folder/tensorboard``.

    Returns:
        One row per step: ``step``, ``epoch``, ``reconstruction`` (mean absolute error), and with a
        discriminator ``adversarial`` and ``discriminator`` (losses), ``discriminator_accuracy`` (0..1,
        before the update). Also in ``log.csv``.

    Raises:
        ValueError: images and conditions that do not belong together, or another run's checkpoint.
        FloatingPointError: a loss is no longer finite.
    """
    options, fabric = options or TrainingOptions(), fabric or make_fabric()
    if len(images) != len(conditions):
        raise ValueError(f"{len(images)} images but {len(conditions)} conditions")
    if conditions.count != generator.sizes.conditions:
        raise ValueError(f"{conditions.count} conditions for a generator of {generator.sizes.conditions}")
    state = GANState.new(generator, discriminator, options, fabric)

    def step(rows: Tensor) -> dict[str, float]:
        return _step(state, images, conditions, rows, options, fabric)

    known = conditions.fingerprint
    return train_gan(state, step, len(images), folder, options, tensorboard, identity=known)


def _step(
    state: GANState,
    images: ImageSplit,
    conditions: StoredConditions,
    rows: Tensor,
    options: TrainingOptions,
    fabric: Fabric,
) -> dict[str, float]:
    """One update of the generator and, when it is due, of the discriminator."""
    device = fabric.device
    pictures = images.batch(rows).images.to(device)  # (B, 3, H, W)
    given = conditions[rows]
    cgma = given.cgma.to(device)  # (B, n, H, W)
    target = given.target.to(device)  # (B, 1, H, W)

    with fabric.autocast():
        drawn = state.generator.logits(pictures, cgma)  # (B, 1, H, W)
        made = drawn.sigmoid()
    reconstruction = F.l1_loss(made.float(), target)
    total = options.reconstruction_weight * reconstruction
    if options.saturation_weight > 0:
        total = total + options.saturation_weight * saturation_loss(drawn.float(), SATURATED)
    if options.adversarial_weight == 0:
        state.update_generator(total, options, fabric)
        return {"reconstruction": reconstruction.item()}
    with fabric.autocast(), frozen(state.discriminator):
        fooled = state.discriminator(pictures, made).float()  # (B,)
    adversarial = generator_loss(fooled, options.adversarial)
    total = options.adversarial_weight * adversarial + total
    state.update_generator(total, options, fabric)

    is_due = state.step % options.discriminator_every == 0
    with torch.set_grad_enabled(is_due), fabric.autocast():
        # One pass over both halves: 2B pairs.
        pairs = torch.cat([target.to(made.dtype), made.detach()])
        logits = state.discriminator(pictures.repeat(2, 1, 1, 1), pairs).float()
    real, fake = logits.chunk(2)
    loss = discriminator_loss(real, fake, options.adversarial)
    if is_due:
        state.update_discriminator(options.discriminator_weight * loss, fabric)
    return {
        "reconstruction": reconstruction.item(),
        "adversarial": adversarial.item(),
        "discriminator": loss.item(),
        "discriminator_accuracy": discriminator_accuracy(real, fake).item(),
    }
