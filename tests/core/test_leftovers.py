"""Temporary names, and what is removed of processes that are gone."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from gan_lib.core import leftovers
from gan_lib.core.leftovers import is_left, mark, remove_leftovers, temporary_folder, temporary_name
from gan_lib.core.storage import atomic_path, save_tensors, write_json

LEAVE = """
import os
from pathlib import Path
from gan_lib.core.leftovers import temporary_folder, temporary_name
folder = Path({folder!r})
(folder / "below").mkdir()
(folder / "below" / temporary_name("a.csv")).write_text("half")
held = [temporary_folder("staging-", folder), temporary_folder("gan-lib-")]
held[0].__enter__().joinpath("x").write_text("half")
held[1].__enter__()
os.kill(os.getpid(), 9)
"""


def test_what_a_killed_process_left_goes_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "system"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    (tmp_path / "system").mkdir()
    (tmp_path / "out").mkdir()
    subprocess.run([sys.executable, "-c", LEAVE.format(folder=str(tmp_path / "out"))], check=False)
    mine = tmp_path / "out" / temporary_name("b.csv")
    elsewhere = tmp_path / "out" / mine.name.replace(leftovers._host(), "0" * 6)
    for path in (mine, elsewhere, tmp_path / "out/c.tmp"):
        path.write_text("stays")
    left = [path for path in tmp_path.rglob("*.tmp") if path not in (mine, elsewhere, tmp_path / "out/c.tmp")]
    assert len(left) == 3
    assert sorted(remove_leftovers(tmp_path / "out")) == sorted(left)
    assert {path.name for path in tmp_path.rglob("*.tmp")} == {mine.name, elsewhere.name, "c.tmp"}
    assert remove_leftovers(tmp_path / "out", tmp_path / "nowhere") == []


def test_a_process_that_got_the_number_of_one_that_is_gone():
    own = mark()
    assert not is_left(f"x{own}")
    head, start = own.removesuffix(".tmp").rsplit("-", 1)
    assert is_left(f"x{head}-{int(start, 16) - 100:x}.tmp"), "the same number, begun at another time"
    assert not is_left("x.tmp")
    assert not is_left(".results.csv.1234.tmp")


def test_long_names_have_temporary_names_of_their_own(tmp_path):
    long, other = ("x" * 250 + str(number) for number in range(2))
    assert temporary_name(long) != temporary_name(other)
    assert max(len(os.fsencode(temporary_name(name))) for name in (long, "ü" * 127, "short")) <= 255
    assert temporary_name("short").startswith(".short.")
    with atomic_path(tmp_path / long) as temporary:
        temporary.write_text("text")
    assert [path.name for path in tmp_path.iterdir()] == [long]
    with temporary_folder("a-", tmp_path) as folder:
        assert folder.is_dir()
    assert not folder.exists()


def written_half(path):
    with atomic_path(path) as temporary:
        temporary.write_text("12345")
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_told_with_what_is_needed_and_free(tmp_path):
    write_json(tmp_path / "a.json", [1])
    with pytest.raises(OSError, match=r"more than 5 bytes are needed, \d+ are free") as told:
        written_half(tmp_path / "a.json")
    assert told.value.errno == errno.ENOSPC
    assert told.value.filename == str(tmp_path / "a.json")
    assert (tmp_path / "a.json").read_text() == "[\n 1\n]\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    with pytest.raises(PermissionError, match="mine"), atomic_path(tmp_path / "b"):
        raise PermissionError(errno.EACCES, "mine")


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_tensors_on_a_disk_that_is_really_full(small_disk: Path):
    save_tensors(small_disk / "a.safetensors", {"a": torch.zeros(2000)})
    before = (small_disk / "a.safetensors").read_bytes()
    with pytest.raises(OSError, match="disk is full: more than") as told:
        save_tensors(small_disk / "a.safetensors", {"a": torch.ones(40_000)})
    assert told.value.errno == errno.ENOSPC
    assert (small_disk / "a.safetensors").read_bytes() == before
    assert len(list(small_disk.iterdir())) == 1
