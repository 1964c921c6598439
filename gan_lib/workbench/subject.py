"""A subject: data, a CNN, its predictions, and fairly drawn images. What every notebook starts from.

Every costly step looks into the artifact store first, so that notebooks share results without knowing of
each other, and each can also run alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning_fabric import Fabric

from gan_lib.classifiers import (
    Classifier,
    accuracy,
    fit,
    folded,
    load_classifier,
    make_classifier,
    predictions,
    save_classifier,
)
from gan_lib.concepts import ConceptBank, LayerRelevance, learn_concepts, load_concepts
from gan_lib.core.artifacts import ArtifactStore
from gan_lib.core.capture import layers_in_order
from gan_lib.core.runtime import threads
from gan_lib.data import ImageData, ImageSplit, load_data
from gan_lib.explainers import ContrastiveExplainer, GANExplainer, GeneratorExplainer
from gan_lib.gan.conditions import (
    ConditionMaker,
    FeatureMaker,
    StoredConditions,
    compute_conditions,
    condition_maker,
)
from gan_lib.gan.training import ContrastiveOptions
from gan_lib.workbench.jobs import (
    ContrastiveJob,
    GeneratorJob,
    TrainedClassifier,
    TrainedGenerator,
    train_all,
)
from gan_lib.workbench.kept import keep_explainers, kept_explainers
from gan_lib.workbench.recipes import Recipe
from gan_lib.workbench.samples import Sample


@dataclass(frozen=True)
class Trained(TrainedGenerator):
    """A generator from the store as an explainer of the subject's CNN."""

    explainer: GeneratorExplainer


class Subject:
    """Data and a CNN, as a recipe says, with all that is made from them.

    Args:
        recipe: everything that is set.
        profile: name under which trained explainers are kept for other notebooks.
        data_dir: data sets, pretrained networks and artifacts.
        store: the artifact store; results of the subject's work are addressed by device kind, precision
            and threads as well.
        fabric: device and precision.

    Attributes:
        data: the images.
        trained: the CNN from the store, with its training history and address.
        cnn: the CNN itself, frozen, on the device.
        names: what figures call the classes: ``n02102040_English_springer`` is ``English springer``.
    """

    def __init__(
        self, recipe: Recipe, profile: str, data_dir: Path, store: ArtifactStore, fabric: Fabric
    ) -> None:
        self.recipe, self.profile, self.data_dir, self.fabric = recipe, profile, data_dir, fabric
        self.device = fabric.device
        own = recipe.data
        counts = {"train": own.train_images, "test": own.test_images}
        self.data: ImageData = load_data(
            own.name, store, data_dir, size=own.image_size, seed=recipe.seed, **counts
        )
        precision: Any = fabric._precision.precision
        machine = replace(recipe.machine, device=self.device.type, precision=precision)
        self.machine, kind = machine, {"device": machine.device, "precision": machine.precision}
        self.store = store.on({**kind, "threads": machine.threads})
        self.jobs_store = store.on({**kind, "threads": machine.job_threads})
        self.trained = self._classifier()
        self.cnn: Classifier = self.trained.cnn.requires_grad_(False).to(self.device)
        names = self.data.class_names
        self.names = tuple(name.partition("_")[2].replace("_", " ") or name for name in names)

    def _made(
        self, kind: str, module: str, made_from: Mapping[str, Any], make: Callable[[Path], None]
    ) -> Path:
        """An artifact of the subject, made on as many threads as the recipe says."""

        def pinned(folder: Path) -> None:
            with threads(self.machine.threads):
                make(folder)

        return self.store.get(kind, module, made_from, pinned)

    def _classifier(self) -> TrainedClassifier:
        """The recipe's CNN, trained; with ``weights``, fine-tuned from them (0 epochs: as they are)."""
        recipe, options = self.recipe.cnn, replace(self.recipe.cnn, seed=self.recipe.seed)
        weights = recipe.weights
        if weights is not None and (self.data_dir / weights).is_file():
            weights = str(self.data_dir / weights)

        def make(folder: Path) -> None:
            names = self.data.class_names
            cnn = make_classifier(recipe.architecture, names, weights, recipe.head, options.seed)
            history = fit(cnn, self.data.train, options, folder, self.fabric)
            save_classifier(cnn, folder)
            history.to_csv(folder / "history.csv", index=False)

        made_from = {"data": self.data.fingerprint, "options": asdict(options)}
        folder = self._made("classifier", "gan_lib.classifiers", made_from, make)
        return TrainedClassifier(load_classifier(folder), pd.read_csv(folder / "history.csv"), folder.name)

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.recipe.cnn.architecture} x {self.recipe.data.name}"

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        return self.data.train.image_size

    @cached_property
    def quick(self) -> torch.nn.Module:
        """The CNN with batch normalisation folded in where that can be done: the same logits in less time."""
        return folded(self.cnn) or self.cnn

    @cached_property
    def target_layer(self) -> str:
        """The last convolution, whose Grad-CAM the supervised generators imitate."""
        return layers_in_order(self.cnn, self.data.test.batch([0]).images.to(self.device))[-1]

    @cached_property
    def accuracy(self) -> float:
        """Share of the test images that the CNN gets right."""
        return accuracy(self.predictions())

    def predictions(self, split: str = "test") -> pd.DataFrame:
        """What the CNN predicts for a split (:func:`gan_lib.classifiers.predictions`)."""
        images = self.data[split]

        def make(folder: Path) -> None:
            table = predictions(self.cnn, images, fabric=self.fabric)
            table.to_csv(folder / "predictions.csv", index=False)

        made_from = {"classifier": self.trained.key, "split": images.fingerprint}
        folder = self._made("predictions", "gan_lib.classifiers", made_from, make)
        return pd.read_csv(folder / "predictions.csv", keep_default_na=False)

    def draw(self, count: int | None, split: str = "test", skip: int = 0) -> Sample:
        """Images drawn by the recipe's seed, the classes in proportion (:meth:`ImageSplit.sample`).

        Args:
            count: how many; ``None`` for all.
            split: name of the split.
            skip: leaves out as many as an earlier draw took: the two are disjoint.
        """
        rows = self.data[split].sample(count, self.recipe.seed, skip)
        predicted = torch.tensor(self.predictions(split)["prediction"].to_numpy()[rows])
        return Sample(self.data[split].subset(rows), rows, predicted.to(self.device), self.names, self.device)

    def training_images(self) -> ImageSplit:
        """The images that generators are trained on."""
        return self.draw(self.recipe.gan.images, "train").split

    def maker(self, conditions: str | None = None) -> ConditionMaker:
        """What makes the conditions of supervised generators, by name (``planted/3``: at place 3)."""
        name = conditions or self.recipe.gan.conditions
        return condition_maker(name, self.cnn, self.image_size, self.recipe.generator.conditions)

    def features(self) -> FeatureMaker:
        """What makes the conditions of contrastive generators."""
        return FeatureMaker(self.cnn, self.image_size, self.recipe.features.layers)

    def conditions(self, maker: ConditionMaker, split: ImageSplit) -> StoredConditions:
        """Conditions and targets of images, for the classes that the CNN predicts."""

        def make(folder: Path) -> None:
            compute_conditions(maker, split, folder, device=self.device)

        made_from = {"classifier": self.trained.key, "split": split.fingerprint, **maker.settings()}
        return StoredConditions(self._made("conditions", "gan_lib.gan.conditions", made_from, make))

    def _runs(self, variants: Sequence[str] | None, seeds: Sequence[int] | None) -> list[tuple[str, int]]:
        chosen = self.recipe.gan.variants if variants is None else variants
        return [(variant, seed) for seed in seeds or self.recipe.seeds for variant in chosen]

    def supervised(
        self,
        variants: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
        conditions: str | None = None,
    ) -> dict[tuple[str, int], Trained]:
        """Generators trained with Grad-CAM as their target, by variant and seed.

        Args:
            variants, seeds, conditions: by default the recipe's; ``conditions="published"`` are those
                that contain the target.
        """
        recipe = self.recipe
        runs = self._runs(variants, seeds)
        if not runs:
            return {}
        maker, images = self.maker(conditions), self.training_images()
        sizes = replace(recipe.generator, conditions=len(maker.positions))
        critic = asdict(recipe.discriminator)
        stored = self.conditions(maker, images)
        jobs = [
            GeneratorJob(variant, sizes, critic, images, stored, replace(recipe.supervised, seed=seed))
            for variant, seed in runs
        ]
        made = train_all(jobs, self.jobs_store, self.machine)
        return {
            run: Trained(own.generator, own.log, own.key, GANExplainer(maker, own.generator).to(self.device))
            for run, own in zip(runs, made, strict=True)
        }

    def contrastive(
        self,
        variants: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
        options: ContrastiveOptions | None = None,
        start: Mapping[int, TrainedGenerator] | None = None,
    ) -> dict[tuple[str, int], Trained]:
        """Generators trained by contrast, by variant and seed.

        Args:
            variants, seeds, options: by default the recipe's.
            start: generators of another CNN by seed, of which only the adapters are trained anew.
        """
        recipe = self.recipe
        runs = self._runs(variants, seeds)
        sizes = asdict(recipe.features)
        layers, images = sizes.pop("layers"), self.training_images()
        jobs = [
            ContrastiveJob(
                variant,
                sizes,
                asdict(recipe.critic),
                self.trained,
                layers,
                images,
                replace(options or recipe.contrastive, seed=seed),
                start[seed] if start else None,
            )
            for variant, seed in runs
        ]
        made = train_all(jobs, self.jobs_store, self.machine)
        maker = self.features()
        return {
            run: Trained(
                own.generator, own.log, own.key, ContrastiveExplainer(maker, own.generator).to(self.device)
            )
            for run, own in zip(runs, made, strict=True)
        }

    def kept(self, method: str) -> tuple[dict[int, GeneratorExplainer], str]:
        """A method's explainers by seed, from an earlier notebook, else shipped, and where they come from."""
        found, source = kept_explainers(self.data_dir, self.profile, self.cnn, method, self.data.fingerprint)
        return {seed: explainer.to(self.device) for seed, explainer in found.items()}, source

    def keep(self, explainers: Mapping[tuple[str, int], GeneratorExplainer]) -> None:
        """Keep explainers, by method and seed, for later notebooks of the same profile."""
        about = {"recipe": self.recipe.flat(), "data": self.data.fingerprint}
        keep_explainers(self.data_dir, self.profile, self.cnn, explainers, about)

    def concepts(self, relevance: LayerRelevance, classes: Sequence[int] | None = None) -> ConceptBank:
        """Concepts of the recipe's classes, or of those given (:func:`gan_lib.concepts.learn_concepts`)."""
        recipe, split = self.recipe.concepts, self.data[self.recipe.concepts.split]
        every = range(len(self.names)) if recipe.classes is None else recipe.classes
        chosen = list(every if classes is None else classes)
        table, seed = self.predictions(recipe.split), self.recipe.seed
        count, images = recipe.components, recipe.images_per_class

        def make(folder: Path) -> None:
            learn_concepts(relevance, split, table, folder, chosen, count, images, seed)

        made_from = {
            "classifier": self.trained.key,
            "split": split.fingerprint,
            **relevance.settings(),
            "components": count,
            "images": images,
            "classes": chosen,
            "seed": seed,
        }
        return load_concepts(self._made("concepts", "gan_lib.concepts", made_from, make))
