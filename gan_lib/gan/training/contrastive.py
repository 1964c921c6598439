"""Contrastive training of a GAN explainer: no Grad-CAM, no labels, no masks.

The generator sees the image and the CNN's features. It learns from what the CNN itself makes of the
explained image and of its complement (:mod:`gan_lib.gan.objectives`), and from a projection
discriminator that tells explained images from originals. All classes are the CNN's own predictions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
import torch
from lightning_fabric import Fabric
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from gan_lib.core.capture import Capture, evaluation_mode, frozen
from gan_lib.core.inputs import layout_for, weight_of
from gan_lib.core.masking import Fill, blend, filling
from gan_lib.core.options import Decay, Share, options
from gan_lib.core.outputs import EXCLUSIVE, meaning_of
from gan_lib.core.runtime import make_fabric
from gan_lib.core.storage import tensor_bytes
from gan_lib.data import ImageSplit
from gan_lib.data.mosaics import Mosaic, mosaic
from gan_lib.gan.conditions import FeatureMaker, Features
from gan_lib.gan.generators import Generator, ProjectionDiscriminator
from gan_lib.gan.objectives import (
    Adversarial,
    Fidelity,
    area_loss,
    contrastive_loss,
    fidelity_loss,
    mask_of_area,
    saturation_loss,
    total_variation,
)
from gan_lib.gan.training.loop import GANState, Schedule, train_gan


@options
class ContrastiveOptions(Schedule):
    """Schedule and objective of the contrastive training.

    Attributes:
        contrastive_weight: of the supervised contrastive loss.
        fidelity_weight: of what the CNN makes of explained images and complements.
        fidelity: the cross-entropies, or the probabilities themselves
            (:func:`gan_lib.gan.objectives.fidelity_loss`).
        complement_weight: of the part of the fidelity loss that empties complements of the class; with 0
            the contrastive loss does not repel complements either.
        area_weight: of the penalty outside the area band.
        area: the band, as shares of the image.
        smoothness_weight: of the maps' total variation.
        temperature: of the contrastive loss.
        ranked: share of the images whose mask is drawn at a random area from the order of the map's
            pixels alone, so that the order holds at every area and maps stay graded.
        ranked_area: between which shares of the image that area is drawn.
        ranked_draw: ``logarithmic``, every doubling of the area equally often, or ``uniform``, as insertion
            and deletion curves weigh areas.
        mosaics: kinds of mosaics (:func:`gan_lib.data.mosaics.mosaic`), in turn; empty for none.
        mosaic_every: every so many steps is one with mosaics.
        fills: what stands in place of what is hidden (:data:`gan_lib.core.masking.FILLS`), in turn.
        held_out: images, a fixed random choice, that are only used for the criterion.
        validate_every: steps between evaluations of the criterion, the objective on them, over all fills.
    """

    epochs: PositiveInt = 2
    batch_size: PositiveInt = 16
    learning_rate: PositiveFloat = 1.5e-3
    beta1: Decay = 0.9
    adversarial: Adversarial = "hinge"
    warmup_steps: NonNegativeInt = 50
    final_learning_rate: Share = 0.02
    clip_gradient: NonNegativeFloat = 10.0
    ema_decay: Decay = 0.98
    contrastive_weight: NonNegativeFloat = 1.0
    fidelity_weight: NonNegativeFloat = 1.0
    fidelity: Fidelity = "logarithm"
    complement_weight: NonNegativeFloat = 1.0
    adversarial_weight: NonNegativeFloat = 0.02
    area_weight: NonNegativeFloat = 5.0
    area: tuple[float, float] = (0.05, 0.25)
    smoothness_weight: NonNegativeFloat = 0.03
    temperature: PositiveFloat = 0.1
    ranked: Share = 0.6
    ranked_area: tuple[float, float] = (0.04, 0.25)
    ranked_draw: Literal["logarithmic", "uniform"] = "logarithmic"
    mosaics: tuple[Mosaic, ...] = ("beside", "above")
    mosaic_every: PositiveInt = 2
    fills: Annotated[tuple[Fill, ...], Field(min_length=1)] = ("black",)
    held_out: PositiveInt = 200
    validate_every: PositiveInt = 100

    def __post_init__(self) -> None:
        for name in ("area", "ranked_area"):
            low, high = getattr(self, name)
            if not 0 < low <= high < 1:
                raise ValueError(f"{name} needs 0 < low <= high < 1, not {(low, high)}")

    def mosaic_kind(self, step: int) -> str:
        """The kind of mosaics at a step."""
        return self.mosaics[step // self.mosaic_every % len(self.mosaics)]

    def fill(self, step: int) -> str:
        """The fill at a step; it changes more slowly, so that every kind of mosaic meets every fill."""
        every = self.mosaic_every * max(1, len(self.mosaics))
        return self.fills[step // every % len(self.fills)]


@dataclass(frozen=True)
class Task:
    """What is to be explained: images, or mosaics of two of them.

    Attributes:
        pictures: (B, 3, H, W).
        classes: (B,) the class that is asked for; other_classes: that of a mosaic's other part, or -1.
        originals: (B, D) embeddings of the images alone.
        parts: how many images of their size make up a picture.
    """

    pictures: Tensor
    classes: Tensor
    other_classes: Tensor
    originals: Tensor
    parts: int


def partners(classes: Tensor) -> Tensor:
    """For every row (B,) the next one, from the last on to the first, of another class; -1 where there
    is none."""
    places = torch.arange(len(classes), device=classes.device)
    differs = classes[:, None] != classes  # (B, B)
    ahead = torch.where(differs, (places - places[:, None]) % len(classes), len(classes))
    return torch.where(differs.any(1), ahead.argmin(1), -1)


class CNNTask:
    """One CNN with its images: what is asked about them, and the objective of a batch."""

    def __init__(
        self, maker: FeatureMaker, images: ImageSplit, options: ContrastiveOptions, fabric: Fabric
    ) -> None:
        self.maker, self.images = maker, images
        self.options, self.fabric = options, fabric
        # A folder's images come class by class, so which ones are held out is drawn: the last of these.
        self.order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
        seen = [
            (features.explained, features.embedding.float())
            for batch in images.batches(128)
            for features in [maker(batch.images.to(self.fabric.device))]
        ]
        # What the CNN predicts and sees: (N,), (N, D).
        self.classes, self.embeddings = (torch.cat(column) for column in zip(*seen, strict=True))

    def first(self, count: int = 256) -> Features:
        """What the CNN makes of the first images of the order."""
        return self.maker(self.images.batch(self.order[:count]).images.to(self.fabric.device))

    def task(self, rows: Tensor, step: int, mosaics: bool = True) -> Task:
        """The images at places (B,) of the order, or at every ``mosaic_every``-th step mosaics of them."""
        rows = self.order[rows]
        pictures = self.images.batch(rows).images.to(self.fabric.device)  # (B, 3, H, W)
        classes, originals = self.classes[rows], self.embeddings[rows]
        options = self.options
        if mosaics and options.mosaics and step % options.mosaic_every == options.mosaic_every - 1:
            partner = partners(classes)
            # Half as many mosaics as images: each is twice as large, or takes two images.
            asked = (partner >= 0).nonzero()[: max(2, len(rows) // 2), 0]
            if len(asked) > 1:
                other, kind = partner[asked], options.mosaic_kind(step)
                is_second = torch.arange(len(asked), device=asked.device) % 2 == 1  # in every other mosaic
                first, second = torch.where(is_second, other, asked), torch.where(is_second, asked, other)
                joined, _ = mosaic(pictures[first], pictures[second], kind)
                parts = 2 if kind in ("beside", "above") else 1
                return Task(joined, classes[asked], classes[other], originals[asked], parts)
        return Task(pictures, classes, torch.full_like(classes, -1), originals, 1)

    def drawn(self, generator: nn.Module, task: Task) -> Tensor:
        """Logits (B, 1, H, W) of a generator's maps."""
        conditions = self.maker(task.pictures, task.classes).activations
        with self.fabric.autocast():
            return generator.logits(task.pictures, conditions).float()  # type: ignore[operator]

    def objective(
        self, generator: nn.Module, task: Task, seed: int, fill: str
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Losses by name, and the explained images (B, 3, H, W); the seed decides the masks' areas."""
        return self.losses(self.drawn(generator, task), task, seed, fill)

    def losses(self, logits: Tensor, task: Task, seed: int, fill: str) -> tuple[dict[str, Tensor], Tensor]:
        """The same of the logits (B, 1, H, W) of maps."""
        options, maps = self.options, logits.sigmoid()  # (B, 1, H, W)
        low, high = (limit / task.parts for limit in options.area)
        masks = self._masks(logits, maps, task.parts, seed)
        hidden = filling(task.pictures, fill)
        shown, rest = blend(task.pictures, hidden, masks), blend(task.pictures, hidden, 1 - masks)
        cnn, seen = self.maker.net, self.maker.seen
        both = torch.cat([shown, rest])
        both = both.contiguous(memory_format=layout_for(cnn, both))
        with frozen(cnn), evaluation_mode(cnn), Capture(cnn, [seen]) as captured, self.fabric.autocast():
            shown_logits, rest_logits = cnn(both).float().chunk(2)  # (B, K)
            embeddings = self.maker.embedding(captured[seen], both)  # (2B, D)
            shown_embedding, rest_embedding = embeddings.float().chunk(2)  # (B, D)
        losses = {
            "contrastive": contrastive_loss(
                *(shown_embedding, task.originals, rest_embedding, task.classes, task.other_classes),
                options.temperature,
                repel_complements=options.complement_weight > 0,
            ),
            "fidelity": fidelity_loss(
                *(shown_logits, rest_logits, task.classes, options.complement_weight),
                exclusive=meaning_of(self.maker.cnn) in EXCLUSIVE,
                kind=options.fidelity,
            ),
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
        uniform = options.ranked_draw == "uniform"
        area = low + (high - low) * draws[0] if uniform else low * (high / low) ** draws[0]  # (B,)
        ranked = mask_of_area(logits, area / parts)
        return torch.where((draws[1] < options.ranked)[:, None, None, None], ranked, maps)

    def weighted(self, losses: dict[str, Tensor]) -> Tensor:
        """The generator's objective without the adversarial part, a number; of losses (1,) or numbers."""
        options = self.options
        return (
            options.contrastive_weight * losses["contrastive"]
            + options.fidelity_weight * losses["fidelity"]
            + options.area_weight * losses["area_penalty"]
            + options.smoothness_weight * losses["smoothness"]
            + losses["saturation"]
        )

    @torch.no_grad()
    def criterion(self, generator: nn.Module, rows: Tensor) -> float:
        """A generator's objective, over all fills, on rows (n,) that it is not trained on."""
        fills, totals = self.options.fills, []
        for index, part in enumerate(rows.split(64)):
            task = self.task(part, 0, mosaics=False)
            for fill in fills:
                losses, _ = self.objective(generator, task, index, fill)
                totals.append(self.weighted(losses) * len(part))
        return float(torch.stack(totals).sum() / (len(rows) * len(fills)))


class _Trainer:
    """The steps of a training for one CNN."""

    def __init__(self, state: GANState, cnn: CNNTask) -> None:
        self.state, self.cnn = state, cnn
        state.generator.prepare(cnn.first().activations)

    def step(self, rows: Tensor) -> dict[str, float]:
        """One update of the generator and, when it is due, of the discriminator."""
        state, step = self.state, self.state.step
        task = self.cnn.task(rows, step)
        losses, shown = self.cnn.objective(state.generator, task, step, self.cnn.options.fill(step))
        total = self.cnn.weighted(losses)
        return state.update(losses, total, (task.pictures, task.classes), (shown, task.classes))

    def criterion(self, rows: Tensor) -> float:
        """The averaged generator's objective on rows that it is not trained on."""
        return self.cnn.criterion(self.state.average.module, rows)


def train_contrastive(
    generator: Generator,
    discriminator: ProjectionDiscriminator,
    maker: FeatureMaker,
    images: ImageSplit,
    folder: Path,
    options: ContrastiveOptions | None = None,
    fabric: Fabric | None = None,
) -> pd.DataFrame:
    """Train a generator by contrast, with no map to learn from.

        maker = FeatureMaker(cnn, (64, 64))
        generator = make_generator("lsft", conditions=5, features=maker.channels)
        log = train_contrastive(generator, ProjectionDiscriminator(10), maker, data.train, Path("run"))

    Args:
        generator, discriminator: trained in place (:func:`gan_lib.gan.training.loop.train_gan`).
        maker: makes the feature conditions; its CNN is left as it is.
        images: the images; their labels are not looked at.
        folder: receives ``log.csv`` and a checkpoint; a call that finds one there goes on from it.
        options: schedule and objective; a checkpoint of others is refused.
        fabric: device and precision; by default a GPU with bf16 if there is one.

    Returns:
        One row per step: ``step``, ``epoch``, the losses, the maps' mean ``area``,
        ``discriminator_accuracy`` (0..1), and every ``validate_every`` steps the ``criterion``.

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
    home = weight_of(maker.cnn).device
    try:
        state = GANState(generator, discriminator, options, fabric)
        trainer = _Trainer(state, CNNTask(maker.to(fabric.device), images, options, fabric))
        held_out = torch.arange(count, len(images))
        # What the CNN makes of the images tells this CNN and these images from others.
        identity = hashlib.sha256(tensor_bytes(trainer.cnn.embeddings)).hexdigest()
        every = options.validate_every
        return train_gan(
            state, trainer.step, count, folder, identity, lambda: trainer.criterion(held_out), every
        )
    finally:
        maker.to(home)


def stability_table(logs: Mapping[tuple[str, int], pd.DataFrame]) -> pd.DataFrame:
    """Whether training stayed where it was best, and how large the maps became.

    One row a log: ``generator``, ``seed``, ``best criterion``, ``last criterion``, ``last over best``, and
    ``area, last quarter``, the maps' mean over the last quarter of the steps.
    """
    rows = []
    for (name, seed), log in logs.items():
        criterion, area = log["criterion"].dropna(), log["area"].tail(max(1, len(log) // 4))
        best, last = criterion.min(), criterion.iloc[-1]
        row = {"generator": name, "seed": seed, "best criterion": best, "last criterion": last}
        rows.append(row | {"last over best": last / best, "area, last quarter": area.mean()})
    return pd.DataFrame(rows)
