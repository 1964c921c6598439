"""The project keeps its own rules: rooms, notebooks, packages, figures."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import nbformat
import pandas as pd
import papermill
import pytest
import yaml
from packaging.requirements import Requirement

from gan_lib.figures import check_manifest, read_manifest
from gan_lib.workbench import Places, Profile, Sweep
from gan_lib.workbench.driver import find_notebooks
from gan_lib.workbench.sweeps import settings_of

ROOT = Path(__file__).parent.parent
PLACES = Places.of(ROOT)
NOTEBOOKS = find_notebooks(PLACES.notebooks)
PAGES = sorted((ROOT / "notebooks/pages").glob("*.ipynb"))
# Every room imports only from rooms before it; those in one line do not know of each other.
TOWER = [
    ["core"],
    ["data", "figures"],
    ["classifiers"],
    ["metrics"],
    ["gan"],
    ["inversion"],
    ["explainers"],
    ["concepts"],
    ["workbench"],
    ["explorer"],
    ["study"],
    ["api"],
    ["cli"],
]
FLOORS = {room: floor for floor, rooms in enumerate(TOWER) for room in rooms}


def rooms_imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        yield from (name.split(".")[1] for name in names if name.startswith("gan_lib."))


def arrows():
    """Which room imports from which, with the files that do."""
    found = {}
    for path in (ROOT / "gan_lib").rglob("*.py"):
        room = path.relative_to(ROOT / "gan_lib").parts[0].removesuffix(".py")
        for other in set(rooms_imported(path)) - {room}:
            found.setdefault((room, other), []).append(path.name)
    return {arrow: files for arrow, files in found.items() if arrow[0] != "__init__"}


def test_rooms_are_a_tower():
    for (room, other), files in arrows().items():
        assert FLOORS[other] < FLOORS[room], (
            f"{room} imports from {other}, which is no room below it: {files}"
        )
    assert len(arrows()) <= 55
    rooms = {path.name for path in (ROOT / "gan_lib").iterdir() if (path / "__init__.py").is_file()}
    assert rooms | {"api", "cli"} == set(FLOORS)


def test_files_stay_short():
    for path in (ROOT / "gan_lib").rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 360, path


@pytest.mark.parametrize("path", [*NOTEBOOKS, *PAGES], ids=lambda path: path.stem)
def test_notebooks_are_committed_clean(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    assert "papermill" not in notebook.metadata
    assert not any("papermill" in cell.metadata for cell in notebook.cells)
    assert notebook.cells[0].cell_type == "markdown"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_parameters_are_few(path):
    parameters = papermill.inspect_notebook(str(path))
    assert {"profile", "changes"} <= parameters.keys()
    assert len(parameters) <= 9


@pytest.mark.parametrize("path", sorted(PLACES.profiles.glob("*.yaml")), ids=lambda path: path.stem)
def test_profiles_fit_the_recipe(path):
    assert Profile.load(path.stem, path.parent).name == path.stem


@pytest.mark.parametrize(
    "path", sorted((ROOT / "notebooks/sweeps").glob("*.yaml")), ids=lambda path: path.stem
)
def test_sweeps_fit_the_recipe(path):
    sweep = Sweep.load(path)
    recipe = Profile.load(sweep.profile, PLACES.profiles, sweep.changes).recipe
    assert settings_of(sweep, recipe)


def test_environment_and_package_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (pip,) = [entry["pip"] for entry in environment if isinstance(entry, dict)]
    assert pip[-1] == "--editable ."
    pinned = {}
    for line in pip[:-1]:
        requirement = Requirement(line)
        assert str(requirement.specifier).startswith("=="), f"{line} is no exact version"
        pinned[requirement.name] = str(requirement.specifier).removeprefix("==")
    wanted = {Requirement(line).name: Requirement(line) for line in project["dependencies"]}
    assert pinned.keys() == wanted.keys()
    for name, requirement in wanted.items():
        assert requirement.specifier.contains(pinned[name]), (
            f"{name} {pinned[name]} is not {requirement.specifier}"
        )
    python = next(entry for entry in environment if str(entry).startswith("python="))
    assert Requirement(f"python{project['requires-python']}").specifier.contains(
        python.removeprefix("python=")
    )


def test_committed_figures_are_those_of_the_manifest():
    assert not check_manifest(ROOT / "figures")
    cpu = {name for name in read_manifest(ROOT / "figures")["files"] if name.startswith("cpu/")}
    there = {
        p.relative_to(ROOT / "figures").as_posix() for p in (ROOT / "figures/cpu").rglob("*") if p.is_file()
    }
    assert cpu == there


@pytest.mark.parametrize(
    ("table", "digits"),
    [
        ("02_gan_training/results", {"dice": 2, "drop_black": 1, "drop_blur": 1, "increase_blur": 1}),
        (
            "03_contrastive_training/results",
            {
                "evidence_dice": 2,
                "pointing": 2,
                "drop_black": 1,
                "drop_black@10": 1,
                "drop_blur@10": 1,
                "increase_blur": 1,
            },
        ),
        (
            "04_captum_baselines/main_table",
            {
                "insertion - deletion": 2,
                "road": 3,
                "adcc": 2,
                "drop_black@10": 1,
                "evidence_dice": 2,
                "pointing": 2,
            },
        ),
    ],
)
def test_readme_states_the_results_of_the_committed_tables(table, digits):
    results = pd.read_csv(ROOT / f"figures/cpu/{table}.csv").set_index(["method", "measure"])
    readme = (ROOT / "README.md").read_text()
    for method in results.index.get_level_values("method").unique():
        cells = []
        for measure, places in digits.items():
            row = results.loc[(method, measure)]
            cells.append(f"{row['mean']:.{places}f} [{row['low']:.{places}f}, {row['high']:.{places}f}]")
        assert f"| {' | '.join([method, *cells])} |" in readme, method
