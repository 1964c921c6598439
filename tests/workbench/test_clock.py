"""Cells that take long tell so, in a notebook that somebody looks at."""

from __future__ import annotations

import importlib
import re
import time

import nbformat
import pytest
from nbclient import NotebookClient

from gan_lib.core.runtime import in_notebook
from gan_lib.workbench import clock
from gan_lib.workbench.clock import CellClock


class Shown:
    def __init__(self):
        self.texts = []

    def __call__(self, text, display_id):
        assert display_id
        self.texts.append(text)
        return self

    def update(self, text):
        self.texts.append(text)


def test_a_short_cell_shows_nothing(monkeypatch):
    monkeypatch.setattr(clock, "PATIENCE", 0.2)
    shown = Shown()
    own = CellClock(shown, str)
    for _ in range(3):
        own.starts()
        own.ends()
    time.sleep(0.4)
    assert shown.texts == []


@pytest.fixture
def hurried(monkeypatch):
    monkeypatch.setattr(clock, "PATIENCE", 0.1)
    monkeypatch.setattr(clock, "TICK", 0.1)


def test_a_long_cell_counts_and_says_what_it_took(hurried):
    shown = Shown()
    own = CellClock(shown, str)
    own.starts()
    time.sleep(0.5)
    own.ends()
    time.sleep(0.3)
    ended = list(shown.texts)
    assert len(ended) >= 3
    assert all("at work for" in text for text in ended[:-1])
    assert "took" in ended[-1]
    time.sleep(0.3)
    assert shown.texts == ended  # nothing ticks on


def test_what_it_took_is_told_before_the_cell_has_ended(hurried, monkeypatch):
    """A front end that is slow: what came after the cell's end would be lost."""
    shown, update = Shown(), Shown.update
    monkeypatch.setattr(Shown, "update", lambda self, text: (time.sleep(0.15), update(self, text)))
    own = CellClock(shown, str)
    own.starts()
    time.sleep(0.3)
    own.ends()
    assert "took" in shown.texts[-1]


def test_the_next_cell_ends_the_last_ones_clock(hurried):
    """An interrupted cell may not tell that it has ended."""
    shown = Shown()
    own = CellClock(shown, str)
    own.starts()
    time.sleep(0.3)
    own.starts()
    time.sleep(0.05)
    own.ends()
    time.sleep(0.3)
    assert sum("took" in text for text in shown.texts) == 1


@pytest.mark.parametrize("headless", [False, True])
def test_in_a_kernel(tmp_path, monkeypatch, headless):
    monkeypatch.delenv("GAN_LIB_HEADLESS", raising=False)
    if headless:
        monkeypatch.setenv("GAN_LIB_HEADLESS", "1")
    first = "import time\nfrom gan_lib.workbench import clock\nclock.PATIENCE = 0.3\nclock.watch_cells()\n"
    cells = [first, "time.sleep(0.8)", "1 + 1"]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(own) for own in cells])
    NotebookClient(book, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    told = [re.findall(r"(?:took|at work for) \d+ s", str(cell.outputs)) for cell in book.cells]
    assert told[2] == []
    assert len(told[1]) == (0 if headless else 1)
    if not headless:
        assert told[1][0].startswith("took")


def test_an_imported_kernel_is_no_notebook(monkeypatch):
    """As in a process that has started a Jupyter server."""
    monkeypatch.delenv("GAN_LIB_HEADLESS", raising=False)
    assert importlib.import_module("ipykernel")
    assert not in_notebook()
