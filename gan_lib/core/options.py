"""One frozen, validated object per thing that can be set."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar, dataclass_transform

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from gan_lib.core.registry import Registry

T = TypeVar("T")

Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what NumPy's generators take
Share = Annotated[float, Field(ge=0, le=1)]  # none and all included
Decay = Annotated[float, Field(ge=0, lt=1)]  # of a moving average


@dataclass_transform(frozen_default=True)
def options(cls: type[T]) -> type[T]:
    """Class decorator: a frozen dataclass whose values are checked, as pydantic does it.

    Unknown names and values of another type raise ``pydantic.ValidationError``, which is a ``ValueError``;
    an integer will do for a float, nothing else is converted. ``dataclasses.replace`` checks again. From JSON
    (``pydantic.TypeAdapter(cls).validate_json``) lists become tuples.
    """
    config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    return dataclass(frozen=True, config=config)(cls)  # type: ignore[return-value]


def one_of(registry: Registry[Any]) -> AfterValidator:
    """For a field that names something registered, which is checked and spelled as it was registered.

    fill: Annotated[str, one_of(FILLS)] = "black"
    """

    def known(name: str) -> str:
        try:
            return registry.name(name)
        except KeyError as error:
            raise ValueError(error.args[0]) from None  # becomes a ValidationError that tells the field

    return AfterValidator(known)


def positive(**counts: int | None) -> None:
    """Check counts, given by name: at least 1, or ``None`` for a default; any other raises ``ValueError``."""
    for name, count in counts.items():
        if count is not None and not count >= 1:
            raise ValueError(f"{name} must be at least 1, not {count}")
