"""Insertion test: does evidence that was found by contrasting change the prediction of other images?"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_lib.concepts import LayerRelevance, PooledActivations, predicted_images
from gan_lib.concepts.contrasting.evidence import Evidence, contrasting_concepts
from gan_lib.concepts.contrasting.hyperplanes import Hyperplanes
from gan_lib.core.capture import evaluation_mode
from gan_lib.data import ImageSplit


def insertion_test(
    cnn: nn.Module,
    images: Tensor,
    one: int,
    other: int,
    patches: Mapping[str, Tensor],
    corners: Mapping[str, Tensor],
) -> tuple[pd.DataFrame, dict[str, Tensor]]:
    """Paste patches into images of another class, and compare both classes' probabilities.

        table, pasted = insertion_test(cnn, images_of_b, a, b, {"evidence": crops}, {"evidence": corners})

    The test of arXiv 2502.03422 (table 4), with as many controls as there are further patches.

    Args:
        cnn: from images in [0, 1] to logits.
        images: (B, 3, H, W) of class ``other``.
        one: the class whose evidence is pasted.
        other: the images' own class.
        patches: by name, one per image: (B, 3, h, w); all of one size.
        corners: by name, where their top left corners go: (B, 2) row and column.

    Returns:
        A row per image and patch: ``image``, ``patch``, ``before`` and ``after`` (probability of class
        ``one``), ``own_before`` and ``own_after`` (of class ``other``), ``flipped`` (the prediction became
        class ``one``); and the images with patches, by name.

    Raises:
        ValueError: patches of different sizes, another number of them than of images, or one that
            reaches beyond its image.
    """
    sizes = {tuple(patch.shape) for patch in patches.values()}
    if len(sizes) != 1 or len(images) not in {size[0] for size in sizes}:
        raise ValueError(f"patches need one size, and one for each of {len(images)} images: {sizes}")
    device = next(cnn.parameters()).device
    images = images.to(device)
    before = _probabilities(cnn, images)
    tables, pictures = [], {}
    for name, patch in patches.items():
        pasted = paste(images, patch.to(device), corners[name])
        after = _probabilities(cnn, pasted)
        pictures[name] = pasted.cpu()
        tables.append(
            pd.DataFrame(
                {
                    "image": range(len(images)),
                    "patch": name,
                    "before": before[:, one].tolist(),
                    "after": after[:, one].tolist(),
                    "own_before": before[:, other].tolist(),
                    "own_after": after[:, other].tolist(),
                    "flipped": ((after.argmax(1) == one) & (before.argmax(1) != one)).tolist(),
                }
            )
        )
    return pd.concat(tables, ignore_index=True), pictures


def insertion_round(
    relevance: LayerRelevance,
    planes: Hyperplanes,
    evidence: Mapping[int, Evidence],
    pooled: PooledActivations,
    source: ImageSplit,
    images: ImageSplit,
    predictions: pd.DataFrame,
    images_per_class: int = 20,
    candidates: int = 40,
    seed: int = 0,
) -> tuple[pd.DataFrame, dict[tuple[int, int], dict[str, Tensor]]]:
    """Every class's evidence in images of the class after it, the last one's in images of the first.

    Pasted are cells of ``source`` that are nearest to what speaks most for the class rather than the
    images' own (a contrasting concept alone, :func:`contrasting_concepts`): of the nearest ones those that
    show it best by themselves (:meth:`gan_lib.concepts.PooledActivations.by_themselves`). A cell keeps its
    place, because CNNs tell the places of an image apart, by their strides and by the border's padding: of
    the best cells, each image takes the one whose place is the freest (:func:`freest`). Controls of the
    same size: the cell's ``mean colour``, at its place, and a cell that speaks most for a ``third class``,
    chosen in the same way.

    Args:
        relevance: of the images, decides where they are free.
        planes: between the classes.
        evidence: by class.
        pooled: activations of the split that cells are cut from.
        source: that split.
        images: those that are pasted into.
        predictions: what the CNN predicts for them.
        images_per_class: at most so many.
        candidates: nearest cells that are looked at by themselves; the best ``images_per_class`` of them
            can be pasted.
        seed: of the choice of images and of the factorisations.

    Returns:
        The rows of :func:`insertion_test`, with ``class`` (pasted), ``other`` (the images' own) and an
        ``image`` that is its own for every pair; and per pair the pictures by name, ``image`` first.
    """
    device = next(relevance.hidden.cnn.parameters()).device
    labels, tables, shown = list(evidence), [], {}
    for place, one in enumerate(labels):
        other, third = (labels[(place + ahead) % len(labels)] for ahead in (1, 2))
        rows = predicted_images(predictions, other, images_per_class, seed)
        if not len(rows):
            continue
        own = images.batch(rows).images.to(device)
        speaking = relevance(own, other)  # (B, 1, h, w)
        patches, corners = {}, {}
        for name, label in (("evidence", one), ("third class", third)):
            if name == "third class" and label == one:
                continue  # there are two classes only
            basis = contrasting_concepts(planes, evidence, label, other, 1, seed)
            found = pooled.by_themselves(source, pooled.nearest(basis, candidates), basis)
            found = found[:, found.image[0] >= 0][:, :images_per_class]  # (1, T)
            boxes = pooled.boxes(found.place[0]).round().long()  # (T, 4)
            chosen = freest(speaking, boxes, images.image_size).cpu()  # (B,)
            patches[name] = pooled.crops(source, found, pooled.cell)[0, chosen]
            corners[name] = boxes[chosen][:, [1, 0]]
        patches["mean colour"] = patches["evidence"].mean((2, 3), keepdim=True).expand_as(patches["evidence"])
        corners["mean colour"] = corners["evidence"]
        made, pasted = insertion_test(relevance.hidden.cnn, own, one, other, patches, corners)
        names = [f"{one}/{other}/{row}" for row in made["image"]]
        tables.append(made.assign(image=names, other=other, **{"class": one}))
        shown[one, other] = {"image": own.cpu(), **pasted}
    return pd.concat(tables, ignore_index=True), shown


def freest(relevance: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Which of the boxes (T, 4), in pixels, covers the least relevance (B, 1, h, w) of each image: (B,).

    Of equal ones the first.

    Args:
        relevance: at least 0.
        boxes: left, top, right, bottom; int64.
        size: H, W of the images.

    Raises:
        ValueError: no box, or one that reaches beyond the image.
    """
    left, top, right, bottom = boxes.to(relevance.device).unbind(1)
    if not len(boxes) or boxes.min() < 0 or right.max() > size[1] or bottom.max() > size[0]:
        raise ValueError(f"boxes do not lie in an image of {size}: {boxes.tolist()}")
    large = F.interpolate(relevance.double(), size=size, mode="bilinear", align_corners=False)[:, 0]
    summed = F.pad(large.cumsum(1).cumsum(2), (1, 0, 1, 0))  # (B, H + 1, W + 1)
    covered = summed[:, bottom, right] + summed[:, top, left]  # (B, T)
    covered = covered - summed[:, top, right] - summed[:, bottom, left]
    return (covered / ((bottom - top) * (right - left))).argmin(1)


def paste(images: Tensor, patches: Tensor, corner: Tensor) -> Tensor:
    """Images (B, 3, H, W) with a patch (B, 3, h, w) each, its top left corner at (B, 2).

    Raises:
        ValueError: a patch that reaches beyond its image.
    """
    made = images.clone()
    height, width = patches.shape[-2:]
    last = torch.tensor([images.shape[-2] - height, images.shape[-1] - width])
    if (corner.cpu() < 0).any() or (corner.cpu() > last).any():
        raise ValueError(f"a patch of {height} x {width} does not fit into {tuple(images.shape[-2:])} there")
    for picture, patch, (top, left) in zip(made, patches, corner.tolist(), strict=True):
        picture[:, top : top + height, left : left + width] = patch
    return made


def _probabilities(cnn: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad(), evaluation_mode(cnn):
        made: Tensor = cnn(images).float().softmax(1)
    return made
