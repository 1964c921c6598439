"""The sweep over cells CNN x data set: generators are trained on some cells and tested on all.

Conditions are chosen by relative depth, so that CGMAs of any CNN fit (arXiv 2301.08067, section 5). A
generator that reads activations cannot travel as it is; its adapters are trained anew for the new CNN.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import pandas as pd
import torch

from gan_lib.core.options import options
from gan_lib.data import ImageSplit
from gan_lib.explainers import Explainer, GANExplainer, GradCAM, LinearReadout
from gan_lib.gan.conditions import StoredConditions
from gan_lib.metrics import judge, summarise, wins_against
from gan_lib.workbench.bench import Workbench
from gan_lib.workbench.jobs import GeneratorJob, train_all
from gan_lib.workbench.recipes import ProfileError
from gan_lib.workbench.samples import Sample
from gan_lib.workbench.subject import Subject
from gan_lib.workbench.sweeps import AREAS, SWEEPS, Sweep, Tables

SETTINGS = {"leak-free": "cgma", "published": "published"}  # of the conditions
VARIANTS = ("lsft", "gsft")
TRAVELLED = ["dice", "drop_black", "drop_black@10", "drop_blur", "increase_black", "won", "lost", "won@10"]
ADAPTED = ["drop_black", "drop_black@10", "won", "won@10"]
Explainers = dict[tuple[str, int], Explainer]  # by method and training seed
KNOWN = {
    (True, True): "unseen pair",  # CNN and data set are known, from other pairs
    (False, True): "unseen CNN",
    (True, False): "unseen data",
    (False, False): "unseen CNN and data",
}


@options
class UnseenOptions:
    """``options`` of the sweep's file.

    Attributes:
        seen_architectures, seen_data_sets: of the cells that generators are trained on.
        unseen_architectures, unseen_data_sets: further ones; a data set that is not at hand is left out.
        images, test_images: of each cell.
        adapter_steps, adapter_learning_rate: of a contrastive generator on CNNs that it has not seen.
        adapted_data_sets: on which that is tried.
    """

    seen_architectures: list[str]
    unseen_architectures: list[str]
    seen_data_sets: list[str]
    unseen_data_sets: list[str]
    images: int = 500
    test_images: int = 200
    adapter_steps: list[int] | tuple[int, ...] = (1, 10, 100)
    adapter_learning_rate: float = 0.01
    adapted_data_sets: list[str] | tuple[str, ...] = ()


def seen_before(cell: Subject, trained_on: Sequence[Subject]) -> str:
    """What a generator knows of a cell that it is tested on: ``seen``, or a value of :data:`KNOWN`."""
    if any(own.name == cell.name for own in trained_on):
        return "seen"
    cnn = any(own.recipe.cnn.architecture == cell.recipe.cnn.architecture for own in trained_on)
    return KNOWN[cnn, any(own.recipe.data.name == cell.recipe.data.name for own in trained_on)]


def cell_scores(cell: Subject, explainers: Explainers, sample: Sample) -> pd.DataFrame:
    """Every measure of several explainers in a cell, image by image, and who wins against Grad-CAM.

    ``("Grad-CAM", 0)`` must be among the explainers.

    Returns:
        The scores of :func:`gan_lib.metrics.judge`, ``dice`` with Grad-CAM's map; ``won`` and ``lost`` (0 or
        100), by the drop on black, and at a matched area of 10 %; and ``cell``, with which ``image`` begins.
    """
    maps = {
        key: own.to(cell.device).attribute(sample.images, target=sample.explained, batch_size=128)
        for key, own in explainers.items()
    }
    given: Any = {"reference": maps["Grad-CAM", 0], "evidence": sample.masks, "areas": AREAS}
    scores, _ = judge(cell.cnn, sample.images, maps, sample.explained, **given)
    for suffix in ("", *(f"@{100 * area:g}" for area in AREAS)):
        wins = wins_against(scores, f"drop_black{suffix}", "Grad-CAM")  # in the same order
        scores = scores.assign(**{f"won{suffix}": wins["won"], f"lost{suffix}": wins["lost"]})
    return scores.assign(cell=cell.name, image=cell.name + "/" + scores["image"].astype(str))


@SWEEPS.register("unseen")
def run_unseen(sweep: Sweep, bench: Workbench) -> Tables:
    """Supervised generators on all cells, and contrastive ones whose adapters are trained anew.

    Raises:
        ProfileError: options that do not fit.
    """
    try:
        asked = UnseenOptions(**sweep.options)
    except (TypeError, ValueError) as error:
        raise ProfileError(f"sweep {sweep.name!r}: {error}") from None
    seeds = sweep.seeds or bench.recipe.seeds
    cells, missing = _cells(asked, bench)
    learned = _among(cells, asked.seen_architectures, asked.seen_data_sets)
    moved = _among(cells, asked.unseen_architectures, asked.adapted_data_sets)
    known = {cell.name: seen_before(cell, learned) for cell in cells}
    right = [{"cell": own.name, "generator": known[own.name], "accuracy": own.accuracy} for own in cells]
    supervised = _judged(cells, _travelled(cells, learned, asked, seeds), asked.test_images)
    supervised["known"] = supervised["cell"].map(known)
    by_cell = _summaries(supervised, "cell", TRAVELLED)
    every = "Every cell: overlap with Grad-CAM, drop, increase, images won and lost [%]"
    tables: Tables = {
        "cells": (pd.DataFrame(right), "The CNNs' accuracy, and what the generators know of each cell"),
        "missing_data": (missing, "Data sets that are not at hand"),
        "results": (by_cell.assign(known=by_cell["cell"].map(known)), every),
        "unseen": (_summaries(supervised, "known", TRAVELLED), "The same over cells that are equally new"),
    }
    if not moved:
        return tables
    contrastive = _judged(moved, _adapted(moved, learned[0], asked, seeds), asked.test_images)
    by_cell = _summaries(contrastive, "cell", [*ADAPTED, "evidence_dice"])
    pooled = summarise(contrastive[["method", "seed", "image", *ADAPTED]])
    caption = f"Contrastive LSFT of {learned[0].name} on {len(moved)} cells of unseen CNNs"
    return tables | {"adapters_by_cell": (by_cell, f"{caption}, by cell"), "adapters": (pooled, caption)}


def _cells(asked: UnseenOptions, bench: Workbench) -> tuple[list[Subject], pd.DataFrame]:
    """Every cell whose data are at hand, and why the others are not."""
    cells, missing = [], []
    for data in [*asked.seen_data_sets, *asked.unseen_data_sets]:
        try:
            names = [*asked.seen_architectures, *asked.unseen_architectures]
            cells += [bench.subject({"data.name": data, "cnn.architecture": name}) for name in names]
        except FileNotFoundError as error:
            missing.append({"data set": data, "why": str(error).split("):")[0] + ")"})
    return cells, pd.DataFrame(missing, columns=["data set", "why"])


def _among(cells: Sequence[Subject], architectures: Sequence[str], data_sets: Sequence[str]) -> list[Subject]:
    own = [cell for cell in cells if cell.recipe.cnn.architecture in architectures]
    return [cell for cell in own if cell.recipe.data.name in data_sets]


def _judged(cells: Sequence[Subject], explainers: Iterable[Explainers], images: int) -> pd.DataFrame:
    scores = [cell_scores(cell, own, cell.draw(images)) for cell, own in zip(cells, explainers, strict=True)]
    return pd.concat(scores)


def _summaries(scores: pd.DataFrame, by: str, measures: Sequence[str]) -> pd.DataFrame:
    """Means with intervals of each part of the scores."""
    parts = []
    for name, own in scores.groupby(by, sort=False):
        present = [measure for measure in measures if measure in own and own[measure].notna().all()]
        parts.append(summarise(own[["method", "seed", "image", *present]]).assign(**{by: name}))
    return pd.concat(parts)


def _travelled(
    cells: Sequence[Subject], learned: Sequence[Subject], asked: UnseenOptions, seeds: Sequence[int]
) -> Iterator[Explainers]:
    """Supervised generators trained on some cells, and who competes with them, for each cell."""
    splits = [cell.draw(asked.images, "train").split for cell in learned]
    pixels = torch.cat([split.images[torch.arange(len(split))] for split in splits])
    images = ImageSplit(pixels, torch.cat([split.labels for split in splits]))
    recipe, jobs, runs = learned[0].recipe, [], list(product(SETTINGS, VARIANTS, seeds))
    stored = {}
    for setting, name in SETTINGS.items():
        parts = [cell.conditions(cell.maker(name), own) for cell, own in zip(learned, splits, strict=True)]
        stored[setting] = StoredConditions(*(folder for part in parts for folder in part.folders))
    for setting, variant, seed in runs:
        given = (recipe.generator, recipe.discriminator, images, stored[setting])
        jobs.append(GeneratorJob(variant, *given, replace(recipe.supervised, seed=seed)))
    made = train_all(jobs, learned[0].jobs_store, learned[0].machine)
    for cell in cells:
        makers = {setting: cell.maker(name) for setting, name in SETTINGS.items()}
        explainers: Explainers = {("Grad-CAM", 0): GradCAM(cell.cnn, cell.target_layer)}
        explainers |= {(f"linear readout ({own})", 0): LinearReadout(maker) for own, maker in makers.items()}
        for (setting, variant, seed), trained in zip(runs, made, strict=True):
            name = f"{variant.upper()} ({setting})"
            explainers[name, seed] = GANExplainer(makers[setting], trained.generator)
        yield explainers


def _adapted(
    cells: Sequence[Subject], home: Subject, asked: UnseenOptions, seeds: Sequence[int]
) -> Iterator[Explainers]:
    """Contrastive generators of one cell with new adapters, beside those trained for each cell."""
    starts = {seed: own for (_, seed), own in home.contrastive(["lsft"], seeds).items()}
    for cell in cells:
        explainers: Explainers = {("Grad-CAM", 0): GradCAM(cell.cnn, cell.target_layer)}
        usual = replace(cell.recipe.contrastive, learning_rate=asked.adapter_learning_rate, warmup_steps=1)
        for steps in asked.adapter_steps:
            short = replace(usual, max_steps=steps, validate_every=steps)
            name = f"adapters, {steps} step{'s' if steps > 1 else ''}"
            made = cell.contrastive(["lsft"], seeds, short, starts)
            explainers |= {(name, seed): own.explainer for (_, seed), own in made.items()}
        alone = cell.contrastive(["lsft"], seeds)
        yield explainers | {("trained for this CNN", seed): own.explainer for (_, seed), own in alone.items()}
