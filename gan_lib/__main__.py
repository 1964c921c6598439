"""The program as a process of its own: ``gan-lib``, or ``python -m gan_lib``."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from contextlib import contextmanager

from gan_lib.cli import app
from gan_lib.cli.problems import FAILED, INTERRUPTED
from gan_lib.core.imports import leave


def main() -> None:
    """Run the program."""
    with ends_at_once():
        app(prog_name="gan-lib")


@contextmanager
def ends_at_once() -> Iterator[None]:
    """This process ends when the block has, and threads and what the block has registered with :mod:`atexit`
    have."""
    status = FAILED  # what a traceback ends in
    atexit.register(lambda: leave(status))  # the first to be registered is the last to be called
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


if __name__ == "__main__":
    main()
