"""What a hidden layer holds for a class, and what of it speaks against another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from sklearn.mixture import GaussianMixture
from torch import Tensor

from gan_lib.concepts import HiddenLayer, LayerRelevance, nmf, predicted_images
from gan_lib.concepts.contrasting.hyperplanes import Hyperplanes, fit_hyperplanes
from gan_lib.core.runtime import progress
from gan_lib.data import ImageSplit

THRESHOLD = 0.25


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
    classes: Sequence[int],
    images_per_class: int = 60,
    threshold: float = THRESHOLD,
    seed: int = 0,
    batch_size: int = 32,
) -> dict[int, Evidence]:
    """Of images predicted as each class, the activations where the relevance is high.

    A place counts where its relevance for the class exceeds a share of the image's largest
    (arXiv 2502.03422, section 3.3).

    Args:
        relevance: how much the places of a layer matter.
        split: images.
        predictions: what the CNN predicts for them.
        classes: class numbers. One that is never predicted, or for which nothing is relevant, is left out.
        images_per_class: at most so many.
        threshold: the share.
        seed: of the choice of images.
        batch_size: images at a time.
    """
    hidden = relevance.hidden
    device = next(hidden.cnn.parameters()).device
    found = {}
    for label in progress(list(classes), "evidence"):
        rows = predicted_images(predictions, label, images_per_class, seed)
        vectors, images = [], []
        for start in range(0, len(rows), batch_size):
            part = torch.arange(start, min(start + batch_size, len(rows)))
            pictures = split.batch(rows[part]).images.to(device)
            weights = relevance(pictures, label).flatten(1)  # (B, h * w)
            keep = weights > threshold * weights.amax(1, keepdim=True)
            vectors.append(hidden(pictures).flatten(2).mT[keep])  # (M, C)
            images.append(part.to(device)[:, None].expand_as(keep)[keep])
        if vectors and sum(map(len, vectors)):
            found[label] = Evidence(torch.cat(vectors), torch.cat(images), rows)
    return found


def held_out_accuracy(
    evidence: Mapping[int, Evidence], share: float = 0.25, strength: float = 1.0, seed: int = 0
) -> pd.DataFrame:
    """How well hyperplanes separate vectors of images that they were not fitted to.

    Args:
        evidence: by class.
        share: of each class's images that is held out.
        strength: as for :func:`fit_hyperplanes`.
        seed: of the choice.

    Returns:
        A row per ordered pair: ``class``, ``other``, ``accuracy`` and ``training_accuracy`` (0..1, the
        mean of both classes').
    """
    drawn = torch.Generator().manual_seed(seed)
    fitted, tested = {}, {}
    for label, own in evidence.items():
        order = torch.randperm(len(own.rows), generator=drawn)
        cut = max(1, round(share * len(order)))
        tested[label], fitted[label] = own.of_images(order[:cut]), own.of_images(order[cut:])
    usable = [label for label in evidence if len(fitted[label]) and len(tested[label])]
    planes = fit_hyperplanes({label: fitted[label] for label in usable}, strength)
    rows = []
    for one in usable:
        for other in usable:
            if one == other:
                continue
            right = [
                [
                    float((sign * planes.distance(vectors[label], one, other) > 0).float().mean())
                    for label, sign in ((one, 1), (other, -1))
                ]
                for vectors in (tested, fitted)
            ]
            accuracy, training = (sum(both) / 2 for both in right)
            rows.append({"class": one, "other": other, "accuracy": accuracy, "training_accuracy": training})
    return pd.DataFrame(rows)


def distance_maps(hidden: HiddenLayer, planes: Hyperplanes, images: Tensor, one: int, other: int) -> Tensor:
    """Signed distance of every place from the hyperplane, (B, 1, h, w), positive on class ``one``'s side."""
    return planes.distance(hidden(images).permute(0, 2, 3, 1), one, other)[:, None]


def contrasting_concepts(
    planes: Hyperplanes,
    evidence: Mapping[int, Evidence],
    one: int,
    other: int,
    components: int = 4,
    seed: int = 0,
    common: float | None = None,
) -> Tensor:
    """Concepts that speak for one class rather than another: (k, C), the most used one first.

    Non-negative factorisation of the class's activations, each weighted by its positive distance from the
    hyperplane.

    Args:
        planes: between the classes.
        evidence: by class; that of ``one`` is used.
        one, other: class numbers.
        components: concepts k.
        seed: of the factorisation and of the mixture.
        common: if given, activations are left out whose density, under a mixture of Gaussians of this
            class's activations, is among the lowest such share (arXiv 2502.03422, supplement).

    Raises:
        ValueError: fewer activations on the class's side than concepts, or twice the same class.
        KeyError: a class without hyperplanes.
    """
    vectors = evidence[one].vectors
    if common is not None:
        density = _density(vectors, components, seed)
        vectors = vectors[density >= density.quantile(common)]
    weights = planes.distance(vectors, one, other).clamp(min=0)  # (M,)
    weighted = (vectors * weights[:, None])[weights > 0]
    if len(weighted) < components:
        raise ValueError(
            f"{len(weighted)} activations speak for class {one} rather than {other}, too few for "
            f"{components} concepts"
        )
    return nmf(weighted[None] / weighted.max(), components, seed=seed).basis[0]


def _density(vectors: Tensor, components: int, seed: int, most: int = 16) -> Tensor:
    """Log density (M,) under a mixture of Gaussians, over the first principal components."""
    centred = vectors - vectors.mean(0)
    directions = torch.linalg.svd(centred, full_matrices=False).Vh[:most]
    reduced = (centred @ directions.T).cpu().numpy()
    mixture = GaussianMixture(
        min(components, len(reduced)), covariance_type="diag", random_state=seed, reg_covar=1e-4
    )
    return torch.tensor(mixture.fit(reduced).score_samples(reduced)).to(vectors)
