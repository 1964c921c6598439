"""Calls on a Dask cluster: workers that fail, die and hang; SLURM, of which there is a stand-in."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import stat
import time
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("distributed", reason="gan_lib[cluster] is not installed")

from distributed import CancelledError, WorkerPlugin

from gan_lib.workbench import ProfileError
from gan_lib.workbench.cluster import (
    Limited,
    OnDask,
    SchedulerGoneError,
    _result,
    cluster,
    prepare_workers,
    slurm_cluster,
)
from gan_lib.workbench.crew import Failed, outcomes, working
from gan_lib.workbench.places import Places

SECONDS = 3.0  # a call may take


@pytest.fixture(scope="module")
def crew(tmp_path_factory):
    told = []
    places = Places.of(tmp_path_factory.mktemp("cluster"))
    with cluster("local:2", places, tell=told.append) as made:
        assert told[0].startswith("dashboard: http://127.0.0.1:")
        made.client.wait_for_workers(2)
        made.client.run(__import__, "gan_lib.workbench")  # takes longer than a call may
        yield made


def half(number):
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number // 2


def die(file):
    """End this process as a kill does; the second time be well."""
    if not file.is_file():
        file.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def hang():
    time.sleep(600)


def test_what_fails_dies_or_hangs_stops_no_other(crew, tmp_path):
    crew = replace(crew, limit=SECONDS)
    calls = [
        partial(half, 4),
        partial(half, 3),
        partial(die, tmp_path / "dies"),
        partial(hang),
        partial(half, 4),
    ]
    with working(crew):
        made = outcomes(calls, 1, "calls", ["half-4", "half-3", "dies", "hangs", "half-4"])
    assert [own for own in made if not isinstance(own, Failed)] == [2, "alive", 2]
    assert made[1].told() == "ValueError: 3 is odd"
    told = made[3].told()
    assert told.startswith("TimeoutError: it took longer than 3 s, 2 times; at last in File")
    assert "in hang" in told, "the place is in the traceback that the worker left"
    assert not list(crew.hangs.iterdir()), "which is gone when the calls are done"


class DiesOnce(WorkerPlugin):
    """What workers do first, during which one of them is killed."""

    name = "dies once"

    def __init__(self, file):
        self.file = file

    def setup(self, worker):
        try:
            self.file.touch(exist_ok=False)
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_dies_while_it_is_prepared(crew, tmp_path, monkeypatch):
    """The scheduler then closes the client's connection, and says nothing of why."""
    monkeypatch.setattr("gan_lib.workbench.cluster.prepared", lambda: DiesOnce(tmp_path / "died"))
    prepare_workers(crew.client)
    assert (tmp_path / "died").is_file()
    with working(crew):
        assert outcomes([partial(half, 8)], 1, "calls") == [4]


def test_no_scheduler_that_answers():
    class Client:
        asked = 0

        def register_plugin(self, _):
            self.asked += 1
            raise OSError("Stream is closed")

    client = Client()
    with pytest.raises(OSError, match="closed"):
        prepare_workers(client)
    assert 1 < client.asked < 100


class Told:
    """A client whose scheduler answers with its workers, or does not."""

    def __init__(self, *workers):
        self.scheduler, self.workers = self, workers

    def sync(self, asked, **options):
        return asked(**options)

    def identity(self, n_workers):
        assert n_workers == -1, "all of them"
        return {"workers": {place: dict(own) for place, own in enumerate(self.workers)}}


def test_workers_that_are_still_preparing_are_given_nothing(tmp_path):
    assert OnDask(Told(), None, tmp_path).at_once() == 1, "which waits for the first"
    workers = [
        {"status": "running", "nthreads": 2},
        {"status": "init", "nthreads": 8},
        {"status": "running", "nthreads": 3},
    ]
    assert OnDask(Told(*workers), None, tmp_path).at_once() == 5


class Hands:
    """A client whose futures are done when it has, or is given, their result and seconds."""

    def __init__(self, results):
        self.results, self.futures, self.released = dict(results), {}, []

    def submit(self, function, *given, key, pure):
        name = key.partition("-")[0]  # as on the dashboard
        assert name not in self.futures, "each once"

        def add_done_callback(put):
            self.futures[name].put = put
            if name in self.results:
                put(self.futures[name])

        self.futures[name] = SimpleNamespace(
            key=key,
            result=lambda: self.results[name],
            release=lambda: self.released.append(name),
            add_done_callback=add_done_callback,
        )
        return self.futures[name]

    def done(self, name, *result):
        self.results[name] = result
        self.futures[name].put(self.futures[name])


def test_calls_go_out_as_the_order_says_and_before_a_result_is_used(tmp_path, monkeypatch):
    """Two workers: the first of both kinds, then b's second, of which nothing is known yet but that a's took
    3 s; it is handed out before a's first result is used. Who asked twice is told twice."""
    client = Hands({"a_0": ("first", 3.0)})
    crew = OnDask(client, None, tmp_path)
    monkeypatch.setattr(OnDask, "at_once", lambda self: 2)
    found = crew.run([lambda: None] * 5, ["a-0", "a-1", "b-0", "b-1", "a-0"])
    assert next(found) == (0, "first")
    assert list(client.futures) == ["a_0", "b_0", "b_1"], "nobody has asked for the next result"
    assert next(found) == (4, "first")
    client.done("b_0", "x", 9.0)
    assert next(found) == (2, "x")
    assert list(client.futures) == ["a_0", "b_0", "b_1", "a_1"]
    client.done("b_1", "y", 9.0)
    client.done("a_1", "z", 3.0)
    assert list(found) == [(3, "y"), (1, "z")]
    assert client.released == ["a_0", "b_0", "b_1", "a_1"]


def test_a_scheduler_that_has_gone(tmp_path):
    client = Told()
    client.scheduler = None  # as of a client that has lost it
    with pytest.raises(SchedulerGoneError, match="run the command again"):
        OnDask(client, None, tmp_path).at_once()

    class Cancelled:
        def result(self):
            raise CancelledError("key")

    with pytest.raises(SchedulerGoneError, match="run the command again"):
        _result(Cancelled())


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("local:0", "--cluster is local:N"),
        ("10.0.0.1:8786", "--cluster is local:N"),
        ("slurm:{}", "unexpected keyword argument 'nodes'"),
        ("slurm:{}.none", "no such|there is no|No such"),
    ],
)
def test_what_is_no_cluster(tmp_path, asked, message):
    (tmp_path / "site.yaml").write_text("nodes: 3\n")
    asked = asked.format(tmp_path / "site.yaml")
    with pytest.raises((ProfileError, FileNotFoundError), match=message), cluster(asked, Places.of(tmp_path)):
        pass


def test_a_limit_counts_hangs_alone(tmp_path):
    own = Limited(tmp_path / "hangs.txt", 5.0)
    with own.block():
        own.check()
        assert own.file.is_file()
    assert not own.file.exists()
    own.file.write_text("Timeout (0:00:05)!\nThread 0x1 (most recent call first):\n")
    own.check()  # once is not often enough
    stack = '  File "a.py", line 3 in inner\n  File "crew.py", line 9 in caught\n'
    own.file.write_text(
        f"Timeout (0:00:05)!\nThread 0x1:\n  File x\nTimeout (0:00:05)!\nThread 0x2:\n{stack}"
    )
    with pytest.raises(TimeoutError, match=r'2 times; at last in File "a.py", line 3 in inner'):
        own.check()


SBATCH = """#!/bin/sh
cp "$1" {folder}/job.sh
setsid sh {folder}/job.sh > {folder}/job.log 2>&1 &
echo $! > {folder}/job.pid
echo "Submitted batch job 17"
"""
SCANCEL = """#!/bin/sh
kill -TERM -$(cat {folder}/job.pid)
touch {folder}/cancelled
"""


def test_slurm(tmp_path, monkeypatch):
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (tmp_path / name).write_text(text.format(folder=tmp_path))
        (tmp_path / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    site = tmp_path / "site.yaml"
    site.write_text(
        "jobs: 1\nqueue: short\naccount: lab\nmemory: 2GB\nwalltime: '00:10:00'\nscheduler_options: {host: 127.0.0.1}\n"
        f"job_script_prologue: [export LAB=1]\nlocal_directory: {tmp_path}\n"
    )
    with cluster(f"slurm:{site}", Places.of(tmp_path)) as crew, working(crew):
        made = outcomes([partial(os.getenv, "LAB"), partial(half, 6)], 1, "on slurm")
        assert made[0] == "1"
        assert made[1].told() == "ModuleNotFoundError: No module named 'test_cluster'", (
            "that file is not sent"
        )
        text = (tmp_path / "job.sh").read_text()
    for line in ("#SBATCH -p short", "#SBATCH -A lab", "#SBATCH --mem=2G", "#SBATCH -t 00:10:00"):
        assert line in text
    assert "--nthreads 1 " in text
    assert "--death-timeout 60" in text
    assert text.index("export LAB=1") < text.index("distributed")
    assert (tmp_path / "cancelled").exists(), "jobs end with the sweep"


def test_jobs_is_a_number(tmp_path):
    (tmp_path / "site.yaml").write_text("jobs: many\n")
    with pytest.raises(ProfileError, match="jobs is how many SLURM jobs"):
        slurm_cluster(tmp_path / "site.yaml")


def faults(size, times):
    """Pages that a process asked the system for while it made and dropped an array again and again."""
    np.zeros(size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        np.ones(size)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc's allocator")
def test_workers_keep_freed_memory(crew):
    """As Dask starts them they would ask the system for every large tensor's pages anew."""
    size, times = 1_000_000, 50  # 8 MB, of 1953 pages
    with working(crew):
        made = outcomes([partial(faults, size, times)] * 2, 1, "calls", ["one", "two"])
    assert max(made) < 5 * size * 8 / 4096
