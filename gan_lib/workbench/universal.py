"""The sweep over pools of CNNs: universal explainers, judged on architectures that none of them has met.

One architecture after the other is left out: generators are trained on the others, and its CNNs are explained
with zero steps (:mod:`gan_lib.workbench.pools`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import torch

from gan_lib.metrics import differences, summarise
from gan_lib.metrics.localisation import mass_inside
from gan_lib.workbench import checks
from gan_lib.workbench.bench import Workbench
from gan_lib.workbench.pools import RIVALS, Explainers, Judged, Pool, PoolOptions, cells, explainers_of, order
from gan_lib.workbench.recipes import ProfileError
from gan_lib.workbench.samples import Sample
from gan_lib.workbench.subject import Subject
from gan_lib.workbench.sweeps import SWEEPS, Sweep, Tables
from gan_lib.workbench.unseen import cell_scores

AT_ONCE = 32  # images
SANITY_STAGES = 4  # of forgetting, of which the first is measured: the last quarter of the layers


@SWEEPS.register("universal")
def run_universal(sweep: Sweep, bench: Workbench) -> Tables:
    """Universal explainers of every left-out architecture, zero steps on it, and what the size of the pool
    does.

    Returns:
        ``pool``; ``missing_data``; ``results`` by architecture and data set, ``unseen`` by architecture,
        ``overall`` over all of them; ``tests``, paired differences from Grad-CAM and the untrained projection
        with Holm's correction; ``sanity``, ``marks``, ``wrong_cnn``; ``numbers`` of training CNNs.

    Raises:
        ProfileError: options that do not fit.
    """
    pool = Pool.of(sweep, bench)
    there, missing = pool.judged()
    asked, runs = pool.asked, list(itertools.product(pool.asked.left_out, pool.asked.variants, pool.seeds))
    made = pool.trained([pool.job(variant, pool.without(name), seed) for name, variant, seed in runs])
    generators = {run: own.generator for run, own in zip(runs, made, strict=True)}
    scores, sanity, marks, wrong = [], [], [], []
    for name in asked.left_out:
        own = {(variant, seed): generators[name, variant, seed] for variant, seed in _each(pool)}
        for subject, seed, sample, is_first in _judged(pool, name, there):
            explainers = explainers_of(subject, own, seed)
            labels: dict[str, Any] = {
                "unseen": name,
                "data set": subject.recipe.data.name,
                "cnn": subject.trained.key,
            }
            found = cell_scores(subject, explainers, sample, asked.areas, steps=asked.steps)
            scores.append(found.assign(**labels, seed=seed, image=f"{seed}/" + found["image"]))
            if is_first:
                sanity.append(_redrawn(pool, subject, explainers, sample).assign(**labels, seed=seed))
                wrong.append(_of_another(pool, name, subject, explainers, seed, sample).assign(**labels))
        for changes, seed in itertools.product(cells(asked.cheating), pool.seeds):
            subject = bench.subject(pool.changes(name, seed, changes))
            found = _on_marks(pool, subject, explainers_of(subject, own, seed))
            marks.append(found.assign(unseen=name, seed=seed, cnn=subject.trained.key))
    every = pd.concat(scores, ignore_index=True)
    redrawn = "Rank correlation of maps after the last quarter of the layers is drawn anew"
    marked = "Share of the highest pixels' mass on the mark that a cheating CNN relies on"
    return {
        "pool": (pool.report, "CNNs that the generators are trained on"),
        "missing_data": (missing, "CNNs whose data are not at hand"),
        "results": (_summaries(every, ["unseen", "data set"], asked.measures), f"{sweep.title}, by cell"),
        "unseen": (_summaries(every, ["unseen"], asked.measures), f"{sweep.title}, by architecture"),
        "overall": (_overall(every, asked.measures), sweep.title),
        "tests": (_tests(every, asked), f"{sweep.title}: paired differences"),
        **_table("sanity", sanity, ["rank"], redrawn),
        **_table("marks", marks, ["top mass"], marked),
        **_another_table(wrong),
        **_numbers(pool, there),
    }


def labels_of(subject: Subject) -> dict[str, Any]:
    """How rows about a CNN are labelled."""
    return {"data set": subject.recipe.data.name, "cnn": subject.trained.key}


def _each(pool: Pool) -> list[tuple[str, int]]:
    return list(itertools.product(pool.asked.variants, pool.seeds))


def _judged(pool: Pool, name: str, there: Judged) -> Iterator[tuple[Subject, int, Sample, bool]]:
    """The CNNs of an architecture that are judged, each with its seed and images of their data, which are
    dealt out over the seeds; and whether the data are the first of those it is judged on."""
    asked, count = pool.asked, len(pool.seeds)
    parts = [asked.test_images // count + (place < asked.test_images % count) for place in range(count)]
    for (architecture, number, seed), subject in there.items():
        if architecture == name:
            place = pool.seeds.index(seed)
            sample = subject.draw(parts[place], asked.split, skip=sum(parts[:place]))
            yield subject, seed, sample, number == 0


def _redrawn(pool: Pool, subject: Subject, explainers: Explainers, sample: Sample) -> pd.DataFrame:
    """``rank`` by ``method`` and ``image``: the rank correlation of maps with those of the CNN whose last
    quarter of layers is drawn anew."""
    few = sample[: pool.asked.sanity_images]
    made = checks.sanity(subject.cnn, few, explainers, len(subject.names), SANITY_STAGES)
    forgetting = made[made["check"] == "randomised"]
    return forgetting[forgetting["share"] == forgetting["share"].min()].drop(columns=["check", "share"])


def _on_marks(pool: Pool, subject: Subject, explainers: Explainers) -> pd.DataFrame:
    """``top mass`` by ``method`` and ``image``: of the highest pixels, as many as a cheating CNN's mark has,
    the share of the map's mass that lies on it; on images whose mark is another class's than the digit."""
    sample = subject.draw(pool.asked.marked_images, "conflict")
    if sample.marks is None:
        raise ProfileError(f"{subject.name} has no marks: `cheating` names data whose CNNs rely on one")
    tables = []
    for (method, _), own in explainers.items():
        maps = own.attribute(sample.images, sample.explained, AT_ONCE)
        shares = mass_inside(maps, sample.marks, top=True).tolist()  # (N,)
        tables.append(pd.DataFrame({"method": method, "image": range(len(shares)), "top mass": shares}))
    return pd.concat(tables, ignore_index=True).astype({"image": str})


def _of_another(
    pool: Pool, name: str, subject: Subject, explainers: Explainers, seed: int, sample: Sample
) -> pd.DataFrame:
    """What is lost when maps are drawn for another CNN of the same classes than the one that they are judged
    by: a cheating one, on images with a mark, where there are such; else the next left-out architecture's, on
    images alone and on mosaics of four."""
    asked, names = pool.asked, list(pool.asked.left_out)
    kinds: tuple[str | None, ...] = (None, "quarters")
    if asked.cheating:
        other = pool.bench.subject(pool.changes(name, seed, next(cells(asked.cheating))))
        marked = other.draw(asked.wrong_images, "conflict")
        with torch.no_grad():
            predicted = subject.cnn(marked.images).argmax(1)
        sample, kinds = replace(marked, explained=predicted), (None,)
    else:
        other = pool.bench.subject(pool.changes(names[(names.index(name) + 1) % len(names)], seed))
        sample = sample[: asked.wrong_images]
    tables = [
        checks.wrong_cnn(subject.cnn, sample, explainers, {seed: other.cnn}, kind, steps=asked.steps).assign(
            pictures=kind or "alone"
        )
        for kind in kinds
    ]
    return pd.concat(tables, ignore_index=True)


def _summaries(scores: pd.DataFrame, by: Sequence[str], measures: Sequence[str]) -> pd.DataFrame:
    """Means with intervals of each part of scores, the parts' names first."""
    parts = []
    for names, own in scores.groupby(list(by), sort=False):
        image = own["image"].astype(str)
        if "data set" in own:
            image = own["data set"] + "/" + image
        kept = own[["method", "seed", "cnn", *measures]].assign(image=image)
        labels: dict[str, Any] = dict(zip(by, names, strict=True))
        parts.append(summarise(kept).assign(**labels))
    made = pd.concat(parts, ignore_index=True)
    return made[[*by, *made.columns.drop(list(by))]]


def _overall(scores: pd.DataFrame, measures: Sequence[str]) -> pd.DataFrame:
    """Means with intervals over all architectures, data sets, CNNs and images."""
    every = _summaries(
        scores.assign(of="all", image=scores["unseen"] + "/" + scores["image"]), ["of"], measures
    )
    return every.drop(columns="of")


def _tests(scores: pd.DataFrame, asked: PoolOptions) -> pd.DataFrame:
    """Paired differences of the universal explainers from their rivals, of each architecture."""
    universal, parts = [f"universal_{variant}" for variant in asked.variants], []
    for name, own in scores.groupby("unseen", sort=False):
        given = own.assign(image=own["data set"] + "/" + own["image"])
        made = differences(given, asked.tested, universal, RIVALS)
        parts.append(made.assign(unseen=name))
    made = pd.concat(parts, ignore_index=True)
    return made[["unseen", *made.columns.drop("unseen")]]


def _table(name: str, parts: Sequence[pd.DataFrame], measures: Sequence[str], caption: str) -> Tables:
    """Of a check of each CNN the means by architecture, where it was made."""
    if not parts:
        return {}
    return {name: (_summaries(pd.concat(parts, ignore_index=True), ["unseen"], measures), caption)}


def _another_table(parts: Sequence[pd.DataFrame]) -> Tables:
    """Differences of the scores with the own CNN's map from those with another's, by architecture."""
    tables, by = [], ["unseen", "pictures", "method"]
    for names, own in pd.concat(parts).groupby(by, sort=False):
        given = own.assign(method=own["cnn_of_map"])
        made = differences(given, ["insertion - deletion", "drop_black@10"], ["own"], ["other"])
        labels: dict[str, Any] = dict(zip(["unseen", "pictures", "explainer"], names, strict=True))
        tables.append(made.assign(**labels)[[*labels, *made.columns]])
    made = pd.concat(tables, ignore_index=True)
    return {"wrong_cnn": (made, "What is lost when another CNN is looked at: own map - other's")}


def _numbers(pool: Pool, there: Judged) -> Tables:
    """What the first variant's explainers are worth on the first left-out architecture, by the number of CNNs
    that they are trained on; which ones, is drawn by the seed."""
    asked, name = pool.asked, next(iter(pool.asked.left_out))
    if not asked.numbers:
        return {}
    known, variant = pool.without(name), asked.variants[0]
    runs = [(number, seed) for number in asked.numbers if number <= len(known) for seed in pool.seeds]
    chosen = [[known[own] for own in order(len(known), seed)[:number]] for number, seed in runs]
    made = pool.trained([pool.job(variant, own, seed) for own, (_, seed) in zip(chosen, runs, strict=True)])
    tables = []
    for (number, seed), own in zip(runs, made, strict=True):
        for subject, of, sample, _ in _judged(pool, name, there):
            if of == seed:
                explainers = explainers_of(subject, {(variant, seed): own.generator}, seed)
                found = cell_scores(subject, explainers, sample, asked.areas, steps=asked.steps)
                labels: dict[str, Any] = {
                    "CNNs": number,
                    "data set": subject.recipe.data.name,
                    "cnn": subject.trained.key,
                }
                tables.append(found.assign(**labels, seed=seed))
    made_of = _summaries(pd.concat(tables, ignore_index=True), ["CNNs"], asked.measures)
    return {"numbers": (made_of, f"{name}, unseen: by the number of CNNs that a generator is trained on")}
