"""What the site shows of a notebook, of a docstring, and of other libraries."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from PIL import Image

from gan_lib.core.storage import write_json
from gan_lib.workbench import Places
from gan_lib.workbench.book import as_sphinx_reads, beside_tables, figures_named, page

CODE = 'save_figure(figure, "loss", "Loss")'


def notebook(*cells, outputs=()):
    made = [
        {"cell_type": "code", "metadata": {"tags": list(tags)}, "source": source, "outputs": list(outputs)}
        for source, tags in cells
    ]
    return {"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


@pytest.fixture
def places(tmp_path):
    """A project with one committed figure."""
    (tmp_path / "figures/cpu/01_x").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "figures/cpu/01_x/loss.png")
    return Places.of(tmp_path)


def ran(places, made, state="completed"):
    runs = places.data / "runs/cpu"
    runs.mkdir(parents=True, exist_ok=True)
    (runs / "01_x.ipynb").write_text(json.dumps(made))
    write_json(runs / "01_x.json", {"state": state})


def test_committed_figures_stand_behind_the_cells_that_name_them(places):
    source = json.dumps(notebook((CODE, ()), (CODE, ()), ("print(1)", ())))
    shown = json.loads(page(source, "01_x", places))["cells"]
    assert [len(cell["outputs"]) for cell in shown] == [1, 0, 0], "the first that names it"
    assert set(shown[0]["outputs"][0]["data"]) == {"image/png", "text/plain"}


def test_an_executed_notebook_is_shown_if_it_is_this_one_and_whole(places):
    source, printed = (
        json.dumps(notebook((CODE, ()))),
        [{"output_type": "stream", "name": "stdout", "text": "7"}],
    )
    ran(places, notebook(("profile = 1", ["injected-parameters"]), (CODE, ()), outputs=printed))
    shown = json.loads(page(source, "01_x", places))["cells"]
    assert [cell["source"] for cell in shown] == [CODE]
    assert shown[0]["outputs"] == printed
    for made, state in (
        (notebook(("other()", ()), outputs=printed), "completed"),
        (notebook((CODE, ())), "failed"),
    ):
        ran(places, made, state)
        outputs = json.loads(page(source, "01_x", places))["cells"][0]["outputs"]
        assert "image/png" in outputs[0]["data"], "the committed figure"


def test_figures_that_a_cell_names():
    stems = ["loss", "concepts_3", "concepts_8", "losses"]
    assert figures_named('save(figure, "loss", "Loss of losses")', stems) == ["loss"]
    assert figures_named("save(f'concepts_{name}')", stems) == ["concepts_3", "concepts_8"]
    assert figures_named('print(f"{name}")', stems) == []


def test_examples_become_literal_and_names_one_word():
    told = ["Does it.", "", "    x = f(y)", "", "Args:", "    low, high: bounds.", "", "    more of it."]
    expected = [
        "Does it.",
        "",
        "::",
        "",
        "    x = f(y)",
        "",
        "Args:",
        "    low,high: bounds.",
        "",
        "    more of it.",
    ]
    assert as_sphinx_reads(told) == expected
    assert as_sphinx_reads(["So::", "", "    x"]) == ["So::", "", "    x"]


def test_where_this_library_loses():
    rows = [
        ("slow", "A", "1.0", 0.0, 1.5, 1.2, 1.8, 10, 10),
        ("fast", "A", "1.0", 0.25, 0.5, 0.4, 1.1, 30, 10),
        ("truth", "gan_lib", None, 0.0, None, None, None, None, None),
    ]
    columns = ["task", "library", "version", "difference", "ratio", "low", "high", "MiB", "their MiB"]
    told = beside_tables(pd.DataFrame(rows, columns=columns).assign(torch="2.15"))
    assert "| fast | A | 0.2 | 0.50 [0.40, 1.10] | 30, 10 |" in told
    assert "| truth | gan_lib | 0 |  |  |" in told
    assert "Versions: A 1.0; PyTorch 2.15." in told
    slower, larger = told.splitlines()[-2:]
    assert slower.endswith(": slow, than A.")
    assert larger.endswith(": fast, than A.")
