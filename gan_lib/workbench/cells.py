"""Which notebook runs, and where in it: a line each, and on a terminal one more that is rewritten."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from typing import Any, TextIO

AtCell = Callable[[int, int, str], None]  # number of the code cell, how many there are, nearest heading
FENCED = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(.*?)[ \t#]*$", re.MULTILINE)


def watched(total: int, at_cell: AtCell) -> Callable[..., None]:
    """What nbclient calls when a cell starts, as its ``on_cell_start``; of ``total`` code cells.

    The cell in which papermill puts parameters does not count.
    """
    heading, number = "", 0

    def starts(cell: Any, cell_index: int) -> None:
        nonlocal heading, number
        if cell["cell_type"] == "markdown":
            heading = (HEADING.findall(FENCED.sub("", cell["source"])) or [heading])[-1]
        elif cell["cell_type"] == "code" and "injected-parameters" not in cell["metadata"].get("tags", []):
            number += 1
            at_cell(number, total, heading)

    return starts


class Teller:
    """Tells on a stream which notebook runs.

        teller = Teller(sys.stdout)
        list(run_notebooks("cpu", places, report=teller.notebook, at_cell=teller.cell))
        teller.clear()

    On a terminal a second line tells the cell, and is rewritten; anywhere else there is none of that.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream, self._shown = stream, False

    def notebook(self, number: int, total: int, name: str) -> None:
        """A line for a notebook that begins."""
        self.clear()
        self._write(f"[{number}/{total}] {name}: running ...\n")

    def cell(self, number: int, total: int, heading: str) -> None:
        """The cell that begins, on a terminal."""
        if self.stream.isatty():
            width = max(10, shutil.get_terminal_size().columns - 1)
            self._write(f"\r{f'  cell {number} of {total}  {heading}'[:width]:<{width}}")
            self._shown = True

    def clear(self) -> None:
        """Leave an empty line where the cell was told."""
        if self._shown:
            width = max(10, shutil.get_terminal_size().columns - 1)
            self._write(f"\r{'':<{width}}\r")
            self._shown = False

    def _write(self, text: str) -> None:
        encoding = self.stream.encoding or "utf-8"  # a heading may hold more than the terminal can show
        self.stream.write(text.encode(encoding, "replace").decode(encoding))
        self.stream.flush()
