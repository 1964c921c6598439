"""Ways in which a file comes to be another than was written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path


def flip(path: Path, place: float, bit: int) -> None:
    """Turn one bit of the byte at a share of the file's length."""
    content = bytearray(path.read_bytes())
    content[min(int(place * len(content)), len(content) - 1)] ^= bit
    path.write_bytes(bytes(content))


def swap(path: Path) -> None:
    """The content of another file of the kind: the same, but for its length."""
    path.write_bytes(path.read_bytes()[::-1] + b"\n")


def replaced_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replaced_by_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent / "nothing")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a high bit": lambda path: flip(path, 0.9, 0x40),
    "a low bit": lambda path: flip(path, 0.6, 0x01),
    "a bit at the beginning": lambda path: flip(path, 0.0, 0x02),
    "cut": lambda path: os.truncate(path, max(0, path.stat().st_size - 9)),
    "empty": lambda path: os.truncate(path, 0),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "swapped": swap,
    "a folder": replaced_by_folder,
    "a link to nothing": replaced_by_link,
}


def contents(folder: Path, left_out: tuple[str, ...] = (".lock",)) -> dict[str, bytes]:
    """All files below a folder, by name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(left_out)
    }


def copied(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target
