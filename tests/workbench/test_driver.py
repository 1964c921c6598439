from __future__ import annotations

import io
import json
import tempfile
import textwrap
from pathlib import Path

import nbformat
import pytest
from typer.testing import CliRunner

import gan_lib
from gan_lib.cli import app
from gan_lib.figures import read_manifest
from gan_lib.workbench import Places, ProfileError, driver
from gan_lib.workbench.cells import Teller
from gan_lib.workbench.driver import find_notebooks, run_notebooks

PARAMETERS = """
profile = "cpu"
changes = {}
"""
# What Workbench and FigureFolder write, without the seconds that importing them takes.
BODY = """
import hashlib, json, os, pathlib

value = changes.get("data.image_size", 64)
run = "p/{name}"
root = pathlib.Path(os.environ["GAN_LIB_FIGURES"])
(root / run).mkdir(parents=True)
(root / run / "first.csv").write_text(str(value))
row = {{"run": run, "caption": "The value", "sha256": hashlib.sha256(str(value).encode()).hexdigest()}}
manifest = {{"files": {{run + "/first.csv": row}}, "runs": {{run: {{"seed": 0}}}}}}
(root / "manifest.json").write_text(json.dumps(manifest))
"""
WITH_WORKBENCH = """
import pandas as pd
from gan_lib.workbench import Workbench

bench = Workbench("{name}", profile, changes)
bench.figures.save_table(pd.DataFrame({{"value": [bench.recipe.data.image_size]}}), "first", "The value")
"""


def write_notebook(folder, name, *cells, parameters=PARAMETERS):
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    tagged = nbformat.v4.new_code_cell(parameters.strip(), metadata={"tags": ["parameters"]})
    notebook.cells = [tagged, *(nbformat.v4.new_code_cell(textwrap.dedent(cell).strip()) for cell in cells)]
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / f"{name}.ipynb")


@pytest.fixture
def places(tmp_path):
    write_notebook(tmp_path / "notebooks", "01_first", BODY.format(name="01_first"))
    write_notebook(
        tmp_path / "notebooks", "02_second", BODY.format(name="02_second"), "assert value < 500, 'too much'"
    )
    (tmp_path / "notebooks/profiles").mkdir()
    (tmp_path / "notebooks/profiles/p.yaml").write_text("data: {image_size: 32}\n")
    return Places.of(tmp_path)


def run(places, only=(), force=False, size=64):
    return list(run_notebooks("p", places, only, force, {"data.image_size": size}))


def test_provenance_of_what_a_workbench_saves(places):
    write_notebook(places.notebooks, "01_first", WITH_WORKBENCH.format(name="01_first"))
    (result,) = run(places, ["01"], size=20)
    assert result.state == "completed", result.error
    assert (places.figures / "p/01_first/first.csv").read_text() == "value\n20\n"
    manifest = read_manifest(places.figures)
    entry = manifest["runs"]["p/01_first"]
    assert entry["recipe"]["data.image_size"] == 20
    assert entry["recipe"]["contrastive.epochs"] == 2
    assert entry["profile"] == "p"
    assert entry["notebook"] == "01_first"
    assert entry["versions"]["torch"]
    assert "CPU" in entry["device"] or "NVIDIA" in entry["device"]
    assert str(places.data) not in json.dumps(manifest)


def test_a_temporary_folder_with_a_long_name(places, tmp_path, monkeypatch):
    """A Unix socket's path has at most 104 to 108 bytes."""
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    (result,) = run(places, only=["01"])
    assert result.state == "completed", result.error
    assert not list(long.iterdir())


def test_studies_are_notebooks_too(places):
    write_notebook(places.notebooks / "studies", "long", BODY.format(name="studies/long"))
    results = run(places, ["01", "studies"])
    assert [(own.notebook, own.state) for own in results] == [
        ("01_first", "completed"),
        ("studies/long", "completed"),
    ]
    assert (places.data / "runs/p/studies/long.ipynb").is_file()
    assert [own.state for own in run(places, ["studies/l"])] == ["unchanged"]


def test_a_profile_by_its_path(places, tmp_path):
    (tmp_path / "mine.yaml").write_text("data: {image_size: 48}\n")
    write_notebook(places.notebooks, "01_first", WITH_WORKBENCH.format(name="01_first"))
    (result,) = run_notebooks(str(tmp_path / "mine.yaml"), places, ["01"])
    assert result.state == "completed", result.error
    assert (places.figures / "mine/01_first/first.csv").read_text() == "value\n48\n"


def test_runs_files_skips_and_runs_again(places):
    results = run(places, size=20)
    assert [(result.notebook, result.state) for result in results] == [
        ("01_first", "completed"),
        ("02_second", "completed"),
    ]
    assert results[0].files == ("p/01_first/first.csv",)
    assert results[0].peak_memory > 0.05
    assert not list((places.data / "runs" / "p").glob(".0*.tmp"))  # nothing is left in staging

    assert [result.state for result in run(places, size=20)] == ["unchanged"] * 2
    assert [result.state for result in run(places, ["02"], size=30)] == ["completed"]
    assert [result.state for result in run(places, ["01"], force=True, size=20)] == ["completed"]
    (places.figures / "p/01_first/first.csv").unlink()
    assert [result.state for result in run(places, ["01"], size=20)] == ["completed"]


def test_runs_again_when_a_module_that_a_notebook_imports_has_changed(places, monkeypatch):
    body = BODY.format(name="02_second")
    write_notebook(
        places.notebooks, "02_second", body, "from gan_lib.core.storage import (\n    read_json,\n)"
    )
    assert [result.state for result in run(places)] == ["completed"] * 2
    now = driver.code_version
    monkeypatch.setattr(
        driver, "code_version", lambda name: now(name) + "!" * (name == "gan_lib.core.storage")
    )
    assert [result.state for result in run(places)] == ["unchanged", "completed"]


def test_a_failure_shows_the_cell_and_leaves_earlier_results(places):
    run(places, size=20)
    before = (places.figures / "p/02_second/first.csv").read_text()
    results = run(places, ["02"], size=700)
    assert results[-1].state == "failed"
    assert "assert value < 500" in results[-1].error
    assert "AssertionError: too much" in results[-1].error
    assert (places.figures / "p/02_second/first.csv").read_text() == before
    assert [result.state for result in run(places, ["02"], size=20)] == ["completed"]


HELPERS = """
import pathlib
import gan_lib

def where(_=None):
    return [str(pathlib.Path(__file__).parent), str(pathlib.Path(gan_lib.__file__).parent)]
"""
ASKED = """
import json, pathlib
from joblib import Parallel, delayed
import {names}

found = dict(zip({names!r}.split(", "), Parallel(n_jobs=2)(delayed(own.where)(1) for own in ({names}))))
pathlib.Path({out!r}).write_text(json.dumps([found, [own.where() for own in ({names})]]))
"""


def test_modules_beside_the_profile_in_the_project_and_here_can_be_imported(places, tmp_path, monkeypatch):
    """By notebooks and their workers, which import the library that runs them, wherever they are started."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setattr("sys.path", list(driver.sys.path))
    folders = {"of_profile": tmp_path / "profiles", "of_project": tmp_path, "of_shell": tmp_path / "shell"}
    for name, folder in folders.items():
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(HELPERS)
    (tmp_path / "profiles/mine.yaml").write_text("shown_images: 1")
    monkeypatch.chdir(tmp_path / "shell")
    out = tmp_path / "found.json"
    write_notebook(places.notebooks, "01_first", ASKED.format(names=", ".join(folders), out=str(out)))
    (result,) = run_notebooks("../profiles/mine.yaml", places, ["01"])
    assert result.state == "completed", result.error
    library = str(Path(gan_lib.__file__).parent)
    in_workers, in_kernel = json.loads(out.read_text())
    assert in_workers == {name: [str(folder), library] for name, folder in folders.items()}
    assert in_kernel == list(in_workers.values())


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        (
            "data: {name: digits_in_scene}",
            "data.name: .*in {beside} or {data}; did you mean digits_in_scenes",
        ),
        (
            "data: {name: nowhere}",
            "data.name: 'nowhere' is neither .* in {beside} or {data}; there are digits",
        ),
        ("cnn: {weights: net.safetensors}", "cnn.weights: there is no file .* in {beside} or {data}"),
        ("cnn: {architecture: resnet18, weights: IMAGENET}", "{beside} or {data} either; .* IMAGENET1K_V1"),
        ("asked: [[cat.png, cat]]", "asked: there is no file 'cat.png' in {beside} or {data}"),
        (
            "cnn: {architecture: 'no_models:make'}",
            "cnn.architecture: no module 'no_models' in {beside}, {root}",
        ),
        ("cnn: {architecture: 'json.no.models:make'}", "no module 'json.no.models' in {beside}"),
        ("judge: {settings: {occlusion: {window: !!set {1}}}}", "tag 'set' is refused"),
        ("seeds: [a]", "seeds.0"),
    ],
)
def test_what_a_profile_names_is_there_before_anything_runs(places, tmp_path, profile, message):
    (tmp_path / "own").mkdir()
    (tmp_path / "own/mine.yaml").write_text(profile)
    expected = message.format(beside=tmp_path / "own", data=tmp_path / "data", root=tmp_path)
    with pytest.raises((ProfileError, FileNotFoundError, ValueError), match=expected):
        list(run_notebooks(str(tmp_path / "own/mine.yaml"), places, ["01"]))
    assert not places.figures.exists()
    assert not (places.data / "runs").exists()


@pytest.mark.parametrize("value", [{1}, b"1", range(2), {"a": object()}, {1: 2}])
def test_changes_that_are_no_plain_values_reach_no_notebook(places, value):
    with pytest.raises(ProfileError, match=r"^changes: judge\.settings\.mine"):
        list(run_notebooks("p", places, ["01"], changes={"judge.settings.mine": {"own": value}}))
    assert not (places.data / "runs").exists()


def test_another_cnn_or_other_weights_run_again(places, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.path", list(driver.sys.path))
    (tmp_path / "own").mkdir()
    (tmp_path / "own/net.safetensors").write_bytes(b"first")
    (tmp_path / "own/mine.yaml").write_text("cnn: {weights: net.safetensors, epochs: 0}")

    def state():
        return [own.state for own in run_notebooks(str(tmp_path / "own/mine.yaml"), places, ["01"])]

    assert state() == ["completed"]
    assert state() == ["unchanged"]
    (tmp_path / "own/net.safetensors").write_bytes(b"other")
    assert state() == ["completed"]


def test_cells_are_told_with_the_nearest_heading(places):
    told = []
    path = places.notebooks / "01_first.ipynb"
    notebook = nbformat.read(path, 4)
    text = nbformat.v4.new_markdown_cell
    notebook.cells[0:0] = [text("# 01 · One\n\nwords\n## Two ##"), text("no heading, #hash")]
    notebook.cells[3:3] = [text("```python\n# a comment\n```"), nbformat.v4.new_code_cell("1")]
    notebook.cells.append(text("### Last"))
    nbformat.write(notebook, path)
    (result,) = run_notebooks("p", places, ["01"], at_cell=lambda *own: told.append(own))
    assert result.state == "completed", result.error
    assert told == [(1, 3, "Two"), (2, 3, "Two"), (3, 3, "Two")]


class Terminal(io.StringIO):
    encoding = "ascii"

    def isatty(self):
        return True


def test_a_terminal_shows_the_cell_in_a_line_that_is_rewritten(monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        teller = Teller(stream)
        teller.notebook(1, 2, "01_first")
        teller.cell(1, 12, "Short")
        teller.cell(2, 12, "A · heading that is longer than the line")
        teller.clear()
        teller.clear()
        rewritten = ("  cell 1 of 12  Short", "  cell 2 of 12  A ? heading t", "")
        lines = "".join(f"\r{line:<29}" for line in rewritten) + "\r"
        assert stream.getvalue() == "[1/2] 01_first: running ...\n" + shown * lines


def test_a_failure_stops_the_run(places):
    write_notebook(places.notebooks, "01_first", "1 / 0")
    assert [(result.notebook, result.state) for result in run(places)] == [("01_first", "failed")]


def test_a_dead_kernel_is_a_failure(places):
    write_notebook(places.notebooks, "01_first", "import os; os._exit(1)")
    (result,) = run(places, ["01"])
    assert result.state == "failed"
    assert "DeadKernelError" in result.error


def test_figures_that_a_notebook_no_longer_makes_go_away(places):
    run(places, ["01"])
    write_notebook(
        places.notebooks, "01_first", BODY.format(name="01_first").replace("first.csv", "second.csv")
    )
    run(places, ["01"])
    assert [path.name for path in (places.figures / "p/01_first").iterdir()] == ["second.csv"]
    assert set(read_manifest(places.figures)["files"]) == {"p/01_first/second.csv"}


def test_what_does_not_fit_fails_before_anything_runs(places):
    for changes, message in (
        ({"data.image_siz": 1}, "did you mean data.image_size"),
        ({"data.image_size": "much"}, "data.image_size: Input should be a valid integer"),
    ):
        with pytest.raises(ProfileError, match=message):
            list(run_notebooks("p", places, changes=changes))
    with pytest.raises(ProfileError, match="no notebook starts with 07"):
        run(places, ["07"])
    write_notebook(places.notebooks, "03_third", parameters="profile = 'cpu'\nchange = {}")
    with pytest.raises(ProfileError, match=r"03_third\.ipynb: its parameters cell lacks changes"):
        run(places)
    assert not places.figures.exists()
    with pytest.raises(ProfileError, match="no numbered notebooks"):
        find_notebooks(places.data)


def test_command_line(places):
    root = ["--root", str(places.notebooks.parent)]
    runner = CliRunner()
    done = runner.invoke(app, ["run", "--profile", "p", "--only", "01", *root])
    assert done.exit_code == 0, done.output
    assert "01_first: 1 figures and tables" in done.output
    failed = runner.invoke(app, ["run", "--profile", "p", "--set", "data.image_size=900", *root])
    assert failed.exit_code == 1
    assert "too much" in failed.output
    wrong = runner.invoke(app, ["run", "--profile", "p", "--set", "data.image_siz=9", *root])
    assert wrong.exit_code == 2
    assert "did you mean data.image_size" in wrong.output
    listed = runner.invoke(app, ["figures", *root])
    assert listed.exit_code == 0
    assert "p/01_first/first.csv: The value" in listed.output
    (places.figures / "p/01_first/first.csv").write_text("changed")
    assert runner.invoke(app, ["figures", *root]).exit_code == 1
