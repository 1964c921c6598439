"""What goes on inside: conditions and their relevance, concepts, contrasts between classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from gan_lib.classifiers import Classifier, predictions
from gan_lib.concepts import (
    HiddenLayer,
    LayerRelevance,
    PooledActivations,
    concept_maps,
    nmf,
    predicted_images,
    weighted_activations,
)
from gan_lib.concepts.contrasting import fit_hyperplanes, gather_evidence
from gan_lib.core.maps import min_max, upsample
from gan_lib.data import ImageSplit
from gan_lib.explainers import GANExplainer, GeneratorExplainer
from gan_lib.explorer.models import weights_key
from gan_lib.figures import overlay
from gan_lib.gan.relevance import ConditionedGenerator, as_parts, relevance, shares, zero_conditions


@dataclass(frozen=True)
class Condition:
    """One of the conditions that a generator has read.

    Attributes:
        name: what it is: a layer, an average over layers, or the evidence for the class.
        picture: (1, H, W) in [0, 1]; of activations the mean over their channels.
        share: of the relevance, 0..1; NaN where no condition matters.
    """

    name: str
    picture: Tensor
    share: float


def conditions_of(explainer: GeneratorExplainer, image: Tensor, target: int) -> list[Condition]:
    """Every condition of an explainer for an image (1, 3, H, W), first to last, with its relevance.

    Relevance is how far the map moves when the condition is taken away (leave one out), as a share.
    """
    with torch.no_grad():
        given = explainer.conditions(image, target)
    parts = as_parts(given)
    seen = ConditionedGenerator(explainer.generator, zero_conditions(given))
    with torch.no_grad():
        found = shares(relevance(seen, image, given, "leave_one_out"))[0]  # (n,)
    names = _condition_names(explainer)
    size = (image.shape[-2], image.shape[-1])
    return [
        Condition(name, min_max(upsample(part.float().mean(1, keepdim=True), size))[0].cpu(), float(share))
        for name, part, share in zip(names, parts, found, strict=True)
    ]


def _condition_names(explainer: GeneratorExplainer) -> list[str]:
    if isinstance(explainer, GANExplainer):
        return [f"average of layers 1 to {position}" for position in explainer.maker.positions]
    layers = [layer.removeprefix("backbone.") for layer in explainer.settings()["layers"]]
    return [*layers, "evidence for the class"]


class Inside:
    """Concepts and contrasts of one CNN's hidden layer, found when they are first asked for.

        inside = Inside(cnn, data.train)
        crops, maps = inside.concepts(image, label=3)
        inside.shifted(image, 3, 8, offsets=[0.0, 1.5])   # probabilities of both classes

    What was found is kept until the CNN's weights change.

    Args:
        cnn: from images in [0, 1] to logits.
        split: images to learn from and to cut prototypes from.
        count: concepts per class.
        images_per_class: to learn from.
        layer: dotted name; by default the last with places.

    Raises:
        ValueError: a layer without places, or with activations below 0.
    """

    def __init__(
        self,
        cnn: Classifier,
        split: ImageSplit,
        count: int = 4,
        images_per_class: int = 30,
        layer: str | None = None,
    ) -> None:
        self.cnn, self.split, self.count, self.images_per_class = cnn, split, count, images_per_class
        self.hidden = HiddenLayer(cnn, layer, split.image_size)
        self.relevance = LayerRelevance(self.hidden, "gradient_x_activation", samples=0)
        self._found: dict[Any, Any] = {}
        self._weights = ""

    def concepts(self, image: Tensor, label: int, prototypes: int = 3) -> tuple[Tensor, Tensor]:
        """Prototypes (k, T, 3, h, w) of a class's concepts, and where they are in an image.

        The second is (k, 3, H, W), the image (1, 3, H, W) with each concept's map over it.

        Raises:
            ValueError: a class that the CNN predicts for none of the images.
        """
        basis = self._kept(("basis", label), lambda: self._basis(label))  # (k, C)
        pooled = self._kept("pooled", self._pooled)
        crops = pooled.crops(self.split, pooled.nearest(basis, prototypes), pooled.cell)
        maps = concept_maps(self.hidden, image, basis)[0][:, None]  # (k, 1, h, w)
        scaled = maps / maps.amax().clamp(min=1e-9)
        large = upsample(scaled, (image.shape[-2], image.shape[-1]))
        return crops.cpu(), overlay(image.expand(len(large), -1, -1, -1), large).cpu()

    def pair(self, label: int, rival: int) -> tuple[int, int]:
        """Two classes that can be contrasted: the given ones, in place of one that cannot be another."""
        evidence = self._kept("evidence", self._evidence)
        one, other = [own for own in dict.fromkeys([label, rival, *evidence]) if own in evidence][:2]
        return one, other

    def shifted(self, image: Tensor, one: int, other: int, offsets: Iterable[float]) -> pd.DataFrame:
        """Probabilities of two classes after all activations were moved from one towards the other.

        Args:
            image: (1, 3, H, W).
            one, other: class numbers.
            offsets: along the hyperplane's normal, in units of the distance of the class means.

        Returns:
            Two rows per offset: ``method``, the class's name; ``offset``; ``probability``.

        Raises:
            KeyError: a class without hyperplane.
            ValueError: twice the same class.
        """
        if one == other:
            raise ValueError("choose two different classes")
        evidence = self._kept("evidence", self._evidence)
        for label in (one, other):
            if label not in evidence:
                raise KeyError(f"no image here is predicted as {self.cnn.class_names[label]!r}")
        planes = self._kept("planes", lambda: fit_hyperplanes(evidence))
        apart = evidence[other].mean(0) - evidence[one].mean(0)  # (C,)
        direction = planes.direction(one, other).to(apart)  # (C,)
        rows = []
        for offset in offsets:
            probabilities = self._moved(image, offset * apart.norm() * direction)
            rows += [(self.cnn.class_names[own], offset, float(probabilities[own])) for own in (one, other)]
        return pd.DataFrame(rows, columns=["method", "offset", "probability"])

    def _moved(self, image: Tensor, move: Tensor) -> Tensor:
        """Probabilities (K,) of an image whose activations are all moved by (C,)."""
        logits = self.hidden.logits(image, lambda own: (own + move[:, None, None].to(own)).relu())
        return logits.softmax(1)[0]

    def _kept(self, name: Any, make: Callable[[], Any]) -> Any:
        """What has been found for the CNN's present weights."""
        present = weights_key(self.cnn)
        if present != self._weights:
            self._found, self._weights = {}, present
        if name not in self._found:
            self._found[name] = make()
        return self._found[name]

    def _predicted(self) -> pd.DataFrame:
        return predictions(self.cnn, self.split)

    def _pooled(self) -> PooledActivations:
        return PooledActivations(self.hidden, self.split, min(4, *self.hidden.size), 1)

    def _evidence(self) -> dict[int, Tensor]:
        """Per class that is predicted, the weighted activations (N, C) of its images."""
        table, classes = self._kept("predicted", self._predicted), range(len(self.cnn.class_names))
        found = gather_evidence(self.relevance, self.split, table, classes, self.images_per_class)
        return {label: own.vectors for label, own in found.items()}

    def _basis(self, label: int) -> Tensor:
        rows = predicted_images(self._kept("predicted", self._predicted), label, self.images_per_class)
        if not len(rows):
            name = self.cnn.class_names[label]
            raise ValueError(f"no image here is predicted as {name!r}: nothing to learn its concepts from")
        weighted = weighted_activations(self.relevance, self.split, rows, label)
        return F.normalize(nmf(weighted[None], self.count).basis[0], dim=1)
