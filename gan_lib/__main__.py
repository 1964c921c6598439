"""The program as a process of its own: ``gan-lib``, or ``python -m gan_lib``."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from gan_lib.cli import app

FAILED, INTERRUPTED, UNWRITTEN = 1, 130, 120  # exit codes; the last is Python's own for output that is lost


def main() -> None:
    """Run the program."""
    with ends_at_once():
        app(prog_name="gan-lib")


@contextmanager
def ends_at_once() -> Iterator[None]:
    """This process ends when the block has, and threads and all that is registered with :mod:`atexit` have.

    Python would go on to take down, object by object, what torch and others have made: a second and a half,
    for nothing.
    """
    status = FAILED  # what a traceback ends in
    # Registered before anything else is, it comes last.
    atexit.register(lambda: _end(status))
    try:
        yield
        status = 0
    except SystemExit as end:
        code = end.code
        status = code if isinstance(code, int) else 0 if code is None else FAILED
        raise
    except KeyboardInterrupt:
        status = INTERRUPTED
        raise


def _end(status: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):  # a full disk, a pipe that nobody reads, closed
            status = status or UNWRITTEN
    os._exit(status & 0xFF)


if __name__ == "__main__":
    main()
