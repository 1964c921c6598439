"""The usual runner of sweeps, every setting with every seed, and what a setting's experiment can be."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from gan_lib.core.artifacts import digest
from gan_lib.core.runtime import median_seconds
from gan_lib.explainers import Explainer, GeneratorExplainer, GradCAM, LinearReadout
from gan_lib.gan.generators import parameter_count
from gan_lib.metrics import judge, summarise
from gan_lib.workbench.bench import Workbench
from gan_lib.workbench.crew import Failed, on_threads, outcomes, raise_first
from gan_lib.workbench.outside import outside_code
from gan_lib.workbench.places import Places
from gan_lib.workbench.subject import Subject
from gan_lib.workbench.sweeps import (
    AREAS,
    EXPERIMENTS,
    FAILED,
    SWEEPS,
    Setting,
    Sweep,
    Tables,
    settings_of,
)


@SWEEPS.register("settings")
def run_settings(sweep: Sweep, bench: Workbench) -> Tables:
    """Every setting with every seed, summarised: columns of the labels, and of :func:`summarise`."""
    settings = settings_of(sweep, bench.recipe)
    seeds = sweep.seeds or bench.recipe.seeds
    runs = list(itertools.product(settings, seeds))
    _prepare(sweep, bench, settings, seeds)
    machine = bench.recipe.machine
    calls = [
        partial(on_threads, machine.threads, partial(_scores, sweep, *run, seeds, bench.places), blas=1)
        for run in runs
    ]
    about = [sweep.profile, sweep.changes, seeds]
    keys = [f"{own.method}-{digest([*about, own.experiment, own.changes, seed])}" for own, seed in runs]
    made = outcomes(calls, machine.workers, f"sweep {sweep.name}", keys)
    return tables_of(sweep, bench, settings, seeds, made)


def tables_of(
    sweep: Sweep,
    bench: Workbench,
    settings: Sequence[Setting],
    seeds: Sequence[int],
    made: Sequence[pd.DataFrame | Failed],
) -> Tables:
    """Tables of a sweep from what became of its cells, every setting with every seed.

    Returns:
        ``results``; ``cells``, the means of every cell with the recipe's fields that settings differ in; with
        ``timed``, ``cost``; and ``failed``, if some did.
    """
    if all(isinstance(own, Failed) for own in made):
        raise_first(made)
    done: list[tuple[Setting, int, pd.DataFrame]] = []
    failed: list[tuple[Setting, int, Failed]] = []
    for (setting, seed), own in zip(itertools.product(settings, seeds), made, strict=True):
        failed += [(setting, seed, own)] if isinstance(own, Failed) else []
        done += [] if isinstance(own, Failed) else [(setting, seed, own)]
    by_setting = [(setting, [own for of, _, own in done if of is setting]) for setting in settings]
    results = pd.concat(
        [
            summarise(pd.concat(scores).assign(method=setting.method)).assign(**setting.labels)
            for setting, scores in by_setting
            if scores
        ],
        ignore_index=True,
    )
    labels = [name for own in settings for name in own.labels]
    cells = [
        {**of.labels, **of.changes, "seed": seed, "images": own["image"].nunique(), **_means(own)}
        for of, seed, own in done
    ]
    tables: Tables = {
        "results": (results[[*dict.fromkeys([*labels, *results.columns])]], sweep.title),
        "cells": (pd.DataFrame(cells), f"{sweep.title}: means of every setting and seed"),
    }
    if sweep.timed:
        whole = [own for own in settings if not any(of is own for of, _, _ in failed)]
        tables["cost"] = (_cost(whole, seeds[0], bench), f"{sweep.title}: time of a map, all in turn")
    if failed:
        errors = [{**of.labels, "seed": seed, "error": own.told()} for of, seed, own in failed]
        tables[FAILED] = (pd.DataFrame(errors), f"{sweep.title}: cells that failed")
    return tables


def _means(scores: pd.DataFrame) -> dict[str, float]:
    """Means of a cell's measures over its images."""
    measures = scores.drop(columns=["seed", "image"], errors="ignore").select_dtypes("number")
    return {str(name): float(value) for name, value in measures.mean().items()}


def _prepare(sweep: Sweep, bench: Workbench, settings: Sequence[Setting], seeds: Sequence[int]) -> None:
    """Have all CNNs in the store, before processes wait for each other; where one cannot be had, the cells
    that need it will say why."""
    every = {json.dumps(_of_cnn(own.changes)): {**own.changes, "seeds": seeds} for own in settings}
    calls = [
        partial(_cnn, sweep, changes, seed, bench.places) for changes in every.values() for seed in seeds
    ]
    made = outcomes(calls, bench.recipe.machine.workers, "CNNs")
    for place, changes in enumerate(every.values()):
        own = made[place * len(seeds) : (place + 1) * len(seeds)]
        if not any(isinstance(one, Failed) for one in own):
            bench.cohort(changes)  # notes them for the manifest


def _cnn(sweep: Sweep, changes: Mapping[str, Any], seed: int, places: Places) -> None:
    """Have a CNN and its predictions in the store."""
    cohort = Workbench("sweep", sweep.profile, sweep.changes, places).one_of_cohort(changes, seed)
    cohort.predictions()


def _of_cnn(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The changes that decide which CNN is explained."""
    return {name: value for name, value in changes.items() if name.split(".")[0] in ("seed", "data", "cnn")}


def _scores(sweep: Sweep, setting: Setting, seed: int, seeds: Sequence[int], places: Places) -> pd.DataFrame:
    """Scores of one setting and seed, CNN and generator, of the images dealt to it; from the store where they
    are there."""
    one_process = {**sweep.changes, "machine.workers": 1, "seeds": seeds}
    cohort = Workbench("sweep", sweep.profile, one_process, places).cohort(setting.changes)
    subject = cohort[seed]

    def make(folder: Path) -> None:
        explainer = EXPERIMENTS[setting.experiment](subject, seed)
        sample = cohort.deal(subject.recipe.gan.test_images)[seed]
        target = GradCAM(subject.cnn, subject.target_layer).to(subject.device)
        reference, maps = (
            own.attribute(sample.images, target=sample.explained, batch_size=128)
            for own in (target, explainer)
        )
        given: Any = {"reference": reference, "evidence": sample.masks, "areas": AREAS}
        scores, _ = judge(subject.cnn, sample.images, {("own", seed): maps}, sample.explained, **given)
        scores.to_csv(folder / "scores.csv", index=False)

    recipe = subject.recipe.flat()
    made_from = {
        "experiment": setting.experiment,
        "seed": seed,
        "recipe": {name: value for name, value in recipe.items() if not name.startswith("machine.")},
        "classifier": subject.trained.key,
    }
    if code := outside_code():  # a measure, a method, ...
        made_from["outside"] = code
    folder = subject.jobs_store.get("scores", __name__, made_from, make)
    return cohort.labelled(pd.read_csv(folder / "scores.csv"), seed)


def _cost(settings: Sequence[Setting], seed: int, bench: Workbench) -> pd.DataFrame:
    """Milliseconds a map, conditions included, and parameters; contestants in turn."""
    sample = bench.subject().draw(32)
    explainers = {
        own.method: EXPERIMENTS[own.experiment](bench.subject(own.changes), seed) for own in settings
    }
    contestants = {
        name: partial(own.attribute, sample.images, sample.explained) for name, own in explainers.items()
    }
    seconds = median_seconds(contestants, bench.recipe.judge.timing_rounds)
    return pd.DataFrame(
        {
            "method": name,
            "ms per image": 1000 * seconds[name] / len(sample),
            "parameters": parameter_count(own.generator) if isinstance(own, GeneratorExplainer) else 0,
        }
        for name, own in explainers.items()
    )


@EXPERIMENTS.register("supervised")
def supervised(subject: Subject, seed: int) -> Explainer:
    """The recipe's first variant, trained with Grad-CAM as its target."""
    return next(iter(subject.supervised(subject.recipe.gan.variants[:1], [seed]).values())).explainer


@EXPERIMENTS.register("contrastive")
def contrastive(subject: Subject, seed: int) -> Explainer:
    """The recipe's first variant, trained by contrast."""
    return next(iter(subject.contrastive(subject.recipe.gan.variants[:1], [seed]).values())).explainer


@EXPERIMENTS.register("grad_cam")
def grad_cam(subject: Subject, seed: int) -> Explainer:
    """Grad-CAM of the last convolution."""
    return GradCAM(subject.cnn, subject.target_layer)


@EXPERIMENTS.register("linear_readout")
def linear_readout(subject: Subject, seed: int) -> Explainer:
    """The control that learns nothing (notebook 01)."""
    return LinearReadout(subject.maker())
