"""Concepts drawn as pictures by every CNN of a cohort, and what the other CNNs see in them (notebook 06)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from gan_lib import concepts
from gan_lib.workbench.bench import Workbench
from gan_lib.workbench.cohort import Cohort
from gan_lib.workbench.concept_scores import hidden_layer
from gan_lib.workbench.subject import Subject


class DrawnClasses(NamedTuple):
    """A picture for each class.

    Attributes:
        classes: K numbers.
        pictures: by what they are, (K, 3, H, W) in [0, 1].
    """

    classes: list[int]
    pictures: dict[str, Tensor]


def drawing_of(subject: Subject, steps: int | None = None) -> concepts.FeatureVisualisation:
    """Draws in the layer of the recipe's concepts, in the manner of the subject's training images."""
    own, recipe = subject.recipe.concepts, subject.recipe
    images = subject.draw(own.drawing_images, own.split).split
    return concepts.FeatureVisualisation(
        hidden_layer(subject),
        images,
        own.drawing_steps if steps is None else steps,
        own.drawing_crops,
        recipe.seed,
    )


def drawn_classes(subject: Subject) -> DrawnClasses:
    """Of every class that has concepts: the most used one ``drawn``, and as a control the picture that
    drawing begins with, whose phases are random."""
    own = subject.recipe.concepts
    relevance = concepts.LayerRelevance(hidden_layer(subject), own.relevance, own.noise_copies)
    bank = subject.concepts(relevance)
    vectors = torch.stack([bank.basis[label][0] for label in bank.classes])  # (K, C)
    begun = drawing_of(subject, steps=0).concepts(vectors).pictures
    return DrawnClasses(
        bank.classes, {"drawn": drawing_of(subject).concepts(vectors).pictures, "random phases": begun}
    )


def further_judges(bench: Workbench) -> dict[str, Subject]:
    """By name, the CNN of other weights that the recipe names (``concepts.judge``), if it names one."""
    given = bench.recipe.concepts.judge
    return {} if given is None else {"judge": bench.subject({"cnn": given})}


def called(cnn: nn.Module, pictures: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, list[str]]:
    """The classes that a CNN predicts for several kinds of pictures (B, 3, H, W)."""
    return {
        kind: [names[label] for label in concepts.probabilities(cnn, made).argmax(1)]
        for kind, made in pictures.items()
    }


def recognised(
    cohort: Cohort, drawn: Mapping[int, DrawnClasses], judges: Mapping[str, Subject]
) -> pd.DataFrame:
    """Pictures of every CNN shown to all others, and to further judges that are of other weights.

    Args:
        cohort: the CNNs.
        drawn: by seed, what its CNN drew (:func:`drawn_classes`).
        judges: further CNNs, by name.

    Returns:
        A row per kind of picture (``method``), ``seed`` of the CNN that drew, and class (``image``), the
        mean over the judges: in per cent ``won`` and ``won_among`` the classes drawn; ``probability``
        (:func:`gan_lib.concepts.recognition_test`); ready for :func:`gan_lib.metrics.summarise`.
    """
    tables = {}
    for seed, (classes, pictures) in drawn.items():
        others = {f"seed {other}": own.cnn for other, own in cohort.items() if other != seed}
        others |= {name: own.cnn for name, own in judges.items()}
        parts = []
        for kind, made in pictures.items():
            table = concepts.recognition_test(others, made, classes)
            table[["won", "won_among"]] = 100.0 * table[["won", "won_among"]]
            means = table.groupby("class", sort=False)[["won", "won_among", "probability"]].mean()
            parts.append(means.reset_index().rename(columns={"class": "image"}).assign(method=kind))
        tables[seed] = pd.concat(parts)
    return cohort.scores(tables, dealt=False)
