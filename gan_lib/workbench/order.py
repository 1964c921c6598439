"""In which order calls are handed to workers."""

from __future__ import annotations

import math
from collections.abc import Mapping

QUICK = 1.0  # seconds


class LongestFirst:
    """Calls that wait: one of each kind in their order, then always one of the kind that took longest.

        order = LongestFirst({"small-0": "small", "small-1": "small", "large-0": "large", "large-1": "large"})
        order.next(), order.next()      # small-0, large-0
        order.took("small-0", 2.0)
        order.next()                    # large-1: of that kind nothing is known yet
        order.next()                    # small-1

    So what comes last is short, and workers end together (R. L. Graham 1969, SIAM Journal on Applied
    Mathematics 17, 416-429).

    Args:
        kinds: of the calls, by their names, in the order in which they are asked for: of a sweep's calls the
            setting, which takes about as long with each seed.
    """

    def __init__(self, kinds: Mapping[str, str]) -> None:
        self._kinds, self._waiting = dict(kinds), list(kinds)
        self._begun: set[str] = set()
        self._seconds: dict[str, float] = {}

    def __len__(self) -> int:
        """How many calls wait."""
        return len(self._waiting)

    def next(self) -> str:
        """The name of the call to be made next, which waits no longer."""
        new = (own for own in self._waiting if self._kinds[own] not in self._begun)
        name = next(new, None) or max(self._waiting, key=self._expected)  # the first of those alike
        self._waiting.remove(name)
        self._begun.add(self._kinds[name])
        return name

    def took(self, name: str, seconds: float) -> None:
        """Note how long a call took that was made; one that took less than a second tells nothing, since
        what it asks for was in the store."""
        kind = self._kinds[name]
        if seconds >= QUICK:
            self._seconds[kind] = max(seconds, self._seconds.get(kind, 0.0))

    def _expected(self, name: str) -> float:
        return self._seconds.get(self._kinds[name], math.inf)
