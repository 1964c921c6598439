"""Which call is made next."""

from __future__ import annotations

from gan_lib.workbench.order import LongestFirst

KINDS = {f"{kind}-{seed}": kind for kind in ("small", "large", "middle") for seed in range(3)}
SECONDS = {"small": 1.0, "middle": 2.0, "large": 9.0}


def test_one_of_each_kind_then_the_longest():
    order, made = LongestFirst(KINDS), []
    while order:
        made.append(order.next())
        order.took(made[-1], SECONDS[KINDS[made[-1]]])
    assert made == [
        "small-0",
        "large-0",
        "middle-0",
        *("large-1", "large-2"),
        *("middle-1", "middle-2"),
        *("small-1", "small-2"),
    ]


def test_of_what_is_not_known_yet_is_thought_as_long():
    order = LongestFirst(KINDS)
    for _ in range(3):
        order.next()
    order.took("large-0", 9.0)
    assert [order.next() for _ in range(5)] == ["small-1", "small-2", "middle-1", "middle-2", "large-1"]
    order.took("small-0", 1.0)
    assert len(order) == 1


def test_calls_of_one_kind_stay_in_their_order():
    order = LongestFirst(dict.fromkeys("cab", "kind"))
    assert [order.next() for _ in range(3)] == ["c", "a", "b"]
    assert not order


def test_what_was_in_the_store_tells_nothing():
    order = LongestFirst(KINDS)
    for _ in range(3):
        order.next()
    for name, seconds in (("large-0", 0.05), ("middle-0", 2.0), ("small-0", 1.0)):
        order.took(name, seconds)
    order.took("middle-0", 1.5)  # the longest counts
    order.took("small-0", 1.9)
    made = [order.next() for _ in range(6)]
    assert made == ["large-1", "large-2", "middle-1", "middle-2", "small-1", "small-2"]


def test_workers_end_together():
    """Two workers and three calls of six seconds: twelve seconds; in the order asked for, thirteen."""
    seconds = {"small": 1.0, "large": 6.0}
    kinds = {f"{kind}-{seed}": kind for kind in seconds for seed in range(3)}
    order, free, made = LongestFirst(kinds), [0.0, 0.0], {}
    while order:
        now = min(free)
        for name in [own for own, end in made.items() if end <= now]:
            order.took(name, seconds[kinds[name]])
        name = order.next()
        made[name] = free[free.index(now)] = now + seconds[kinds[name]]
    assert made == {"small-0": 1, "large-0": 6, "large-1": 7, "large-2": 12, "small-1": 8, "small-2": 9}
