"""Tables that people open in a spreadsheet: text that it would run as a formula is written as text.

A cell that begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return may be a formula to a
spreadsheet (CWE-1236), and names of files, classes and methods are whatever somebody has called them. Such a
cell gets an apostrophe before it; numbers stay numbers.
"""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

BEGINNINGS = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def neutral(value: Any) -> Any:
    """A cell as it is written.

    neutral("=1+1"), neutral("-0.5"), neutral("cat")    # "'=1+1", "-0.5", "cat"
    """
    if not isinstance(value, str) or _NUMBER.fullmatch(value):
        return value
    return f"'{value}" if value.lstrip("'").startswith(BEGINNINGS) else value


def restored(value: Any) -> Any:
    """What :func:`neutral` was given."""
    is_ours = isinstance(value, str) and value.startswith("'") and value.lstrip("'").startswith(BEGINNINGS)
    return value[1:] if is_ours else value


def neutral_table(table: pd.DataFrame) -> pd.DataFrame:
    """A table as it is written: all of its texts, and the names of its columns."""
    return _each(table, neutral).rename(columns=neutral)


def restored_table(table: pd.DataFrame) -> pd.DataFrame:
    """What :func:`neutral_table` was given."""
    return _each(table, restored).rename(columns=restored)


def is_text(name: object) -> bool:
    """Whether a name, of a file for instance, is text that UTF-8 can hold."""
    return as_text(name) == str(name)


def as_text(name: object) -> str:
    """A name as text that UTF-8 can hold; bytes of it that are none become question marks."""
    return str(name).encode("utf-8", "replace").decode()


def _each(table: pd.DataFrame, function: Any) -> pd.DataFrame:
    made = table.copy()
    for place, kind in enumerate(table.dtypes):
        if not (pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_datetime64_any_dtype(kind)):
            made.isetitem(place, [function(cell) for cell in table.iloc[:, place]])
    return made
