"""The guide's SLURM scripts: what they ask for, and what each job of the array does."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest
import yaml

SLURM = Path(__file__).parents[2] / "notebooks/guide/slurm"
STUB = """#!/bin/sh
echo "{name} $@" >> {log}
[ "{name} $1" != "dask scheduler" ] || {{ echo '{{}}' > "$3"; exec sleep 60; }}
"""


def directives(script):
    return re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", (SLURM / script).read_text(), re.MULTILINE)


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Commands that note how they were called."""
    log = tmp_path / "log"
    for name in ("dask", "gan-lib", "make"):
        (tmp_path / name).write_text(STUB.format(name=name, log=log))
        (tmp_path / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return log


def run(script, *arguments, **environment):
    names = {f"SLURM_{name}": value for name, value in environment.items()}
    command = ["bash", str(SLURM / script), *arguments]
    return subprocess.run(command, env={**os.environ, **names}, timeout=30, capture_output=True, text=True)


def test_the_first_job_of_an_array_runs_the_sweep(commands, tmp_path):
    done = run("array.sh", "ablations", ARRAY_JOB_ID="7", ARRAY_TASK_ID="0", ARRAY_TASK_MIN="0")
    assert done.returncode == 0, done.stderr
    file = "data/runs/scheduler-7.json"
    assert commands.read_text().splitlines() == [
        f"dask scheduler --scheduler-file {file} --port 0",
        f"gan-lib sweep ablations --cluster {file}",
    ]
    assert not (tmp_path / file).exists(), "it goes with the scheduler"


def test_the_others_are_workers(commands):
    done = run("array.sh", "ablations", ARRAY_JOB_ID="7", ARRAY_TASK_ID="3", ARRAY_TASK_MIN="0")
    assert done.returncode == 0, done.stderr
    wanted = "dask worker --scheduler-file data/runs/scheduler-7.json --nthreads 1 --death-timeout 300"
    assert commands.read_text().splitlines() == [wanted]


def test_an_array_without_a_sweep_ends(commands):
    done = run("array.sh", ARRAY_JOB_ID="7", ARRAY_TASK_ID="0", ARRAY_TASK_MIN="0")
    assert done.returncode != 0
    assert "the name of a sweep" in done.stderr
    assert not commands.exists()


def test_figures_are_packed(commands, tmp_path):
    (tmp_path / "figures/gpu").mkdir(parents=True)
    (tmp_path / "figures/manifest.json").write_text("{}")
    done = run("figures.sh", JOB_ID="9")
    assert done.returncode == 0, done.stderr
    assert commands.read_text() == "make figures PROFILE=gpu\n"
    assert (tmp_path / "figures-gpu-9.tar.gz").is_file()


def test_what_jobs_ask_for():
    assert (
        dict(directives("array.sh")).items() >= {"array": "0-16", "gres": "gpu:1", "time": "04:00:00"}.items()
    )
    assert dict(directives("figures.sh")).items() >= {"gres": "gpu:1", "time": "12:00:00"}.items()


def test_the_job_script_of_a_site():
    SLURMCluster = pytest.importorskip("dask_jobqueue").SLURMCluster  # noqa: N806
    values = yaml.safe_load((SLURM / "site.yaml").read_text())
    assert values.pop("jobs") == 16
    scheduler = {"host": "127.0.0.1", "dashboard_address": None}
    with SLURMCluster(**{**values, "log_directory": None}, scheduler_options=scheduler) as cluster:
        script = cluster.job_script()
    lines = script.splitlines()
    for wanted in (
        "-p gpu",
        "-A lab",
        "-n 1",
        "--cpus-per-task=1",
        "--mem=15G",
        "-t 04:00:00",
        "--gres=gpu:1",
    ):
        assert f"#SBATCH {wanted}" in lines
    assert lines.index("source .venv/bin/activate") < next(
        k for k, own in enumerate(lines) if "dask" in own and "tcp://" in own
    )
    assert "--nthreads 1" in script
    assert "--lifetime 225m" in script
