"""A CSV table that may be long, and to which rows are added: read some rows at a time."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd

from gan_lib.core.checksums import DamagedError, is_there

AT_ONCE = 10_000  # rows
BLOCK = 2**16  # bytes


class TableError(ValueError):
    """A table is not what was written."""


def parts_of_table(
    path: Path, columns: Sequence[str], noted: Mapping[str, Any] | None = None, most: int | None = None
) -> Iterator[pd.DataFrame]:
    """Rows of a CSV table as words, some at a time, at least one part; a last line that is not whole is left
    out. Where there is no file, and none is noted, that is one part without rows.

    Args:
        path: of the table.
        columns: that it has.
        noted: its ``bytes``, behind which nothing is read, and their ``sha256``, where both are known.
        most: only so many rows, the first ones, at least one.

    Raises:
        TableError: it is damaged, gone, was changed, or has other columns; the message names it.
    """
    try:
        if not is_there(path):
            if noted and noted["bytes"]:
                raise TableError(f"{path} is gone")
            yield pd.DataFrame(columns=list(columns), dtype=str)
            return
    except DamagedError as error:
        raise TableError(str(error)) from None
    with path.open("rb") as file:
        if noted and _digest(file, noted["bytes"]) != noted["sha256"]:
            raise TableError(f"{path} is damaged, or was changed")
        size = _whole_lines(file, noted["bytes"] if noted else None)
        file.seek(0)
        text = io.TextIOWrapper(io.BufferedReader(_Beginning(file, size)), "utf-8", newline="")
        parts = _parsed(path, text if size else io.StringIO(",".join(columns)), most)
        for rows in parts:
            if list(rows.columns) != list(columns):
                raise TableError(f"{path} has other columns than {', '.join(columns)}")
            yield rows


def _parsed(path: Path, text: Any, most: int | None) -> Iterator[pd.DataFrame]:
    try:
        yield from pd.read_csv(text, dtype=str, keep_default_na=False, nrows=most, chunksize=AT_ONCE)
    except ValueError as error:  # no UTF-8, rows of another length
        raise TableError(f"{path} is damaged ({error})") from None


class _Beginning(io.RawIOBase):
    """So many bytes of a file, from where it is."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._left = file, max(0, size)

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as there is something left; how many bytes these are."""
        content = self._file.read(min(len(buffer), self._left))
        buffer[: len(content)] = content
        self._left -= len(content)
        return len(content)


def _digest(file: BinaryIO, size: int) -> str:
    """SHA-256 of the first bytes of a file."""
    file.seek(0)
    digest, beginning = hashlib.sha256(), _Beginning(file, size)
    while block := beginning.read(BLOCK):
        digest.update(block)
    return digest.hexdigest()


def _whole_lines(file: BinaryIO, size: int | None) -> int:
    """How many bytes of a file, or of its first ``size``, are whole lines."""
    end = file.seek(0, os.SEEK_END)
    end = end if size is None else min(end, size)
    while end > 0:
        start = max(0, end - BLOCK)
        file.seek(start)
        if (found := file.read(end - start).rfind(b"\n")) >= 0:
            return start + found + 1
        end = start
    return 0
