"""What processes that are gone have left: temporary files and folders that say whose they are.

A temporary thing is named ``....HOST-PID-START.tmp``: the machine, the process and when it began. What stands
there and belongs to no process of this machine any more was left by a kill, and nobody will come back for it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import psutil

LONGEST = 255  # bytes of a file's name, of the file systems in use
OURS = "gan-lib-"  # how folders in the system's temporary folder begin
SLACK = 2  # seconds by which a process's start may be told differently
_MARK = re.compile(r"\.([0-9a-f]{6})-([0-9]+)-([0-9a-f]+)\.tmp$")


@cache
def _host() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:6]


@cache
def _start(pid: int) -> int:
    return int(psutil.Process(pid).create_time())


def mark() -> str:
    """The ending of what is this process's and temporary."""
    return f".{_host()}-{os.getpid()}-{_start(os.getpid()):x}.tmp"


def temporary_name(name: str) -> str:
    """A hidden name for a file that will be called ``name``, no longer than a name may be."""
    room = LONGEST - len(mark()) - 1
    own = os.fsencode(name)
    if len(own) > room:
        own = hashlib.sha256(own).hexdigest()[:32].encode()
    return f".{os.fsdecode(own)}{mark()}"


@contextmanager
def temporary_folder(prefix: str, within: Path | None = None) -> Iterator[Path]:
    """A folder that is there within the block, by default in the system's temporary folder."""
    with tempfile.TemporaryDirectory(prefix=prefix, suffix=mark(), dir=within) as folder:
        yield Path(folder)


def is_left(name: str) -> bool:
    """Whether something of that name was a process's of this machine that is gone."""
    found = _MARK.search(name)
    if found is None or found[1] != _host():
        return False
    try:
        return abs(psutil.Process(int(found[2])).create_time() - int(found[3], 16)) > SLACK
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:  # another user's: it is there
        return False


def remove_leftovers(*folders: Path) -> list[Path]:
    """Remove what processes that are gone have left in folders and in the system's temporary one.

    Returns:
        What was removed.
    """
    system = Path(tempfile.gettempdir())
    found = [path for path in system.glob(f"{OURS}*.tmp") if is_left(path.name)]
    for folder in folders:
        for above, names, files in os.walk(folder):
            left = [name for name in (*names, *files) if name.endswith(".tmp") and is_left(name)]
            found += [Path(above, name) for name in left]
            names[:] = [name for name in names if name not in left]
    for path in found:
        with suppress(OSError):  # another process is removing it too, or it is another user's
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    return found
