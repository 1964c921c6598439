"""What is to be trained, and how a worker process trains it into the artifact store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from joblib import Parallel, delayed

from gan_lib.classifiers import Classifier
from gan_lib.core.artifacts import ArtifactStore
from gan_lib.core.runtime import Precision, make_fabric, progress, threads
from gan_lib.data import ImageSplit
from gan_lib.gan.conditions import FeatureMaker, StoredConditions
from gan_lib.gan.generators import (
    Discriminator,
    Generator,
    GeneratorSizes,
    ProjectionDiscriminator,
    make_generator,
    transplanted,
)
from gan_lib.gan.training import (
    ContrastiveOptions,
    TrainingOptions,
    load_generator,
    save_generator,
    train_contrastive,
    train_supervised,
)
from gan_lib.workbench.sections import MachineRecipe


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
    """One generator to be trained with Grad-CAM as its target.

    Attributes:
        variant: a registered generator.
        sizes: of the generator.
        discriminator: arguments of :class:`gan_lib.gan.generators.Discriminator`.
        images: training images.
        conditions: their conditions and targets.
        options: schedule and seed.
    """

    variant: str
    sizes: GeneratorSizes
    discriminator: Mapping[str, Any]
    images: ImageSplit
    conditions: StoredConditions
    options: TrainingOptions

    def made_from(self) -> dict[str, Any]:
        """All that decides the result, as JSON values."""
        return {
            "variant": self.variant,
            "sizes": asdict(self.sizes),
            "discriminator": dict(self.discriminator),
            "conditions": self.conditions.fingerprint,
            "options": asdict(self.options),
        }

    def train(self, folder: Path, device: str, precision: Precision) -> None:
        """Train into a folder (:func:`gan_lib.gan.training.train_supervised`)."""
        torch.manual_seed(self.options.seed)
        generator = make_generator(self.variant, **asdict(self.sizes))
        discriminator = Discriminator(**self.discriminator)
        fabric = make_fabric(device, precision)
        train_supervised(generator, discriminator, self.images, self.conditions, folder, self.options, fabric)
        save_generator(generator, folder)


@dataclass(frozen=True)
class ContrastiveJob:
    """One generator to be trained by contrast.

    Attributes:
        variant: a registered generator.
        sizes: fields of :class:`gan_lib.gan.generators.GeneratorSizes`, without conditions and features.
        discriminator: arguments of :class:`gan_lib.gan.generators.ProjectionDiscriminator`, without classes.
        cnn: the CNN to be explained.
        layers: number of its layers that the generator is conditioned on.
        images: training images.
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
    options: ContrastiveOptions
    start: TrainedGenerator | None = None

    def made_from(self) -> dict[str, Any]:
        """All that decides the result, as JSON values."""
        return {
            "variant": self.variant,
            "sizes": dict(self.sizes),
            "discriminator": dict(self.discriminator),
            "classifier": self.cnn.key,
            "layers": self.layers,
            "images": self.images.fingerprint,
            "options": asdict(self.options),
            "start": self.start and self.start.key,
        }

    def train(self, folder: Path, device: str, precision: Precision) -> None:
        """Train into a folder (:func:`gan_lib.gan.training.train_contrastive`)."""
        cnn = self.cnn.cnn
        maker = FeatureMaker(cnn, self.images.image_size, self.layers)
        torch.manual_seed(self.options.seed)
        if self.start is None:
            sizes = {**self.sizes, "conditions": len(maker.channels), "features": maker.channels}
            generator = make_generator(self.variant, **sizes)
        else:
            generator = transplanted(self.start.generator, maker.channels)
        discriminator = ProjectionDiscriminator(len(cnn.class_names), **self.discriminator)
        fabric = make_fabric(device, precision)
        train_contrastive(generator, discriminator, maker, self.images, folder, self.options, fabric)
        save_generator(generator, folder)


Job = GeneratorJob | ContrastiveJob
CODE = {GeneratorJob: "gan_lib.gan.training.supervised", ContrastiveJob: "gan_lib.gan.training.contrastive"}


def run_job(job: Job, store: ArtifactStore, machine: MachineRecipe) -> Path:
    """Train on as many threads as the recipe says, unless the store has it; returns the folder."""

    def make(folder: Path) -> None:
        with threads(machine.job_threads):
            job.train(folder, machine.device, machine.precision)

    return store.get("generator", CODE[type(job)], job.made_from(), make)


def train_all(jobs: Sequence[Job], store: ArtifactStore, machine: MachineRecipe) -> list[TrainedGenerator]:
    """Generators of many jobs, trained side by side; what the store has is not trained again.

    Small networks gain from processes on a CPU, whose cores they cannot fill one by one. Each job has its
    own threads, so that the weights do not depend on how many jobs are left.
    """
    workers = max(1, min(machine.workers, len(jobs)))
    parallel = Parallel(n_jobs=workers, return_as="generator")
    folders = parallel(delayed(run_job)(job, store, machine) for job in jobs)
    return [
        TrainedGenerator(load_generator(folder), pd.read_csv(folder / "log.csv"), folder.name)
        for folder in progress(folders, "training generators", len(jobs))
    ]
