"""Checksums of files that are believed: a changed bit in a weight is a wrong map, and nobody sees it.

Whoever writes files that others will load writes ``checksums.json`` beside them, the SHA-256 of each. Whoever
loads one of them compares it first, once in a process as long as the file's length and time stay the same.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

CHECKSUMS = "checksums.json"

_seen: set[tuple[str, int, int, str]] = set()  # paths, lengths, times and digests that were found right


class DamagedError(ValueError):
    """A file is not what was written: damaged, cut, exchanged, or changed by hand."""


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_checksums(folder: Path, names: Iterable[str] | None = None) -> None:
    """Note the SHA-256 of files of a folder in its ``checksums.json``, atomically.

    write_checksums(folder)                               # all, in folders below as well, and no others
    write_checksums(folder, ["classifier.safetensors"])   # these, beside those that are noted already
    """
    from gan_lib.core.storage import write_json  # which checks what it reads

    path = folder / CHECKSUMS
    if names is None:
        found = (own for own in sorted(folder.rglob("*")) if own.is_file() and own != path)
        noted = {own.relative_to(folder).as_posix(): sha256(own) for own in found}
    else:
        before = _noted(path) if path.is_file() else {}
        noted = before | {name: sha256(folder / name) for name in names}
    write_json(path, noted)


def check_folder(folder: Path) -> None:
    """Compare all files that ``checksums.json`` notes.

    Raises:
        DamagedError: one is missing or another than noted, or there are no notes.
    """
    path = folder / CHECKSUMS
    if not path.is_file():
        raise DamagedError(f"{folder} has no {CHECKSUMS}")
    for name in (noted := _noted(path)):
        _compare(folder / name, noted[name])


def check_file(path: Path) -> None:
    """Compare a file with the ``checksums.json`` beside it, if one is there and notes it.

    Raises:
        DamagedError: another content than noted; the message says what to do.
    """
    notes = path.parent / CHECKSUMS
    if path == notes or not os.path.lexists(notes):
        return
    noted = _noted(notes)
    if path.name in noted:
        _compare(path, noted[path.name])
    elif lost := [name for name in noted if not os.path.lexists(path.parent / name)]:
        raise DamagedError(f"{notes} notes {lost[0]}, which is not there, and not {path.name}")


def is_there(path: Path) -> bool:
    """Whether a file is there that decides what is done, or nothing.

    Raises:
        DamagedError: something else is in its place, a folder or a link to nothing; or it is noted, and gone.
    """
    if path.is_file():
        return True
    if os.path.lexists(path):
        raise DamagedError(f"{path} is no file: copy or download it again")
    check_file(path)
    return False


def _noted(path: Path) -> dict[str, str]:
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DamagedError(f"{path} cannot be read ({error}): copy or download it again") from None
    if not isinstance(noted, dict) or not all(isinstance(own, str) for own in noted.values()):
        raise DamagedError(f"{path} holds no checksums: copy or download it again")
    return noted


def _compare(path: Path, wanted: str) -> None:
    try:
        about = path.stat()
        key = (str(path.absolute()), about.st_size, about.st_mtime_ns, wanted)
        if key in _seen:
            return
        right = sha256(path) == wanted
    except OSError as error:
        raise DamagedError(f"{path} cannot be read: {error}") from None
    if not right:
        raise DamagedError(
            f"{path} is damaged: it is not what {CHECKSUMS} beside it says. Copy or download it again (in a "
            f"checkout: git checkout -- {path}); if you have changed it yourself, take its line out of there"
        )
    _seen.add(key)
