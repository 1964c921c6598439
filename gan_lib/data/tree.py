"""What lies in a folder and below it: links are followed, hidden things are not looked at."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ENDINGS = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
NEVER_TAKEN = ("__MACOSX", "__pycache__")  # and what begins with a dot, as .ipynb_checkpoints does


@dataclass(frozen=True)
class Listing:
    """What a folder shows, each in the order of names."""

    folders: tuple[Path, ...]
    files: tuple[Path, ...]
    lost: tuple[tuple[Path, str], ...]  # links that lead nowhere or in a circle, with the reason


def is_hidden(name: str) -> bool:
    """Whether a file or folder of that name is never taken."""
    return name.startswith(".") or name in NEVER_TAKEN


def has_image_ending(path: Path) -> bool:
    """Whether a file's name ends as an image's does, in small letters or capitals."""
    return path.suffix.lower() in ENDINGS


def listing(folder: Path) -> Listing:
    """The folders and files in a folder, links among them followed."""
    folders: list[Path] = []
    files: list[Path] = []
    lost: list[tuple[Path, str]] = []
    above = {_identity(own) for own in (folder, *folder.absolute().parents)}
    for path in sorted(folder.iterdir()):
        if is_hidden(path.name):
            continue
        if path.is_dir():
            if _identity(path) in above:
                lost.append((path, "a link to a folder that holds it"))
            else:
                folders.append(path)
        elif path.is_file():
            files.append(path)
        elif path.is_symlink():
            lost.append((path, "a link to what is not there"))
    return Listing(tuple(folders), tuple(files), tuple(lost))


def files_below(folder: Path) -> Listing:
    """All files in a folder and its sub-folders, links followed, in the order of their names."""
    here = listing(folder)
    files, lost = list(here.files), list(here.lost)
    for own in here.folders:
        below = files_below(own)
        files += below.files
        lost += below.lost
    return Listing((), tuple(sorted(files)), tuple(lost))


def natural(name: str) -> tuple[list[str | int], str]:
    """Sorts names by the numbers in them: ``class2`` comes before ``class10``."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name


def _identity(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_dev, about.st_ino
