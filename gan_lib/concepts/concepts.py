"""Concepts in three lines: learned from images, shown by their prototypes, found in other images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from gan_lib.concepts.bank import ConceptBank, concept_maps, learn_concepts
from gan_lib.concepts.layers import HiddenLayer, LayerRelevance, probabilities
from gan_lib.concepts.prototypes import PooledActivations
from gan_lib.core.options import positive
from gan_lib.core.targets import Target, resolve_target
from gan_lib.data import ImageSplit
from gan_lib.figures import map_grid

PROTOTYPES = 3  # per concept


class Concepts:
    """What a CNN's classes are made of: directions in a hidden layer, and the crops that show them.

        concepts = Concepts(cnn, layer).fit(images)
        concepts.show()                     # a row per concept, its nearest crops
        maps = concepts.transform(images)   # (B, k, h, w), how much of each concept is where

    Args:
        cnn: from images in [0, 1] to logits; figures use its ``class_names``, if it has any.
        layer: dotted name; by default the last one that has places (:class:`HiddenLayer`, also for what C is
            in transformers and without ReLU).
        components: concepts k per class.
        relevance, samples: how much a place matters (:class:`LayerRelevance`).
        images_per_class: to learn from, at most.
        cell: side of a crop, in places of the layer; at most all of them.
        seed: of all that is random.

    Attributes:
        bank: after :meth:`fit`, the concepts: ``bank.basis[label]`` is (k, C).
        prototypes: after :meth:`fit`, per class (k, 3, 3, h, w): of each concept the three nearest crops.
    """

    hidden: HiddenLayer
    bank: ConceptBank
    prototypes: dict[int, Tensor]

    def __init__(
        self,
        cnn: nn.Module,
        layer: str | None = None,
        components: int = 4,
        relevance: str = "deep_lift",
        samples: int = 20,
        images_per_class: int = 60,
        cell: int = 4,
        seed: int = 0,
    ) -> None:
        positive(components=components, images_per_class=images_per_class, cell=cell)
        self.cnn, self.layer, self.components, self.seed = cnn, layer, components, seed
        self.relevance, self.samples = relevance, samples
        self.images_per_class, self.cell = images_per_class, cell

    def fit(self, images: Tensor | ImageSplit) -> Self:
        """Learn concepts of every class that the CNN predicts for images (N, 3, H, W) in [0, 1].

        Raises:
            ValueError: no class has concepts (the message says why); no image, or one outside [0, 1];
                a layer without places.
            KeyError: an unknown layer.
        """
        positive(images=len(images))
        images = ImageSplit.of(images)
        self.hidden = HiddenLayer(self.cnn, self.layer, images.image_size)
        chances = [probabilities(self.cnn, batch.images) for batch in images.batches(128)]
        predicted = torch.cat(chances).argmax(1).tolist()
        self.bank = learn_concepts(
            LayerRelevance(self.hidden, self.relevance, self.samples, seed=self.seed),
            images,
            pd.DataFrame({"image": range(len(images)), "prediction": predicted}),
            sorted(set(predicted)),
            self.components,
            self.images_per_class,
            self.seed,
        )
        vectors = self.bank.vectors()
        pooled = PooledActivations(self.hidden, images, min(self.cell, *self.hidden.size), 1)
        crops = pooled.crops(pooled.nearest(vectors, PROTOTYPES))  # (K * k, T, 3, h, w)
        self.prototypes = dict(zip(self.bank.classes, crops.split(self.components), strict=True))
        return self

    def transform(self, images: Tensor, target: Target = None) -> Tensor:
        """How much of each concept of a class is where in images (B, 3, H, W): (B, k, h, w), not below 0.

        The class is the predicted one, one class, or one per image. A class without concepts raises a
        ValueError; before :meth:`fit` it is a RuntimeError.
        """
        classes = resolve_target(probabilities(self.cnn, images), target)  # (B,)
        self._check(classes.unique().tolist())
        maps = torch.zeros(len(images), self.components, *self.hidden.size)
        for label in classes.unique().tolist():
            own = classes == label
            maps[own] = concept_maps(self.hidden, images[own], self.bank.basis[label]).cpu()
        return maps

    def show(self, classes: Sequence[int] | None = None) -> Figure:
        """The nearest crops of each concept, a row per concept; raises as :meth:`transform`."""
        self._check(classes or [])
        chosen = self.bank.classes if classes is None else list(classes)
        names = getattr(self.cnn, "class_names", None) or [
            f"class {label}" for label in range(max(chosen) + 1)
        ]
        crops = torch.cat([self.prototypes[label] for label in chosen])  # (V, T, 3, h, w)
        rows = [f"{names[label]}, concept {k}" for label in chosen for k in range(self.components)]
        columns = {f"crop {place + 1}": crops[:, place] for place in range(PROTOTYPES)}
        return map_grid(columns, rows, colour_bar=False)

    def _check(self, classes: Sequence[int]) -> None:
        if not hasattr(self, "bank"):
            raise RuntimeError("fit the concepts first: Concepts(cnn, layer).fit(images)")
        without = [label for label in classes if label not in self.bank.basis]
        if without:
            raise ValueError(f"classes {without} have no concepts; there are those of {self.bank.classes}")
