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

``gan-lib sweep FILE`` writes ``figures/FILE/results.csv``, and all tables as Parquet. Each setting and seed
is a *cell*: a job of its own, in a process of its own or on a cluster (:mod:`gan_lib.workbench.cluster`),
that is found again in the artifact store when the sweep is run again. One that fails stops no other. Seed i
is CNN i with a generator of its own, and test images are dealt out over them. To ablate something new,
register it (a condition, a generator, a fill, an experiment) and write such a file; another *runner*
(:data:`SWEEPS`) is needed only for what is no list of settings.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import NonNegativeInt, TypeAdapter

from gan_lib.core.options import one_of, options
from gan_lib.core.registry import Registry
from gan_lib.explainers import Explainer
from gan_lib.workbench.bench import Workbench
from gan_lib.workbench.places import SWEPT, Places
from gan_lib.workbench.recipes import ProfileError, Recipe, read_yaml
from gan_lib.workbench.subject import Subject

Experiment = Callable[[Subject, int], Explainer]

# What is trained, or taken, for one setting and seed: a function of the subject and the seed to an explainer.
EXPERIMENTS: Registry[Experiment] = Registry("experiment")
AREAS = [0.1]
FAILED = "failed"  # table of cells that did

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
        """Read a sweep's file; ``changes`` are added to its own, and ``seeds`` among them are its seeds.

        Raises:
            ProfileError: no such file, or one that is no sweep.
        """
        values, given = read_yaml(path, path.parent), changes or {}
        try:
            asked = {"seeds": given["seeds"]} if "seeds" in given else {}
            values = {**values, **asked, "changes": {**values.get("changes", {}), **given}}
            return _ADAPTER.validate_json(json.dumps({"name": path.stem, **values}))
        except (TypeError, ValueError) as error:
            raise ProfileError(f"{path} is no sweep: {error}") from None


_ADAPTER = TypeAdapter(Sweep)


class CellsFailedError(RuntimeError):
    """Cells of a sweep failed; its tables are those of the others.

    Attributes:
        failed: a row for each, with its ``error``; tables: paths.
    """

    def __init__(self, failed: pd.DataFrame, tables: list[Path]) -> None:
        super().__init__(f"{len(failed)} cells failed: {failed['error'].iloc[0]}")
        self.failed, self.tables = failed, tables

    def lines(self) -> tuple[str, ...]:
        """What to say of each cell: its labels and its error."""
        rows = self.failed.astype(object).where(self.failed.notna(), "").to_dict("records")
        return tuple(
            ", ".join(f"{name} {value}" for name, value in row.items() if name != "error" and value != "")
            + f": {row['error']}"
            for row in rows
        )


def run_sweep(sweep: Sweep, places: Places) -> list[Path]:
    """Run a sweep and write its tables to ``figures/NAME``, as CSV and as Parquet.

    Returns:
        Paths of the tables' CSV files.

    Raises:
        ProfileError: a setting that does not fit the recipe; nothing has run then.
        CellsFailedError: cells failed, and are listed in the table ``failed``; the other tables are written.
        Exception: that of the first cell, if all failed.
    """
    bench = Workbench("sweep", sweep.profile, sweep.changes, places)
    bench.figures.run = sweep.name
    tables = SWEEPS[sweep.runner](sweep, bench)
    if FAILED not in tables:
        bench.figures.drop_table(FAILED)  # of an earlier run
    paths = [
        bench.figures.save_table(table, name, caption, parquet=True)
        for name, (table, caption) in tables.items()
    ]
    if FAILED in tables:
        raise CellsFailedError(tables[FAILED][0], paths)
    return paths


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
