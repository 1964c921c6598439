"""What notebooks 06 and 07 measure of a subject's concepts and contrasts, for :meth:`Cohort.each`.

Every function gives tables by name with one row per class, pair or image, called ``image``, to be put
together with those of the other CNNs and summarised.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import pandas as pd
from torch import Tensor

from gan_lib import concepts
from gan_lib.concepts import contrasting
from gan_lib.metrics import differences
from gan_lib.workbench.cohort import Cohort
from gan_lib.workbench.recipes import Recipe
from gan_lib.workbench.subject import Subject

Tables = dict[str, pd.DataFrame]
ALL, TYPICAL, RANDOM = "all places", "typical places", "as many at random"  # of which concepts are made


def joined(cohort: Cohort, tables: dict[int, Tables], dealt: bool = False) -> Tables:
    """Tables of all CNNs, by name: of the same classes or pairs, or with ``dealt`` of images of their own."""
    names = next(iter(tables.values()))
    return {name: cohort.scores({seed: own[name] for seed, own in tables.items()}, dealt) for name in names}


def hidden_layer(subject: Subject) -> concepts.HiddenLayer:
    """The layer of the recipe's concepts."""
    return concepts.HiddenLayer(subject.cnn, subject.recipe.concepts.layer, subject.image_size)


def pooled_activations(subject: Subject, hidden: concepts.HiddenLayer) -> concepts.PooledActivations:
    """Of the test images, in cells of the recipe's size."""
    own = subject.recipe.concepts
    return concepts.PooledActivations(hidden, subject.data.test, own.pooling, own.pooling_stride)


def concept_scores(subject: Subject) -> Tables:
    """Of a CNN's concepts: what is left over (``error``), what is lost without each (``importance``), how
    many there are (``counts``), and the prediction test (``tests``); a row per class."""
    own, seed, hidden = subject.recipe.concepts, subject.recipe.seed, hidden_layer(subject)
    bank = subject.concepts(concepts.LayerRelevance(hidden, own.relevance, own.noise_copies))
    images, predicted = subject.data[own.split], subject.predictions(own.split)
    lost = concepts.importance_table(hidden, images, predicted, bank, own.images_per_class, seed)
    long = lost.melt("class", var_name="method", value_name="lost").rename(columns={"class": "image"})
    report = bank.report[["class", "error"]].rename(columns={"class": "image"})
    cheap, counts = concepts.LayerRelevance(hidden, "gradient_x_activation", samples=0), []
    for label in bank.shown(own.shown):
        rows = concepts.predicted_images(predicted, label, own.images_per_class, seed)
        found = concepts.how_many(concepts.weighted_activations(cheap, images, rows, label), own.counted)
        means = found.groupby("components")[["error", "stability"]].mean().reset_index()
        counts.append(means.assign(image=label))
    given = (bank, pooled_activations(subject, hidden), subject.predictions())
    tests, _ = concepts.prediction_test(*given, own.crop_counts, own.crop_candidates, seed=seed)
    return {
        "error": report.assign(method="concepts"),
        "importance": long,
        "counts": pd.concat(counts),
        "tests": concepts.prediction_scores(tests),
    }


def contrast_parts(subject: Subject) -> tuple[concepts.LayerRelevance, Any, contrasting.Hyperplanes]:
    """Relevance in the layer, the evidence of the concepts' classes by it, and hyperplanes between them."""
    recipe, train = subject.recipe, (subject.data.train, subject.predictions("train"))
    relevance = concepts.LayerRelevance(hidden_layer(subject), recipe.contrasting.relevance, samples=0)
    own = recipe.concepts
    classes = range(len(subject.names)) if own.classes is None else own.classes
    counts: Any = (classes, own.images_per_class, recipe.seed)
    evidence = contrasting.gather_evidence(relevance, *train, *counts)
    vectors = {label: own.vectors for label, own in evidence.items()}
    return relevance, evidence, contrasting.Hyperplanes(vectors, recipe.contrasting.strength)


def separation_scores(subject: Subject) -> Tables:
    """Accuracy of a CNN's hyperplanes between two classes, on images held out and fitted; a row per pair."""
    _, evidence, planes = contrast_parts(subject)
    table = contrasting.held_out_accuracy(evidence, planes.strength, subject.recipe.seed)
    pairs = table["class"].astype(str) + "/" + table["other"].astype(str)
    columns = {"accuracy": 100 * table["accuracy"], "training_accuracy": 100 * table["training_accuracy"]}
    return {"separation": pd.DataFrame({"method": "hyperplanes", "image": pairs, **columns})}


def contrast_scores(subject: Subject) -> Tables:
    """The shifting test (``reached`` at some offset, ``shifting`` by offset, ``absolute`` at the published
    ones) and the insertion test (``insertion``) of a CNN, a row per pair and image; and what becomes of
    concepts of typical places only (:func:`density_scores`)."""
    own, seed = subject.recipe.contrasting, subject.recipe.seed
    relevance, evidence, planes = contrast_parts(subject)
    hidden = relevance.hidden
    pairs = list(itertools.permutations(evidence, 2))
    shift = partial(contrasting.shifting_test, hidden, planes, evidence, subject.data.train, pairs, seed=seed)
    shifted = shift(own.shift_offsets, images_per_class=own.shifted_images, draws=own.shift_draws)
    published = shift(contrasting.PUBLISHED_OFFSETS, absolute=True, images_per_class=1)
    pooled = pooled_activations(subject, hidden)
    pasted = (subject.data.test, subject.predictions(), own.inserted_images, own.cell_candidates, seed)
    inserted, _ = contrasting.insertion_round(relevance, planes, pooled, *pasted)
    return {
        "reached": contrasting.reached_scores(shifted),
        "shifting": contrasting.shifting_scores(shifted),
        "absolute": contrasting.shifting_scores(published),
        "insertion": contrasting.insertion_scores(inserted),
        **density_scores(subject, relevance, evidence, planes, pooled),
    }


def density_scores(
    subject: Subject,
    relevance: concepts.LayerRelevance,
    evidence: Mapping[int, contrasting.Evidence],
    planes: contrasting.Hyperplanes,
    pooled: concepts.PooledActivations,
) -> Tables:
    """Contrasting concepts of all places that speak, of typical ones only, and of as many at random.

    Pairs are those of the insertion test between the first classes, as many as the recipe says. A row per
    pair in ``typical``: the places that speak and are ``kept`` [%], the concepts' cosine with those of all
    places (``agreement``), and the cosine of the concepts of either half of the images, with a mixture of its
    own, with those of the other (``stability``); NaN where too few places are left. A row per pair and image
    in ``typical_insertion``: what the first concept does there.
    """
    recipe, own, seed = subject.recipe, subject.recipe.contrasting, subject.recipe.seed
    labels = list(planes.vectors)[: own.mixture_classes]
    pairs, rows = list(zip(labels, labels[1:] + labels[:1], strict=True)), []
    whole = density_forms(planes.keeping({label: evidence[label].image >= 0 for label in labels}), recipe)
    halves = [
        density_forms(planes.keeping({label: evidence[label].image % 2 == half for label in labels}), recipe)
        for half in (0, 1)
    ]
    for one, other in pairs:
        find = partial(_found, one=one, other=other, components=own.components, seed=seed)
        reference, count = find(planes), len(planes.speaking(one, other))
        for name, form in whole.items():
            values = {
                "kept": 100.0 * len(form.speaking(one, other)) / count if count else math.nan,
                "agreement": _alike(reference, reference if name == ALL else find(form)),
                "stability": _alike(*(find(half[name]) for half in halves)),
            }
            rows.append({"method": name, "image": f"{one}/{other}", **values})
    pasted = (subject.data.test, subject.predictions(), own.inserted_images, own.cell_candidates, seed)
    made = [
        contrasting.insertion_round(relevance, form, pooled, *pasted, controls=False)[0].assign(patch=name)
        for name, form in whole.items()
    ]
    inserted = contrasting.insertion_scores(pd.concat(made))
    return {"typical": pd.DataFrame(rows), "typical_insertion": inserted}


def density_forms(planes: contrasting.Hyperplanes, recipe: Recipe) -> dict[str, contrasting.Hyperplanes]:
    """Planes of which all places speak, the typical ones, and as many at random."""
    own, seed = recipe.contrasting, recipe.seed
    typical = contrasting.typical_places(planes.vectors, own.typical_share, own.gaussians, seed)
    drawn = contrasting.places_at_random(typical, seed)
    return {ALL: planes, TYPICAL: planes.keeping(typical), RANDOM: planes.keeping(drawn)}


def _found(
    planes: contrasting.Hyperplanes, one: int, other: int, components: int, seed: int
) -> Tensor | None:
    """Contrasting concepts, or ``None`` where fewer places speak than there are concepts."""
    if one not in planes.vectors or len(planes.speaking(one, other)) < components:
        return None
    return contrasting.contrasting_concepts(planes, one, other, components, seed)


def _alike(one: Tensor | None, other: Tensor | None) -> float:
    return math.nan if one is None or other is None else concepts.matched_similarity(one, other)


def mark_scores(subject: Subject) -> Tables:
    """Of a CNN that was led to rely on marks: what it gets ``right`` of every split, whether contrasting
    concepts have ``found`` the mark, cells at random (``chance``), and the insertion test; for classes whose
    mark it relies on and for the others."""
    own, seed, data = subject.recipe.contrasting, subject.recipe.seed, subject.data
    tables = {split: subject.predictions(split) for split in ("train", "test", "conflict")}
    right = [
        pd.DataFrame(
            {
                "method": split,
                "image": table["image"],
                "right": 100.0 * (table["label"] == table["prediction"]),
            }
        )
        for split, table in tables.items()
    ]
    carried = contrasting.carried_marks(data.train, data["conflict"])
    follows = 100.0 * (tables["conflict"]["prediction"] == carried.numpy())
    right.append(pd.DataFrame({"method": "follows the mark", "image": range(len(follows)), "right": follows}))
    reliance = contrasting.mark_reliance(tables["test"], tables["conflict"], carried, len(subject.names))
    relied = reliance.loc[reliance["relied on"], "class"]
    relevance, _, planes = contrast_parts(subject)
    sides = subject.recipe.concepts.pooling, subject.recipe.concepts.pooling_stride
    pooled = concepts.PooledActivations(relevance.hidden, data["conflict"], *sides)
    marks = data["conflict"].batch(range(len(pooled))).marks
    assert marks is not None
    drawn = pooled.contains(pooled.random(10, min(100, len(pooled)), seed), marks).flatten()
    chance = pd.DataFrame(
        {"method": "cells at random", "image": range(len(drawn)), "with_mark": 100.0 * drawn}
    )
    found = contrasting.marks_found(planes, pooled, own.components, own.cell_candidates, seed)
    kinds = found["class"].isin(relied).map({True: "mark relied on", False: "mark not relied on"})
    labels = kinds + ", " + found["cells"] + ", concept " + found["concept"].astype(str)
    pairs = found["class"].astype(str) + "/" + found["other"].astype(str)
    rows = {"method": labels, "image": pairs, "with_mark": 10.0 * found["with_mark"]}
    pasted = (data.test, tables["test"], own.inserted_images, own.cell_candidates, seed)
    inserted, _ = contrasting.insertion_round(relevance, planes, pooled, *pasted)
    kind = inserted["class"].isin(relied).map({True: ", mark relied on", False: ", mark not relied on"})
    return {
        "right": pd.concat(right),
        "reliance": reliance.rename(columns={"class": "image"}).assign(method="classes"),
        "found": pd.DataFrame(rows).assign(found=100.0 * (found["with_mark"] >= 8)),
        "chance": chance,
        "insertion": contrasting.insertion_scores(inserted.assign(patch=inserted["patch"] + kind)),
    }


def typical_differences(tested: Tables) -> pd.DataFrame:
    """What the restriction to typical places changes, paired on the same CNN and pair: against all places,
    and against as many at random, with which the ``agreement`` is compared alone; of tables by name as
    :func:`density_scores` makes them (:func:`gan_lib.metrics.differences`)."""
    of_pairs, of_images = tested["typical"], tested["typical_insertion"]
    asked = (
        (of_pairs, ["agreement"], [RANDOM]),
        (of_pairs, ["stability"], [ALL, RANDOM]),
        (of_images, ["flipped", "gain"], [ALL, RANDOM]),
    )
    return pd.concat(
        [differences(scores, measures, [TYPICAL], against) for scores, measures, against in asked],
        ignore_index=True,
    )
