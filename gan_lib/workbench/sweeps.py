"""Sweeps: grids over recipe fields, every setting trained and judged, one table.

A sweep is a YAML file. Dotted names are recipe fields, what else stands in a setting labels its rows:

    title: Which conditions does LSFT need?
    profile: cpu
    seeds: [0, 1, 2]
    settings:
      - {method: CGMA}
      - {method: the last Grad-CAM alone, gan.conditions: last_grad_cam}
      - {method: trained by contrast, experiment: contrastive}
    grid: {data.name: [digits_in_scenes, plain_digits]}

``gan-lib sweep FILE`` writes ``figures/FILE/results.csv``. Each setting and seed is a job of its own, in a
process of its own, and is found again in the artifact store when the sweep is run again. Seed i is CNN i with
a generator of its own, and test images are dealt out over them. To ablate something
new, register it (a condition, a generator, a fill, an experiment) and write such a file; another *runner*
(:data:`SWEEPS`) is needed only for what is no list of settings.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from joblib import Parallel, delayed
from pydantic import NonNegativeInt, TypeAdapter

from gan_lib.core.options import one_of, options
from gan_lib.core.registry import Registry
from gan_lib.core.runtime import median_seconds, progress
from gan_lib.explainers import Explainer, GeneratorExplainer, GradCAM, LinearReadout
from gan_lib.gan.generators import parameter_count
from gan_lib.metrics import judge, summarise
from gan_lib.workbench.bench import Workbench
from gan_lib.workbench.outside import outside_code
from gan_lib.workbench.places import SWEPT, Places
from gan_lib.workbench.recipes import ProfileError, Recipe, read_yaml
from gan_lib.workbench.subject import Subject

Experiment = Callable[[Subject, int], Explainer]

# What is trained, or taken, for one setting and seed: a function of the subject and the seed to an explainer.
EXPERIMENTS: Registry[Experiment] = Registry("experiment")
AREAS = [0.1]


Tables = dict[str, tuple[pd.DataFrame, str]]  # with their captions, by name
Runner = Callable[["Sweep", Workbench], Tables]
SWEEPS: Registry[Runner] = Registry("runner")


@options
class Sweep:
    """A sweep as its file says."""

    name: str  # of the file, and of the folder of its tables
    title: str  # caption of the first
    profile: str = "cpu"  # that the settings differ from
    runner: Annotated[str, one_of(SWEEPS)] = "settings"
    seeds: tuple[NonNegativeInt, ...] | None = None  # of CNNs and generators; by default the profile's
    changes: dict[str, Any] = field(default_factory=dict)  # common to all settings
    settings: tuple[dict[str, Any], ...] = ()  # labels and changes
    grid: dict[str, list[Any]] = field(default_factory=dict)  # values by recipe field, all combined
    timed: bool = False  # whether the time of a map is measured, settings in turn
    options: dict[str, Any] = field(default_factory=dict)  # what a runner of one's own needs

    @classmethod
    def load(cls, path: Path, changes: Mapping[str, Any] | None = None) -> Sweep:
        """Read a sweep's file; ``changes`` are added to its own.

        Raises:
            ProfileError: no such file, or one that is no sweep.
        """
        values = read_yaml(path, path.parent)
        try:
            values = {**values, "changes": {**values.get("changes", {}), **(changes or {})}}
            return _ADAPTER.validate_json(json.dumps({"name": path.stem, **values}))
        except (TypeError, ValueError) as error:
            raise ProfileError(f"{path} is no sweep: {error}") from None


_ADAPTER = TypeAdapter(Sweep)


def run_sweep(sweep: Sweep, places: Places) -> list[Path]:
    """Run a sweep and write its tables to ``figures/NAME``.

    Returns:
        Paths of the tables.

    Raises:
        ProfileError: a setting that does not fit the recipe; nothing has run then.
    """
    bench = Workbench("sweep", sweep.profile, sweep.changes, places)
    bench.figures.run = sweep.name
    tables = SWEEPS[sweep.runner](sweep, bench)
    return [bench.figures.save_table(table, name, caption) for name, (table, caption) in tables.items()]


def sweep_table(places: Places, sweep: str, name: str = "results") -> pd.DataFrame:
    """A table that :func:`run_sweep` wrote; where it was not run, the one that comes with the project.

    Raises:
        FileNotFoundError: there is none; the message says how to make it.
    """
    folders = [Path(os.environ.get(SWEPT, places.figures)), places.notebooks.parent / "figures"]
    for path in (folder / sweep / f"{name}.csv" for folder in folders):
        if path.is_file():
            return pd.read_csv(path)
    raise FileNotFoundError(f"no {sweep}/{name}.csv in {folders[0]}: make it with `gan-lib sweep {sweep}`")


@dataclass(frozen=True)
class Setting:
    """One setting of a sweep: how its rows are labelled, what is done, and with which recipe."""

    labels: Mapping[str, Any]
    experiment: str
    changes: Mapping[str, Any]

    @property
    def method(self) -> str:
        """What its rows are called in tables."""
        return str(self.labels["method"])


def settings_of(sweep: Sweep, recipe: Recipe) -> list[Setting]:
    """Every setting in every cell of the grid.

    Raises:
        ProfileError: a change that does not fit the recipe, an unknown experiment, a label given
            twice, or with ``timed`` a method.
    """
    known = set(vars(recipe))
    made: list[Setting] = []
    cells = [dict(zip(sweep.grid, values, strict=True)) for values in itertools.product(*sweep.grid.values())]
    for cell, one in itertools.product(cells, sweep.settings or ({},)):
        changes = {name: value for name, value in one.items() if name.partition(".")[0] in known}
        labels = {name: value for name, value in one.items() if name not in changes}
        where = f"sweep {sweep.name!r}, {labels.get('method', one)}"
        try:
            experiment = EXPERIMENTS.name(labels.pop("experiment", "supervised"))
        except KeyError as error:
            raise ProfileError(f"{where}: {error.args[0]}") from None
        recipe.changed({**cell, **changes}, where)
        method = labels.pop("method", ", ".join(map(str, changes.values())) or experiment)
        labels = {"group": "", **labels, "method": method, **cell}
        if any(labels == own.labels for own in made):
            raise ProfileError(f"sweep {sweep.name!r}: two settings are called {labels}")
        made.append(Setting(labels, experiment, {**cell, **changes}))
    if sweep.timed and len({own.method for own in made}) < len(made):
        raise ProfileError(
            f"sweep {sweep.name!r}: with timed, every setting needs a method's name of its own"
        )
    return made


@SWEEPS.register("settings")
def run_settings(sweep: Sweep, bench: Workbench) -> Tables:
    """Every setting with every seed, summarised: columns of the labels, and of :func:`summarise`."""
    settings = settings_of(sweep, bench.recipe)
    seeds = sweep.seeds or bench.recipe.seeds
    runs = list(itertools.product(settings, seeds))
    cohorts = {json.dumps(_of_cnn(own.changes)): own.changes for own in settings}
    for changes in cohorts.values():
        bench.cohort({**changes, "seeds": seeds})  # CNNs are trained before processes wait for each other
    jobs = (delayed(_scores)(sweep, setting, seed, seeds, bench.places) for setting, seed in runs)
    parallel = Parallel(n_jobs=max(1, min(bench.recipe.machine.workers, len(runs))), return_as="generator")
    tables = list(progress(parallel(jobs), f"sweep {sweep.name}", len(runs)))
    parts = []
    for setting in settings:
        own = pd.concat([table for (run, _), table in zip(runs, tables, strict=True) if run is setting])
        parts.append(summarise(own.assign(method=setting.method)).assign(**setting.labels))
    results = pd.concat(parts, ignore_index=True)
    labels = [name for own in settings for name in own.labels]
    made: Tables = {"results": (results[[*dict.fromkeys([*labels, *results.columns])]], sweep.title)}
    if sweep.timed:
        made["cost"] = (_cost(settings, seeds[0], bench), f"{sweep.title}: time of a map, all in turn")
    return made


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
    folder = subject.jobs_store.get("scores", "gan_lib.workbench.sweeps", made_from, make)
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
