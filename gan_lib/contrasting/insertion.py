"""Insertion test: does evidence that was found by contrasting change the prediction of other images?"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_lib.capture import evaluation_mode
from gan_lib.concepts import LayerRelevance, PooledActivations, predicted_images
from gan_lib.contrasting.evidence import Evidence, contrasting_concepts
from gan_lib.contrasting.hyperplanes import Hyperplanes
from gan_lib.data import ImageSplit


def insertion_test(
    cnn: nn.Module,
    relevance: LayerRelevance,
    images: Tensor,
    one: int,
    other: int,
    patches: Mapping[str, Tensor],
) -> tuple[pd.DataFrame, dict[str, Tensor]]:
    """Paste patches into images of another class, and compare both classes' probabilities.

        table, pasted = insertion_test(cnn, relevance, images_of_b, a, b, {"evidence": crops, "mean": grey})

    The test of arXiv 2502.03422 (table 4), with controls of the same size at the same place. The place
    is free: there a window of the patch's size covers the least of what speaks for the image's own class.

    Args:
        cnn: from images in [0, 1] to logits.
        relevance: decides which place is free.
        images: (B, 3, H, W) of class ``other``.
        one: the class whose evidence is pasted.
        other: the images' own class.
        patches: by name, one per image: (B, 3, h, w); all of one size.

    Returns:
        A row per image and patch: ``image``, ``patch``, ``before`` and ``after`` (probability of class
        ``one``), ``own_before`` and ``own_after`` (of class ``other``), ``flipped`` (the prediction became
        class ``one``); and the images with patches, by name.

    Raises:
        ValueError: patches of different sizes, or another number of them than of images.
    """
    sizes = {tuple(patch.shape) for patch in patches.values()}
    if len(sizes) != 1 or len(images) not in {size[0] for size in sizes}:
        raise ValueError(f"patches need one size, and one for each of {len(images)} images: {sizes}")
    device = next(cnn.parameters()).device
    images = images.to(device)
    size = next(iter(patches.values())).shape[-2:]
    corner = free_place(relevance(images, other), (images.shape[-2], images.shape[-1]), (size[0], size[1]))
    before = _probabilities(cnn, images)
    tables, pictures = [], {}
    for name, patch in patches.items():
        pasted = paste(images, patch.to(device), corner)
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
    show it best by themselves (:meth:`gan_lib.concepts.PooledActivations.by_themselves`). Controls of the
    same size at the same place: their ``mean colour``, and what speaks most for a ``third class``.

    Args:
        relevance: decides where images are free.
        planes: between the classes.
        evidence: by class.
        pooled: activations of the split that cells are cut from.
        source: that split.
        images: those that are pasted into.
        predictions: what the CNN predicts for them.
        images_per_class: at most so many.
        candidates: nearest cells that are looked at by themselves; not more than ``images_per_class``
            leaves them in the order of their own cosine.
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
        patches = {}
        for name, label in (("evidence", one), ("third class", third)):
            if name == "third class" and label == one:
                continue  # there are two classes only
            basis = contrasting_concepts(planes, evidence, label, other, 1, seed)
            found = pooled.nearest(basis, max(len(rows), candidates))
            if candidates > len(rows):
                found = pooled.by_themselves(source, found, basis)
            patches[name] = pooled.crops(source, found, pooled.cell)[0, : len(rows)]
        patches["mean colour"] = patches["evidence"].mean((2, 3), keepdim=True).expand_as(patches["evidence"])
        made, pasted = insertion_test(relevance.hidden.cnn, relevance, own, one, other, patches)
        names = [f"{one}/{other}/{row}" for row in made["image"]]
        tables.append(made.assign(image=names, other=other, **{"class": one}))
        shown[one, other] = {"image": own.cpu(), **pasted}
    return pd.concat(tables, ignore_index=True), shown


def free_place(relevance: Tensor, size: tuple[int, int], window: tuple[int, int]) -> Tensor:
    """Top left corners (B, 2), row and column, where a window covers the least relevance (B, 1, h, w).

    Of equal windows the one nearest to the top left corner.

    Raises:
        ValueError: a window larger than the image.
    """
    if window[0] > size[0] or window[1] > size[1]:
        raise ValueError(f"a patch of {window} does not fit into an image of {size}")
    large = F.interpolate(relevance.float(), size=size, mode="bilinear", align_corners=False)
    covered = F.avg_pool2d(large, window, stride=1)[:, 0]  # (B, H - h + 1, W - w + 1)
    place = covered.flatten(1).argmin(1)
    return torch.stack([place // covered.shape[2], place % covered.shape[2]], 1)


def paste(images: Tensor, patches: Tensor, corner: Tensor) -> Tensor:
    """Images (B, 3, H, W) with a patch (B, 3, h, w) each, its top left corner at (B, 2)."""
    made = images.clone()
    height, width = patches.shape[-2:]
    for picture, patch, (top, left) in zip(made, patches, corner.tolist(), strict=True):
        picture[:, top : top + height, left : left + width] = patch
    return made


def _probabilities(cnn: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad(), evaluation_mode(cnn):
        made: Tensor = cnn(images).float().softmax(1)
    return made
