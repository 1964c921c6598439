"""Every notebook runs, as it stands, at the smoke profile."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from gan_lib.workbench import Places
from gan_lib.workbench.driver import find_notebooks, notebook_name, run_notebooks

pytestmark = pytest.mark.timeout(1800)  # the first test waits for all notebooks

ROOT = Path(__file__).parent.parent.parent
NAMES = [notebook_name(path, ROOT / "notebooks") for path in find_notebooks(ROOT / "notebooks")]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smoke")
    places = Places.of(ROOT, figures=folder / "figures", data=folder / "data")
    return places, {result.notebook: result for result in run_notebooks("smoke", places)}


@pytest.mark.parametrize("name", NAMES)
def test_runs_at_smoke(results, name):
    places, by_name = results
    assert name in by_name, "an earlier notebook failed"
    result = by_name[name]
    assert result.state == "completed", result.error
    pictures = [file for file in result.files if file.endswith(".png")]
    assert pictures
    for file in pictures:
        with Image.open(places.figures / file) as picture:
            assert min(picture.size) > 150


def test_a_second_run_has_nothing_to_do(results):
    places, _ = results
    assert {result.state for result in run_notebooks("smoke", places)} == {"unchanged"}
