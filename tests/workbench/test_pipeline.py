from __future__ import annotations

import json
import textwrap

import nbformat
import pytest
import torch
from typer.testing import CliRunner

from gan_lib.cli import app
from gan_lib.figures import read_manifest
from gan_lib.workbench import (
    Places,
    Profile,
    ProfileError,
    Workbench,
    driver,
    load_profile,
    parse_override,
    run_notebooks,
)
from gan_lib.workbench.profiles import bind, declared_parameters, find_notebooks

PARAMETERS = """
profile = "cpu"
data_dir = "../data"
figures_dir = "../figures"
device = "auto"
precision = "auto"
seed = 0
value = 1.0
names = ["a"]
"""
# What Workbench and FigureFolder write, without the seconds that importing them takes.
BODY = """
import hashlib, json, pathlib

run = profile + "/{name}"
root = pathlib.Path(figures_dir)
(root / run).mkdir(parents=True)
(root / run / "first.csv").write_text(str(value))
row = {{"run": run, "caption": "The value", "sha256": hashlib.sha256(str(value).encode()).hexdigest()}}
manifest = {{"files": {{run + "/first.csv": row}}, "runs": {{run: {{"seed": seed}}}}}}
(root / "manifest.json").write_text(json.dumps(manifest))
"""
WITH_WORKBENCH = """
import pandas as pd
from gan_lib.workbench import Workbench

bench = Workbench("{name}", globals())
bench.figures.save_table(pd.DataFrame({{"value": [value]}}), "first", "The value")
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
        tmp_path / "notebooks", "02_second", BODY.format(name="02_second"), "assert value < 5, 'too much'"
    )
    return Places.of(tmp_path)


def run(places, only=(), force=False, **parameters):
    return list(run_notebooks(Profile("p", parameters), places, only, force))


def test_provenance_of_what_a_workbench_saves(places):
    write_notebook(places.notebooks, "01_first", WITH_WORKBENCH.format(name="01_first"))
    (result,) = run(places, ["01"], value=2)
    assert result.state == "completed", result.error
    manifest = read_manifest(places.figures)
    entry = manifest["runs"]["p/01_first"]
    assert entry["parameters"]["value"] == 2
    assert entry["profile"] == "p"
    assert entry["notebook"] == "01_first"
    assert not {"data_dir", "figures_dir"} & entry["parameters"].keys()
    assert entry["versions"]["torch"]
    assert "CPU" in entry["device"] or "NVIDIA" in entry["device"]
    assert str(places.data) not in json.dumps(manifest)


def test_runs_files_skips_and_runs_again(places):
    results = run(places, value=2)
    assert [(result.notebook, result.state) for result in results] == [
        ("01_first", "completed"),
        ("02_second", "completed"),
    ]
    assert results[0].files == ("p/01_first/first.csv",)
    assert results[0].peak_memory > 0.05
    assert not list((places.data / "runs" / "p").glob(".0*"))  # nothing is left in staging

    assert [result.state for result in run(places, value=2)] == ["unchanged"] * 2
    assert [result.state for result in run(places, ["02"], value=3)] == ["completed"]
    assert [result.state for result in run(places, ["01"], force=True, value=2)] == ["completed"]
    (places.figures / "p/01_first/first.csv").unlink()
    assert [result.state for result in run(places, ["01"], value=2)] == ["completed"]


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
    run(places, value=2)
    before = (places.figures / "p/02_second/first.csv").read_text()
    results = run(places, ["02"], value=7)
    assert results[-1].state == "failed"
    assert "assert value < 5" in results[-1].error
    assert "AssertionError: too much" in results[-1].error
    assert (places.figures / "p/02_second/first.csv").read_text() == before
    assert [result.state for result in run(places, ["02"], value=2)] == ["completed"]


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


def test_unknown_names_and_wrong_types_fail_before_anything_runs(places):
    for parameters, message in (
        ({"valeu": 1}, "did you mean value"),
        ({"value": "much"}, "value must be float"),
        ({"names": "a"}, "names must be list"),
        ({"seed": True}, "seed must be int"),
        ({"profile": "x"}, "no notebook has a parameter 'profile'"),
    ):
        with pytest.raises(ProfileError, match=message):
            run(places, **parameters)
    with pytest.raises(ProfileError, match="no notebook starts with 07"):
        run(places, ["07"])
    assert not places.figures.exists()
    with pytest.raises(ProfileError, match="no numbered notebooks"):
        find_notebooks(places.data)


def test_a_notebook_gets_only_what_it_declares(places):
    write_notebook(places.notebooks, "03_third", parameters=PARAMETERS + "extra = None\n")
    notebooks = find_notebooks(places.notebooks)
    assert declared_parameters(notebooks[2])["extra"] is None
    bound = bind(Profile("p", {"extra": [1, 2], "value": 3}), notebooks[:1], notebooks)
    assert bound == {notebooks[0]: {"value": 3}}


def test_profiles_and_overrides(tmp_path):
    (tmp_path / "mine.yaml").write_text("value: 3\nnames: [x, y]\n")
    assert load_profile("mine", tmp_path) == load_profile(str(tmp_path / "mine.yaml"), tmp_path / "elsewhere")
    assert load_profile("mine", tmp_path).parameters == {"value": 3, "names": ["x", "y"]}
    for text in ("value: {a: 1}", "- 1", "a: [1"):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(ProfileError):
            load_profile("bad", tmp_path)
    with pytest.raises(ProfileError, match="mine"):
        load_profile("theirs", tmp_path)
    assert parse_override("seeds=[0, 1]") == ("seeds", [0, 1])
    assert parse_override("name=a=b") == ("name", "a=b")
    for text in ("seeds", "=3", "a=[1"):
        with pytest.raises(ProfileError):
            parse_override(text)


def test_command_line(places):
    (places.notebooks / "profiles").mkdir()
    (places.notebooks / "profiles" / "p.yaml").write_text("value: 2\n")
    root = ["--root", str(places.notebooks.parent)]
    runner = CliRunner()
    done = runner.invoke(app, ["run", "--profile", "p", "--only", "01", *root])
    assert done.exit_code == 0, done.output
    assert "01_first: 1 figures and tables" in done.output
    failed = runner.invoke(app, ["run", "--profile", "p", "--set", "value=9", *root])
    assert failed.exit_code == 1
    assert "too much" in failed.output
    wrong = runner.invoke(app, ["run", "--profile", "p", "--set", "volume=9", *root])
    assert wrong.exit_code == 2
    assert "did you mean value" in wrong.output
    listed = runner.invoke(app, ["figures", *root])
    assert listed.exit_code == 0
    assert "p/01_first/first.csv: The value" in listed.output
    (places.figures / "p/01_first/first.csv").write_text("changed")
    assert runner.invoke(app, ["figures", *root]).exit_code == 1


def test_images_of_a_sorted_split_are_drawn_from_all_classes(scenes):
    bench = Workbench.__new__(Workbench)
    bench.provenance = {"seed": 0}
    assert bench.last_rows(scenes.test, 5).tolist() == [15, 16, 17, 18, 19]
    by_class = scenes.test.subset(scenes.test.labels.argsort())
    rows = bench.last_rows(by_class, 10)
    assert len(set(rows.tolist())) == 10
    assert len(by_class.labels[rows].unique()) > len(by_class.labels[-10:].unique())
    assert torch.equal(rows, bench.last_rows(by_class, 10))
