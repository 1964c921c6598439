"""Calls side by side in processes: what fails, dies, or outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from gan_lib.workbench.crew import Failed, outcomes, results, working
from gan_lib.workbench.store import Store


class PickyError(Exception):
    """Cannot be made again from its arguments."""

    def __init__(self, one, other):
        super().__init__(f"{one} and {other}")


def half(number):
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number // 2


def picky():
    raise PickyError("this", "that")


def die(file, always=False):
    """End this process as a kill does; the second time, unless always, be well."""
    if always or not file.is_file():
        file.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_call_that_fails_stops_no_other(workers):
    made = outcomes([partial(half, number) for number in (4, 3, 8)], workers, "halves")
    assert made[0] == 2
    assert made[2] == 4
    assert isinstance(made[1], Failed)
    assert made[1].told() == "ValueError: 3 is odd"
    assert "in half" in made[1].trace


def test_an_error_is_raised_when_the_others_are_done():
    done = []

    def note(number):
        done.append(number)
        return half(number)

    with pytest.raises(ValueError, match="3 is odd") as caught:
        results([partial(note, number) for number in (3, 4, 5)], 1, "halves")
    assert done == [3, 4, 5]
    assert caught.value.__notes__ == ["and 1 more of 3"]
    assert results([partial(half, 6)], 1, "halves") == [3]


def test_an_error_that_cannot_travel_is_told_in_words():
    (made,) = outcomes([picky], 1, "one")
    assert type(made.error) is RuntimeError
    assert made.told() == "RuntimeError: PickyError: this and that"


def test_a_process_that_is_killed_is_replaced(tmp_path):
    calls = [partial(die, tmp_path / "once"), partial(half, 4), partial(die, tmp_path / "ever", always=True)]
    made = outcomes(calls, 2, "deaths")
    assert made[:2] == ["alive", 2]
    assert "its process ended" in made[2].told()


def test_another_crew_makes_the_calls():
    class Backwards:
        def run(self, calls, keys):
            assert keys == ["all-0", "all-1"]
            yield from ((place, own()) for place, own in reversed([*enumerate(calls)]))

    order = []
    with working(Backwards()):
        made = outcomes([partial(order.append, 0), partial(order.append, 1)], 2, "all")
    assert order == [1, 0]
    assert made == [None, None]
    assert outcomes([partial(half, 2)], 1, "here") == [1], "the block is over"


ORPHANS = """
import os, time
from functools import partial
from gan_lib.workbench.crew import outcomes

def wait(file):
    open(file + "/" + str(os.getpid()), "w").close()
    time.sleep(120)

if __name__ == "__main__":
    import sys
    outcomes([partial(wait, sys.argv[1])] * 2, 2, "waiting")
"""


def test_no_worker_outlives_a_killed_parent(tmp_path):
    script, pids = tmp_path / "orphans.py", tmp_path / "pids"
    script.write_text(ORPHANS)
    pids.mkdir()
    parent = subprocess.Popen([sys.executable, str(script), str(pids)])
    try:
        until(lambda: len(list(pids.iterdir())) == 2)
        workers = [int(path.name) for path in pids.iterdir()]
        assert all(map(psutil.pid_exists, workers))
    finally:
        parent.kill()
        parent.wait()
    until(lambda: not any(map(psutil.pid_exists, workers)), seconds=10)


def until(true, seconds=60.0):
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)


def test_what_a_kill_has_only_begun_to_write_is_taken_away(tmp_path):
    store = Store(tmp_path).on({"threads": 1})
    folder = store.address("kind", "gan_lib.core.storage", {})
    partial_ = folder.with_name(f"{folder.name}.partial")
    partial_.mkdir(parents=True)
    (partial_ / ".log.csv.123.tmp").write_text("half")
    (partial_ / "checkpoint.safetensors").write_text("whole")
    seen = []

    def make(own: Path):
        seen.extend(sorted(path.name for path in own.iterdir()))
        (own / "log.csv").write_text("done")

    made = store.get("kind", "gan_lib.core.storage", {}, make)
    assert seen == ["checkpoint.safetensors"], "what a run resumes from stays"
    assert sorted(path.name for path in made.iterdir()) == ["checksums.json", "log.csv", "made_from.json"]
