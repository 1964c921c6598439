"""Concept vectors of all classes: attribution-weighted activations, factorised (arXiv 2502.03422)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
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
from gan_lib.core.inputs import at_once
from gan_lib.core.options import positive
from gan_lib.core.outputs import probabilities
from gan_lib.core.runtime import progress
from gan_lib.core.storage import atomic_path, load_tensors, save_tensors
from gan_lib.data import ImageSplit

CLASSES_AT_ONCE = 5  # are factorised together


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
        """All concept vectors (classes * k, C), class by class.

        Raises:
            ValueError: no class has concepts; the message says why.
        """
        if not self.basis:
            why = [f"class {row['class']} {row['skipped']}" for row in self.report.to_dict("records")]
            raise ValueError(f"no class has concepts: {'; '.join(why)}")
        return torch.cat(list(self.basis.values()))

    def shown(self, wanted: Sequence[int]) -> list[int]:
        """As many classes as are wanted: those of them that have concepts, then others that have."""
        return first_there(wanted, self.basis)[: len(wanted)]

    def save(self, folder: Path) -> None:
        """Write ``report.csv`` and ``basis.safetensors``."""
        with atomic_path(folder / "report.csv") as temporary:
            self.report.to_csv(temporary, index=False)
        save_tensors(folder / "basis.safetensors", {str(label): own for label, own in self.basis.items()})

    @classmethod
    def load(cls, folder: Path) -> ConceptBank:
        """What :meth:`save` wrote."""
        report = pd.read_csv(folder / "report.csv", float_precision="round_trip").fillna({"skipped": ""})
        stored = load_tensors(folder / "basis.safetensors")
        return cls({label: stored[str(label)] for label in report["class"] if str(label) in stored}, report)


def first_there(wanted: Iterable[int], there: Collection[int]) -> list[int]:
    """All classes that are there, the wanted ones first."""
    return [label for label in dict.fromkeys([*wanted, *there]) if label in there]


def predicted_images(predictions: pd.DataFrame, label: int, count: int, seed: int = 0) -> Tensor:
    """Rows (n,) of at most ``count`` images for which the CNN predicts a class, a seeded choice, in order."""
    rows = torch.tensor(predictions.loc[predictions["prediction"] == label, "image"].to_numpy().copy())
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:count]
    return rows[order].sort().values


def weighted_activations(
    relevance: LayerRelevance, split: ImageSplit, rows: Tensor, label: int, batch_size: int | None = None
) -> Tensor:
    """Activations times relevance for a class, (B * h * w, C), of some images of a split."""
    made = []
    for part in rows.split(batch_size or at_once(relevance.hidden.cnn, split.image_size)):
        weighted = relevance.weighted(split.batch(part).images, label)  # (B, C, h, w)
        made.append(weighted.permute(0, 2, 3, 1).flatten(0, 2))
    return torch.cat(made)


def learn_concepts(
    relevance: LayerRelevance,
    split: ImageSplit,
    predictions: pd.DataFrame,
    classes: Iterable[int],
    components: int = 4,
    images_per_class: int = 60,
    seed: int = 0,
    start: str = "nndsvda",
) -> ConceptBank:
    """Concepts of several classes.

        bank = learn_concepts(LayerRelevance(hidden), data.train, table, range(10))
        bank.basis[3]    # (4, C)

    Args:
        relevance: how much the places of a layer matter.
        split: images.
        predictions: what the CNN predicts for them: ``image`` and ``prediction``. Images are chosen by
            prediction, not by label.
        classes: class numbers. One that the CNN predicts too rarely is reported and skipped.
        components: concepts k per class.
        images_per_class: at most so many.
        seed: of the choice of images and of the factorisation.
        start: of the factorisation (:func:`gan_lib.concepts.nmf`); ``random`` ones differ from seed to seed.

    Raises:
        ValueError: a count below 1, or an unknown start.
    """
    positive(components=components, images_per_class=images_per_class)
    rows = {label: predicted_images(predictions, label, images_per_class, seed) for label in classes}
    skipped: dict[int, str] = {}

    def usable() -> Iterator[tuple[int, Tensor]]:
        for label, own in progress(rows.items(), "concepts", len(rows)):
            if len(own) < components:
                skipped[label] = f"predicted for {len(own)} images, fewer than {components} concepts"
                continue
            data = weighted_activations(relevance, split, own, label)
            if data.any():
                yield label, data / data.max()  # every matrix on one scale
            else:
                skipped[label] = "no place of the layer speaks for it"

    basis: dict[int, Tensor] = {}
    errors: dict[int, float] = {}
    found = usable()
    while together := dict(itertools.islice(found, CLASSES_AT_ONCE)):
        # Shorter matrices are filled up with rows of zeros, whose weights are 0.
        made = nmf(pad_sequence(list(together.values()), batch_first=True), components, start, seed)
        basis |= dict(zip(together, made.basis.cpu(), strict=True))
        errors |= dict(zip(together, made.error.tolist(), strict=True))
    report = [
        (label, len(own), errors.get(label, math.nan), skipped.get(label, "")) for label, own in rows.items()
    ]
    return ConceptBank(basis, pd.DataFrame(report, columns=["class", "images", "error", "skipped"]))


def concept_maps(hidden: HiddenLayer, images: Tensor, basis: Tensor) -> Tensor:
    """How much of each concept (k, C) is at every place of images (B, 3, H, W): (B, k, h, w), not below 0."""
    together = at_once(hidden.cnn, (images.shape[-2], images.shape[-1]))
    activations = torch.cat([hidden(part) for part in images.split(together)])  # (B, C, h, w)
    weights = encode(activations.flatten(2).mT, basis.to(activations))  # (B, h * w, k)
    return weights.mT.unflatten(2, hidden.size)


def importance(hidden: HiddenLayer, images: Tensor, label: int, basis: Tensor) -> Tensor:
    """What a class loses when a concept (k, C) is taken out of images (B, 3, H, W): (B, k).

    The share of the class's probability that is gone, 1 - p' / p, when the concept's part of the
    activations (:func:`concept_maps` times its vector) is subtracted at every place. Negative where the
    probability grows. Of signed activations it is subtracted from their halves, which end at 0 and are joined
    for the rest of the network: none changes its sign.
    """
    together = at_once(hidden.cnn, (images.shape[-2], images.shape[-1]))
    return torch.cat([_importance(hidden, part, label, basis) for part in images.split(together)])


def _importance(hidden: HiddenLayer, images: Tensor, label: int, basis: Tensor) -> Tensor:
    def without(activation: Tensor) -> Tensor:
        weights = encode(activation.flatten(2).mT, basis.to(activation))  # (B, h * w, k)
        maps = weights.permute(2, 0, 1).unflatten(2, hidden.size)[:, :, None]  # (k, B, 1, h, w)
        parts = maps * basis.to(activation)[:, None, :, None, None]  # (k, B, C, h, w)
        return torch.cat([activation[None], (activation - parts).clamp(min=0)])

    logits = hidden.logits_of_each(images, without)  # (1 + k, B, K)
    chances = probabilities(hidden.cnn, logits.flatten(0, 1))[:, label].unflatten(0, logits.shape[:2])
    return (1 - chances[1:] / chances[:1]).mT  # (B, k)


def importance_table(
    hidden: HiddenLayer,
    split: ImageSplit,
    predictions: pd.DataFrame,
    bank: ConceptBank,
    images_per_class: int = 60,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean :func:`importance` of each ``concept k`` of a ``class`` over the images it was learned from."""
    rows = []
    for label, basis in bank.basis.items():
        images = split.batch(predicted_images(predictions, label, images_per_class, seed)).images
        lost = importance(hidden, images, label, basis).double().mean(0)  # (k,)
        rows.append({"class": label} | {f"concept {k}": value for k, value in enumerate(lost.tolist())})
    return pd.DataFrame(rows)


def matched_similarity(one: Tensor, other: Tensor) -> float:
    """Mean cosine of two bases' vectors (k, C), matched one to one so that it is the highest."""
    cosines = (F.normalize(one, dim=1) @ F.normalize(other, dim=1).T).cpu().numpy()
    return float(cosines[linear_sum_assignment(-cosines)].mean())


def how_many(data: Tensor, counts: Sequence[int], seeds: Sequence[int] = (0, 1, 2)) -> pd.DataFrame:
    """Reconstruction error and stability of factorisations with different numbers of concepts.

    Args:
        data: (N, C), non-negative: :func:`weighted_activations`.
        counts: numbers k, each at most the data's rows and columns; others raise a ValueError.
        seeds: of random starts.

    Returns:
        ``components``, ``seed``, ``error``, ``stability``: the mean of :func:`matched_similarity` with the
        other seeds' bases; NaN for a single seed.
    """
    positive(counts=len(counts), seeds=len(seeds))
    rows = []
    for count in counts:
        made = {seed: nmf(data[None], count, "random", seed) for seed in seeds}
        for seed, own in made.items():
            bases = [made[other].basis[0] for other in seeds if other != seed]
            alike = [matched_similarity(own.basis[0], other) for other in bases]
            stability = sum(alike) / len(alike) if alike else math.nan
            rows.append((count, seed, float(own.error), stability))
    return pd.DataFrame(rows, columns=["components", "seed", "error", "stability"])
