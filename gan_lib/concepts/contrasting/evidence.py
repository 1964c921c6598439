"""What a hidden layer holds for a class, and what of it speaks against another one."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from gan_lib.concepts import HiddenLayer, LayerRelevance, nmf, predicted_images
from gan_lib.concepts.contrasting.hyperplanes import Hyperplanes
from gan_lib.core.inputs import at_once
from gan_lib.core.options import positive
from gan_lib.core.runtime import progress
from gan_lib.data import ImageSplit

THRESHOLD = 0.25  # share of an image's largest relevance
HELD_OUT = 0.25  # share of a class's images


@dataclass(frozen=True)
class Evidence:
    """The activations of one class at the places that matter for it.

    Attributes:
        vectors: (M, C).
        image: (M,) which of the images each is from, counted from 0.
        rows: (B,) the images' rows in their split.
    """

    vectors: Tensor
    image: Tensor
    rows: Tensor

    def of_images(self, keep: Tensor) -> Tensor:
        """The vectors of some images, by their numbers."""
        return self.vectors[torch.isin(self.image, keep.to(self.image.device))]


def gather_evidence(
    relevance: LayerRelevance,
    split: ImageSplit,
    predictions: pd.DataFrame,
    classes: Iterable[int],
    images_per_class: int = 60,
    seed: int = 0,
) -> dict[int, Evidence]:
    """Of images predicted as each class, the activations where the relevance is high.

    A place counts where its relevance for the class exceeds a quarter of the image's largest
    (arXiv 2502.03422, section 3.3).

    Args:
        relevance, split, predictions, images_per_class, seed: as for :func:`gan_lib.concepts.learn_concepts`.
        classes: class numbers. One that is never predicted, or for which nothing is relevant, is left out.

    Raises:
        ValueError: a count below 1.
    """
    positive(images_per_class=images_per_class)
    found = {}
    for label in progress(list(classes), "evidence"):
        rows = predicted_images(predictions, label, images_per_class, seed)
        if not len(rows):
            continue
        vectors, images = [], []
        for part in torch.arange(len(rows)).split(at_once(relevance.hidden.cnn, split.image_size)):
            pictures = split.batch(rows[part]).images
            weights = relevance(pictures, label).flatten(1)  # (B, h * w)
            keep = weights > THRESHOLD * weights.amax(1, keepdim=True)
            vectors.append(relevance.hidden(pictures).flatten(2).mT[keep])  # (M, C)
            images.append(part.to(keep.device)[:, None].expand_as(keep)[keep])
        if sum(map(len, vectors)):
            found[label] = Evidence(torch.cat(vectors), torch.cat(images), rows)
    return found


def held_out_accuracy(evidence: Mapping[int, Evidence], strength: float = 1.0, seed: int = 0) -> pd.DataFrame:
    """How well :class:`Hyperplanes` separate vectors of images that they were not fitted to.

    A quarter of each class's images is held out, at least one, by a seeded choice.

    Returns:
        A row per ordered pair: ``class``, ``other``, ``accuracy`` and ``training_accuracy`` (0..1, the
        mean of both classes'). Classes with a single image are left out.

    Raises:
        ValueError: fewer than two classes with images to fit and images to hold out.
    """
    drawn = torch.Generator().manual_seed(seed)
    fitted, tested = {}, {}
    for label, own in evidence.items():
        order = torch.randperm(len(own.rows), generator=drawn)
        cut = max(1, round(HELD_OUT * len(order)))
        tested[label], fitted[label] = own.of_images(order[:cut]), own.of_images(order[cut:])
    usable = [label for label in evidence if len(fitted[label]) and len(tested[label])]
    planes = Hyperplanes({label: fitted[label] for label in usable}, strength)
    rows = []
    for one, other in itertools.permutations(usable, 2):
        accuracies = [
            (_right_side(planes, vectors, one, other) + _right_side(planes, vectors, other, one)) / 2
            for vectors in (tested, fitted)
        ]
        rows.append((one, other, *accuracies))
    return pd.DataFrame(rows, columns=["class", "other", "accuracy", "training_accuracy"])


def _right_side(planes: Hyperplanes, vectors: Mapping[int, Tensor], one: int, other: int) -> float:
    """Share of the vectors of class ``one`` on its side of the plane."""
    return float((planes.distance(vectors[one], one, other) > 0).float().mean())


def distance_maps(hidden: HiddenLayer, planes: Hyperplanes, images: Tensor, one: int, other: int) -> Tensor:
    """Signed distance of every place from the hyperplane, (B, 1, h, w), positive on class ``one``'s side."""
    return planes.distance(hidden(images).permute(0, 2, 3, 1), one, other)[:, None]


def contrasting_concepts(
    planes: Hyperplanes, one: int, other: int, components: int = 4, seed: int = 0
) -> Tensor:
    """Concepts that speak for one class rather than another: (k, C), the most used one first.

    Non-negative factorisation of :meth:`Hyperplanes.speaking`.

    Raises:
        ValueError: fewer activations on the class's side than concepts, or twice the same class.
        KeyError: a class without hyperplanes.
    """
    weighted = planes.speaking(one, other)
    if len(weighted) < components:
        raise ValueError(
            f"{len(weighted)} activations speak for class {one} rather than {other}, too few for "
            f"{components} concepts"
        )
    return nmf(weighted[None] / weighted.max(), components, seed=seed).basis[0]
