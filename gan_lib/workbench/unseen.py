"""The sweep over cells CNN x data set: generators are trained on some cells and tested on all.

Conditions are chosen by relative depth, so that CGMAs of any CNN fit (arXiv 2301.08067, section 5). A
generator that reads activations cannot travel as it is; its adapters are trained anew for the new CNN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import pandas as pd
import torch

from gan_lib.data import ImageSplit
from gan_lib.explainers import Explainer, GANExplainer, GradCAM, LinearReadout
from gan_lib.gan.conditions import JoinedConditions
from gan_lib.metrics import judge, summarise, wins_against
from gan_lib.workbench.bench import Workbench
from gan_lib.workbench.jobs import GeneratorJob, train_all
from gan_lib.workbench.recipes import ProfileError
from gan_lib.workbench.samples import Sample
from gan_lib.workbench.subject import Subject
from gan_lib.workbench.sweeps import SWEEPS, Sweep, Tables

AREA = 0.1
SETTINGS = {"leak-free": "cgma", "published": "published"}  # of the conditions
VARIANTS = ("lsft", "gsft")
PAPER = {"dice": 0.6588, "drop_black": 9.95, "won": 53.9}  # arXiv 2301.08067, completely unseen


@dataclass(frozen=True)
class UnseenOptions:
    """``options`` of the sweep's file.

    Attributes:
        seen_architectures, seen_data_sets: of the cells that generators are trained on.
        unseen_architectures, unseen_data_sets: further ones; a data set that is not at hand is left out.
        images, test_images: of each cell.
        adapter_steps, adapter_learning_rate: of a contrastive generator on CNNs that it has not seen.
        adapted_data_sets: on which that is tried.
    """

    seen_architectures: Sequence[str]
    unseen_architectures: Sequence[str]
    seen_data_sets: Sequence[str]
    unseen_data_sets: Sequence[str]
    images: int = 500
    test_images: int = 200
    adapter_steps: Sequence[int] = (1, 10, 100)
    adapter_learning_rate: float = 0.01
    adapted_data_sets: Sequence[str] = ()


def seen_before(cell: Subject, trained_on: Sequence[Subject]) -> str:
    """What a generator knows of a cell that it is tested on.

    ``seen``; ``unseen pair``, of which it knows the CNN and the data set from other pairs; ``unseen CNN``;
    ``unseen data``; or ``unseen CNN and data``.
    """
    if any(own.name == cell.name for own in trained_on):
        return "seen"
    cnn = any(own.recipe.cnn.architecture == cell.recipe.cnn.architecture for own in trained_on)
    data = any(own.recipe.data.name == cell.recipe.data.name for own in trained_on)
    return {
        (True, True): "unseen pair",
        (False, True): "unseen CNN",
        (True, False): "unseen data",
        (False, False): "unseen CNN and data",
    }[cnn, data]


def cell_scores(
    cell: Subject, explainers: Mapping[tuple[str, int], Explainer], sample: Sample, against: str = "Grad-CAM"
) -> pd.DataFrame:
    """Every measure of several explainers in a cell, image by image, and who wins.

    Args:
        cell: CNN and data set.
        explainers: by method and training seed.
        sample: images of the cell.
        against: the method among them that the others are compared with: ``dice`` is the overlap with its
            map, ``won`` and ``lost`` (0 or 100) compare the drop on black with its drop.

    Returns:
        As :func:`gan_lib.metrics.judge`, with ``won``, ``lost``, their counterparts at a
        matched area of 10 %, and ``cell``, which ``image`` begins with as well.
    """
    maps = {
        key: explainer.to(cell.device).attribute(sample.images, target=sample.explained, batch_size=128)
        for key, explainer in explainers.items()
    }
    scores = judge(
        cell.cnn,
        sample.images,
        maps,
        sample.explained,
        reference=maps[against, 0],
        evidence=sample.masks,
        areas=[AREA],
    ).scores
    for suffix in ("", f"@{100 * AREA:g}"):
        wins = wins_against(scores, f"drop_black{suffix}", against)
        wins = wins.rename(columns={"won": f"won{suffix}", "lost": f"lost{suffix}"})
        scores = scores.merge(wins, on=["method", "seed", "image"])
    return scores.assign(cell=cell.name, image=[f"{cell.name}/{image}" for image in scores["image"]])


@SWEEPS.register("unseen")
def run_unseen(sweep: Sweep, bench: Workbench) -> Tables:
    """Supervised generators on all cells, and contrastive ones whose adapters are trained anew.

    Raises:
        ProfileError: options that do not fit.
    """
    try:
        options = UnseenOptions(**sweep.options)
    except TypeError as error:
        raise ProfileError(f"sweep {sweep.name!r}: {error}") from None
    seeds = sweep.seeds or bench.recipe.seeds
    cells, missing = _cells(options, bench)
    learned = [
        cell
        for cell in cells
        if cell.recipe.cnn.architecture in options.seen_architectures
        and cell.recipe.data.name in options.seen_data_sets
    ]
    known = {cell.name: seen_before(cell, learned) for cell in cells}
    right = [{"cell": own.name, "generator": known[own.name], "accuracy": own.accuracy} for own in cells]
    tables: Tables = {
        "cells": (pd.DataFrame(right), "The CNNs' accuracy, and what the generators know of each cell"),
        "missing_data": (missing, "Data sets that are not at hand"),
    }
    return (
        tables | _travelled(cells, learned, known, options, seeds) | _adapted(cells, learned, options, seeds)
    )


def _cells(options: UnseenOptions, bench: Workbench) -> tuple[list[Subject], pd.DataFrame]:
    """Every cell whose data are at hand, and why the others are not."""
    architectures = [*options.seen_architectures, *options.unseen_architectures]
    cells, missing = [], []
    for data in [*options.seen_data_sets, *options.unseen_data_sets]:
        try:
            cells += [bench.subject({"data.name": data, "cnn.architecture": own}) for own in architectures]
        except FileNotFoundError as error:
            missing.append({"data set": data, "why": str(error).split("):")[0] + ")"})
    return cells, pd.DataFrame(missing, columns=["data set", "why"])


def _travelled(
    cells: Sequence[Subject],
    learned: Sequence[Subject],
    known: Mapping[str, str],
    options: UnseenOptions,
    seeds: Sequence[int],
) -> Tables:
    """Supervised generators trained on some cells, tested on all."""
    splits = [cell.draw(options.images, "train").split for cell in learned]
    images = ImageSplit(
        torch.cat([split.images[torch.arange(len(split))] for split in splits]),
        torch.cat([split.labels for split in splits]),
    )
    runs = [(setting, variant, seed) for setting in SETTINGS for variant in VARIANTS for seed in seeds]
    stored = {
        setting: JoinedConditions(
            [cell.conditions(cell.maker(name), own) for cell, own in zip(learned, splits, strict=True)]
        )
        for setting, name in SETTINGS.items()
    }
    home, recipe = learned[0], learned[0].recipe
    jobs = [
        GeneratorJob(
            variant,
            recipe.generator,
            asdict(recipe.discriminator),
            images,
            stored[setting],
            replace(recipe.supervised, seed=seed),
        )
        for setting, variant, seed in runs
    ]
    made = train_all(jobs, home.jobs_store, home.machine)
    everywhere = []
    for cell in cells:
        makers = {setting: cell.maker(name) for setting, name in SETTINGS.items()}
        explainers: dict[tuple[str, int], Explainer] = {("Grad-CAM", 0): GradCAM(cell.cnn, cell.target_layer)}
        explainers |= {(f"linear readout ({own})", 0): LinearReadout(maker) for own, maker in makers.items()}
        for (setting, variant, seed), own in zip(runs, made, strict=True):
            name = f"{variant.upper()} ({setting})"
            explainers[name, seed] = GANExplainer(makers[setting], own.generator)
        scores = cell_scores(cell, explainers, cell.draw(options.test_images))
        everywhere.append(scores.assign(known=known[cell.name]))
    scores = pd.concat(everywhere)
    measures = ["dice", "drop_black", "drop_black@10", "drop_blur", "increase_black", "won", "lost", "won@10"]
    by_cell = _summaries(scores, "cell", measures).assign(known=lambda own: own["cell"].map(known))
    by_newness = _summaries(scores, "known", measures)
    return {
        "results": (by_cell, "Every cell: overlap with Grad-CAM, drop, increase, images won and lost [%]"),
        "unseen": (by_newness, "The same over cells that are equally new"),
        "paper": (_beside_the_paper(by_newness), "arXiv 2301.08067 beside completely unseen cells here"),
    }


def _beside_the_paper(by_newness: pd.DataFrame) -> pd.DataFrame:
    """The paper's three figures (other CNNs and data sets, full size) beside LSFT's here."""
    own = by_newness[by_newness["known"] == "unseen CNN and data"]
    lsft = own[own["method"].str.startswith("LSFT") & own["measure"].isin(PAPER)]
    wide = lsft.pivot(index="measure", columns="method", values="mean").reindex(list(PAPER))
    return wide.assign(paper=pd.Series(PAPER)).rename_axis(columns=None).reset_index()


def _summaries(scores: pd.DataFrame, by: str, measures: Sequence[str]) -> pd.DataFrame:
    """Means with intervals of each part of the scores."""
    parts = []
    for name, own in scores.groupby(by, sort=False):
        present = [measure for measure in measures if measure in own and own[measure].notna().all()]
        parts.append(summarise(own[["method", "seed", "image", *present]]).assign(**{by: name}))
    return pd.concat(parts)


def _adapted(
    cells: Sequence[Subject], learned: Sequence[Subject], options: UnseenOptions, seeds: Sequence[int]
) -> Tables:
    """A contrastive generator of the first seen cell on CNNs that it has not seen."""
    home = learned[0]
    targets = [
        cell
        for cell in cells
        if cell.recipe.cnn.architecture in options.unseen_architectures
        and cell.recipe.data.name in options.adapted_data_sets
    ]
    if not targets:
        return {}
    starts = {seed: own for (_, seed), own in home.contrastive(["lsft"], seeds).items()}
    moved = []
    for cell in targets:
        explainers: dict[tuple[str, int], Explainer] = {("Grad-CAM", 0): GradCAM(cell.cnn, cell.target_layer)}
        for steps in options.adapter_steps:
            short = replace(
                cell.recipe.contrastive,
                max_steps=steps,
                warmup_steps=1,
                learning_rate=options.adapter_learning_rate,
                validate_every=steps,
            )
            name = f"adapters, {steps} step{'s' if steps > 1 else ''}"
            made = cell.contrastive(["lsft"], seeds, short, starts)
            explainers |= {(name, seed): own.explainer for (_, seed), own in made.items()}
        alone = cell.contrastive(["lsft"], seeds)
        explainers |= {("trained for this CNN", seed): own.explainer for (_, seed), own in alone.items()}
        moved.append(cell_scores(cell, explainers, cell.draw(options.test_images)))
    scores = pd.concat(moved)
    measures = ["drop_black", "drop_black@10", "won", "won@10"]
    by_cell = _summaries(scores, "cell", [*measures, "evidence_dice"])
    return {
        "adapters_by_cell": (by_cell, "Contrastive generators on a CNN that they have not seen, by cell"),
        "adapters": (
            summarise(scores[["method", "seed", "image", *measures]]),
            f"Contrastive LSFT of {home.name} on {len(targets)} cells of unseen CNNs",
        ),
    }
