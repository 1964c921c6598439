"""The program as a process of its own ends as it should, and at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BODY = """
import atexit, sys, tempfile, threading, time
from pathlib import Path
from gan_lib.__main__ import ends_at_once

class Last:
    def __del__(self):
        print("taken down")

def late():
    time.sleep(0.3)
    print("thread", flush=False)

with ends_at_once():
    last = Last()
    kept = tempfile.TemporaryDirectory()
    Path("temporary").write_text(kept.name)
    atexit.register(print, "registered")
    threading.Thread(target=late).start()
    {what}
"""


def ended(folder, what, **options):
    program = [sys.executable, "-c", BODY.format(what=what)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}
    return subprocess.run(program, cwd=folder, env=environment, text=True, check=False, **options)


@pytest.mark.parametrize(
    ("what", "code", "told"),
    [
        ("pass", 0, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit(True)", 1, ""),
        ("sys.exit('no such thing')", 1, "no such thing"),
        ("1 / 0", 1, "ZeroDivisionError"),
    ],
)
def test_as_a_process_ends(tmp_path, what, code, told):
    done = ended(tmp_path, what, capture_output=True)
    assert done.returncode == code, done.stderr
    assert done.stdout.split() == ["thread", "registered"], "flushed, and nothing after it"
    assert done.stderr.splitlines()[-1:] == [] if not told else told in done.stderr.splitlines()[-1]
    assert not Path((tmp_path / "temporary").read_text()).exists()


def test_an_interrupt(tmp_path):
    done = ended(tmp_path, "raise KeyboardInterrupt", capture_output=True)
    assert done.returncode in (130, -2), "by the signal, or by the code that stands for it"
    assert "registered" in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_output_that_is_lost_is_a_failure(tmp_path):
    with Path("/dev/full").open("w") as full:
        done = ended(tmp_path, "pass", stdout=full, stderr=subprocess.PIPE)
        assert done.returncode == 120
        done = ended(tmp_path, "sys.exit(2)", stdout=full, stderr=subprocess.PIPE)
        assert done.returncode == 2
