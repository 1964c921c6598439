"""Insertion by hand into a subject's own images, from the classes that its CNN confuses to the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from gan_lib import concepts
from gan_lib.concepts import contrasting
from gan_lib.concepts.layers import probabilities
from gan_lib.data import ImageSplit
from gan_lib.workbench.concept_scores import hidden_layer
from gan_lib.workbench.subject import Subject


@dataclass(frozen=True)
class ByHand:
    """A crop that speaks for class ``one``, pasted into images of class ``other``.

    Attributes:
        one, other: the classes.
        confused: the mean probability of ``one`` on training images of ``other``.
        crop: (3, h, w) in [0, 1].
        images: (B, 3, H, W), which none of this was found on.
        inserted: what became of them.
        names: of all classes.
    """

    one: int
    other: int
    confused: float
    crop: Tensor
    images: Tensor
    inserted: contrasting.Inserted
    names: tuple[str, ...]

    def table(self) -> pd.DataFrame:
        """Mean probabilities before and after, with intervals (:func:`contrasting.insertion_table`)."""
        called = {"one": self.names[self.one], "other": self.names[self.other]}
        return contrasting.insertion_table(self.inserted.rows).replace({"class": called})

    def page(self, count: int) -> dict[str, Any]:
        """The first images, as arguments of ``figures.map_grid``; at the left the probabilities of both
        classes, in the order of the columns."""
        rows, (tall, wide) = self.inserted.rows[:count], self.crop.shape[1:]
        corners = torch.tensor(rows[["left", "top"]].to_numpy())
        frames = torch.cat([corners, corners + torch.tensor([wide, tall])], 1)  # (count, 4)
        columns = {
            "image": self.images[:count],
            f"evidence for {self.names[self.one]}": self.inserted.pasted[:count],
            "control": self.inserted.control[:count],
        }
        return {
            "columns": columns,
            "row_labels": [self._label(row) for _, row in rows.iterrows()],
            "frames": dict.fromkeys([*columns][1:], frames),
        }

    def _label(self, row: pd.Series) -> str:
        parts = []
        for which, label in (("one", self.one), ("other", self.other)):
            given = " ".join(f"{row[f'{which}_{state}']:.2f}" for state in contrasting.STATES)
            parts.append(f"{self.names[label]} {given}")
        return "; ".join(parts)


def insertion_by_hand(subject: Subject) -> ByHand:
    """Evidence for one of the two classes that a CNN confuses most, pasted into images of the other.

    Classes are those of the test images. On *training* images it is found which of them gets the most
    probability on images of another one, what speaks for it there (the contrasting concept that is used
    most), and which crop shows that best by itself. It is pasted into *test* images that are predicted as the
    other class, and so is a black control (:func:`contrasting.insert_crop`). All counts are the recipe's.

    Raises:
        ValueError: nothing speaks for the class, no image is predicted as the other, or there are too few
            classes.
    """
    recipe, own, cells = subject.recipe, subject.recipe.contrasting, subject.recipe.concepts
    train, table = subject.data.train, subject.predictions("train")
    labels = subject.data.test.labels.unique().tolist()
    labelled = table.assign(prediction=table["label"])
    drawn = [
        concepts.predicted_images(labelled, label, cells.images_per_class, recipe.seed) for label in labels
    ]
    given = torch.cat([_probabilities(subject, train, rows) for rows in drawn])  # (N, K)
    known = torch.repeat_interleave(torch.tensor(labels), torch.tensor([len(rows) for rows in drawn]))
    one, other, confused = contrasting.most_confused(given, known)

    relevance = concepts.LayerRelevance(hidden_layer(subject), own.relevance, samples=0)
    count = (cells.images_per_class, recipe.seed)
    evidence = contrasting.gather_evidence(relevance, train, table, (one, other), *count)
    vectors = {label: found.vectors for label, found in evidence.items()}
    planes = contrasting.Hyperplanes(vectors, own.strength)
    basis = contrasting.contrasting_concepts(planes, one, other, own.components, recipe.seed)
    shown = train.subset(evidence[one].rows)
    pooled = concepts.PooledActivations(relevance.hidden, shown, cells.pooling, cells.pooling_stride)
    crop = pooled.crops(pooled.best(basis[:1], own.cell_candidates)[:, :1])[0, 0]  # (3, h, w)

    rows = concepts.predicted_images(subject.predictions(), other, own.by_hand_images, recipe.seed)
    if not len(rows):
        raise ValueError(
            f"no test image is predicted as {subject.names[other]}: there is nothing to paste into"
        )
    images = subject.data.test.batch(rows).images
    made = contrasting.insert_crop(subject.cnn, images, crop, one, other)
    return ByHand(one, other, confused, crop, images, made, subject.names)


def _probabilities(subject: Subject, split: ImageSplit, rows: Tensor) -> Tensor:
    return probabilities(subject.cnn, split.batch(rows).images)
