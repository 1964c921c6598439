"""A subject: data, a CNN, its predictions, and fairly drawn images. What every notebook starts from.

Every costly step looks into the artifact store first, so that notebooks share results without knowing of
each other, and each can also run alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import Tensor

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
from gan_lib.classifiers.factories import folder_name
from gan_lib.concepts import ConceptBank, LayerRelevance, learn_concepts
from gan_lib.core.capture import layers_in_order
from gan_lib.core.checksums import DamagedError
from gan_lib.core.runtime import instructions, make_fabric, threads
from gan_lib.data import ImageData, ImageSplit, load_data
from gan_lib.explainers import METHODS, ContrastiveExplainer, GANExplainer, GeneratorExplainer
from gan_lib.explainers.gan import universal_home
from gan_lib.figures.labels import class_titles
from gan_lib.gan.conditions import (
    ConditionMaker,
    StoredConditions,
    compute_conditions,
    condition_maker,
)
from gan_lib.gan.training import ContrastiveOptions
from gan_lib.workbench.jobs import (
    ContrastiveJob,
    GeneratorJob,
    Run,
    Trained,
    TrainedClassifier,
    TrainedGenerator,
    TrainingPlan,
    reader,
    train_all,
)
from gan_lib.workbench.kept import KeptExplainers
from gan_lib.workbench.named import architecture_of, data_root, fingerprints, make_importable, weights_of
from gan_lib.workbench.outside import code_of
from gan_lib.workbench.places import Places
from gan_lib.workbench.recipes import Recipe
from gan_lib.workbench.reference import reference_cnn
from gan_lib.workbench.samples import Sample
from gan_lib.workbench.store import Store
from gan_lib.workbench.streamed import without_traces


class Subject:
    """Data and a CNN, as a recipe says, with all that is made from them.

    Results are addressed by device kind, precision and threads as well; ``profile`` is the name under which
    trained explainers are kept for other notebooks.

    Attributes:
        data: the images.
        trained: the CNN from the store, with its training history and address.
        cnn: the CNN itself, frozen, on the device.
        names: what figures call the classes: ``n02102040_English_springer`` is ``English springer``.
    """

    def __init__(self, recipe: Recipe, profile: str, places: Places, store: Store, fabric: Fabric) -> None:
        make_importable(places)  # a CNN of one's own: here, and where the subject is unpickled
        self.recipe, self.places, self.fabric, self.device = recipe, places, fabric, fabric.device
        self._profile = profile
        own = recipe.data
        counts = {"train": own.train_images, "test": own.test_images, "validation": own.validation_images}
        root = data_root(recipe, places)
        loaded = load_data(own.name, store, root, size=own.image_size, seed=recipe.seed, **counts)
        self.data: ImageData = without_traces(loaded)
        precision: Any = fabric._precision.precision
        kind: Any = {"device": self.device.type, "precision": precision}
        self.machine = replace(recipe.machine, **kind)
        kind |= instructions()
        self.store = store.on({**kind, "threads": self.machine.threads})
        kind |= {"shared": True} if self.machine.devices > 1 else {}  # sums are rounded otherwise
        self.jobs_store = store.on({**kind, "threads": self.machine.job_threads})
        self.trained = self._classifier()
        self.cnn: Classifier = self.trained.cnn.requires_grad_(False).to(self.device)
        self.names = class_titles(self.data.class_names)

    def __reduce__(self) -> tuple[Any, ...]:
        """Made anew where it is unpickled, in a worker process: all that it holds is in the store."""
        return subject_again, (self.recipe, self._profile, self.places, self.store.root)

    def _made(
        self, kind: str, module: str, made_from: Mapping[str, Any], make: Callable[[Path], object]
    ) -> Path:
        """An artifact of the subject, made on as many threads as the recipe says."""

        def pinned(folder: Path) -> None:
            with threads(self.machine.threads):
                make(folder)

        return self.store.get(kind, module, made_from, pinned)

    def _classifier(self) -> TrainedClassifier:
        """The recipe's CNN: a shipped one, or trained; with ``weights``, fine-tuned from them (0 epochs: as
        they are)."""
        if (shipped := reference_cnn(self.recipe, self.places)) is not None:
            return shipped
        recipe = options = self.recipe.cnn
        weights, prints = weights_of(self.recipe, self.places), fingerprints(self.recipe, self.places)
        architecture, names = self.architecture, self.data.class_names

        def make(folder: Path) -> None:
            about = {"image_size": self.image_size, **recipe.about()}
            cnn = make_classifier(architecture, names, weights, recipe.head, options.seed, **about)
            history = fit(cnn, self.data.train, options, folder, self.fabric)
            save_classifier(cnn, folder)
            history.to_csv(folder / "history.csv", index=False)

        made_from = {"data": self.data.fingerprint, "options": recipe.made_from(), **prints}
        folder = self._made("classifier", "gan_lib.classifiers", made_from, make)
        cnn, history = load_classifier(folder, architecture=architecture), pd.read_csv(folder / "history.csv")
        return TrainedClassifier(cnn, history, folder.name)

    @property
    def architecture(self) -> str:
        """The recipe's; of a factory in a file with the file's whole path."""
        return architecture_of(self.recipe, self.places)

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
        return layers_in_order(self.cnn, self.data.test.batch([0]).images.to(self.device), with_places=True)[
            -1
        ]

    @cached_property
    def accuracy(self) -> float:
        """Share of the test images that the CNN gets right."""
        return accuracy(self.predictions())

    def predictions(self, split: str = "test") -> pd.DataFrame:
        """What the CNN predicts for a split (:func:`gan_lib.classifiers.predictions`)."""
        images, file = self.data[split], "predictions.csv"

        def make(folder: Path) -> None:
            predictions(self.cnn, images, fabric=self.fabric).to_csv(folder / file, index=False)

        made_from = {"classifier": self.trained.key, "split": images.fingerprint}
        folder = self._made("predictions", "gan_lib.classifiers", made_from, make)
        return pd.read_csv(folder / file, keep_default_na=False)

    def draw(self, count: int | None, split: str = "test", skip: int = 0, *, spread: bool = False) -> Sample:
        """Images drawn by the recipe's seed, the classes in proportion (:meth:`ImageSplit.sample`).

        Args:
            count: how many; ``None`` for all.
            split: name of the split.
            skip: leaves out as many as an earlier draw took: the two are disjoint.
            spread: for a picture, :meth:`ImageSplit.examples`, and no ``skip``.
        """
        own, seed = self.data[split], self.recipe.seed
        rows = own.examples(count, seed) if spread else own.sample(count, seed, skip)
        predicted = torch.tensor(self.predictions(split)["prediction"].to_numpy()[rows.numpy()])
        return Sample(self.data[split].subset(rows), rows, predicted.to(self.device), self.names, self.device)

    def training_images(self) -> ImageSplit:
        """The images that generators are trained on."""
        return self.draw(self.recipe.gan.images, "train").split

    def maker(self, conditions: str | None = None) -> ConditionMaker:
        """What makes the conditions of supervised generators, by name (``planted/3``: at place 3)."""
        name = conditions or self.recipe.gan.conditions
        return condition_maker(name, self.cnn, self.image_size, self.recipe.generator.conditions)

    def conditions(self, maker: ConditionMaker, split: ImageSplit) -> StoredConditions:
        """Conditions and targets of images, for the classes that the CNN predicts."""
        make = partial(compute_conditions, maker, split, device=self.device)
        made_from = {"classifier": self.trained.key, "split": split.fingerprint, **maker.settings()}
        made_from |= code_of(type(maker))
        return StoredConditions(self._made("conditions", "gan_lib.gan.conditions", made_from, make))

    def _runs(self, variants: Sequence[str] | None, seeds: Sequence[int] | None) -> list[Run]:
        chosen = self.recipe.gan.variants if variants is None else variants
        return [(variant, seed) for seed in seeds or self.recipe.seeds for variant in chosen]

    def _train(self, plan: TrainingPlan) -> dict[Run, Trained]:
        return plan.trained(iter(train_all(plan.jobs, self.jobs_store, self.machine)))

    def training_targets(self, conditions: str | None = None) -> Tensor:
        """Which training images (N,) have a target, a Grad-CAM that is not empty: generators learn from
        those.

        Conditions and targets are made if need be; ``conditions`` as for :meth:`supervised`.
        """
        return self.conditions(self.maker(conditions), self.training_images()).with_target()

    def supervised(
        self,
        variants: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
        conditions: str | None = None,
    ) -> dict[Run, Trained]:
        """Generators trained with Grad-CAM as their target, by variant and seed.

        Images whose Grad-CAM is empty are left out.

        Args:
            variants, seeds, conditions: by default the recipe's; ``conditions="published"`` are those
                that contain the target.

        Raises:
            ValueError: Grad-CAM is empty for every training image.
        """
        return self._train(self.supervised_plan(variants, seeds, conditions))

    def supervised_plan(
        self,
        variants: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
        conditions: str | None = None,
    ) -> TrainingPlan:
        """What :meth:`supervised` trains; Grad-CAMs that are all empty raise ``ValueError``."""
        recipe, runs = self.recipe, self._runs(variants, seeds)
        maker, images = self.maker(conditions), self.training_images()
        sizes = replace(recipe.generator, conditions=len(maker.positions))
        critic, stored = recipe.discriminator, self.conditions(maker, images)
        rows = stored.with_target().nonzero()[:, 0]
        if not len(rows):
            raise ValueError(
                f"{self.name}: Grad-CAM is empty for every training image: nothing to learn from"
            )
        images, stored = images.subset(rows), stored.subset(rows)
        jobs = [
            GeneratorJob(variant, sizes, critic, images, stored, replace(recipe.supervised, seed=seed))
            for variant, seed in runs
        ]
        return TrainingPlan(runs, jobs, partial(GANExplainer, maker), self.device)

    def contrastive(
        self,
        variants: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
        options: ContrastiveOptions | None = None,
        start: Mapping[int, TrainedGenerator] | None = None,
    ) -> dict[Run, Trained]:
        """Generators trained by contrast, by variant and seed.

        Args:
            variants, seeds, options: by default the recipe's.
            start: generators of another CNN by seed, of which only the adapters are trained anew.
        """
        return self._train(self.contrastive_plan(variants, seeds, options, start))

    def contrastive_plan(
        self,
        variants: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
        options: ContrastiveOptions | None = None,
        start: Mapping[int, TrainedGenerator] | None = None,
    ) -> TrainingPlan:
        """What :meth:`contrastive` trains."""
        recipe, runs, images = self.recipe, self._runs(variants, seeds), self.training_images()
        sizes, maker = reader(recipe, self.cnn, self.image_size)
        layers = len(maker.layers)  # workers need not say again that there are no more
        given = (sizes, recipe.critic, self.trained, layers, images)
        jobs, schedule = [], options or recipe.contrastive
        for variant, seed in runs:
            own, first = replace(schedule, seed=seed), start[seed] if start else None
            jobs.append(ContrastiveJob(variant, *given, own, first, maker.reads))
        return TrainingPlan(runs, jobs, partial(ContrastiveExplainer, maker), self.device)

    @property
    def kept(self) -> KeptExplainers:
        """Explainers of this CNN's architecture that notebooks of the profile keep for later ones."""
        folder = self.places.data / "artifacts" / "explainers" / self._profile
        return KeptExplainers(folder / folder_name(self.architecture))

    def about(self) -> dict[str, Any]:
        """What explainers that are kept say of their training."""
        return {"recipe": self.recipe.flat(), "data": self.data.fingerprint}

    def kept_by_profile(
        self, method: str, seeds: Sequence[int] | None = None
    ) -> dict[int, GeneratorExplainer]:
        """A method's explainers of this CNN and these data, by seed, as an earlier notebook kept them."""
        found: dict[int, GeneratorExplainer] = {}
        with self.kept.locked():
            for seed, folder in self.kept.folders(method.replace("_", "-"), self.data.fingerprint):
                try:
                    own = self._fitting(folder) if seeds is None or seed in seeds else None
                except DamagedError as error:
                    raise self.kept.damaged(error) from None
                found |= {seed: own} if own else {}
        return found

    def shipped(self, method: str) -> GeneratorExplainer | None:
        """A method's shipped explainer, if one fits this CNN, or any; a damaged one raises DamagedError."""
        home = self.places.pretrained / folder_name(self.architecture)
        if METHODS[method].travels:
            home = universal_home(self.places.pretrained, self.image_size)
        return self._fitting(home / method.replace("_", "-"))

    def _fitting(self, folder: Path) -> GeneratorExplainer | None:
        """The explainer in a folder, if there is one that fits the CNN."""
        try:
            return GeneratorExplainer.from_pretrained(folder, self.cnn).to(self.device)
        except (FileNotFoundError, ValueError) as error:
            if isinstance(error, DamagedError):
                raise
            return None

    def concepts(self, relevance: LayerRelevance, classes: Sequence[int] | None = None) -> ConceptBank:
        """Concepts of the recipe's classes, or of those given (:func:`gan_lib.concepts.learn_concepts`)."""
        recipe, split = self.recipe.concepts, self.data[self.recipe.concepts.split]
        every = range(len(self.names)) if recipe.classes is None else recipe.classes
        chosen = list(every if classes is None else classes)
        settings = (chosen, recipe.components, recipe.images_per_class, self.recipe.seed)

        def make(folder: Path) -> None:
            learn_concepts(relevance, split, self.predictions(recipe.split), *settings).save(folder)

        made_from = {"classifier": self.trained.key, "split": split.fingerprint, **relevance.settings()}
        made_from |= dict(zip(("classes", "components", "images", "seed"), settings, strict=True))
        return ConceptBank.load(self._made("concepts", "gan_lib.concepts", made_from, make))


def subject_again(recipe: Recipe, profile: str, places: Places, root: Path) -> Subject:
    """A subject from what is the same in every process; arguments and errors as for :class:`Subject`."""
    fabric = make_fabric(recipe.machine.device, recipe.machine.precision)
    return Subject(recipe, profile, places, Store(root), fabric)
