"""The sweep over pools of CNNs: universal explainers, judged on architectures that none of them has met.

One architecture after the other is left out: generators are trained on the others, and its CNNs are explained
with zero steps (:mod:`gan_lib.workbench.pools`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd
import torch

from gan_lib.metrics import corrected, differences, summarise
from gan_lib.metrics.localisation import mass_inside
from gan_lib.workbench import checks
from gan_lib.workbench.bench import Workbench
from gan_lib.workbench.cohort import side_by_side
from gan_lib.workbench.parts import Generators, kept_table, keys_of, redrawn
from gan_lib.workbench.pools import (
    Explainers,
    Judged,
    Pool,
    PoolOptions,
    cells,
    explainers_of,
    order,
    projections_of,
)
from gan_lib.workbench.recipes import ProfileError
from gan_lib.workbench.samples import Sample
from gan_lib.workbench.subject import Subject
from gan_lib.workbench.sweeps import SWEEPS, Sweep, Tables
from gan_lib.workbench.unseen import cell_scores, share

Call = Callable[[], dict[str, pd.DataFrame]]
KINDS = ("scores", "sanity", "marks", "wrong")  # of tables

AT_ONCE = 32  # images
SANITY_STAGES = 4  # of forgetting, of which the first is measured: the last quarter of the layers


@SWEEPS.register("universal")
def run_universal(sweep: Sweep, bench: Workbench) -> Tables:
    """Universal explainers of every left-out architecture, zero steps on it, and what the size of the pool
    does.

    Returns:
        ``pool``; ``missing_data``; ``results`` by architecture and data set, ``unseen`` by architecture,
        ``overall`` over all of them; ``tests``, paired differences from Grad-CAM and the untrained
        projections with Holm's correction; ``sanity``, ``marks``, ``wrong_cnn``; ``numbers`` of training
        CNNs.

    Raises:
        ProfileError: options that do not fit.
    """
    pool = Pool.of(sweep, bench)
    there, missing = pool.judged()
    asked, runs = pool.asked, list(itertools.product(pool.asked.left_out, pool.asked.variants, pool.seeds))
    made = pool.trained([pool.job(variant, pool.without(name), seed) for name, variant, seed in runs])
    generators = dict(zip(runs, made, strict=True))
    calls: list[Call] = []
    for name in asked.left_out:
        own = {(variant, seed): generators[name, variant, seed] for variant, seed in _each(pool)}
        calls += _judgements(pool, name, there, own, {"unseen": name})
        for changes, seed in itertools.product(cells(asked.cheating), pool.seeds):
            cheating = bench.subject(pool.changes(name, seed, changes))
            calls.append(partial(on_marks, asked, cheating, own, seed, {"unseen": name}))
    found = side_by_side(bench.recipe.machine, calls)
    scores, sanity, marks, wrong = ([own[kind] for own in found if kind in own] for kind in KINDS)
    if not scores:
        raise ProfileError(f"sweep {sweep.name!r}: no data that its CNNs are judged on are at hand")
    every = pd.concat(scores, ignore_index=True)
    rivals = ["Grad-CAM", *projections_of(bench.recipe)]
    redrawn = "Rank correlation of maps after the last quarter of the layers is drawn anew"
    marked = "Share of the highest pixels' mass on the mark that a cheating CNN relies on"
    return {
        "pool": (pool.report, "CNNs that the generators are trained on"),
        "missing_data": (missing, "CNNs whose data are not at hand"),
        "results": (_summaries(every, ["unseen", "data set"], asked.measures), f"{sweep.title}, by cell"),
        "unseen": (_summaries(every, ["unseen"], asked.measures), f"{sweep.title}, by architecture"),
        "overall": (_overall(every, asked.measures), sweep.title),
        "tests": (_tests(every, asked, rivals), f"{sweep.title}: paired differences"),
        **_table("sanity", sanity, ["rank"], redrawn),
        **_table("marks", marks, ["top mass"], marked),
        **_another_table(wrong),
        **_numbers(pool, there),
    }


def _each(pool: Pool) -> list[tuple[str, int]]:
    return list(itertools.product(pool.asked.variants, pool.seeds))


def _judgements(
    pool: Pool,
    name: str,
    there: Judged,
    generators: Generators,
    labels: Mapping[str, Any],
    checked: bool = True,
) -> list[Call]:
    """A call for every CNN of an architecture that is judged, each on images of its data that are dealt out
    over the seeds; those on the first data are checked in other ways as well.

    CNNs with given weights are the same for every seed: there each image is judged by the generators of all
    seeds, so that an interval tells how seeds differ from how images do. Where but one is trained, images are
    judged by one seed each, of all CNNs: a table holds one or the other.
    """
    asked = pool.asked
    seeds = sorted({seed for _, seed in generators})
    keys: dict[tuple[str, int], set[str]] = {}
    for (architecture, number, _), subject in there.items():
        keys.setdefault((architecture, number), set()).add(subject.trained.key)
    crossed = not asked.cheating and all(len(own) == 1 for own in keys.values())
    calls: list[Call] = []
    for (architecture, number, seed), subject in there.items():
        if architecture == name:
            other = None
            if checked and number == 0:
                other = _other_cnn(pool, name, seed)
            count = min(asked.test_images, len(subject.data[asked.split]))
            dealt = share(count, len(pool.seeds), pool.seeds.index(seed))
            by = seeds if crossed else [seed]
            calls.append(partial(judge_cnn, asked, subject, generators, by, dealt, other, labels))
    return calls


def _other_cnn(pool: Pool, name: str, seed: int) -> Subject | None:
    """Another CNN of the same classes: one that cheats, or the next left-out architecture's on the same data;
    there is none where nothing else is left out."""
    if pool.asked.cheating:
        return pool.bench.subject(pool.changes(name, seed, next(cells(pool.asked.cheating))))
    names = list(pool.asked.left_out)
    other = names[(names.index(name) + 1) % len(names)]
    if other == name:
        return None
    return pool.bench.subject(pool.changes(other, seed, next(cells(pool.asked.judged))))


def judge_cnn(
    asked: PoolOptions,
    subject: Subject,
    generators: Generators,
    seeds: Sequence[int],
    dealt: tuple[int, int],
    other: Subject | None,
    labels: Mapping[str, Any],
) -> dict[str, pd.DataFrame]:
    """What explainers are worth on a CNN: ``scores``; with another CNN also ``sanity`` and ``wrong``.

    Args:
        generators: by variant and seed; those of ``seeds`` are judged, all on the same images.
        dealt: how many images of the subject's, and how many those before it have.
        labels: columns of every table, beside ``data set`` and ``cnn``.
    """
    given = {run: own for run, own in generators.items() if run[1] in seeds}
    explainers = explainers_of(subject, given, seeds)
    sample = subject.draw(dealt[0], asked.split, skip=dealt[1])
    areas, steps = asked.areas, asked.steps
    calls: dict[str, tuple[Callable[[], pd.DataFrame], dict[str, Any]]] = {
        "scores": (
            lambda: cell_scores(subject, explainers, sample, areas, steps=steps).drop(columns="cell"),
            {"areas": areas, "steps": steps},
        )
    }
    if other is not None:
        calls["sanity"] = (lambda: _redrawn(asked, subject, explainers, sample), {"few": asked.sanity_images})
        marked = other.draw(asked.wrong_images, "conflict").split.fingerprint if asked.cheating else ""
        calls["wrong"] = (
            lambda: _of_another(asked, subject, other, explainers, sample),
            {"few": asked.wrong_images, "steps": steps, "other": other.trained.key, "marked": marked},
        )
    made_from = {**_decided_by(subject, sample, given), "seeds": seeds}
    made = {
        kind: kept_table(subject, __name__, {**made_from, "table": kind, **decided}, make)
        for kind, (make, decided) in calls.items()
    }
    about = {**labels, "data set": subject.recipe.data.name, "cnn": subject.trained.key}
    shared = {"wrong"} if asked.cheating else set()  # else every part of the images is named apart
    names = {
        kind: own["image"].astype(str) if kind in shared else f"{dealt[1]}/" + own["image"].astype(str)
        for kind, own in made.items()
    }
    return {kind: own.assign(**about, image=names[kind]) for kind, own in made.items()}


def on_marks(
    asked: PoolOptions, subject: Subject, generators: Generators, seed: int, labels: Mapping[str, Any]
) -> dict[str, pd.DataFrame]:
    """``top mass`` by ``method`` and ``image``: of the highest pixels, as many as a cheating CNN's mark has,
    the share of the map's mass that lies on it; on images whose mark is another class's than the digit.
    Data without marks raise ``ProfileError``."""
    sample = subject.draw(asked.marked_images, "conflict")
    marks = sample.marks
    if marks is None:
        raise ProfileError(f"{subject.name} has no marks: `cheating` names data whose CNNs rely on one")
    given = {run: own for run, own in generators.items() if run[1] == seed}

    def make() -> pd.DataFrame:
        tables = []
        for (method, _), own in explainers_of(subject, given, [seed]).items():
            maps = own.attribute(sample.images, sample.explained, AT_ONCE)
            shares = mass_inside(maps, marks, top=True).tolist()  # (N,)
            tables.append(pd.DataFrame({"method": method, "image": range(len(shares)), "top mass": shares}))
        return pd.concat(tables, ignore_index=True)

    made = kept_table(subject, __name__, {**_decided_by(subject, sample, given), "table": "marks"}, make)
    made = made.astype({"image": str})
    return {"marks": made.assign(**labels, seed=seed, cnn=subject.trained.key)}


def _decided_by(subject: Subject, sample: Sample, generators: Generators) -> dict[str, Any]:
    """What decides a table about images and generators, beside the CNN and the table's own options."""
    return {
        "images": sample.split.fingerprint,
        "generators": keys_of(generators),
        "projections": projections_of(subject.recipe),
    }


def _redrawn(asked: PoolOptions, subject: Subject, explainers: Explainers, sample: Sample) -> pd.DataFrame:
    """``rank`` by ``method`` and ``image``: the rank correlation of maps with those of the CNN whose last
    quarter of layers is drawn anew."""
    made = redrawn(subject, explainers, sample[: asked.sanity_images], SANITY_STAGES)
    return made[made["share"] == made["share"].min()].drop(columns="share")


def _of_another(
    asked: PoolOptions, subject: Subject, other: Subject, explainers: Explainers, sample: Sample
) -> pd.DataFrame:
    """What is lost when maps are drawn for another CNN than the one that they are judged by: on images alone
    and on mosaics of four; where the other one cheats, on images with a mark."""
    kinds: tuple[str | None, ...] = (None, "quarters")
    if asked.cheating:
        marked = other.draw(asked.wrong_images, "conflict")
        with torch.no_grad():
            predicted = subject.cnn(marked.images).argmax(1)
        sample, kinds = replace(marked, explained=predicted), (None,)
    few, others = sample[: asked.wrong_images], {seed: other.cnn for _, seed in explainers}
    given = (subject.cnn, few, explainers, others)
    tables = [
        checks.wrong_cnn(*given, kind, steps=asked.steps).assign(pictures=kind or "alone") for kind in kinds
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


def _tests(scores: pd.DataFrame, asked: PoolOptions, rivals: Sequence[str]) -> pd.DataFrame:
    """Paired differences of the universal explainers from their rivals, of each architecture."""
    universal, parts = [f"universal_{variant}" for variant in asked.variants], []
    for name, own in scores.groupby("unseen", sort=False):
        given = own.assign(image=own["data set"] + "/" + own["image"])
        made = differences(given, asked.tested, universal, rivals)
        parts.append(made.assign(unseen=name)[["unseen", *made.columns]])
    return corrected(pd.concat(parts, ignore_index=True))


def _table(name: str, parts: Sequence[pd.DataFrame], measures: Sequence[str], caption: str) -> Tables:
    """Of a check of each CNN the means by architecture, where it was made."""
    if not parts:
        return {}
    return {name: (_summaries(pd.concat(parts, ignore_index=True), ["unseen"], measures), caption)}


def _another_table(parts: Sequence[pd.DataFrame]) -> Tables:
    """Differences of the scores with the own CNN's map from those with another's, by architecture."""
    if not parts:
        return {}
    tables, by = [], ["unseen", "pictures", "method"]
    for names, own in pd.concat(parts).groupby(by, sort=False):
        given = own.assign(method=own["cnn_of_map"])
        made = differences(given, ["insertion - deletion", "drop_black@10"], ["own"], ["other"])
        labels: dict[str, Any] = dict(zip(["unseen", "pictures", "explainer"], names, strict=True))
        tables.append(made.assign(**labels)[[*labels, *made.columns]])
    made = corrected(pd.concat(tables, ignore_index=True))
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
    calls: list[Call] = []
    for (number, seed), own in zip(runs, made, strict=True):
        same_seed = {key: subject for key, subject in there.items() if key[2] == seed}
        given = {(variant, seed): own}
        calls += _judgements(pool, name, same_seed, given, {"CNNs": number}, checked=False)
    scores = pd.concat(
        [own["scores"] for own in side_by_side(pool.bench.recipe.machine, calls)], ignore_index=True
    )
    made_of = _summaries(scores, ["CNNs"], asked.measures)
    return {"numbers": (made_of, f"{name}, unseen: by the number of CNNs that a generator is trained on")}
