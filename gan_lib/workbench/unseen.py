"""The sweep over cells CNN x data set: generators are trained on some cells and tested on all.

Conditions are chosen by relative depth, so that CGMAs of any CNN fit (arXiv 2301.08067, section 5). A
generator that reads activations cannot travel as it is; its adapters are trained anew for the new CNN.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch

from gan_lib.data import ImageSplit
from gan_lib.explainers import Explainer, GANExplainer, GradCAM, LinearReadout, RandomMap, UniformMap
from gan_lib.gan.conditions import StoredConditions
from gan_lib.metrics import corrected, differences, judge, summarise, wins_against
from gan_lib.workbench.bench import Workbench
from gan_lib.workbench.cohort import side_by_side
from gan_lib.workbench.jobs import GeneratorJob, train_all
from gan_lib.workbench.pools import why_not
from gan_lib.workbench.recipes import ProfileError
from gan_lib.workbench.reference import CHEATING
from gan_lib.workbench.samples import Sample
from gan_lib.workbench.subject import Subject
from gan_lib.workbench.sweeps import AREAS, SWEEPS, Sweep, Tables
from gan_lib.workbench.unseen_options import TRAVELLED, UnseenOptions, seen_before

SETTINGS = {"leak-free": "cgma", "published": "published"}  # of the conditions
VARIANTS = ("lsft", "gsft")
ADAPTED = ["drop_black", "drop_black@10", "won", "won@10"]
Explainers = dict[tuple[str, int], Explainer]  # by method and training seed
HALF = "everything at half strength"  # a control
LEAST_TARGETS = 0.5  # share of a cell's images with a Grad-CAM that is not empty


def cell_scores(
    cell: Subject, explainers: Explainers, sample: Sample, areas: Sequence[float] = AREAS, **settings: Any
) -> pd.DataFrame:
    """Every measure of several explainers in a cell, image by image, and who wins against Grad-CAM.

    A Grad-CAM, by any seed, must be among the explainers; ``settings`` are further ones of
    :func:`gan_lib.metrics.judge`.

    Returns:
        The scores of :func:`gan_lib.metrics.judge`, ``dice`` with Grad-CAM's map; ``won`` and ``lost`` (0 or
        100), by the drop on black, and at each of the matched ``areas``, by default 10 %; and ``cell``, with
        which ``image`` begins.
    """
    maps = {
        key: own.to(cell.device).attribute(sample.images, target=sample.explained, batch_size=128)
        for key, own in explainers.items()
    }
    reference = next(own for (method, _), own in maps.items() if method == "Grad-CAM")
    given: Any = {"reference": reference, "evidence": sample.masks, "areas": areas, **settings}
    scores, _ = judge(cell.cnn, sample.images, maps, sample.explained, **given)
    for suffix in ("", *(f"@{100 * area:g}" for area in areas)):
        wins = wins_against(scores, f"drop_black{suffix}", "Grad-CAM")  # in the same order
        scores = scores.assign(**{f"won{suffix}": wins["won"], f"lost{suffix}": wins["lost"]})
    return scores.assign(cell=cell.name, image=cell.name + "/" + scores["image"].astype(str))


@dataclass(frozen=True)
class Cells:
    """The cells of one seed, CNN i each, with the test images dealt to it."""

    seed: int
    subjects: Sequence[Subject]
    samples: Sequence[Sample]  # of each, only images that have a target

    def among(self, architectures: Sequence[str], data_sets: Sequence[str]) -> Cells:
        """Those of some CNNs and data sets."""
        kept = [
            (own, sample)
            for own, sample in zip(self.subjects, self.samples, strict=True)
            if own.recipe.cnn.architecture in architectures and own.recipe.data.name in data_sets
        ]
        return Cells(self.seed, [own for own, _ in kept], [sample for _, sample in kept])


@SWEEPS.register("unseen")
def run_unseen(sweep: Sweep, bench: Workbench) -> Tables:
    """Supervised generators on all cells, and contrastive ones whose adapters are trained anew.

    Seed i is CNN i of every cell, and the generators trained on these. A cell whose Grad-CAM is empty for
    most images has no target: it is reported, nothing is trained on it, and it has no scores.

    Raises:
        ProfileError: options that do not fit.
    """
    try:
        asked = UnseenOptions(**sweep.options)
    except (TypeError, ValueError) as error:
        raise ProfileError(f"sweep {sweep.name!r}: {error}") from None
    for cnn, data in _pairs(asked):  # all of them, before the first is trained
        bench.recipe.changed(asked.changes(cnn, data), f"sweep {sweep.name!r}, {cnn} x {data}")
    seeds = sweep.seeds or bench.recipe.seeds
    why_not(bench, [_changes(asked, bench, *own, seed) for seed in seeds for own in _pairs(asked)])
    every, reports = [], []
    missing: dict[str, str] = {}
    for place, seed in enumerate(seeds):
        subjects, absent = _cells(asked, bench, seed)
        missing |= absent
        cells, report = _with_targets(subjects, seed, share(asked.test_images, len(seeds), place))
        every.append(cells)
        reports.append(report)
    learned = [own.among(asked.seen_architectures, asked.seen_data_sets) for own in every]
    if not all(own.subjects for own in learned):
        why = "; ".join(f"{cell}: {told}" for cell, told in missing.items()) or "no Grad-CAM in any"
        raise ProfileError(f"sweep {sweep.name!r}: there is no seen cell to learn from ({why})")
    report = pd.concat(reports)
    report["generator"] = [seen_before(name, asked) for name in report["cell"]]
    known = report.set_index("cell")["generator"].to_dict()
    supervised = _judged(every, _travelled(every, learned, asked))
    supervised["known"] = supervised["cell"].map(known)
    at_area = [measure for measure in TRAVELLED if "@" in measure]
    supervised.loc[supervised["method"] == HALF, at_area] = np.nan  # it has no highest pixels
    by_cell, by_newness = (_summaries(supervised, by, TRAVELLED) for by in ("cell", "known"))
    caption = "Every cell: overlap with Grad-CAM, drop, increase, images won and lost [%]"
    about = "Cells: the CNN's accuracy, the share of images with a target, what generators know of them"
    tables: Tables = {
        "cells": (report, about),
        "missing_data": (
            pd.DataFrame(missing.items(), columns=["cell", "why"]),
            "Cells whose files are not at hand",
        ),
        "results": (by_cell.assign(known=by_cell["cell"].map(known)), caption),
        "unseen": (by_newness, "The same over cells that are equally new"),
        "learned": (beyond_copying(supervised), "Dice with Grad-CAM, minus that of the linear readout"),
    }
    if asked.published:
        tables["published"] = (beside_published(by_newness, asked), "What the authors report, and LSFT here")
    moved = [own.among(asked.unseen_architectures, asked.adapted_data_sets) for own in every]
    if not any(own.subjects for own in moved):
        return tables
    contrastive = _judged(moved, _adapted(moved, learned, asked))
    by_cell = _summaries(contrastive, "cell", [*ADAPTED, "evidence_dice"])
    pooled = summarise(contrastive[["method", "seed", "cnn", "image", *ADAPTED]])
    caption = f"Contrastive LSFT of {learned[0].subjects[0].name} on cells of unseen CNNs"
    return tables | {"adapters_by_cell": (by_cell, f"{caption}, by cell"), "adapters": (pooled, caption)}


def beside_published(by_newness: pd.DataFrame, asked: UnseenOptions) -> pd.DataFrame:
    """What the authors report of LSFT, and the same measures here, over cells that are equally new."""
    own = by_newness[by_newness["measure"].isin(asked.published) & by_newness["method"].str.contains("LSFT")]
    own = own.assign(method=own["method"] + ", " + own["known"]).drop(columns="known")
    values = {"measure": list(asked.published), "mean": list(asked.published.values())}
    published = pd.DataFrame(values).assign(method=asked.published_as)
    return pd.concat([published, own], ignore_index=True)[[*own]]  # an interval stands beside its mean


def share(count: int, parts: int, place: int) -> tuple[int, int]:
    """How many of ``count`` images the part at a place gets, and how many those before it have."""
    sizes = [count // parts + (other < count % parts) for other in range(parts)]
    return sizes[place], sum(sizes[:place])


def beyond_copying(scores: pd.DataFrame) -> pd.DataFrame:
    """How much more generators overlap with Grad-CAM than the linear readout of the same conditions, over
    cells that are equally new: :func:`gan_lib.metrics.differences`, paired, with ``known``."""
    parts = []
    for known, own in scores.groupby("known", sort=False):
        for setting in SETTINGS:
            ours = [f"{variant.upper()} ({setting})" for variant in VARIANTS]
            made = differences(own, "dice", ours, [f"linear readout ({setting})"])
            parts.append(made.assign(known=known))
    return corrected(pd.concat(parts, ignore_index=True))


def _pairs(asked: UnseenOptions) -> list[tuple[str, str]]:
    """CNN and data set of every cell, data sets one after the other."""
    return [
        (cnn, data)
        for data in [*asked.seen_data_sets, *asked.unseen_data_sets]
        for cnn in [*asked.seen_architectures, *asked.unseen_architectures]
    ]


def _cells(asked: UnseenOptions, bench: Workbench, seed: int) -> tuple[list[Subject], dict[str, str]]:
    """Every cell whose files are at hand, with the CNN of a seed, and why the others are not."""
    cells, missing = [], {}
    for cnn, data in _pairs(asked):
        try:
            cells.append(bench.subject(_changes(asked, bench, cnn, data, seed)))
        except FileNotFoundError as error:
            missing[f"{cnn} x {data}"] = _why(error, bench)
    return cells, missing


def _changes(asked: UnseenOptions, bench: Workbench, cnn: str, data: str, seed: int) -> dict[str, Any]:
    """Of the recipe, for a cell with the CNN of a seed."""
    usual: dict[str, Any] = {"cnn.seed": seed}
    if data == CHEATING:  # as its reference CNNs
        usual["cnn.epochs"] = bench.recipe.confounded.epochs
    return usual | asked.changes(cnn, data)


def _why(error: FileNotFoundError, bench: Workbench) -> str:
    """What is not at hand, without where this machine keeps its data."""
    told = str(error).splitlines()[0]
    for folder in bench.places.searched:
        for path in (folder.resolve(), folder):
            told = told.replace(str(path), folder.name)
    return told


def _with_targets(
    subjects: Sequence[Subject], seed: int, share: tuple[int, int]
) -> tuple[Cells, pd.DataFrame]:
    """Cells most of whose images have a target, and a row about each, those without included."""
    kept, samples, rows = [], [], []
    for own in subjects:
        sample = own.draw(share[0], skip=share[1])
        target = GradCAM(own.cnn, own.target_layer).attribute(sample.images, sample.explained, 128)
        there = target.flatten(1).amax(1).cpu() > 0  # (N,)
        share_of_targets = float(there.float().mean())
        has = share_of_targets >= LEAST_TARGETS
        row = {"cell": own.name, "seed": seed, "accuracy": own.accuracy, "targets": share_of_targets}
        rows.append(row | {"used": has})
        if has:
            kept.append(own)
            samples.append(sample[there.nonzero()[:, 0]])
    return Cells(seed, kept, samples), pd.DataFrame(rows)


def _judged(every: Sequence[Cells], explainers: Iterable[Explainers]) -> pd.DataFrame:
    """Scores of all cells of all seeds; explainers come in the same order."""
    each = [
        (cells.seed, cell, sample)
        for cells in every
        for cell, sample in zip(cells.subjects, cells.samples, strict=True)
    ]
    calls = [
        partial(cell_scores, cell, own, sample)
        for (_, cell, sample), own in zip(each, explainers, strict=True)
    ]
    made = side_by_side(each[0][1].machine, calls)
    return pd.concat(
        own.assign(seed=seed, cnn=cell.trained.key, image=f"{seed}/" + own["image"])
        for (seed, cell, _), own in zip(each, made, strict=True)
    )


def _summaries(scores: pd.DataFrame, by: str, measures: Sequence[str]) -> pd.DataFrame:
    """Means with intervals of each part of the scores."""
    parts = []
    for name, own in scores.groupby(by, sort=False):
        present = [measure for measure in measures if measure in own]
        parts.append(summarise(own[["method", "seed", "cnn", "image", *present]]).assign(**{by: name}))
    return pd.concat(parts)


def _travelled(
    every: Sequence[Cells], learned: Sequence[Cells], asked: UnseenOptions
) -> Iterator[Explainers]:
    """Supervised generators trained on some cells, and who competes with them, for each cell."""
    jobs, runs = [], []
    for cells in learned:
        splits = [cell.draw(asked.images, "train").split for cell in cells.subjects]
        recipe = cells.subjects[0].recipe
        for setting, name in SETTINGS.items():
            parts = [
                cell.conditions(cell.maker(name), own)
                for cell, own in zip(cells.subjects, splits, strict=True)
            ]
            stored = StoredConditions(*(folder for part in parts for folder in part.folders))
            rows = stored.with_target().nonzero()[:, 0]
            pixels = torch.cat([split.images[torch.arange(len(split))] for split in splits])
            images = ImageSplit(pixels, torch.cat([split.labels for split in splits])).subset(rows)
            for variant in VARIANTS:
                given = (recipe.generator, recipe.discriminator, images, stored.subset(rows))
                jobs.append(GeneratorJob(variant, *given, replace(recipe.supervised, seed=cells.seed)))
                runs.append((cells.seed, setting, variant))
    first = learned[0].subjects[0]
    made = dict(zip(runs, train_all(jobs, first.jobs_store, first.machine), strict=True))
    for cells in every:
        for cell in cells.subjects:
            makers = {setting: cell.maker(name) for setting, name in SETTINGS.items()}
            explainers: Explainers = {("Grad-CAM", cells.seed): GradCAM(cell.cnn, cell.target_layer)}
            explainers["random", cells.seed] = RandomMap(cell.cnn)
            explainers[HALF, cells.seed] = UniformMap(cell.cnn)
            for setting, maker in makers.items():
                explainers[f"linear readout ({setting})", cells.seed] = LinearReadout(maker)
                for variant in VARIANTS:
                    own = made[cells.seed, setting, variant].generator
                    explainers[f"{variant.upper()} ({setting})", cells.seed] = GANExplainer(maker, own)
            yield explainers


def _adapted(every: Sequence[Cells], home: Sequence[Cells], asked: UnseenOptions) -> Iterator[Explainers]:
    """Contrastive generators of one cell with new adapters, beside those trained for each cell."""
    for cells, learned in zip(every, home, strict=True):
        seed = cells.seed
        start = {seed: next(iter(learned.subjects[0].contrastive(["lsft"], [seed]).values()))}
        for cell in cells.subjects:
            explainers: Explainers = {("Grad-CAM", seed): GradCAM(cell.cnn, cell.target_layer)}
            rate = asked.adapter_learning_rate
            usual = replace(cell.recipe.contrastive, learning_rate=rate, warmup_steps=1)
            for steps in asked.adapter_steps:
                short = replace(usual, max_steps=steps, validate_every=steps)
                made = cell.contrastive(["lsft"], [seed], short, start)["lsft", seed]
                explainers[f"adapters, {steps} step{'s' if steps > 1 else ''}", seed] = made.explainer
            alone = cell.contrastive(["lsft"], [seed])["lsft", seed]
            yield explainers | {("trained for this CNN", seed): alone.explainer}
