"""The guide's projection follows from its own measured units."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "notebooks/guide/scaling.md"
IMAGES, CNNS = 1_281_167, 4
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
    for name, (written, read) in units.items():
        count = IMAGES * (1 if name == "images into shards" else CNNS)
        expected = [written * count / 1e9, read * count * PASSES.get(name, 1) / 1e12]
        assert totals[name] == pytest.approx(expected, rel=0.005), name


def test_bytes_follow_from_the_formats():
    units, image = table("| a stage, an image"), 3 * 224**2
    conditions = (8 + 1) * 224**2 * 2
    assert units["images into shards"][0] == units["predictions"][1] == image
    assert units["conditions and targets"] == [conditions, image]
    assert units["supervised training"][1] == conditions + image
    assert units["prototypes"][0] == 1280 * 9 * 2


def test_its_commands_and_files_are_there():
    text = PAGE.read_text()
    for path in re.findall(r"(?:notebooks|tests|gan_lib)/[\w./]+\.(?:sh|yaml|py)", text):
        assert (PAGE.parents[2] / path).is_file(), path
    for name in re.findall(r"gan-lib sweep (\w+)", text):
        assert (PAGE.parents[1] / f"sweeps/{name}.yaml").is_file() or name == "NAME"
