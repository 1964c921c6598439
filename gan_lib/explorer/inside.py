"""What goes on inside: conditions and their relevance, concepts, contrasts between classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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
from gan_lib.concepts.contrasting import Hyperplanes, gather_evidence
from gan_lib.core.maps import min_max, upsample
from gan_lib.data import ImageSplit
from gan_lib.explainers import ContrastiveExplainer, GANExplainer, GeneratorExplainer
from gan_lib.explorer.models import weights_key
from gan_lib.figures import overlay
from gan_lib.gan.relevance import ConditionedGenerator, as_parts, relevance, shares, zero_conditions


def conditions_of(
    explainer: GeneratorExplainer, image: Tensor, target: int
) -> dict[str, tuple[Tensor, float]]:
    """Every condition that an explainer reads for an image (1, 3, H, W), first to last, by what it is.

    Returns:
        By name (a layer, an average over layers, the evidence for the class) a picture (1, H, W) in [0, 1],
        of activations the mean over their channels, and the share of the relevance, 0..1: how far the map
        moves when the condition is taken away (leave one out). NaN where no condition matters.
    """
    with torch.no_grad():
        given = explainer.conditions(image, target)
        seen = ConditionedGenerator(explainer.generator, zero_conditions(given))
        found = shares(relevance(seen, image, given, "leave_one_out"))[0].tolist()  # n
    names = [f"condition {number}" for number in range(1, len(found) + 1)]
    if isinstance(explainer, ContrastiveExplainer):
        layers = [layer.removeprefix("backbone.") for layer in explainer.maker.layers]
        names = [*layers, "evidence for the class"]
    elif isinstance(explainer, GANExplainer) and explainer.maker.kind == "cgma":
        names = [f"average of layers 1 to {position}" for position in explainer.maker.positions]
    size = (image.shape[-2], image.shape[-1])
    large = [min_max(upsample(part.float().mean(1, keepdim=True), size))[0].cpu() for part in as_parts(given)]
    return dict(zip(names, zip(large, found, strict=True), strict=True))


class Inside:
    """Concepts and contrasts of one CNN's last layer with places, found when they are first asked for.

        inside = Inside(cnn, data.train)
        crops, maps = inside.concepts(image, label=3)
        inside.shifted(image, 3, 8, offsets=[0.0, 1.5])   # probabilities of both classes

    What was found is kept until the CNN's weights change.

    Args:
        cnn: from images in [0, 1] to logits.
        split: images to learn from and to cut prototypes from.
        count: concepts per class.
        images_per_class: to learn from.

    Raises:
        ValueError: a CNN without such a layer, or with activations below 0 in it.
    """

    def __init__(
        self, cnn: Classifier, split: ImageSplit, count: int = 4, images_per_class: int = 30
    ) -> None:
        self.cnn, self.split, self.count, self.images_per_class = cnn, split, count, images_per_class
        self.hidden = HiddenLayer(cnn, image_size=split.image_size)
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
        side = min(4, *self.hidden.size)
        pooled = self._kept("pooled", lambda: PooledActivations(self.hidden, self.split, side, 1))
        crops = pooled.crops(pooled.nearest(basis, prototypes))
        maps = concept_maps(self.hidden, image, basis)[0][:, None]  # (k, 1, h, w)
        large = upsample(maps / maps.amax().clamp(min=1e-9), (image.shape[-2], image.shape[-1]))
        return crops.cpu(), overlay(image.expand(len(large), -1, -1, -1), large).cpu()

    def pair(self, label: int, rival: int) -> tuple[int, int]:
        """Two classes that can be contrasted: the given ones; another for one that is never predicted."""
        found = [own for own in dict.fromkeys([label, rival, *self.evidence]) if own in self.evidence]
        return found[0], found[1]

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
        names, evidence, rows = self.cnn.class_names, self.evidence, []
        if missing := [names[label] for label in (one, other) if label not in evidence]:
            raise KeyError(f"no image here is predicted as {missing[0]!r}")
        planes = self._kept("planes", lambda: Hyperplanes(evidence))
        apart = evidence[other].mean(0) - evidence[one].mean(0)  # (C,)
        direction = planes.direction(one, other).to(apart)  # (C,)
        for offset in offsets:
            move = (offset * apart.norm() * direction)[:, None, None]  # (C, 1, 1)
            logits = self.hidden.logits(image, lambda own, move=move: (own + move.to(own)).relu())
            probabilities = logits.softmax(1)[0]  # (K,)
            rows += [(names[own], offset, float(probabilities[own])) for own in (one, other)]
        return pd.DataFrame(rows, columns=["method", "offset", "probability"])

    @property
    def predicted(self) -> pd.DataFrame:
        """What the CNN predicts for the images."""
        return self._kept("predicted", lambda: predictions(self.cnn, self.split))

    @property
    def evidence(self) -> dict[int, Tensor]:
        """Per class that is predicted, activations (M, C) of the places that speak for it."""
        asked = range(len(self.cnn.class_names)), self.images_per_class
        found = self._kept(
            "evidence", lambda: gather_evidence(self.relevance, self.split, self.predicted, *asked)
        )
        return {label: own.vectors for label, own in found.items()}

    def _kept(self, name: Any, make: Callable[[], Any]) -> Any:
        """What has been found for the CNN's present weights."""
        present = weights_key(self.cnn)
        if present != self._weights:
            self._found, self._weights = {}, present
        if name not in self._found:
            self._found[name] = make()
        return self._found[name]

    def _basis(self, label: int) -> Tensor:
        rows = predicted_images(self.predicted, label, self.images_per_class)
        if not len(rows):
            name = self.cnn.class_names[label]
            raise ValueError(f"no image here is predicted as {name!r}: nothing to learn its concepts from")
        weighted = weighted_activations(self.relevance, self.split, rows, label)
        return F.normalize(nmf(weighted[None], self.count).basis[0], dim=1)
