"""One frozen, validated object per thing that can be set."""

from __future__ import annotations

from typing import TypeVar, dataclass_transform

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def options(cls: type[T]) -> type[T]:
    """Class decorator: a frozen dataclass whose values are checked, as pydantic does it.

    Lists become tuples where the field is one; unknown names and values of another type raise
    ``pydantic.ValidationError``, which is a ``ValueError``. ``dataclasses.replace`` checks again.
    """
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)
    return dataclass(frozen=True, config=config)(cls)  # type: ignore[no-any-return, call-overload]
