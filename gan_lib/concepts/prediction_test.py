"""Are concepts what the CNN recognises a class by? Prototypes put together, and predicted."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from gan_lib.concepts.bank import ConceptBank
from gan_lib.concepts.layers import probabilities
from gan_lib.concepts.prototypes import Places, PooledActivations, montage
from gan_lib.core.options import positive
from gan_lib.metrics import summarise

SOURCES = ("prototypes", "random crops", "another class's prototypes")
# Which images a class's crops may come from: all; those not predicted as the class; of these, those that are
# not labelled as it either, so that no image of the class that the CNN got wrong is among them.
FORMS = ("plain", "strict", "strict by label")
LIMITS = (0.1, 0.2, 0.5)


def prediction_test(
    bank: ConceptBank,
    pooled: PooledActivations,
    predictions: pd.DataFrame,
    crop_counts: Sequence[int] = (4,),
    candidates: Sequence[int] = (1,),
    runs: int = 3,
    seed: int = 0,
    forms: Sequence[str] = FORMS[:2],
) -> tuple[pd.DataFrame, dict[str, Tensor]]:
    """Put one prototype of each concept together as an image, for every class, and predict it.

        tests, pictures = prediction_test(bank, pooled, predictions, [4, 6], [1, 40])
        prediction_summary(prediction_scores(tests))

    The test of arXiv 2502.03422 (tables 1 and 2): with every count of crops and of candidates; *strict*, all
    crops from images that are not predicted as the class, and not; and with two controls that its authors do
    not report: random crops, and another class's prototypes, where there is another class. It is held out
    where the concepts were learned on other images than the crops are cut from.

    Args:
        bank: the concepts.
        pooled, predictions: of the images that crops are cut from, ``image`` and ``prediction``.
        crop_counts: how many crops, of the first concepts; with more crops than concepts, further prototypes
            of the first ones. Where no image is left to cut from a crop stays black.
        candidates: so many of the nearest cells are put in order by themselves
            (:meth:`PooledActivations.best`), and the first is taken; 1 takes the nearest cell, as published.
        runs: of the controls, with the seeds ``seed``, ``seed + 1`` and so on.
        forms: some of :data:`FORMS`; *strict by label* leaves out images that are predicted or labelled as
            the class, and needs the predictions' column ``label``.

    Returns:
        A row per class and test: ``class``, ``prediction``, ``probability`` of the class, ``won``; ``form``
        (crops, and strict or not), ``method`` (source and candidates), ``seed``, the run. And by form and
        candidates the montages of the prototypes (K, 3, H, W).

    Raises:
        ValueError: a count below 1, nothing to be tested, no class with concepts, an unknown form, or no
            labels where the form asks for them.
    """
    positive(crops=min(crop_counts, default=0), candidates=min(candidates, default=0), runs=runs)
    positive(forms=len(forms))
    tables, pictures = [], {}
    known: dict[tuple[object, ...], Places] = {}
    for crops, count, of, source in itertools.product(crop_counts, candidates, forms, SOURCES):
        if (source == SOURCES[1] and count > 1) or (source == SOURCES[2] and len(bank.classes) == 1):
            continue
        form = f"{crops} crops{'' if of == FORMS[0] else f', {of}'}"
        chosen = f", best of {count}" if count > 1 else ""
        for run in range(1 if source == SOURCES[0] else runs):
            found = chosen_crops(bank, pooled, predictions, crops, of, source, seed + run, count, known)
            made = montage(pooled.crops(found), pooled.split.image_size)
            table = _predicted(pooled, made, bank.classes)
            tables.append(table.assign(method=f"{source}{chosen}", form=form, seed=run))
            if source == SOURCES[0]:
                pictures[f"{form}{chosen}"] = made
    return pd.concat(tables, ignore_index=True), pictures


def chosen_crops(
    bank: ConceptBank,
    pooled: PooledActivations,
    predictions: pd.DataFrame,
    crops: int,
    form: str = FORMS[0],
    source: str = SOURCES[0],
    seed: int = 0,
    candidates: int = 1,
    known: dict[tuple[object, ...], Places] | None = None,
) -> Places:
    """The crops (K, crops) of one :func:`prediction_test`: of each concept in turn, the best ones first.

    ``known`` are searches of the same concepts through the same images, which serve several counts of crops.

    Raises: a ValueError as :func:`prediction_test`.
    """
    vectors = bank.vectors().unflatten(0, (len(bank.classes), -1))  # (K, k, C)
    count, components = vectors.shape[:2]
    allowed = allowed_images(bank.classes, predictions, form)  # (K, N)
    if source == SOURCES[1]:
        return pooled.random(count, crops, seed, allowed)
    if source == SOURCES[2]:
        vectors = vectors[_others(count, seed)]
    rounds = -(-crops // components)
    known, key = ({} if known is None else known), (form, source, seed, max(rounds, candidates), candidates)
    if key not in known:
        find = pooled.best if candidates > 1 else pooled.nearest
        own = allowed.repeat_interleave(components, 0)  # (K * k, N)
        known[key] = find(vectors.flatten(0, 1), max(rounds, candidates), own)
    found = known[key]

    def in_turn(value: Tensor) -> Tensor:
        return value[:, :rounds].unflatten(0, (-1, components)).mT.flatten(1)[:, :crops]

    return Places(in_turn(found.image), in_turn(found.place), in_turn(found.similarity))


def allowed_images(classes: Sequence[int], predictions: pd.DataFrame, form: str) -> Tensor:
    """Which images (K, N) bool the crops of each class may be cut from, in one of the :data:`FORMS`.

        allowed_images([3], pd.DataFrame({"prediction": [3, 5, 5], "label": [3, 3, 5]}), "strict by label")
        # tensor([[False, False, True]])

    Raises:
        ValueError: an unknown form, or predictions without the labels that it needs.
    """
    if form not in FORMS:
        raise ValueError(f"a form of the prediction test is one of {FORMS}, not {form!r}")
    if form == FORMS[2] and "label" not in predictions:
        raise ValueError("strict by label needs labels: predictions have no column 'label'")
    allowed = torch.ones(len(classes), len(predictions), dtype=torch.bool)
    columns = {FORMS[0]: (), FORMS[1]: ("prediction",), FORMS[2]: ("prediction", "label")}[form]
    for column in columns:
        allowed &= torch.tensor(predictions[column].to_numpy().copy()) != torch.tensor(classes)[:, None]
    return allowed


def _others(count: int, seed: int) -> Tensor:
    """A permutation that leaves nothing in its place."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    other = torch.empty_like(order)
    other[order] = order.roll(1)
    return other


def _predicted(pooled: PooledActivations, pictures: Tensor, classes: Sequence[int]) -> pd.DataFrame:
    """What the CNN says about one picture (3, H, W) for each class."""
    labels, chances = torch.tensor(classes), probabilities(pooled.hidden.cnn, pictures)  # (K, classes)
    own, prediction = chances[torch.arange(len(labels)), labels].double(), chances.argmax(1)
    columns = {"class": labels, "prediction": prediction, "probability": own, "won": prediction == labels}
    return pd.DataFrame({name: column.numpy() for name, column in columns.items()})


def prediction_scores(tests: pd.DataFrame) -> pd.DataFrame:
    """What came out of :func:`prediction_test` for every class, called ``image``, in the mean over its runs.

    A row per ``form``, ``method`` and class: ``probability`` of the class, and in per cent ``won``, and
    ``over LIMIT`` for a probability above each.
    """
    scores = tests.rename(columns={"class": "image"}).assign(won=100.0 * tests["won"])
    for limit in LIMITS:
        scores[f"over {limit}"] = 100.0 * (tests["probability"] > limit)
    means = scores.drop(columns=["prediction", "seed"]).groupby(["form", "method", "image"], sort=False)
    return means.mean().reset_index().assign(seed=0)


def prediction_summary(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores of :func:`prediction_scores`, of one CNN or several, with 95 % intervals over CNNs and classes:
    a row per form, method and measure (:func:`gan_lib.metrics.summarise`)."""
    parts = scores.groupby("form", sort=False)
    return pd.concat([summarise(own.drop(columns="form")).assign(form=form) for form, own in parts])
