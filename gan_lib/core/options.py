"""One frozen, validated object per thing that can be set."""

from __future__ import annotations

from typing import TypeVar, dataclass_transform

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def options(cls: type[T]) -> type[T]:
    """Class decorator: a frozen dataclass whose values are checked, as pydantic does it.

    Unknown names and values of another type raise ``pydantic.ValidationError``, which is a ``ValueError``;
    an integer will do for a float, nothing else is converted. ``dataclasses.replace`` checks again. From JSON
    (``pydantic.TypeAdapter(cls).validate_json``) lists become tuples.
    """
    config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    return dataclass(frozen=True, config=config)(cls)  # type: ignore[return-value]
