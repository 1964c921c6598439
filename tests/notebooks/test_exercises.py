"""What the exercises ask to be changed can be changed: dotted names, and values in Python's form."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import nbformat
import pytest

from gan_lib.workbench import Places, Profile
from gan_lib.workbench.driver import find_notebooks, notebook_name

PLACES = Places.of(Path(__file__).parent.parent.parent)
NOTEBOOKS = {notebook_name(path, PLACES.notebooks): path for path in find_notebooks(PLACES.notebooks)}
CHANGES = re.compile(r"`(?:changes\s*=\s*)?(\{.*?\})`", re.DOTALL)
NAMES = re.compile(r"`([a-z_]+(?:\.[a-z_]+)+)`")


def exercises(path):
    """The numbered exercises at a notebook's end, and the changes that they name."""
    cells = [own.source for own in nbformat.read(path, as_version=4).cells if own.cell_type == "markdown"]
    text = next(own for own in reversed(cells) if re.search(r"^## Exercises", own, re.MULTILINE))
    numbered = re.split(r"^\d+\. ", text.partition("## Exercises")[2], flags=re.MULTILINE)[1:]
    return numbered, [found for own in numbered for found in CHANGES.findall(own)]


def test_changes_are_found():
    given = "Set `changes = {\"a.b\": [1,\n 2]}`, then `{'c': 0.5}`; not `x = 1`."
    assert [ast.literal_eval(own) for own in CHANGES.findall(given)] == [{"a.b": [1, 2]}, {"c": 0.5}]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_two_or_three_and_the_recipe_accepts_what_they_change(name):
    numbered, changes = exercises(NOTEBOOKS[name])
    assert len(numbered) in (2, 3)
    recipe = Profile.load("cpu", PLACES.profiles).recipe
    fields = recipe.flat()
    for found in NAMES.findall("".join(numbered)):
        assert found in fields or found.partition(".")[0] not in vars(recipe)
    for found in changes:
        try:
            given = ast.literal_eval(found)
        except (SyntaxError, ValueError):
            continue  # a setting of a sweep, in YAML
        changed = recipe.changed(given).flat()
        for field, value in given.items():
            assert changed[field] == (tuple(value) if isinstance(value, list) else value)
            assert fields[field] != changed[field], "nothing would change"
