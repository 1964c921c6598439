"""Imports of large packages, quicker."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


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
