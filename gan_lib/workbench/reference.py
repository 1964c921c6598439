"""Reference CNNs: trained once in a pinned way, shipped, and the same on every machine.

A workbench whose CNN is trained on the spot gives another answer on another processor, for sums are rounded
otherwise there and training amplifies it. So the CNNs that figures are about come with the project,
``data/pretrained/reference/DATA/ARCHITECTURE/SEED``: weights, training history and a card that says how they
were made. Several seeds each: what is true of one training may not be of another. ``gan-lib reference`` makes
all of them again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor

from gan_lib.classifiers import (
    Classifier,
    accuracy,
    fit,
    load_classifier,
    make_classifier,
    predictions,
    save_classifier,
)
from gan_lib.concepts.contrasting import carried_marks, mark_reliance
from gan_lib.core.artifacts import ArtifactStore
from gan_lib.core.checksums import check_folder, is_there, write_checksums
from gan_lib.core.runtime import PINNED, instructions, make_fabric, threads, versions
from gan_lib.core.storage import atomic_path, read_json, write_json
from gan_lib.data import ImageData, load_data
from gan_lib.workbench.jobs import TrainedClassifier
from gan_lib.workbench.places import Places
from gan_lib.workbench.recipes import Recipe

CARD, HISTORY = "card.json", "history.csv"
SEEDS = {"slim_vgg": 5, "slim_resnet": 3, "slim_mobilenet": 3}  # how many trainings of each
HONEST, CHEATING = "digits_in_scenes", "confounded_digits"


@dataclass(frozen=True)
class Asked:
    """Which CNN: trained on which data, how, from which seed."""

    data: str
    architecture: str
    seed: int

    @property
    def path(self) -> str:
        """Where it lies below the folder of reference CNNs."""
        return f"{self.data}/{self.architecture}/{self.seed}"

    @property
    def recipe(self) -> Recipe:
        """How it is trained: as ``cpu`` says, the cheating ones for as long as its section says."""
        plain = Recipe()
        epochs = plain.confounded.epochs if self.data == CHEATING else plain.cnn.epochs
        cnn = {"architecture": self.architecture, "seed": self.seed, "epochs": epochs}
        return plain.changed({"data.name": self.data, "cnn": cnn})


def asked_for(only: Sequence[str] = ()) -> list[Asked]:
    """All reference CNNs, or those whose path begins with one of ``only``, or names such an architecture.

    Raises:
        ValueError: one of ``only`` that names none.
    """
    every = [
        Asked(data, name, seed)
        for data in (HONEST, CHEATING)
        for name, count in SEEDS.items()
        for seed in range(count)
    ]

    def named(own: Asked, start: str) -> bool:
        return own.architecture == start or f"{own.path}/".startswith(f"{start.rstrip('/')}/")

    if unknown := [start for start in only if not any(named(own, start) for own in every)]:
        raise ValueError(f"no reference CNN is called {', '.join(unknown)}; there are {sorted(SEEDS)}")
    return [own for own in every if not only or any(named(own, start) for start in only)]


def reference_cnn(recipe: Recipe, places: Places) -> TrainedClassifier | None:
    """The shipped CNN that a recipe asks for; ``None`` where none is shipped, or it is to be trained.

    It must have been trained as the recipe's ``cnn`` section says, on data of that name, seed and size. How
    many images the recipe's data have does not matter: held-out images are of the same samples always. One
    that is damaged raises a DamagedError.
    """
    cnn = recipe.cnn
    folder = places.pretrained / "reference" / Asked(recipe.data.name, cnn.architecture, cnn.seed).path
    if cnn.source == "train" or not is_there(folder / CARD):
        return None
    check_folder(folder)
    card = read_json(folder / CARD)
    if card["cnn"] != cnn.made_from() or card["data"] != card["data"] | _about_data(recipe):
        return None
    history = pd.read_csv(folder / HISTORY)
    weights = (folder / "classifier.safetensors").read_bytes()
    shipped = load_classifier(folder, architecture=cnn.architecture)
    return TrainedClassifier(shipped, history, f"{hashlib.sha256(weights).hexdigest()[:16]}")


def _about_data(recipe: Recipe) -> dict[str, Any]:
    return {"name": recipe.data.name, "seed": recipe.seed, "image_size": recipe.data.image_size}


def make_references(places: Places, only: Sequence[str] = (), workers: int = 2) -> Iterator[dict[str, Any]]:
    """Train reference CNNs, side by side, into ``data/pretrained``; yields their cards.

    Every CNN is trained in a process of its own on one thread, with instructions that all x86-64 processors
    with AVX2 have (:data:`gan_lib.core.runtime.PINNED`).
    """
    asked = asked_for(only)
    with _environment(PINNED):
        parallel = Parallel(n_jobs=min(workers, len(asked)), return_as="generator")
        yield from parallel(delayed(train_reference)(own, own.recipe, places) for own in asked)


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Within the block, worker processes have these environment variables: none started before is taken, and
    none of them afterwards."""
    before = {name: os.environ.get(name) for name in variables}
    get_reusable_executor().shutdown(wait=True)
    os.environ.update(variables)
    try:
        yield
    finally:
        get_reusable_executor().shutdown(wait=True)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def train_reference(asked: Asked, recipe: Recipe, places: Places) -> dict[str, Any]:
    """Train a reference CNN by a recipe, on one thread, and write it where it is found; returns its card."""
    own = recipe.data
    counts = {"train": own.train_images, "test": own.test_images, "validation": own.validation_images}
    store = ArtifactStore(places.data / "artifacts")
    with threads(1):
        data = load_data(own.name, store, places.data, size=own.image_size, seed=recipe.seed, **counts)
        cnn = make_classifier(asked.architecture, data.class_names, seed=asked.seed)
        fabric = make_fabric("cpu", "32-true")
        history = fit(cnn, data.train, recipe.cnn, fabric=fabric)
        folder = places.pretrained / "reference" / asked.path
        number_format = save_small(cnn, data, folder)
        with atomic_path(folder / HISTORY) as temporary:
            history.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")
        shares = right_answers(load_classifier(folder, architecture=asked.architecture), data)
    card = {
        "made_by": f"gan-lib reference --only {asked.path}",
        "cnn": recipe.cnn.made_from(),
        "data": {
            **_about_data(recipe),
            "train_images": len(data.train),
            "fingerprint": data.fingerprint,
        },
        "weights": number_format,
        **shares,
        "machine": {"threads": 1, "instructions": instructions()},
        "versions": versions(),
    }
    write_json(folder / CARD, card)
    write_checksums(folder)
    return card


def save_small(cnn: Classifier, data: ImageData, folder: Path) -> str:
    """Save a CNN in float16 where it predicts the same for every held-out image, else in float32.

    Returns:
        ``float16`` or ``float32``.
    """
    half = make_classifier(cnn.card.architecture, cnn.class_names, head=cnn.card.head)
    half.load_state_dict(
        {
            name: own.half().float() if own.is_floating_point() else own
            for name, own in cnn.state_dict().items()
        }
    )
    fabric, held_out = make_fabric("cpu", "32-true"), [name for name in data.splits if name != "train"]
    same = all(
        predictions(cnn, data[name], fabric=fabric)["prediction"].equals(
            predictions(half.eval(), data[name], fabric=fabric)["prediction"]
        )
        for name in held_out
    )
    own = replace(cnn.card, image_size=data.train.image_size)
    kept = Classifier(half.backbone if same else cnn.backbone, own)
    save_classifier(kept, folder, torch.float16 if same else torch.float32)
    return "float16" if same else "float32"


def right_answers(cnn: Classifier, data: ImageData) -> dict[str, Any]:
    """Accuracy on each split; for data with marks, also how often the CNN follows the mark.

    Returns:
        ``accuracy`` by split; ``mark``: the share of the conflict images that are predicted as the class
        whose mark they carry (by chance a tenth), and how many classes are predicted by their marks
        (:func:`gan_lib.concepts.contrasting.mark_reliance`).
    """
    fabric = make_fabric("cpu", "32-true")
    tables = {name: predictions(cnn, data[name], fabric=fabric) for name in data.splits}
    made: dict[str, Any] = {"accuracy": {name: round(accuracy(table), 4) for name, table in tables.items()}}
    if "conflict" in tables:
        carried = carried_marks(data.train, data["conflict"])
        reliance = mark_reliance(tables["test"], tables["conflict"], carried, len(data.class_names))
        follows = (tables["conflict"]["prediction"] == carried.numpy()).mean()
        made["mark"] = {"followed": round(float(follows), 4), "relied_on": int(reliance["relied on"].sum())}
    return made
