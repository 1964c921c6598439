"""A report's folder: which files are its own, and what becomes of a report that is there already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from gan_lib.core.storage import read_json, write_json
from gan_lib.reporting.case import SEEN
from gan_lib.reporting.page import PAGE, PARTS
from gan_lib.reporting.parts import PART, PICTURES, TABLES
from gan_lib.workbench.explain import Photo, find_photos

ABOUT, KEPT, FINDINGS, TRAINING = "report.json", "kept", "findings.csv", "training"
OTHERWISE = "take another folder (out), or overwrite it (overwrite)"


def photos_of(images: Sequence[Path], out: Path) -> list[Photo]:
    """Image files and the names wanted for them; what explanations and reports consist of is left out.

    Raises:
        FileNotFoundError: a file or folder that is not there, or no image in them.
    """
    found = [own for own in find_photos(images, out) if not _is_picture(own[0])]
    if not found:
        raise FileNotFoundError(f"no images in {', '.join(map(str, images))} but the pictures of a report")
    return found


def _is_picture(path: Path) -> bool:
    """Whether a file is one of a report: ``parts/NAME/pictures/FILE`` beside its ``report.json``."""
    above = path.absolute().parents
    return (
        len(above) > 3
        and (above[0].name, above[2].name) == (PICTURES, PARTS)
        and (above[3] / ABOUT).is_file()
    )


def about_of(out: Path) -> dict[str, Any]:
    """What ``report.json`` says; empty where there is none of a report."""
    with suppress(FileNotFoundError, NotADirectoryError, ValueError):
        found = read_json(out / ABOUT)
        if isinstance(found, dict) and isinstance(found.get("settings"), dict):
            return found
    return {}


def prepare(out: Path, settings: Mapping[str, Any], names: Sequence[str], overwrite: bool) -> None:
    """The folder with its ``report.json``; a report of other settings is taken away, or refused.

    Args:
        settings: of the report to come, as JSON values.
        names: of its parts.
        overwrite: whether other ones, and files of another origin in their place, may go.

    Raises:
        ValueError: the folder holds a report of other settings, or files of another origin.
    """
    if about_of(out).get("settings") == settings:
        return
    if not overwrite:
        refuse(out, settings, names)
    clear(out, names)
    write_json(out / ABOUT, {"settings": dict(settings)})


def refuse(out: Path, settings: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raise :class:`ValueError` where a folder holds what a report of these settings would replace; what was
    interrupted before its first part is none."""
    known = about_of(out).get("settings")
    if known is None:
        foreign = [out / PAGE, out / ABOUT, out / FINDINGS, out / TABLES, out / KEPT / SEEN]
        for path in [*foreign, *(out / PARTS / name for name in names)]:
            if path.is_file() or (path.is_dir() and any(path.iterdir())):
                raise ValueError(f"{path} is there already, and not from such a run: {OTHERWISE}")
    elif (out / PAGE).exists():
        told = [own for own in {**known, **settings} if known.get(own) != settings.get(own)]
        raise ValueError(f"{out} holds a report of other settings ({', '.join(told)}): {OTHERWISE}")


def clear(out: Path, names: Sequence[str]) -> None:
    """Take away what a report has written, and nothing else; what was trained for it stays."""
    files = list(_files(out, names))
    for path in files:
        path.unlink(missing_ok=True)
    for folder in dict.fromkeys(above for path in files for above in path.parents):
        if folder.is_relative_to(out) and folder != out and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _files(out: Path, names: Sequence[str]) -> Iterator[Path]:
    """Files of the parts of these names, of their tables, and those beside them."""
    for name in names:
        part = out / PARTS / name
        own = [*sorted((part / TABLES).glob("*.csv")), *sorted((part / PICTURES).glob("*.jpg"))]
        yield from own
        yield from (out / TABLES / path.name for path in own if path.suffix == ".csv")
        yield part / PART
    yield from (out / KEPT / SEEN, out / PAGE, out / FINDINGS, out / ABOUT)
