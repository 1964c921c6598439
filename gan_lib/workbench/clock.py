"""Below a cell that takes long, in a notebook that somebody looks at: how long it has been at work.

Loops have bars of their own (:func:`gan_lib.core.runtime.progress`); what a cell does besides is covered
here, so that nobody wonders whether anything happens.
"""

from __future__ import annotations

import threading
import time
from functools import cache
from typing import Any

from gan_lib.core.runtime import in_notebook

PATIENCE, TICK = 2.0, 1.0  # seconds until it appears, and between two changes
STYLE = "color:#666;font-style:italic"


class CellClock:
    """Tells for how long the present cell has been at work, once that is more than two seconds.

    Args:
        show: ``display`` of IPython, or what behaves like it: what it returns has an ``update``.
        make: of a text, what is shown.
    """

    def __init__(self, show: Any, make: Any) -> None:
        self._show, self._make, self._done = show, make, threading.Event()
        self._thread: threading.Thread | None = None

    def starts(self, *_: object) -> None:
        """A cell begins."""
        self.ends()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._tell, args=(self._done, time.monotonic()), daemon=True)
        self._thread.start()

    def ends(self, *_: object) -> None:
        """The cell is done, and how long it took has been told: what is told later nobody may listen to."""
        self._done.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _tell(self, done: threading.Event, start: float) -> None:
        if done.wait(PATIENCE):
            return
        shown = self._show(self._text("at work for", start), display_id=True)
        while not done.wait(TICK):
            shown.update(self._text("at work for", start))
        shown.update(self._text("took", start))

    def _text(self, words: str, start: float) -> Any:
        return self._make(f'<span style="{STYLE}">{words} {time.monotonic() - start:.0f} s</span>')


@cache
def watch_cells() -> CellClock | None:
    """From the present cell on every one that takes long tells so; ``None`` where nobody looks."""
    if not in_notebook():
        return None
    from IPython.core.getipython import get_ipython
    from IPython.display import HTML, display

    shell, clock = get_ipython(), CellClock(display, HTML)
    assert shell is not None  # a kernel has one
    shell.events.register("pre_run_cell", clock.starts)
    shell.events.register("post_run_cell", clock.ends)
    clock.starts()
    return clock
