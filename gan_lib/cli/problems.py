"""What goes wrong ends in one line on standard error, and in an exit code that says with whom it lies."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

FAILED, GIVEN, INTERRUPTED = 1, 2, 130  # exit codes: in running, with what was given, by Ctrl-C
TRACEBACK = "GAN_LIB_TRACEBACK"  # environment variable
UsageError: Any = typer.BadParameter.__base__  # click's, which typer carries under a name that changes


class InputError(Exception):
    """Something that whoever gave it can mend, in one sentence."""


def in_one_line(error: BaseException) -> str:
    """An exception's message in one line; of the operating system's, the file and what is wrong with it.

    in_one_line(KeyError("no such class"))                         # no such class
    in_one_line(FileNotFoundError(2, "No such file", "/proc/x"))   # /proc/x: No such file
    """
    if isinstance(error, OSError) and error.strerror:
        told = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    else:
        told = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    notes = [f"({note})" for note in getattr(error, "__notes__", ())]
    told = " ".join([*told.split(), *notes])
    expected = isinstance(error, OSError | ValueError) or (isinstance(error, KeyError) and " " in told)
    if isinstance(error, InputError) or (expected and told):
        return told
    return ": ".join(part for part in (type(error).__name__, told) if part)


@contextmanager
def given(
    option: str = "", value: object = "", kinds: tuple[type[Exception], ...] = (Exception,)
) -> Iterator[None]:
    """Within the block, what goes wrong lies with what was given: it is told so, with exit code 2.

    Args:
        option, value: told before messages that do not mention the value.
        kinds: of exceptions; others pass, and so does that a disk is full.
    """
    try:
        yield
    except (InputError, UsageError, typer.Exit, MemoryError):
        raise
    except kinds as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        told = in_one_line(error)
        is_named = not option or (str(value) and str(value) in told)
        raise InputError(told if is_named else f"{option} {value}".strip() + f": {told}") from error


class OneLineErrors(TyperGroup):
    """Commands of which every failure is told in one line; with ``GAN_LIB_TRACEBACK=1`` they show where."""

    def main(self, *args: Any, standalone_mode: bool = True, **options: Any) -> Any:
        if not standalone_mode:
            return super().main(*args, **options, standalone_mode=False)  # type: ignore[misc]
        told = ""
        # What is large is read in parts, or refused by name.
        warnings.filterwarnings("ignore", "Image size .* could be decompression bomb")
        try:
            code = super().main(*args, **options, standalone_mode=False) or 0  # type: ignore[misc]
        except UsageError as error:
            see = f"; see {error.ctx.command_path} --help" if error.ctx else ""
            code, told = GIVEN, " ".join(error.format_message().split()).rstrip(".") + see
        except (typer.Abort, KeyboardInterrupt):
            code = INTERRUPTED
        except Exception as error:
            if os.environ.get(TRACEBACK):
                raise
            code, told = (GIVEN if isinstance(error, InputError) else FAILED), in_one_line(error)
            if not isinstance(error, InputError | OSError):
                name = type(error).__name__
                told = told if told.startswith(name) else f"{name}: {told}"
                told += f" ({TRACEBACK}=1 shows where)"
        if told or code == INTERRUPTED:
            typer.echo(f"error: {told or 'interrupted'}", err=True)
        sys.exit(code)
