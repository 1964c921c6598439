"""Calls side by side in processes: what fails, dies, or outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

from gan_lib.workbench import crew
from gan_lib.workbench.crew import Failed, outcomes, results, working
from gan_lib.workbench.store import Store

ROOT = Path(__file__).parents[2]


class PickyError(Exception):
    """Holds what cannot be pickled."""

    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


def half(number):
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number // 2


def picky():
    raise PickyError("this and that")


def die(file, always=False):
    """End this process as a kill does; the second time, unless always, be well."""
    if always or not file.is_file():
        file.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def test_a_call_that_fails_stops_no_other():
    made = outcomes([partial(half, number) for number in (4, 3, 8)], 1, "halves")
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


def test_a_process_that_is_killed_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(crew, "BREAKS", 1)
    calls = [partial(die, tmp_path / "once"), partial(half, 4), partial(half, 3)]
    made = outcomes([*calls, partial(die, tmp_path / "ever", always=True)], 2, "deaths")
    assert made[:2] == ["alive", 2]
    assert made[2].told() == "ValueError: 3 is odd"
    assert "its process ended" in made[3].told()


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


ASKED = """
import subprocess, sys, time
from gan_lib.workbench.crew import watch_parent
other = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
if sys.argv[2] == "noted":
    other.wait()
time.sleep(1)
watch_parent(other.pid)
print("goes on")
other.kill()
"""


@pytest.mark.parametrize(
    ("code", "noted", "told"),
    [("", "noted", ""), ("", "a zombie", ""), ("import time; time.sleep(60)", "no", "goes on\n")],
)
def test_who_begins_when_the_parent_has_ended_ends_too(code, noted, told):
    """A worker whose parent was killed while it was being started once worked for nobody."""
    command = [sys.executable, "-c", ASKED, code, noted]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.stdout == told, done.stderr
    assert done.returncode == (0 if told else 1)
