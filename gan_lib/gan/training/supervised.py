"""Supervised training of a GAN explainer: Grad-CAM is the target (arXiv 2301.08067, section 4).

The generator minimises ``adversarial + 100 * mean |map - target|``; the discriminator learns to tell
(image, target) from (image, generated map).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd
from lightning_fabric import Fabric
from pydantic import NonNegativeFloat
from torch import Tensor
from torch.nn import functional as F

from gan_lib.core.options import options
from gan_lib.core.runtime import make_fabric
from gan_lib.data import ImageSplit
from gan_lib.gan.conditions import StoredConditions
from gan_lib.gan.generators import Generator, PairDiscriminator
from gan_lib.gan.objectives import saturation_loss
from gan_lib.gan.training.loop import GANState, Schedule, train_gan

SATURATED = 4.0  # where a sigmoid's slope is below 0.02


@options
class TrainingOptions(Schedule):
    """Schedule and objective of the supervised training; the defaults are the paper's.

    Attributes:
        reconstruction_weight: of the mean absolute error to the target.
        saturation_weight: of the penalty on logits beyond +-4. Where Grad-CAMs are empty over more than
            half of the image, a map that is zero everywhere is what lowers the mean absolute error
            first, and its sigmoid no longer learns.
    """

    reconstruction_weight: NonNegativeFloat = 100.0
    saturation_weight: NonNegativeFloat = 0.0


def train_supervised(
    generator: Generator,
    discriminator: PairDiscriminator,
    images: ImageSplit,
    conditions: StoredConditions,
    folder: Path,
    options: TrainingOptions | None = None,
    fabric: Fabric | None = None,
) -> pd.DataFrame:
    """Train a generator with Grad-CAM as its target.

        log = train_supervised(generator, Discriminator(), data.train, conditions, Path("run"))

    Args:
        generator, discriminator: trained in place (:func:`gan_lib.gan.training.loop.train_gan`).
        images: the images; row i belongs to row i of ``conditions``.
        conditions: what :func:`gan_lib.gan.conditions.compute_conditions` stored for these images.
        folder: receives ``log.csv`` and a checkpoint; a call that finds one there goes on from it.
        options: schedule and objective; a checkpoint of others is refused.
        fabric: device and precision; by default a GPU with bf16 if there is one.

    Returns:
        One row per step: ``step``, ``epoch``, ``reconstruction`` (mean absolute error), and with a
        discriminator ``adversarial``, ``discriminator`` and ``discriminator_accuracy`` (0..1).

    Raises:
        ValueError: images and conditions that do not belong together, or another run's checkpoint.
        FloatingPointError: a loss is no longer finite.
    """
    options, fabric = options or TrainingOptions(), fabric or make_fabric()
    if len(images) != len(conditions):
        raise ValueError(f"{len(images)} images but {len(conditions)} conditions")
    if conditions.count != generator.sizes.conditions:
        raise ValueError(f"{conditions.count} conditions for a generator of {generator.sizes.conditions}")
    state = GANState(generator, discriminator, options, fabric)
    step = partial(_step, state, images, conditions, options)
    return train_gan(state, step, len(images), folder, conditions.fingerprint)


def _step(
    state: GANState, images: ImageSplit, conditions: StoredConditions, options: TrainingOptions, rows: Tensor
) -> dict[str, float]:
    """One update of the generator and, when it is due, of the discriminator."""
    device = state.fabric.device
    pictures = images.batch(rows).images.to(device)  # (B, 3, H, W)
    given = conditions[rows]
    cgma = given.cgma.to(device)  # (B, n, H, W)
    target = given.target.to(device)  # (B, 1, H, W)
    with state.fabric.autocast():
        logits = state.generator.logits(pictures, cgma)  # (B, 1, H, W)
        maps = logits.sigmoid()
    reconstruction = F.l1_loss(maps.float(), target)
    total = options.reconstruction_weight * reconstruction
    if options.saturation_weight > 0:
        total = total + options.saturation_weight * saturation_loss(logits.float(), SATURATED)
    return state.update({"reconstruction": reconstruction}, total, (pictures, target), (pictures, maps))
