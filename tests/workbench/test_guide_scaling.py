"""The guide's projection follows from its own measured units."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "notebooks/guide/scaling.md"
IMAGES, CNNS = 1_281_167, 4
GPU = 1e13  # operations a second, as the page assumes
PASSES = {"supervised training": 25, "contrastive training": 2}


def table(heading):
    """Rows of a page's table by their first cell, as numbers."""
    lines = iter(PAGE.read_text().splitlines())
    next(line for line in lines if line.startswith(heading))
    next(lines)
    rows = {}
    for line in lines:
        if not line.startswith("|"):
            return rows
        name, *cells = (own.strip() for own in line.strip("|").split("|"))
        rows[name] = [float(own.replace(",", "")) for own in cells]
    return rows


def test_totals_are_units_times_images():
    units = table("| a stage, an image")
    totals = table("| all images, four CNNs")
    assert units.keys() == totals.keys()
    assert len(units) == 6
    for name, (seconds, operations, written, read) in units.items():
        times = IMAGES * (1 if name == "images into shards" else CNNS) * PASSES.get(name, 1)
        hours = [seconds * times / 3600, operations * 1e9 * times / GPU / 3600]
        expected = [*hours, written * times / PASSES.get(name, 1) / 1e9, read * times / 1e12]
        assert totals[name] == pytest.approx(expected, rel=0.03), name


def test_its_commands_and_files_are_there():
    text = PAGE.read_text()
    for path in re.findall(r"(?:notebooks|tests|gan_lib)/[\w./]+\.(?:sh|yaml|py)", text):
        assert (PAGE.parents[2] / path).is_file(), path
    for name in re.findall(r"gan-lib sweep (\w+)", text):
        assert (PAGE.parents[1] / f"sweeps/{name}.yaml").is_file() or name == "NAME"
