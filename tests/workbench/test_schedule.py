"""Tasks side by side: the order of results, what waits for what, and what a failure ends."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from gan_lib.workbench.schedule import Kernels, in_turn

WAIT = 20  # seconds, after which a test has failed


@dataclass(frozen=True)
class Task:
    name: str


def ran(names, after, run, at_once=2, failing=()):
    tasks, pool = [Task(name) for name in names], ThreadPoolExecutor(at_once)
    needed = {name: frozenset(after.get(name, "")) for name in names}
    with pool:
        made = in_turn(tasks, needed, lambda task: run(task.name), lambda own: own in failing, pool, at_once)
        return list(made)


def test_results_come_in_order_whichever_ends_first():
    ended = threading.Event()

    def run(name):
        if name == "a":
            assert ended.wait(WAIT), "b runs beside a"
        else:
            ended.set()
        return name.upper()

    assert ran("ab", {}, run) == ["A", "B"]


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_no_more_than_that_run_at_once(at_once):
    lock, now, most = threading.Lock(), [0], [0]
    full = threading.Barrier(at_once)

    def run(name):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        full.wait(WAIT)
        with lock:
            now[0] -= 1
        return name

    assert ran("abcdef", {}, run, at_once) == list("abcdef")
    assert most == [at_once]


def test_a_task_waits_for_what_it_needs_and_lets_others_pass():
    started, passed = [], threading.Event()

    def run(name):
        started.append(name)
        if name == "a":
            assert passed.wait(WAIT), "c does not wait behind b"
        if name == "c":
            passed.set()
        return name

    assert ran("abc", {"b": "a"}, run) == list("abc")
    assert started == ["a", "c", "b"]


def test_after_a_failure_nothing_starts_and_those_before_it_are_waited_for():
    started, failed = [], threading.Event()

    def run(name):
        started.append(name)
        if name == "a":
            assert failed.wait(WAIT)
        if name == "b":
            failed.set()
        return name

    assert ran("abcd", {"c": "ab", "d": "ab"}, run, failing=["b"]) == ["a", "b"]
    assert sorted(started) == ["a", "b"]


def test_a_failure_stands_for_a_task_before_it_that_never_started():
    release = threading.Event()

    def run(name):
        if name == "c":
            release.set()
        if name == "a":
            assert release.wait(WAIT)
        return name

    assert ran("abc", {"b": "a"}, run, failing=["c"]) == ["a", "c"]


def test_none_is_queued_behind_one_that_fails():
    started, failed = [], threading.Event()

    def run(name):
        started.append(name)
        if name == "a":
            assert failed.wait(WAIT)
        if name == "c":
            failed.set()
        return name

    assert ran("abcd", {}, run, failing=["c"]) == ["a", "b", "c"]
    assert sorted(started) == ["a", "b", "c"]


def test_one_at_a_time_a_failure_is_the_last():
    assert ran("abc", {}, str, at_once=1, failing=["b"]) == ["a", "b"]


def test_an_error_is_raised():
    with pytest.raises(ZeroDivisionError):
        ran("ab", {}, lambda name: 1 / 0)


def test_kernels_end_with_the_block():
    killed = []

    async def kill():
        killed.append(True)

    one, other = SimpleNamespace(provisioner=SimpleNamespace(kill=kill)), SimpleNamespace(provisioner=None)
    with Kernels() as kernels:
        with kernels.running(one):
            kernels.check()
        assert not killed
        still = [kernels.running(one), kernels.running(other)]  # the other is only starting
        for own in still:
            own.__enter__()
    assert killed == [True], "the one that still runs, once"
    for refused in (kernels.check, kernels.running(one).__enter__):
        with pytest.raises(RuntimeError, match="has ended"):
            refused()
