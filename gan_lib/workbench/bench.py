"""What a notebook works with: its parameters, the artifact store, and a folder for its figures.

Every costly step is a method that looks into the store first. So notebooks share results without
knowing of each other, and each can also run alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from joblib import Parallel, delayed
from torch import Tensor

from gan_lib.classifiers import (
    Classifier,
    FitOptions,
    fit,
    load_classifier,
    make_classifier,
    predictions,
    save_classifier,
)
from gan_lib.concepts import ConceptBank, LayerRelevance, learn_concepts, load_concepts
from gan_lib.core.artifacts import ArtifactStore
from gan_lib.core.runtime import device_name, make_fabric, progress, versions
from gan_lib.core.storage import read_json
from gan_lib.data import ImageData, ImageSplit, load_data
from gan_lib.data.registry import EMBEDDED
from gan_lib.explainers import GeneratorExplainer
from gan_lib.figures import FigureFolder
from gan_lib.gan.conditions import ConditionMaker, StoredConditions, compute_conditions
from gan_lib.gan.training import load_generator
from gan_lib.workbench.jobs import (
    ContrastiveJob,
    GeneratorJob,
    TrainedClassifier,
    TrainedGenerator,
    run_contrastive,
    run_supervised,
)
from gan_lib.workbench.profiles import UNRECORDED, declared_parameters


class Workbench:
    """The parameters and places of one notebook run.

        bench = Workbench("02_gan_training", globals())
        data = bench.data("digits_in_scenes", train_images=4000, test_images=1000)

    Args:
        notebook: name of the notebook, which lies in the working directory.
        namespace: the notebook's ``globals()``; the names that its parameters cell declares are
            read from it.

    Raises:
        FileNotFoundError: the working directory has no such notebook.
    """

    def __init__(self, notebook: str, namespace: Mapping[str, Any]) -> None:
        path = Path(f"{notebook}.ipynb")
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not in {Path.cwd()}: run it from the notebooks' folder")
        parameters = {name: namespace[name] for name in declared_parameters(path)}
        self.data_dir = Path(parameters["data_dir"])
        self.store = ArtifactStore(self.data_dir / "artifacts")
        self.fabric = make_fabric(parameters["device"], parameters["precision"])
        self.provenance: dict[str, Any] = {
            "notebook": notebook,
            "profile": parameters["profile"],
            "parameters": {name: value for name, value in parameters.items() if name not in UNRECORDED},
            "seed": parameters["seed"],
            "versions": versions(),
            "device": device_name(self.fabric.device),
            "data": {},
        }
        run = f"{parameters['profile']}/{notebook}"
        self.figures = FigureFolder(Path(parameters["figures_dir"]), run, self.provenance)

    def data(
        self,
        name: str,
        size: int = 64,
        train_images: int | None = None,
        test_images: int | None = None,
        seed: int = 0,
    ) -> ImageData:
        """A data set by name or folder (:func:`gan_lib.data.load_data`), at most so many images of it.

        The embedded data sets are built at the wanted size; of others a seeded choice is kept.
        """
        wanted = {"train": train_images, "test": test_images}
        if name in EMBEDDED:
            counts = {split: count for split, count in wanted.items() if count is not None}
            loaded = load_data(name, self.store, self.data_dir, size=size, seed=seed, **counts)
        else:
            loaded = load_data(name, self.store, self.data_dir, size=size)
            splits = {split: _limited(rows, wanted.get(split), seed) for split, rows in loaded.splits.items()}
            loaded = ImageData(loaded.name, loaded.class_names, splits, loaded.skipped)
        self.provenance["data"][name] = loaded.fingerprint
        return loaded

    def last_rows(self, split: ImageSplit, count: int) -> Tensor:
        """Rows (N,) of the last ``count`` images, on which no recipe was chosen.

        Of a split that is sorted by class, as image folders are, the last would be of one class; it gives
        as many drawn by the notebook's seed.
        """
        if len(split) > 1 and bool((split.labels.diff() >= 0).all()):
            drawn = torch.Generator().manual_seed(self.provenance["seed"])
            return torch.randperm(len(split), generator=drawn)[:count]
        return torch.arange(len(split))[-count:]

    def available(
        self, names: Sequence[str], *sizes: int | None, **options: int | None
    ) -> tuple[dict[str, ImageData], pd.DataFrame]:
        """Those of several data sets that are at hand; the others in a table, with the reason.

        Arguments after the names are those of :meth:`data`.
        """
        present, missing = {}, []
        for name in names:
            try:
                present[name] = self.data(name, *sizes, **options)  # type: ignore[arg-type]
            except FileNotFoundError as error:
                missing.append({"data set": name, "why": str(error).split("):")[0] + ")"})
        return present, pd.DataFrame(missing, columns=["data set", "why"])

    def classifier(
        self,
        architecture: str,
        data: ImageData,
        options: FitOptions,
        weights: str | None = None,
        head: str = "linear",
    ) -> TrainedClassifier:
        """A CNN trained on a data set; with ``weights``, fine-tuned from them (0 epochs: as they are)."""

        def make(folder: Path) -> None:
            cnn = make_classifier(architecture, data.class_names, weights, head, options.seed)
            history = fit(cnn, data.train, options, folder, self.fabric)
            save_classifier(cnn, folder)
            history.to_csv(folder / "history.csv", index=False)

        made_from = {
            "architecture": architecture,
            "weights": weights,
            "head": head,
            "data": data.fingerprint,
            "options": asdict(options),
        }
        folder = self.store.get("classifier", "gan_lib.classifiers", made_from, make)
        return TrainedClassifier(load_classifier(folder), pd.read_csv(folder / "history.csv"), folder.name)

    def predictions(self, trained: TrainedClassifier, split: ImageSplit, split_key: str) -> pd.DataFrame:
        """The table of what a classifier predicts for a split (:func:`gan_lib.classifiers.predictions`)."""

        def make(folder: Path) -> None:
            predictions(trained.cnn, split, fabric=self.fabric).to_csv(
                folder / "predictions.csv", index=False
            )

        made_from = {"classifier": trained.key, "split": split_key}
        folder = self.store.get("predictions", "gan_lib.classifiers", made_from, make)
        return pd.read_csv(folder / "predictions.csv", keep_default_na=False)

    def conditions(
        self, trained: TrainedClassifier, maker: ConditionMaker, split: ImageSplit, split_key: str
    ) -> StoredConditions:
        """Conditions and targets of a split, for the class that the CNN predicts."""

        def make(folder: Path) -> None:
            compute_conditions(maker, split, folder, device=self.fabric.device)

        made_from = {
            "classifier": trained.key,
            "split": split_key,
            "layers": maker.layers,
            "positions": maker.positions,
            "leak_free": maker.leak_free,
            "kind": maker.kind,
        }
        return StoredConditions(self.store.get("conditions", "gan_lib.gan.conditions", made_from, make))

    def concepts(
        self,
        trained: TrainedClassifier,
        relevance: LayerRelevance,
        split: ImageSplit,
        split_key: str,
        table: pd.DataFrame,
        components: int = 6,
        images_per_class: int = 60,
        classes: Sequence[int] | None = None,
        seed: int = 0,
    ) -> ConceptBank:
        """Concepts of a classifier's classes, by default all (:func:`gan_lib.concepts.learn_concepts`)."""
        chosen = list(range(len(trained.cnn.class_names)) if classes is None else classes)

        def make(folder: Path) -> None:
            learn_concepts(relevance, split, table, folder, chosen, components, images_per_class, seed)

        made_from = {
            "classifier": trained.key,
            "split": split_key,
            **relevance.settings(),
            "components": components,
            "images": images_per_class,
            "classes": chosen,
            "seed": seed,
        }
        return load_concepts(self.store.get("concepts", "gan_lib.concepts", made_from, make))

    def generators(self, jobs: Sequence[GeneratorJob], workers: int = 1) -> list[TrainedGenerator]:
        """Generators trained with Grad-CAM as their target (:func:`gan_lib.gan.training.train_supervised`).

        Args:
            jobs: what to train; what the store has is not trained again.
            workers: processes that train side by side. Small networks gain from it on a CPU, whose
                cores they cannot fill one by one; a GPU is better left to one.
        """
        return self._trained(run_supervised, jobs, workers)

    def contrastive_generators(
        self, jobs: Sequence[ContrastiveJob], workers: int = 1
    ) -> list[TrainedGenerator]:
        """Generators trained by contrast (:func:`gan_lib.gan.training.train_contrastive`).

        Args:
            jobs: what to train; what the store has is not trained again.
            workers: processes that train side by side.
        """
        return self._trained(run_contrastive, jobs, workers)

    def keep_explainers(
        self, architecture: str, explainers: Mapping[tuple[str, int], GeneratorExplainer]
    ) -> None:
        """Keep trained explainers, by method and seed, for later notebooks of the same profile.

        They replace what an earlier run of the profile left for these methods.
        """
        for method in {method for method, _ in explainers}:
            shutil.rmtree(self._kept(architecture) / method, ignore_errors=True)
        for (method, seed), explainer in explainers.items():
            explainer.save(self._kept(architecture) / method / str(seed), self.provenance)

    def kept_explainers(self, cnn: Classifier, method: str) -> tuple[dict[int, GeneratorExplainer], str]:
        """A method's explainers by seed, as an earlier notebook kept them; else the shipped one, seed 0.

        Args:
            cnn: the CNN that they shall explain; those of another one are left out.
            method: for instance ``contrastive-lsft``.

        Returns:
            The explainers, none where there are none that fit, and in words where they come from.
        """
        architecture = cnn.card.architecture
        runs = sorted((self._kept(architecture) / method).glob("*/explainer.json"))
        runs = [path for path in runs if self._same_data(read_json(path)["trained_on"]["data"])]
        kept = {int(path.parent.name): _fitting(path.parent, cnn) for path in runs}
        found = {seed: explainer for seed, explainer in kept.items() if explainer is not None}
        if found:
            return found, f"trained by this profile, seeds {', '.join(map(str, found))}"
        shipped = _fitting(self.data_dir / "pretrained" / architecture / method, cnn)
        return ({0: shipped}, "shipped") if shipped is not None else ({}, "not there for this CNN")

    def _same_data(self, trained_on: Mapping[str, str]) -> bool:
        own = self.provenance["data"]
        return all(trained_on[name] == own[name] for name in trained_on.keys() & own.keys())

    def _kept(self, architecture: str) -> Path:
        return self.data_dir / "artifacts" / "explainers" / self.provenance["profile"] / architecture

    def _trained(
        self, train: Callable[..., Path], jobs: Sequence[Any], workers: int
    ) -> list[TrainedGenerator]:
        precision = self.fabric._precision.precision
        folders = Parallel(n_jobs=max(1, min(workers, len(jobs))), return_as="generator")(
            delayed(train)(job, self.store, self.fabric.device.type, precision) for job in jobs
        )
        trained = []
        for folder in progress(folders, "training generators", len(jobs)):
            generator, log = load_generator(folder), pd.read_csv(folder / "log.csv")
            trained.append(TrainedGenerator(generator, log, folder.name))
        return trained


def _fitting(folder: Path, cnn: Classifier) -> GeneratorExplainer | None:
    """The explainer in a folder, if there is one that fits the CNN."""
    try:
        return GeneratorExplainer.from_pretrained(folder, cnn)
    except (FileNotFoundError, ValueError):
        return None


def _limited(split: ImageSplit, count: int | None, seed: int) -> ImageSplit:
    if count is None or count >= len(split):
        return split
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    return split.subset(order[:count].sort().values)
