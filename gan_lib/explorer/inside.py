"""What goes on inside: conditions and their relevance, concepts, contrasts between classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from gan_lib.classifiers import Classifier, predictions
from gan_lib.concepts import Concepts, HiddenLayer, LayerRelevance
from gan_lib.concepts.contrasting import Hyperplanes, gather_evidence
from gan_lib.core.maps import min_max, upsample
from gan_lib.core.outputs import probabilities
from gan_lib.data import ImageSplit
from gan_lib.explainers import ContrastiveExplainer, GANExplainer, GeneratorExplainer
from gan_lib.explorer.models import weights_key
from gan_lib.figures import overlay
from gan_lib.gan.relevance import ConditionedGenerator, as_parts, relevance, shares, zero_conditions

RELEVANCE = "gradient_x_activation"  # of places for a class: one pass, for answers at once


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
        twice = [layers[:place].count(layer) for place, layer in enumerate(layers)]  # of a CNN with few
        layers = [f"{own} ({count + 1})" if count else own for own, count in zip(layers, twice, strict=True)]
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
        ValueError: a CNN without such a layer.
    """

    def __init__(
        self, cnn: Classifier, split: ImageSplit, count: int = 4, images_per_class: int = 30
    ) -> None:
        self.cnn, self.split, self.count, self.images_per_class = cnn, split, count, images_per_class
        self.hidden = HiddenLayer(cnn, image_size=split.image_size)
        self._found: dict[Any, Any] = {}
        self._weights = ""

    def concepts(self, image: Tensor, label: int) -> tuple[Tensor, Tensor]:
        """Prototypes (k, T, 3, h, w) of a class's concepts, and where they are in an image.

        The second is (k, 3, H, W), the image (1, 3, H, W) with each concept's map over it.

        Raises:
            ValueError: a class that the CNN predicts for too few of the images.
        """
        learning = Concepts(self.cnn, None, self.count, RELEVANCE, 0, self.images_per_class)
        learned = self._kept("concepts", lambda: learning.fit(self.split))
        maps = learned.transform(image, label)[0][:, None].to(image)  # (k, 1, h, w)
        large = upsample(maps / maps.amax().clamp(min=1e-9), (image.shape[-2], image.shape[-1]))
        return learned.prototypes[label].cpu(), overlay(image.expand(len(large), -1, -1, -1), large).cpu()

    def pair(self, label: int, rival: int) -> tuple[int, int]:
        """Two classes that can be contrasted: the given ones; another for one that is never predicted."""
        evidence = self.evidence
        found = [own for own in dict.fromkeys([label, rival, *evidence]) if own in evidence]
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
            moved = self.hidden.logits(image, partial(_moved, by=move))  # (1, K)
            found = probabilities(self.hidden.cnn, moved)[0]  # (K,)
            rows += [(names[own], offset, float(found[own])) for own in (one, other)]
        return pd.DataFrame(rows, columns=["method", "offset", "probability"])

    @property
    def evidence(self) -> dict[int, Tensor]:
        """Per class that is predicted, activations (M, C) of the places that speak for it."""
        return self._kept("evidence", self._evidence)

    def _evidence(self) -> dict[int, Tensor]:
        predicted, classes = predictions(self.cnn, self.split), range(len(self.cnn.class_names))
        relevance = LayerRelevance(self.hidden, RELEVANCE, samples=0)
        found = gather_evidence(relevance, self.split, predicted, classes, self.images_per_class)
        return {label: own.vectors for label, own in found.items()}

    def _kept(self, name: Any, make: Callable[[], Any]) -> Any:
        """What has been found for the CNN's present weights."""
        present = weights_key(self.cnn)
        if present != self._weights:
            self._found, self._weights = {}, present
        if name not in self._found:
            self._found[name] = make()
        return self._found[name]


def _moved(activations: Tensor, by: Tensor) -> Tensor:
    return (activations + by.to(activations)).relu()
