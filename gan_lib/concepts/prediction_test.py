"""Are concepts what the CNN recognises a class by? Prototypes put together, and predicted."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor, nn

from gan_lib.concepts.bank import ConceptBank
from gan_lib.concepts.prototypes import Places, PooledActivations, montage
from gan_lib.core.capture import evaluation_mode
from gan_lib.data import ImageSplit

SOURCES = ("prototypes", "random crops", "another class's prototypes")


def prediction_test(
    cnn: nn.Module,
    bank: ConceptBank,
    pooled: PooledActivations,
    split: ImageSplit,
    predictions: pd.DataFrame,
    crops: int = 4,
    strict: bool = False,
    source: str = "prototypes",
    seed: int = 0,
    candidates: int = 1,
) -> tuple[pd.DataFrame, Tensor, Places]:
    """Put one prototype of each concept together as an image, for every class, and predict it.

        table, pictures, _ = prediction_test(cnn, bank, pooled, data.test, predictions, strict=True)
        (table["prediction"] == table["class"]).mean()    # share of classes that win

    The test of arXiv 2502.03422 (tables 1 and 2), with two controls that its authors do not report.

    Args:
        cnn: from images in [0, 1] to logits.
        bank: the concepts.
        pooled: activations of the split.
        split: the images that crops are cut from.
        predictions: what the CNN predicts for them.
        crops: how many, of the first concepts; with more crops than concepts, further prototypes of the
            first ones.
        strict: crops only from images for which the CNN does not predict the class.
        source: ``prototypes``; ``random crops`` of images that are allowed; or ``another class's
            prototypes``, cut from images that are not predicted as the class either.
        seed: of the controls.
        candidates: so many of the nearest cells are cut out and shown to the CNN by themselves
            (:meth:`PooledActivations.by_themselves`), and the crop whose own activations point most where
            the concept points is taken; 1 takes the nearest cell, as published. A cell's activations see
            beyond its edges, a crop does not.

    Returns:
        A row per class (``class``, ``prediction``, ``probability`` of the class, ``won``), the montages
        (classes, 3, H, W), and where the crops come from.

    Raises:
        ValueError: an unknown source, or another class's prototypes where there is one class only.
    """
    if source not in SOURCES:
        raise ValueError(f"source is one of {SOURCES}, not {source!r}")
    labels = torch.tensor(bank.classes)
    predicted = torch.tensor(predictions["prediction"].to_numpy().copy())
    allowed = predicted[None] != labels[:, None]  # (K, N)
    if not strict:
        allowed = torch.ones_like(allowed)
    if source == "random crops":
        found = pooled.random(len(labels), crops, seed, allowed)
    else:
        if source != "prototypes" and len(labels) < 2:
            raise ValueError("there is one class only, and so no other class's prototypes")
        owner = _others(len(labels), seed) if source != "prototypes" else torch.arange(len(labels))
        bases = [bank.basis[int(labels[i])] for i in owner]
        found = _first_of_each(pooled, split, bases, allowed, crops, candidates)
    pictures = montage(pooled.crops(split, found, pooled.cell), split.image_size)
    probabilities = _probabilities(cnn, pictures)  # (K, classes)
    chosen = probabilities.argmax(1)
    table = pd.DataFrame(
        {
            "class": labels.tolist(),
            "prediction": chosen.tolist(),
            "probability": probabilities[torch.arange(len(labels)), labels].tolist(),
            "won": (chosen == labels).tolist(),
        }
    )
    return table, pictures, found


def _others(count: int, seed: int) -> Tensor:
    """A permutation that leaves nothing in its place."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    other = torch.empty_like(order)
    other[order] = order.roll(1)
    return other


def _first_of_each(
    pooled: PooledActivations,
    split: ImageSplit,
    bases: Sequence[Tensor],
    allowed: Tensor,
    crops: int,
    candidates: int,
) -> Places:
    """Prototypes (K, crops): the best of every concept, then the second best, and so on."""
    components = len(bases[0])
    rounds = -(-crops // components)
    own = allowed.repeat_interleave(components, 0)  # (K * k, N)
    vectors = torch.cat(list(bases))
    found = pooled.nearest(vectors, max(rounds, candidates), own)
    if candidates > 1:
        found = pooled.by_themselves(split, found, vectors)
    columns = [
        value[:, :rounds].unflatten(0, (len(bases), components)).mT.flatten(1)[:, :crops]
        for value in (found.image, found.place, found.similarity)
    ]
    return Places(*columns)


def _probabilities(cnn: nn.Module, images: Tensor, batch_size: int = 128) -> Tensor:
    device = next(cnn.parameters()).device
    with torch.no_grad(), evaluation_mode(cnn):
        made = [cnn(part.to(device)).float().softmax(1).cpu() for part in images.split(batch_size)]
    return torch.cat(made)
