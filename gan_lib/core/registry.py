"""What users extend: things by name, in one place per family.

METHODS: Registry[type[Explainer]] = Registry("method")

@METHODS.register("my_method")
class MyMethod(Explainer): ...
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar, overload

T = TypeVar("T")
Own = TypeVar("Own")


class Registry(Mapping[str, T], Generic[T]):
    """Things of one family by name, in the order in which they were registered.

    Hyphens, spaces and capitals in a name that is asked for do not matter: ``"Grad-CAM"`` finds ``grad_cam``.
    Names are listed as they were registered.

    Args:
        kind: what one of them is called in messages, for instance ``method``.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._things: dict[str, tuple[str, T]] = {}  # name and thing by the name's plain form

    @overload
    def register(self, name: str, thing: Own) -> Own: ...

    @overload
    def register(self, name: str) -> Callable[[Own], Own]: ...

    def register(self, name: str, thing: Own | None = None) -> Own | Callable[[Own], Own]:
        """Make a thing known by a name; without the thing, a decorator.

        Raises:
            ValueError: the name is taken by something else.
        """

        def add(own: Own) -> Own:
            if self._things.get(_plain(name), (name, own))[1] is not own:
                raise ValueError(f"there is another {self.kind} {name!r}")
            self._things[_plain(name)] = (name, own)  # type: ignore[assignment]
            return own

        return add if thing is None else add(thing)

    def name(self, name: str) -> str:
        """A name as it was registered.

        Raises:
            KeyError: an unknown name; near misses are listed.
        """
        if name not in self:
            near = difflib.get_close_matches(_plain(name), self._things, n=3, cutoff=0.5)
            told = ", ".join(self._things[own][0] for own in near or self._things)
            hint = f"did you mean {told}?" if near else f"there are {told}"
            raise KeyError(f"unknown {self.kind} {name!r}; {hint}")
        return self._things[_plain(name)][0]

    def name_of(self, thing: object) -> str | None:
        """The name of a thing; ``None`` if it is not registered."""
        return next((name for name, own in self._things.values() if own is thing), None)

    def __getitem__(self, name: str) -> T:
        return self._things[_plain(self.name(name))][1]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and _plain(name) in self._things

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._things.values())

    def __len__(self) -> int:
        return len(self._things)


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")
