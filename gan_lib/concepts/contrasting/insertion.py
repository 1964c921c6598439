"""Insertion test: does evidence that was found by contrasting change the prediction of other images?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_lib.concepts import LayerRelevance, PooledActivations, predicted_images
from gan_lib.concepts.contrasting.evidence import contrasting_concepts
from gan_lib.concepts.contrasting.hyperplanes import Hyperplanes
from gan_lib.concepts.layers import probabilities
from gan_lib.core.options import positive
from gan_lib.data import ImageSplit


def insertion_test(
    cnn: nn.Module, images: Tensor, pasted: Mapping[str, Tensor], one: int, other: int
) -> pd.DataFrame:
    """What a CNN says about images (B, 3, H, W) of class ``other`` before and after patches were pasted.

    The test of arXiv 2502.03422 (table 4). ``pasted`` are, by the patch's name, the same images with evidence
    for class ``one``, or with a control.

    Returns:
        A row per image and patch: ``image``, ``patch``, ``before`` and ``after`` (probability of class
        ``one``), ``own_before`` and ``own_after`` (of class ``other``), ``flipped`` (the prediction became
        class ``one``).
    """
    before, tables = probabilities(cnn, images), []
    for name, pictures in pasted.items():
        after = probabilities(cnn, pictures)
        columns = {
            "before": before[:, one],
            "after": after[:, one],
            "own_before": before[:, other],
            "own_after": after[:, other],
            "flipped": (after.argmax(1) == one) & (before.argmax(1) != one),
        }
        values = {column: value.tolist() for column, value in columns.items()}
        tables.append(pd.DataFrame({"image": range(len(images)), "patch": name, **values}))
    return pd.concat(tables, ignore_index=True)


def insertion_round(
    relevance: LayerRelevance,
    planes: Hyperplanes,
    pooled: PooledActivations,
    images: ImageSplit,
    predictions: pd.DataFrame,
    images_per_class: int = 20,
    candidates: int = 40,
    seed: int = 0,
    controls: bool = True,
) -> tuple[pd.DataFrame, dict[tuple[int, int], dict[str, Tensor]]]:
    """:func:`insertion_test` of every class in images of the class after it, of the last in the first.

    Pasted are cells that show the first contrasting concept best (:meth:`PooledActivations.best`). A cell
    keeps its place, for CNNs tell places apart, by their strides and the border's padding: of the best
    ``images_per_class`` cells, each image takes the one whose place is the :func:`freest`. Controls: the
    cell's ``mean colour``, and a cell of a ``third class``, chosen in the same way, where there is one.

    Args:
        relevance: decides where images (N, 3, H, W) are free.
        planes: between the classes.
        pooled: activations of the images that cells are cut from.
        images, predictions: those that are pasted into, and what the CNN predicts for them.
        images_per_class: at most so many.
        candidates: nearest cells that are looked at by themselves.
        seed: of the choice of images and of the factorisations.
        controls: paste them as well, which takes twice as long.

    Returns:
        The rows with ``class`` (pasted), ``other`` (the images' own) and an ``image`` that is its own for
        every pair; and per pair the pictures by name, ``image`` first. Pairs are left out where no image is
        predicted as ``other``, or where nothing speaks for the class.

    Raises:
        ValueError: every pair is left out, or a count below 1.
    """
    positive(images_per_class=images_per_class, candidates=candidates)
    labels, tables, shown = list(planes.vectors), [], {}
    for place, one in enumerate(labels):
        other, third = (labels[(place + ahead) % len(labels)] for ahead in (1, 2))
        rows = predicted_images(predictions, other, images_per_class, seed)
        wanted = {"evidence": one, "third class": third} if controls and third != one else {"evidence": one}
        speak = {name: label for name, label in wanted.items() if len(planes.speaking(label, other))}
        if not len(rows) or "evidence" not in speak:
            continue
        own = images.batch(rows).images
        speaking = relevance(own, other).cpu()  # (B, 1, h, w)
        patches = {}
        for name, label in speak.items():
            found = pooled.best(contrasting_concepts(planes, label, other, 1, seed), candidates)
            found = found[:, found.image[0] >= 0][:, :images_per_class]  # (1, T)
            boxes = pooled.boxes(found.place[0]).round().long()  # (T, 4)
            chosen = freest(speaking, boxes, images.image_size)  # (B,)
            patches[name] = pooled.crops(found)[0, chosen], boxes[chosen]
        crops, boxes = patches["evidence"]
        if controls:
            patches["mean colour"] = crops.mean((2, 3), keepdim=True).expand_as(crops), boxes
        pasted = {name: paste(own, *patch) for name, patch in patches.items()}
        made = insertion_test(relevance.hidden.cnn, own, pasted, one, other)
        names = [f"{one}/{other}/{row}" for row in made["image"]]
        tables.append(made.assign(image=names, other=other, **{"class": one}))
        shown[one, other] = {"image": own, **pasted}
    if not tables:
        raise ValueError(f"of the classes {labels} there are no images, or nothing speaks for any of them")
    return pd.concat(tables, ignore_index=True), shown


def insertion_scores(inserted: pd.DataFrame) -> pd.DataFrame:
    """Of the rows of :func:`insertion_round`, per patch, called ``method``, and ``image``: ``flipped`` [%],
    ``gain`` of the pasted class's probability, ``loss`` of the images' own; to be summarised."""
    own = inserted.rename(columns={"patch": "method"}).assign(seed=0, flipped=100.0 * inserted["flipped"])
    own["gain"], own["loss"] = own["after"] - own["before"], own["own_before"] - own["own_after"]
    return own[["method", "seed", "image", "flipped", "gain", "loss"]]


def inserted_page(
    cnn: nn.Module, shown: Mapping[tuple[int, int], Mapping[str, Tensor]], names: Sequence[str], most: int = 4
) -> dict[str, Any]:
    """The first image of the first pairs of :func:`insertion_round`, as arguments of ``figures.map_grid``.

    Shown are the patches, (3, H, W) each, that all these pairs have, with what the CNN predicts.
    """
    pairs = list(shown)[:most]
    kinds = [kind for kind in shown[pairs[0]] if all(kind in shown[pair] for pair in pairs)]
    columns = {kind: torch.cat([shown[pair][kind][:1] for pair in pairs]) for kind in kinds}
    said = {kind: probabilities(cnn, pictures).argmax(1).tolist() for kind, pictures in columns.items()}
    return {
        "columns": columns,
        "row_labels": [f"{names[one]} into {names[other]}" for one, other in pairs],
        "captions": {kind: [names[label] for label in labels] for kind, labels in said.items()},
    }


def freest(relevance: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Which box covers the least relevance (B, 1, h, w) of each image of a size (H, W): (B,).

    Boxes (T, 4) are left, top, right, bottom in pixels; of equal ones it is the first.

    Raises:
        ValueError: no box, or one that reaches beyond the image.
    """
    if not len(boxes) or boxes.min() < 0 or (boxes[:, 2:].amax(0) > torch.tensor(size[::-1])).any():
        raise ValueError(f"boxes do not lie in an image of {size}: {boxes.tolist()}")
    large = F.interpolate(relevance.double(), size=size, mode="bilinear", align_corners=False)[:, 0]
    means = [large[:, top:bottom, left:right].mean((1, 2)) for left, top, right, bottom in boxes.tolist()]
    return torch.stack(means, 1).argmin(1)


def paste(images: Tensor, patches: Tensor, boxes: Tensor, alpha: Tensor | None = None) -> Tensor:
    """Images (B, 3, H, W) with a patch (B, 3, h, w) each, in a box (B, 4) of its size.

    ``alpha`` (1, h, w) in [0, 1] is how much of a patch is seen, instead of the image below it.
    """
    made = images.clone()
    for picture, patch, (left, top, right, bottom) in zip(made, patches, boxes.tolist(), strict=True):
        below = picture[:, top:bottom, left:right]
        picture[:, top:bottom, left:right] = patch if alpha is None else torch.lerp(below, patch, alpha)
    return made
