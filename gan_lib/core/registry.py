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

    Args:
        kind: what one of them is called in messages, for instance ``method``.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._things: dict[str, T] = {}

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
            if self._things.get(_spelled(name), own) is not own:
                raise ValueError(f"there is another {self.kind} {name!r}")
            self._things[_spelled(name)] = own  # type: ignore[assignment]
            return own

        return add if thing is None else add(thing)

    def name(self, name: str) -> str:
        """A name as the registry spells it.

        Raises:
            KeyError: an unknown name; near misses are listed.
        """
        spelled = _spelled(name)
        if spelled not in self._things:
            near = difflib.get_close_matches(spelled, self._things, n=3, cutoff=0.5)
            hint = f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(self._things)}"
            raise KeyError(f"unknown {self.kind} {name!r}; {hint}")
        return spelled

    def __getitem__(self, name: str) -> T:
        return self._things[self.name(name)]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and _spelled(name) in self._things

    def __iter__(self) -> Iterator[str]:
        return iter(self._things)

    def __len__(self) -> int:
        return len(self._things)


def _spelled(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")
