"""Contrastive training of a GAN explainer: no Grad-CAM, no labels, no masks.

The generator sees the image and the CNN's features. It learns from what the CNN itself makes of the
explained image and of its complement (:mod:`gan_lib.gan.objectives.contrastive`), and from a projection
discriminator that tells explained images from originals. All classes are the CNN's own predictions.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import Tensor

from gan_lib.core.capture import INPUT, Capture, evaluation_mode
from gan_lib.core.masking import blend, filling
from gan_lib.core.runtime import make_fabric
from gan_lib.core.storage import tensor_bytes
from gan_lib.data import ImageSplit
from gan_lib.gan.conditions import FeatureMaker, pooled
from gan_lib.gan.generators import Generator, ProjectionDiscriminator
from gan_lib.gan.objectives import (
    area_loss,
    contrastive_loss,
    discriminator_accuracy,
    discriminator_loss,
    fidelity_loss,
    generator_loss,
    mask_of_area,
    saturation_loss,
    total_variation,
)
from gan_lib.gan.training.loop import GANState, Schedule, frozen, train_gan
from gan_lib.gan.training.tasks import Task, mosaic_task, partners


@dataclass(frozen=True)
class ContrastiveOptions(Schedule):
    """Schedule and objective of the contrastive training.

    Attributes:
        contrastive_weight: of the supervised contrastive loss.
        fidelity_weight: of the CNN's cross-entropy on explained images and complements.
        complement_weight: of the part of the fidelity loss that empties complements of the class; with 0
            the contrastive loss does not repel complements either.
        adversarial_weight: of the generator's adversarial loss; 0 leaves the discriminator out.
        area_weight: of the penalty outside the area band.
        area: the band, as shares of the image.
        smoothness_weight: of the maps' total variation.
        temperature: of the contrastive loss.
        ranked: share of the images whose mask is drawn at a random area from the order of the map's
            pixels alone, so that the order holds at every area and maps stay graded.
        ranked_area: between which shares of the image that area is drawn, log-uniformly.
        mosaics: kinds of mosaics (:func:`gan_lib.data.mosaics.mosaic`), in turn; empty for none.
        mosaic_every: every so many steps is one with mosaics.
        fills: what stands in place of what is hidden, in turn.
        held_out: images, a fixed random choice, that are only used for the criterion.
        validate_every: steps between evaluations of the criterion, the objective on them.
    """

    epochs: int = 5
    batch_size: int = 16
    learning_rate: float = 1.5e-3
    beta1: float = 0.9
    adversarial: str = "hinge"
    warmup_steps: int = 50
    final_learning_rate: float = 0.02
    clip_gradient: float = 10.0
    ema_decay: float = 0.98
    contrastive_weight: float = 1.0
    fidelity_weight: float = 1.0
    complement_weight: float = 1.0
    adversarial_weight: float = 0.02
    area_weight: float = 5.0
    area: tuple[float, float] = (0.05, 0.25)
    smoothness_weight: float = 0.03
    temperature: float = 0.1
    ranked: float = 0.6
    ranked_area: tuple[float, float] = (0.04, 0.25)
    mosaics: tuple[str, ...] = ("beside", "above")
    mosaic_every: int = 2
    fills: tuple[str, ...] = ("black",)
    held_out: int = 200
    validate_every: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("area", "ranked_area"):
            low, high = getattr(self, name)
            if not 0 < low <= high < 1:
                raise ValueError(f"{name} needs 0 < low <= high < 1, not {(low, high)}")
        if min(self.mosaic_every, self.validate_every) < 1 or not self.fills:
            raise ValueError("mosaic_every and validate_every must be at least 1, and there must be a fill")

    def mosaic_kind(self, step: int) -> str:
        """The kind of mosaics at a step."""
        return self.mosaics[step // self.mosaic_every % len(self.mosaics)]

    def fill(self, step: int) -> str:
        """The fill at a step; it changes more slowly, so that every kind of mosaic meets every fill."""
        every = self.mosaic_every * max(1, len(self.mosaics))
        return self.fills[step // every % len(self.fills)]


class _Trainer:
    """The objective of one batch, for training and for the criterion."""

    def __init__(
        self,
        state: GANState,
        maker: FeatureMaker,
        images: ImageSplit,
        options: ContrastiveOptions,
        fabric: Fabric,
    ) -> None:
        self.state, self.maker, self.images = state, maker, images
        self.options, self.fabric = options, fabric
        # A folder's images come class by class, so which ones are held out is drawn: the last of these.
        self.order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
        self.classes, self.embeddings = self._originals()  # (N,), (N, D)

    def _originals(self) -> tuple[Tensor, Tensor]:
        """What the CNN predicts and sees, for every image."""
        made = [
            (features.explained, features.embedding.float())
            for batch in self.images.batches(128)
            for features in [self.maker(batch.images.to(self.fabric.device))]
        ]
        classes, embeddings = zip(*made, strict=True)
        return torch.cat(classes), torch.cat(embeddings)

    def prepare(self, count: int = 256) -> None:
        """Show the generator the activations of the first images."""
        pictures = self.images.batch(self.order[:count]).images
        activations = self.maker(pictures.to(self.fabric.device)).activations
        self.state.generator.prepare(activations)

    def task(self, rows: Tensor, step: int, mosaics: bool = True) -> Task:
        """The images at some places of the order, or at every ``mosaic_every``-th step mosaics of them."""
        rows = self.order[rows]
        pictures = self.images.batch(rows).images.to(self.fabric.device)  # (B, 3, H, W)
        classes, originals = self.classes[rows], self.embeddings[rows]
        options = self.options
        if mosaics and options.mosaics and step % options.mosaic_every == options.mosaic_every - 1:
            other = partners(classes)
            # Half as many mosaics as images: each is twice as large, or takes two images.
            rows_of_pairs = (other >= 0).nonzero()[: max(2, len(rows) // 2), 0]
            if len(rows_of_pairs) > 1:
                kind = options.mosaic_kind(step)
                return mosaic_task(pictures, classes, originals, rows_of_pairs, other, kind)
        return Task(pictures, classes, torch.full_like(classes, -1), originals, 1)

    def objective(
        self, generator: torch.nn.Module, task: Task, seed: int
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Losses by name, and the explained images (B, 3, H, W)."""
        options = self.options
        conditions = self.maker(task.pictures, task.classes).activations
        with self.fabric.autocast():
            logits = generator.logits(task.pictures, conditions).float()  # type: ignore[operator]
        maps = logits.sigmoid()  # (B, 1, H, W)
        low, high = (limit / task.parts for limit in options.area)
        masks = self._masks(logits, maps, task.parts, seed)
        hidden = filling(task.pictures, options.fill(seed))
        shown, rest = blend(task.pictures, hidden, masks), blend(task.pictures, hidden, 1 - masks)
        cnn, head = self.maker.net, self.maker.head + INPUT
        both = torch.cat([shown, rest]).contiguous(memory_format=torch.channels_last)
        with frozen(cnn), evaluation_mode(cnn), Capture(cnn, [head]) as captured, self.fabric.autocast():
            shown_logits, rest_logits = cnn(both).float().chunk(2)  # (B, K)
            shown_embedding, rest_embedding = pooled(captured[head]).float().chunk(2)  # (B, D)
        losses = {
            "contrastive": contrastive_loss(
                shown_embedding,
                task.originals,
                rest_embedding,
                task.classes,
                task.other_classes,
                options.temperature,
                repel_complements=options.complement_weight > 0,
            ),
            "fidelity": fidelity_loss(shown_logits, rest_logits, task.classes, options.complement_weight),
            "area_penalty": area_loss(maps, low, high),
            "smoothness": total_variation(maps),
            "saturation": saturation_loss(logits),
            "area": maps.mean() * task.parts,
        }
        return losses, shown

    def _masks(self, logits: Tensor, maps: Tensor, parts: int, seed: int) -> Tensor:
        """Every image's map, or its mask at a random area."""
        options = self.options
        generator = torch.Generator().manual_seed(1_000_003 * options.seed + seed)
        draws = torch.rand(2, len(maps), generator=generator).to(maps.device)
        low, high = options.ranked_area
        ranked = mask_of_area(logits, low * (high / low) ** draws[0] / parts)
        return torch.where((draws[1] < options.ranked)[:, None, None, None], ranked, maps)

    def weighted(self, losses: dict[str, Tensor]) -> Tensor:
        """The generator's objective without the adversarial part."""
        options = self.options
        return (
            options.contrastive_weight * losses["contrastive"]
            + options.fidelity_weight * losses["fidelity"]
            + options.area_weight * losses["area_penalty"]
            + options.smoothness_weight * losses["smoothness"]
            + losses["saturation"]
        )

    def step(self, rows: Tensor) -> dict[str, float]:
        """One update of the generator and, when it is due, of the discriminator."""
        state, options = self.state, self.options
        task = self.task(rows, state.step)
        losses, shown = self.objective(state.generator, task, state.step)
        total = self.weighted(losses)
        if options.adversarial_weight > 0:
            with frozen(state.discriminator), self.fabric.autocast():
                fooled = state.discriminator(shown, task.classes).float()  # (B,)
            losses["adversarial"] = generator_loss(fooled, options.adversarial)
            total = total + options.adversarial_weight * losses["adversarial"]
        state.update_generator(total, options, self.fabric)
        if options.adversarial_weight > 0:
            losses |= self._discriminate(task, shown.detach())
        return {name: loss.item() for name, loss in losses.items()}

    def _discriminate(self, task: Task, shown: Tensor) -> dict[str, Tensor]:
        is_due = self.state.step % self.options.discriminator_every == 0
        with torch.set_grad_enabled(is_due), self.fabric.autocast():
            logits = self.state.discriminator(torch.cat([task.pictures, shown]), task.classes.repeat(2))
        real, fake = logits.float().chunk(2)
        loss = discriminator_loss(real, fake, self.options.adversarial)
        if is_due:
            self.state.update_discriminator(self.options.discriminator_weight * loss, self.fabric)
        return {
            "discriminator": loss.detach(),
            "discriminator_accuracy": discriminator_accuracy(real, fake),
        }

    @torch.no_grad()
    def criterion(self, rows: Tensor) -> float:
        """The averaged generator's objective on rows that it is not trained on: no label, no mask."""
        generator = self.state.average.module
        totals = []
        for index, part in enumerate(rows.split(64)):
            losses, _ = self.objective(generator, self.task(part, 0, mosaics=False), seed=index)
            totals.append(self.weighted(losses) * len(part))
        return float(torch.stack(totals).sum() / len(rows))


def train_contrastive(
    generator: Generator,
    discriminator: ProjectionDiscriminator,
    maker: FeatureMaker,
    images: ImageSplit,
    folder: Path,
    options: ContrastiveOptions | None = None,
    fabric: Fabric | None = None,
    tensorboard: bool = False,
) -> pd.DataFrame:
    """Train a generator by contrast, with no map to learn from.

        maker = FeatureMaker(cnn, (64, 64))
        generator = make_generator("lsft", conditions=5, features=maker.channels)
        log = train_contrastive(generator, ProjectionDiscriminator(10), maker, data.train, Path("run"))

    Args:
        generator: trained in place; it ends with the averaged weights at the lowest criterion, on the
            CPU, in eval mode.
        discriminator: trained in place.
        maker: makes the feature conditions; its CNN is left as it is.
        images: the images; their labels are not looked at.
        folder: receives ``log.csv`` and ``checkpoint.safetensors``, and a call that finds a
            checkpoint there goes on from it.
        options: schedule and objective; a checkpoint of others is refused.
        fabric: device and precision; by default a GPU with bf16 if there is one.
        tensorboard: log there too, in ``folder/tensorboard``.

    Returns:
        One row per step: ``step``, ``epoch``, the losses ``contrastive``, ``fidelity``,
        ``area_penalty``, ``smoothness``, ``saturation``, the maps' mean ``area``, ``adversarial``,
        ``discriminator``, ``discriminator_accuracy`` (0..1), and every ``validate_every`` steps the
        ``criterion``. Also in ``log.csv``.

    Raises:
        ValueError: a generator for other features, too few images, or another run's checkpoint.
        FloatingPointError: a loss is no longer finite.
    """
    options, fabric = options or ContrastiveOptions(), fabric or make_fabric()
    if tuple(generator.sizes.features) != maker.channels:
        raise ValueError(f"the CNN's layers have {maker.channels} channels, not {generator.sizes.features}")
    count = len(images) - options.held_out
    if count < 2 or options.held_out < 2:
        raise ValueError(f"{len(images)} images, {options.held_out} held out, leave too few")
    home = next(maker.cnn.parameters()).device
    try:
        return _train(
            generator, discriminator, maker.to(fabric.device), images, folder, options, fabric, tensorboard
        )
    finally:
        maker.to(home)


def _train(
    generator: Generator,
    discriminator: ProjectionDiscriminator,
    maker: FeatureMaker,
    images: ImageSplit,
    folder: Path,
    options: ContrastiveOptions,
    fabric: Fabric,
    tensorboard: bool,
) -> pd.DataFrame:
    count = len(images) - options.held_out
    state = GANState.new(generator, discriminator, options, fabric)
    trainer = _Trainer(state, maker, images, options, fabric)
    trainer.prepare()
    held_out = torch.arange(count, len(images))
    # What the CNN makes of the images tells this CNN and these images from others.
    known = hashlib.sha256(tensor_bytes(trainer.embeddings)).hexdigest()
    return train_gan(
        state,
        trainer.step,
        count,
        folder,
        options,
        tensorboard,
        identity=known,
        validate=lambda: trainer.criterion(held_out),
        validate_every=options.validate_every,
    )
