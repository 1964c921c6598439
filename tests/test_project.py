"""The project keeps its own rules: rooms, notebooks, packages, figures."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import nbformat
import papermill
import pytest
import yaml
from packaging.requirements import Requirement

from gan_lib.figures import check_manifest, read_manifest
from gan_lib.workbench import Places, Profile, Sweep, load_claims
from gan_lib.workbench.driver import find_notebooks
from gan_lib.workbench.results import BEGIN, END, load_sheets
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
    ["shortcuts"],
    ["workbench"],
    ["explorer", "reporting"],
    ["study"],
    ["api"],
    ["cli"],
    ["__main__"],
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
    return {arrow: files for arrow, files in found.items() if arrow[0] not in ("__init__", "__main__")}


def test_rooms_are_a_tower():
    for (room, other), files in arrows().items():
        assert FLOORS[other] < FLOORS[room], (
            f"{room} imports from {other}, which is no room below it: {files}"
        )
    assert len(arrows()) <= 71
    rooms = {path.name for path in (ROOT / "gan_lib").iterdir() if (path / "__init__.py").is_file()}
    assert rooms | {"api", "cli", "__main__"} == set(FLOORS)


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


# Numbers in prose that are no results: levels, thresholds and tolerances of measures, what guessing gives.
DEFINED = {"0.5", "95 %", "3 %", "100 %", "10 %", "50 points", "25 %"}
MEASURED = re.compile(
    r"(?<![\w./^-])(?:\d+(?:\.\d+)?\s?(?:%|per cent|percent|points|times)|\d*\.\d+)(?![\w.])"
)
TOYS = ("hand", "toy", "Suppose", "Say that", "guessing")


def measured_numbers(prose):
    """Numbers in Markdown that look like results: not in code, formulas and addresses, nor in a toy's cell."""
    prose = re.split(r"#* ?\**Exercises", prose)[0]
    if any(word in prose for word in TOYS):
        return []
    for what in (
        r"```.*?```",
        r"\$\$.*?\$\$",
        r"\$[^$]*\$",
        r"`[^`]*`",
        r"\]\([^)]*\)",
        r"arXiv \S+",
        r"section \S+",
    ):
        prose = re.sub(what, " ", prose, flags=re.DOTALL)
    return [own for own in MEASURED.findall(" ".join(prose.split())) if own not in DEFINED]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_measured_number_is_typed_into_prose(path):
    cells = nbformat.read(path, as_version=4).cells
    typed = {
        number: cell.source
        for cell in cells
        if cell.cell_type == "markdown"
        for number in measured_numbers(cell.source)
    }
    assert not typed


@pytest.mark.parametrize(
    ("prose", "found"),
    [
        ("It drops by 12.3 % on black.", ["12.3 %"]),
        ("A Dice of 0.71 [0.69, 0.73] is more.", ["0.71", "0.69", "0.73"]),
        ("In 37 % of the cases, 3 times as often", ["37 %", "3 times"]),
        ("Intervals of 95 %, thresholded at 0.5", []),
        ("By hand: from 0.8 to 0.6 it loses 25 %", []),
        ("With $p = 0.71$ and `0.71`, see [x](figures/0.71.png) in arXiv 2301.08067, section 3.1", []),
        ("## Exercises\n\n1. Why 12.3 %?", []),
    ],
)
def test_numbers_that_would_be_found(prose, found):
    assert measured_numbers(prose) == found


CLAIMED = sorted((ROOT / "notebooks/claims").rglob("*.yaml"))


@pytest.mark.parametrize("path", CLAIMED, ids=lambda path: path.stem)
def test_claims_are_stated_by_a_notebook(path):
    name = path.relative_to(ROOT / "notebooks/claims").with_suffix(".ipynb")
    cells = nbformat.read(ROOT / "notebooks" / name, as_version=4).cells
    assert any("bench.claims()" in cell.source for cell in cells if cell.cell_type == "code")
    written = "\n".join(cell.source for cell in cells)
    for claim in load_claims(path):
        assert f'"{claim.table}"' in written, f"{name} saves no table {claim.table}"


def test_there_are_forty_claims_and_a_file_for_every_notebook_that_states_some():
    assert sum(len(load_claims(path)) for path in CLAIMED) >= 40
    files = {path.relative_to(ROOT / "notebooks/claims").with_suffix("").as_posix() for path in CLAIMED}
    stating = {
        path.relative_to(ROOT / "notebooks").with_suffix("").as_posix()
        for path in NOTEBOOKS
        if "bench.claims()" in path.read_text()
    }
    assert files == stating


def test_readme_is_short_and_its_results_fit():
    readme = (ROOT / "README.md").read_text().splitlines()
    assert len(readme) <= 200
    assert readme.index(END) - readme.index(BEGIN) < 40
    assert load_sheets(ROOT / "notebooks/results.yaml")
