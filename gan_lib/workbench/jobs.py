"""What is to be trained, and how a worker process trains it into the artifact store."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import nn

from gan_lib.classifiers import Classifier, shortened
from gan_lib.classifiers.factories import Imported
from gan_lib.core.artifacts import ArtifactStore, digest
from gan_lib.core.runtime import make_fabric, seeded, threads
from gan_lib.data import ImageSplit
from gan_lib.explainers import ContrastiveExplainer, GeneratorExplainer
from gan_lib.gan.conditions import READERS, EvidenceMaker, FeatureMaker, StoredConditions, evidence_channels
from gan_lib.gan.generators import (
    DISCRIMINATORS,
    GENERATORS,
    DiscriminatorSizes,
    Generator,
    GeneratorSizes,
    ProjectionDiscriminator,
    load_generator,
    make_generator,
    save_generator,
    transplanted,
)
from gan_lib.gan.sharing import one_writes, share_work, sharing
from gan_lib.gan.training import (
    ContrastiveOptions,
    Member,
    TrainingOptions,
    UniversalOptions,
    train_contrastive,
    train_supervised,
    train_universal,
)
from gan_lib.workbench.crew import results
from gan_lib.workbench.outside import code_of
from gan_lib.workbench.recipes import Recipe
from gan_lib.workbench.sections import DiscriminatorRecipe, MachineRecipe

SHARE = "GAN_LIB_WORKERS"  # environment variable: how many of the recipe's workers a notebook may use


@dataclass(frozen=True)
class TrainedClassifier:
    """A CNN from the store, its training ``history``, and ``key``, its address."""

    cnn: Classifier
    history: pd.DataFrame
    key: str

    def __reduce__(self) -> tuple[Any, ...]:
        """In another process a factory's code is imported before what it has made is unpickled."""
        return _trained_again, (Imported(self.cnn.card.architecture), self.cnn, self.history, self.key)


def _trained_again(_: Imported, cnn: Classifier, history: pd.DataFrame, key: str) -> TrainedClassifier:
    return TrainedClassifier(cnn, history, key)


@dataclass(frozen=True)
class TrainedGenerator:
    """A generator from the store, its training ``log``, and ``key``, its address."""

    generator: Generator
    log: pd.DataFrame
    key: str


Run = tuple[str, int]  # variant or method, and seed


@dataclass(frozen=True)
class Trained(TrainedGenerator):
    """A generator from the store as an explainer of the subject's CNN."""

    explainer: GeneratorExplainer


@dataclass(frozen=True)
class GeneratorJob:
    """One generator to be trained with Grad-CAM as its target: a registered ``variant``, training
    images with their conditions and targets."""

    variant: str
    sizes: GeneratorSizes
    discriminator: DiscriminatorRecipe
    images: ImageSplit
    conditions: StoredConditions
    options: TrainingOptions

    code = "gan_lib.gan.training.supervised"

    def made_from(self) -> dict[str, Any]:
        """All that decides the result, as JSON values."""
        return {
            "variant": self.variant,
            "sizes": asdict(self.sizes),
            "discriminator": {
                **self.discriminator.made_from(),
                **code_of(DISCRIMINATORS[self.discriminator.kind]),
            },
            "conditions": self.conditions.fingerprint,
            "options": asdict(self.options),
            **code_of(GENERATORS[self.variant]),
        }

    def train(self, folder: Path, fabric: Fabric) -> None:
        """Train into a folder, on the device of a fabric."""
        torch.manual_seed(self.options.seed)
        generator = make_generator(self.variant, **asdict(self.sizes))
        discriminator = DISCRIMINATORS[self.discriminator.kind](self.discriminator)
        given = (self.images, self.conditions, folder, self.options, fabric)
        with sharing(fabric, [generator, discriminator]):
            train_supervised(generator, discriminator, *given)
        save_generator(generator, folder)


@dataclass(frozen=True)
class ContrastiveJob:
    """One generator to be trained by contrast, a registered ``variant``."""

    variant: str
    sizes: Mapping[str, Any]  # those of GeneratorSizes that do not follow from the CNN
    discriminator: DiscriminatorSizes
    cnn: TrainedClassifier  # that is explained
    layers: int  # of it, that the generator reads
    images: ImageSplit
    options: ContrastiveOptions
    start: TrainedGenerator | None = None  # of another CNN: its adapters alone are trained, anew
    reads: str = "activations"  # or evidence

    code = "gan_lib.gan.training.contrastive"

    def made_from(self) -> dict[str, Any]:
        """All that decides the result, as JSON values."""
        return {
            "variant": self.variant,
            "sizes": dict(self.sizes),
            "discriminator": asdict(self.discriminator),
            "classifier": self.cnn.key,
            "layers": self.layers,
            "images": self.images.fingerprint,
            "options": asdict(self.options),
            "start": self.start and self.start.key,
            **({"reads": self.reads} if self.reads != "activations" else {}),
            **code_of(GENERATORS[self.variant]),
        }

    def train(self, folder: Path, fabric: Fabric) -> None:
        """Train into a folder, on the device of a fabric."""
        cnn = self.cnn.cnn
        maker = READERS[self.reads](cnn, self.images.image_size, self.layers)
        torch.manual_seed(self.options.seed)
        if self.start is None:
            sizes = {**self.sizes, "conditions": len(maker.channels), "features": maker.channels}
            generator = make_generator(self.variant, **sizes)
        else:
            generator = transplanted(self.start.generator, maker.channels)
        discriminator = ProjectionDiscriminator(len(cnn.class_names), self.discriminator)
        with sharing(fabric, [generator, discriminator], [maker]):
            train_contrastive(generator, discriminator, maker, self.images, folder, self.options, fabric)
        save_generator(generator, folder)


@dataclass(frozen=True)
class UniversalJob:
    """One generator to be trained on a pool of CNNs, a registered ``variant``.

    ``cuts`` names, CNN by CNN, the layers after which it ends to be another CNN of the pool
    (:func:`gan_lib.classifiers.shortened`).
    """

    variant: str
    sizes: Mapping[str, Any]  # those of GeneratorSizes that do not follow from the conditions
    layers: int  # of each CNN, that the generator reads
    discriminator: DiscriminatorSizes
    pool: Sequence[tuple[TrainedClassifier, ImageSplit]]
    options: UniversalOptions
    cuts: Sequence[Sequence[str]] = ()

    code = "gan_lib.gan.training.universal"

    def made_from(self) -> dict[str, Any]:
        """All that decides the result, as JSON values."""
        return {
            "variant": self.variant,
            "sizes": dict(self.sizes),
            "layers": self.layers,
            "discriminator": asdict(self.discriminator),
            "pool": [[own.key, images.fingerprint] for own, images in self.pool],
            "options": asdict(self.options),
            **({"cuts": [[*layers] for layers in self.cuts]} if any(self.cuts) else {}),
            **code_of(GENERATORS[self.variant]),
        }

    def train(self, folder: Path, fabric: Fabric) -> None:
        """Train into a folder, on the device of a fabric."""
        cnns: list[tuple[nn.Module, ImageSplit]] = []
        for (own, images), layers in zip(self.pool, self.cuts or [()] * len(self.pool), strict=True):
            cnns += [(own.cnn, images), *(shortened(own.cnn, layer, images) for layer in layers)]
        pool = [Member(EvidenceMaker(cnn, known.image_size, self.layers), known) for cnn, known in cnns]
        torch.manual_seed(self.options.seed)
        channels = evidence_channels(self.layers)
        generator = make_generator(self.variant, **self.sizes, conditions=len(channels), features=channels)
        critic = ProjectionDiscriminator(1, self.discriminator)
        with sharing(fabric, [generator, critic], [own.maker for own in pool]):
            train_universal(generator, pool, folder, self.options, fabric, discriminator=critic)
        save_generator(generator, folder)


Job = GeneratorJob | ContrastiveJob | UniversalJob


@dataclass(frozen=True)
class TrainingPlan:
    """Generators to be trained for a CNN: a job for each run, and what makes an explainer of its result."""

    runs: Sequence[Run]
    jobs: Sequence[Job]
    explainer: Callable[[Generator], GeneratorExplainer]
    device: torch.device

    def trained(self, made: Iterator[TrainedGenerator]) -> dict[Run, Trained]:
        """The runs with what came of their jobs, the next ones of an iterator."""
        return {
            run: Trained(own.generator, own.log, own.key, self.explainer(own.generator).to(self.device))
            for run, own in zip(self.runs, made, strict=False)
        }


def run_job(job: Job, store: ArtifactStore, machine: MachineRecipe) -> Path:
    """Train on as many threads as the recipe says, unless the store has it; returns the folder."""

    def make(folder: Path) -> None:
        train(job, folder, machine)

    return store.get("generator", job.code, job.made_from(), make)


def train(job: Job, folder: Path, machine: MachineRecipe) -> None:
    """Train into a folder, in as many processes and on as many threads each as the recipe says."""
    if machine.devices > 1:
        given = (job, folder, machine.job_threads)
        share_work(machine.devices, machine.device, machine.precision, _train_share, given)
        return
    with threads(machine.job_threads):
        job.train(folder, make_fabric(machine.device, machine.precision))


def _train_share(fabric: Fabric, job: Job, folder: Path, count: int) -> None:
    with threads(count), one_writes(fabric, folder) as own:
        job.train(own, fabric)


def workers(machine: MachineRecipe) -> int:
    """Processes side by side: as many as the recipe says, or this notebook's share of them where several run
    at once."""
    return min(machine.workers, int(os.environ.get(SHARE, machine.workers)))


def train_all(jobs: Sequence[Job], store: ArtifactStore, machine: MachineRecipe) -> list[TrainedGenerator]:
    """Generators of many jobs, trained side by side; what the store has is not trained again.

    Small networks gain from processes on a CPU, whose cores they cannot fill one by one. Each job has its
    own threads, so that the weights do not depend on how many jobs are left. A job that fails raises its
    error when the others are done.
    """
    calls = [partial(run_job, job, store, machine) for job in jobs]
    keys = [f"{type(job).__name__}-{digest([job.made_from(), store.machine])}" for job in jobs]
    return [
        TrainedGenerator(load_generator(folder), pd.read_csv(folder / "log.csv"), folder.name)
        for folder in results(calls, workers(machine), "training generators", keys)
    ]


def train_by_contrast(
    cnn: Classifier, images: ImageSplit, recipe: Recipe, folder: Path
) -> ContrastiveExplainer:
    """A CNN's explainer, of the recipe's first variant and seed, trained into a folder outside of a store."""
    drawn = images.subset(images.sample(recipe.gan.images, recipe.seed))
    options, device = replace(recipe.contrastive, seed=recipe.seeds[0]), next(cnn.parameters()).device
    sizes, maker = reader(recipe, cnn, drawn.image_size)
    own, layers = TrainedClassifier(cnn, pd.DataFrame(), ""), len(maker.layers)
    given = (recipe.gan.variants[0], sizes, recipe.critic, own, layers, drawn, options)
    with seeded(options.seed):
        train(ContrastiveJob(*given, reads=maker.reads), folder, recipe.machine)
    maker = READERS[maker.reads](cnn.to(device), drawn.image_size, layers)
    return ContrastiveExplainer(maker, load_generator(folder)).to(device)


def reader(recipe: Recipe, cnn: Classifier, size: tuple[int, int]) -> tuple[dict[str, Any], FeatureMaker]:
    """Sizes of a recipe's contrastive generators, and what makes their conditions of a CNN, of as many layers
    as there are."""
    reads = recipe.gan.reads
    sizes = asdict(recipe.features if reads == "activations" else recipe.evidence)
    return sizes, READERS[reads](cnn, size, sizes.pop("layers"))
