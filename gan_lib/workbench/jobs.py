"""What is to be trained, and how a worker process trains it into the artifact store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from gan_lib.classifiers import Classifier
from gan_lib.core.artifacts import ArtifactStore
from gan_lib.core.runtime import Precision, make_fabric
from gan_lib.data import ImageSplit
from gan_lib.gan.conditions import FeatureMaker, StoredConditions
from gan_lib.gan.generators import (
    Discriminator,
    Generator,
    ProjectionDiscriminator,
    make_generator,
    transplanted,
)
from gan_lib.gan.training import (
    ContrastiveOptions,
    TrainingOptions,
    save_generator,
    train_contrastive,
    train_supervised,
)


@dataclass(frozen=True)
class TrainedClassifier:
    """A classifier from the store: the CNN, its training ``history``, and ``key``, its address."""

    cnn: Classifier
    history: pd.DataFrame
    key: str


@dataclass(frozen=True)
class TrainedGenerator:
    """A generator from the store, its training ``log``, and ``key``, its address."""

    generator: Generator
    log: pd.DataFrame
    key: str


@dataclass(frozen=True)
class GeneratorJob:
    """One generator to be trained.

    Attributes:
        variant: ``lsft`` or ``gsft``.
        sizes: fields of :class:`gan_lib.gan.generators.GeneratorSizes`.
        discriminator: arguments of :class:`gan_lib.gan.generators.Discriminator`.
        images: training images.
        conditions: their conditions and targets.
        options: schedule and seed.
    """

    variant: str
    sizes: Mapping[str, int]
    discriminator: Mapping[str, Any]
    images: ImageSplit
    conditions: StoredConditions
    options: TrainingOptions


@dataclass(frozen=True)
class ContrastiveJob:
    """One generator to be trained by contrast.

    Attributes:
        variant: ``lsft`` or ``gsft``.
        sizes: fields of :class:`gan_lib.gan.generators.GeneratorSizes`, without conditions and features.
        discriminator: arguments of :class:`gan_lib.gan.generators.ProjectionDiscriminator`, without classes.
        cnn: the CNN to be explained.
        layers: number of its layers that the generator is conditioned on.
        images: training images.
        images_key: what they are, for the address.
        options: schedule, objective and seed.
        start: a generator of another CNN, of which only the adapters are trained anew
            (:func:`gan_lib.gan.generators.transplanted`).
    """

    variant: str
    sizes: Mapping[str, int]
    discriminator: Mapping[str, Any]
    cnn: TrainedClassifier
    layers: int
    images: ImageSplit
    images_key: str
    options: ContrastiveOptions
    start: TrainedGenerator | None = None


def run_supervised(job: GeneratorJob, store: ArtifactStore, device: str, precision: Precision) -> Path:
    """Train with Grad-CAM as the target, unless the store has it; returns the artifact's folder."""

    def make(folder: Path) -> None:
        torch.manual_seed(job.options.seed)
        generator, discriminator = (
            make_generator(job.variant, **job.sizes),
            Discriminator(**job.discriminator),
        )
        fabric = make_fabric(device, precision)
        train_supervised(generator, discriminator, job.images, job.conditions, folder, job.options, fabric)
        save_generator(generator, folder)

    made_from = {
        "variant": job.variant,
        "sizes": dict(job.sizes),
        "discriminator": dict(job.discriminator),
        "conditions": job.conditions.fingerprint,
        "options": asdict(job.options),
    }
    return store.get("generator", "gan_lib.gan.training.supervised", made_from, make)


def run_contrastive(job: ContrastiveJob, store: ArtifactStore, device: str, precision: Precision) -> Path:
    """Train by contrast, unless the store has it; returns the artifact's folder."""

    def make(folder: Path) -> None:
        cnn = job.cnn.cnn
        maker = FeatureMaker(cnn, job.images.image_size, job.layers)
        torch.manual_seed(job.options.seed)
        if job.start is None:
            sizes = {**job.sizes, "conditions": len(maker.channels), "features": maker.channels}
            generator = make_generator(job.variant, **sizes)
        else:
            generator = transplanted(job.start.generator, maker.channels)
        discriminator = ProjectionDiscriminator(len(cnn.class_names), **job.discriminator)
        fabric = make_fabric(device, precision)
        train_contrastive(generator, discriminator, maker, job.images, folder, job.options, fabric)
        save_generator(generator, folder)

    made_from = {
        "variant": job.variant,
        "sizes": dict(job.sizes),
        "discriminator": dict(job.discriminator),
        "classifier": job.cnn.key,
        "layers": job.layers,
        "images": job.images_key,
        "options": asdict(job.options),
        "start": job.start and job.start.key,
    }
    return store.get("contrastive", "gan_lib.gan.training.contrastive", made_from, make)
