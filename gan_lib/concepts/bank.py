"""Concept vectors of all classes: attribution-weighted activations, factorised (arXiv 2502.03422)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from gan_lib.concepts.layers import HiddenLayer, LayerRelevance
from gan_lib.concepts.nmf import encode, nmf
from gan_lib.core.runtime import progress
from gan_lib.core.storage import atomic_path, load_tensors, save_tensors
from gan_lib.data import ImageSplit


@dataclass(frozen=True)
class ConceptBank:
    """Concept vectors by class.

    Attributes:
        basis: per class number (k, C), every vector of length 1, the most used one first.
        report: a row per class: ``class``, ``images``, the factorisation's relative ``error``, and
            ``skipped``, why a class has no concepts (empty where it has).
    """

    basis: Mapping[int, Tensor]
    report: pd.DataFrame

    @property
    def classes(self) -> list[int]:
        """Numbers of the classes that have concepts."""
        return list(self.basis)

    def vectors(self) -> Tensor:
        """All concept vectors (classes * k, C), class by class."""
        return torch.cat(list(self.basis.values()))


def predicted_images(predictions: pd.DataFrame, label: int, count: int, seed: int = 0) -> Tensor:
    """Rows of at most ``count`` images for which the CNN predicts a class, a seeded choice, in order."""
    rows = torch.tensor(predictions.loc[predictions["prediction"] == label, "image"].to_numpy().copy())
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:count]
    return rows[order].sort().values


def weighted_activations(
    relevance: LayerRelevance,
    split: ImageSplit,
    rows: Tensor,
    label: int,
    batch_size: int = 32,
) -> Tensor:
    """Activations times relevance for a class, (B * h * w, C), of some images of a split."""
    hidden = relevance.hidden
    device = next(hidden.cnn.parameters()).device
    made = []
    for part in rows.split(batch_size):
        images = split.batch(part).images.to(device)
        weighted = relevance(images, label)  # (B, 1, h, w), or what each channel contributes, (B, C, h, w)
        if not relevance.by_channel:
            weighted = weighted * hidden(images)
        made.append(weighted.permute(0, 2, 3, 1).flatten(0, 2))
    return torch.cat(made)


def learn_concepts(
    relevance: LayerRelevance,
    split: ImageSplit,
    predictions: pd.DataFrame,
    folder: Path,
    classes: Sequence[int],
    components: int = 6,
    images_per_class: int = 60,
    seed: int = 0,
    classes_at_once: int = 5,
) -> ConceptBank:
    """Concepts of several classes; what the folder holds already is not made again.

        bank = learn_concepts(LayerRelevance(hidden), data.train, table, folder, range(10))
        bank.basis[3]    # (6, C)

    Args:
        relevance: how much the places of a layer matter.
        split: images.
        predictions: what the CNN predicts for them (:func:`gan_lib.classifiers.predictions`). Images are
            chosen by prediction, not by label.
        folder: receives ``report.csv`` and ``class_NNNN.safetensors`` per class: ``basis`` (k, C), ``error``.
        classes: class numbers. One that the CNN predicts too rarely is reported and skipped.
        components: concepts k per class.
        images_per_class: at most so many.
        seed: of the choice of images and of the factorisation.
        classes_at_once: that are factorised together.

    Raises:
        ValueError: activations below 0 (see :class:`HiddenLayer`).
    """
    reasons: dict[int, str] = {}
    waiting: dict[int, Tensor] = {}
    rows = {label: predicted_images(predictions, label, images_per_class, seed) for label in classes}
    folder.mkdir(parents=True, exist_ok=True)
    for label in progress(list(classes), "concepts"):
        if _file(folder, label).is_file():
            continue
        if len(rows[label]) < components:
            reasons[label] = f"predicted for {len(rows[label])} images, fewer than {components} concepts"
            continue
        data = weighted_activations(relevance, split, rows[label], label)
        if not data.any():
            reasons[label] = "no place of the layer speaks for it"
            continue
        waiting[label] = data
        if len(waiting) == classes_at_once:
            _factorise(waiting, components, seed, folder)
    _factorise(waiting, components, seed, folder)
    rows_of_report = [
        {"class": label, "images": len(rows[label]), "skipped": reasons.get(label, "")} for label in classes
    ]
    report = pd.DataFrame(rows_of_report)
    with atomic_path(folder / "report.csv") as temporary:
        report.to_csv(temporary, index=False)
    return load_concepts(folder)


def load_concepts(folder: Path) -> ConceptBank:
    """The concepts that :func:`learn_concepts` left in a folder."""
    report = pd.read_csv(folder / "report.csv", keep_default_na=False)
    learned = report.loc[report["skipped"] == "", "class"]
    stored = {int(label): load_tensors(_file(folder, int(label))) for label in learned}
    errors = {label: float(tensors["error"]) for label, tensors in stored.items()}
    report.insert(2, "error", report["class"].map(errors))
    return ConceptBank({label: tensors["basis"] for label, tensors in stored.items()}, report)


def _file(folder: Path, label: int) -> Path:
    return folder / f"class_{label:04d}.safetensors"


def _factorise(waiting: dict[int, Tensor], components: int, seed: int, folder: Path) -> None:
    """Factorise the matrices that wait, all at once, and write one file per class."""
    if not waiting:
        return
    # Rows of zeros, with which shorter matrices are filled up, change no factor. Every matrix on one scale.
    scaled = [data / data.max() for data in waiting.values()]
    made = nmf(pad_sequence(scaled, batch_first=True), components, seed=seed)
    for index, label in enumerate(waiting):
        save_tensors(_file(folder, label), {"basis": made.basis[index], "error": made.error[index]})
    waiting.clear()


def concept_maps(hidden: HiddenLayer, images: Tensor, basis: Tensor) -> Tensor:
    """How much of each concept (k, C) is at every place of images (B, 3, H, W): (B, k, h, w), not below 0."""
    activations = hidden(images)  # (B, C, h, w)
    weights = encode(activations.flatten(2).mT, basis.to(activations))  # (B, h * w, k)
    return weights.mT.unflatten(2, hidden.size)


def importance(hidden: HiddenLayer, images: Tensor, label: int, basis: Tensor) -> Tensor:
    """What the class loses when a concept is removed from the activations: (B, k).

    The share of the class's probability that is gone, 1 - p' / p, when the concept's part of the
    activations (:func:`concept_maps` times its vector) is subtracted at every place. Negative where the
    probability grows.

    Args:
        hidden: the layer, whose channels have not been split.
        images: (B, 3, H, W).
        label: the class.
        basis: (k, C).

    Raises:
        ValueError: a layer with split channels, which the network behind it does not take.
    """
    if hidden.negative == "split":
        raise ValueError("the network behind the layer does not take split channels")
    weights = concept_maps(hidden, images, basis)  # (B, k, h, w)
    before = hidden.logits(images, lambda own: own).softmax(1)[:, label]  # (B,)
    lost = []
    for maps, vector in zip(weights.unbind(1), basis.to(weights), strict=True):
        part = maps[:, None] * vector[:, None, None]  # (B, C, h, w)
        after = hidden.logits(images, lambda own, part=part: (own - part).clamp(min=0))  # type: ignore[misc]
        lost.append(1 - after.softmax(1)[:, label] / before)
    return torch.stack(lost, dim=1)


def matched_similarity(one: Tensor, other: Tensor) -> float:
    """Mean cosine of two bases' vectors (k, C), matched one to one so that it is the highest."""
    cosines = (F.normalize(one, dim=1) @ F.normalize(other, dim=1).T).cpu().numpy()
    rows, columns = linear_sum_assignment(-cosines)
    return float(cosines[rows, columns].mean())


def how_many(data: Tensor, counts: Sequence[int], seeds: Sequence[int] = (0, 1, 2)) -> pd.DataFrame:
    """Reconstruction error and stability of factorisations with different numbers of concepts.

    Args:
        data: (N, C), non-negative: :func:`weighted_activations`.
        counts: numbers k.
        seeds: of random starts; stability is the mean of :func:`matched_similarity` over their pairs.

    Returns:
        ``components``, ``seed``, ``error``, ``stability`` (of the seed's basis with the others').
    """
    rows = []
    for count in counts:
        made = {seed: nmf(data[None], count, "random", seed) for seed in seeds}
        for seed, own in made.items():
            others = [
                matched_similarity(own.basis[0], made[other].basis[0]) for other in seeds if other != seed
            ]
            rows.append(
                {
                    "components": count,
                    "seed": seed,
                    "error": float(own.error),
                    "stability": sum(others) / max(1, len(others)) if others else float("nan"),
                }
            )
    return pd.DataFrame(rows)
