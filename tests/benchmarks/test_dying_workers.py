"""A sweep on a cluster of this machine: how much two workers save, and what kills leave of its tables.

pytest tests/benchmarks/test_dying_workers.py --override-ini addopts= -s
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from gan_lib.workbench.places import comes_with

# 24 cells as large as the profile's own, eight seconds each on one core of a fast processor: long enough to be
# killed in, and for workers to pay.
SWEEP = {
    "title": "24 cells",
    "profile": "cpu",
    "seeds": [0, 1],
    "changes": {"machine.threads": 1},
    "settings": [
        {
            "method": f"{count} conditions, width {width}",
            "generator.conditions": count,
            "generator.width": width,
        }
        for count in (1, 2, 3, 4)
        for width in (8, 16, 32)
    ],
}
RUN = [sys.executable, "-m", "gan_lib", "sweep"]
KILLS, ORPHANS_END = 10, 10.0


@pytest.fixture
def project(tmp_path):
    """A folder with the project's profiles and shipped CNNs, and the sweep's file."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks/profiles").symlink_to(comes_with() / "notebooks/profiles")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/pretrained").symlink_to(comes_with() / "data/pretrained")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(SWEEP))
    return tmp_path


def start(project: Path, *options: str) -> subprocess.Popen:
    command = [*RUN, str(project / "mine.yaml"), "--root", str(project), *options]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})


def run(project: Path, *options: str) -> tuple[float, float]:
    """Seconds of the wall, and of processors: the command's and those of all that it started and waited for."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    assert start(project, *options).wait() == 0
    wall, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def seconds_of_halves(project: Path) -> float:
    """Seconds until two commands are done that know nothing of each other, one process and half of the cells
    each, as large in all: what this machine gives to two processes."""
    begun, commands = time.monotonic(), []
    for counts in ((1, 4), (2, 3)):
        own = project.with_name(f"counts_{counts[0]}")
        shutil.copytree(project, own, symlinks=True)
        settings = [each for each in SWEEP["settings"] if each["generator.conditions"] in counts]
        (own / "mine.yaml").write_text(yaml.safe_dump({**SWEEP, "settings": settings}))
        commands.append(start(own, "--set", "machine.workers=1"))
    assert [command.wait() for command in commands] == [0, 0]
    return time.monotonic() - begun


def tables(project: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((project / "figures/mine").iterdir())}


def forget(project: Path) -> None:
    """Begin anew, but for the data set."""
    for kind in ("generator", "scores", "conditions", "predictions"):
        subprocess.run(
            ["rm", "-rf", str(project / "data/artifacts" / kind), str(project / "figures")], check=True
        )


def leftovers(project: Path) -> list[Path]:
    found = [*project.rglob("*.tmp"), *project.rglob("*.partial")]
    return found + list((project / "data/runs").glob("hangs/*"))


@pytest.mark.timeout(36000)
def test_efficiency_and_kills(project):
    run(project, "--set", "seeds=[0]", "--set", "gan.images=20")  # the data set is made
    forget(project)
    alone = run(project, "--set", "machine.workers=1")
    expected = tables(project)
    forget(project)
    halves = seconds_of_halves(project)
    together = run(project, "--cluster", "local:2")
    assert tables(project) == expected, "to the byte"
    print(f"one process: {alone[0]:.0f} s, {alone[1]:.0f} s of a processor")
    print(f"two commands that know nothing of each other, half of it each: {halves:.0f} s")
    print(f"local:2: {together[0]:.0f} s, {together[1]:.0f} s of a processor")
    for name, seconds in (("what the machine gives", halves), ("local:2", together[0])):
        print(f"efficiency, {name}: {alone[0] / (2 * seconds):.2f}")

    forget(project)
    drawn, killed = random.Random(0), 0
    command = start(project, "--cluster", "local:2")
    pause = together[0] / (KILLS + 1)
    while command.poll() is None:
        time.sleep(drawn.uniform(0.2, 1.8) * pause)
        if (workers := workers_of(command.pid)) and killed < KILLS:
            drawn.choice(workers).kill()
            killed += 1
    print(f"{killed} workers killed")
    assert command.returncode == 0
    assert tables(project) == expected
    assert not leftovers(project)

    forget(project)
    command = start(project, "--cluster", "local:2")
    time.sleep(together[0] / 2)
    processes = psutil.Process(command.pid).children(recursive=True)
    command.kill()
    command.wait()
    _, alive = psutil.wait_procs(processes, timeout=ORPHANS_END)
    assert not alive, "no orphan goes on"
    run(project, "--cluster", "local:2")
    assert tables(project) == expected
    assert not leftovers(project)


def workers_of(pid: int) -> list[psutil.Process]:
    """Worker processes of a command's local cluster."""
    try:
        children = psutil.Process(pid).children(recursive=True)
        return [own for own in children if "spawn_main" in " ".join(own.cmdline())]
    except psutil.NoSuchProcess:
        return []


@pytest.mark.timeout(3600)
def test_a_scheduler_that_goes(project):
    """The command ends with one line, the workers too; with another scheduler it goes on."""
    dask, file = [sys.executable, "-m", "dask"], project / "scheduler.json"

    def begin() -> list[subprocess.Popen]:
        file.unlink(missing_ok=True)
        scheduler = subprocess.Popen(
            [
                *dask,
                "scheduler",
                "--scheduler-file",
                str(file),
                "--port",
                "0",
                "--host",
                "127.0.0.1",
                "--no-dashboard",
            ]
        )
        worker = [*dask, "worker", "--scheduler-file", str(file), "--nthreads", "1", "--death-timeout", "5"]
        return [scheduler, subprocess.Popen(worker)]

    changes = ["--set", "seeds=[0]", "--set", "gan.images=100"]
    run(project, *changes)
    expected = tables(project)
    forget(project)
    processes = begin()
    try:
        until(file.is_file)
        command = start(project, "--cluster", str(file), *changes)
        until(lambda: any((project / "data/artifacts").glob("scores/*/scores.csv")), 600)
        processes[0].kill()
        assert command.wait(timeout=120) == 1
        processes[1].wait(timeout=120)
        processes += begin()
        until(file.is_file)
        run(project, "--cluster", str(file), *changes)
        assert tables(project) == expected
        assert not leftovers(project)
    finally:
        for own in processes:
            own.kill()
            own.wait()


ORPHANS = """
import os, time
from functools import partial
from gan_lib.workbench.crew import outcomes

def wait(file):
    open(file + "/" + str(os.getpid()), "w").close()
    time.sleep(110)

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
