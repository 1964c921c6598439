"""Large packages: imported quicker, and not taken down at the end."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

UNWRITTEN = 120  # exit code, as Python's own, where output is lost


@contextmanager
def quick_imports() -> Iterator[None]:
    """Within the block Python's collector of cyclic garbage rests: modules leave none behind, and looking for
    it again and again in all that they define takes a good part of the time that they need.

    After it, the collector is as it was, and looks at what there is now as at anything that is old: seldom.
    """
    was_at_work = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_at_work:
            if not gc.get_freeze_count():  # else somebody has put objects aside
                gc.freeze()
                gc.unfreeze()  # both together move everything to the oldest generation
            gc.enable()


def leave(status: int) -> None:
    """End this process now, with what it has written. Python would first take down, object by object, what
    torch and others have made, which takes a second and a half.

    For the last of what is registered with :mod:`atexit`; what was registered before it is left out.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):  # a full disk, a pipe that nobody reads, closed
            status = status or UNWRITTEN
    os._exit(status & 0xFF)
