"""Saving figures and tables together with where they came from."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock
from matplotlib.figure import Figure
from PIL import Image

from gan_lib.core.checksums import sha256
from gan_lib.core.storage import atomic_path, read_json, told_of, write_json
from gan_lib.figures.fitting import DPI

LARGE, HUGE, HUGE_PICTURES = 80_000, 1_000_000, 3_000_000  # bytes
MANIFEST = "manifest.json"
_MEND = "Bring it back (git checkout -- {0}), or take it away and make all figures anew (gan-lib run --force)"


@dataclass
class FigureFolder:
    """Where one notebook's figures and tables go, each with a row in the manifest.

    Attributes:
        root: the figure folder, which holds ``manifest.json``.
        run: ``profile/notebook``, the sub-folder.
        provenance: notebook, profile, parameters, seed, versions, device, data hashes.
    """

    root: Path
    run: str
    provenance: Mapping[str, Any]

    def save_figure(self, figure: Figure, name: str, caption: str, data: pd.DataFrame | None = None) -> Path:
        """Write ``name.png``, its data as ``name.csv`` when given, and their manifest rows; returns its
        path."""
        path = self.root / self.run / f"{name}.png"
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=DPI, bbox_inches="tight", format="png", metadata={"Software": None})
            compact(temporary, holds_pictures(figure))
        self._record(path, caption)
        if data is not None:
            self.save_table(data, name, f"Data of the figure: {caption}")
        return path

    def save_table(self, table: pd.DataFrame, name: str, caption: str, parquet: bool = False) -> Path:
        """Write ``name.csv`` and its manifest row, and if asked the same as ``name.parquet``; returns the
        CSV's path."""
        path = self.root / self.run / f"{name}.csv"
        with atomic_path(path) as temporary:
            table.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")
        self._record(path, caption)
        if parquet:
            beside = path.with_suffix(".parquet")
            with atomic_path(beside) as temporary:
                _of_one_kind(table).to_parquet(temporary, index=False)
            self._record(beside, caption)
        return path

    def drop_table(self, name: str) -> None:
        """Take a table away, with its manifest rows, if it is there."""
        paths = [self.root / self.run / f"{name}{ending}" for ending in (".csv", ".parquet")]
        there = [own for own in paths if own.is_file()]
        if there:
            forget_files(self.root, [own.relative_to(self.root).as_posix() for own in there])
        for own in there:
            own.unlink()

    def _record(self, path: Path, caption: str) -> None:
        row = {"run": self.run, "caption": caption, "sha256": sha256(path)}
        merge_manifest(
            self.root, {path.relative_to(self.root).as_posix(): row}, {self.run: dict(self.provenance)}
        )


def holds_pictures(figure: Figure) -> bool:
    """Whether there are images or maps in a figure, whose colours run into each other."""
    return any(axis.images for axis in figure.axes)


def compact(path: Path, pictures: bool = False) -> None:
    """Make a large PNG small enough to be kept.

    Of a plot 256 colours are kept, which nobody sees; pictures keep all of theirs, for with 256 photographs
    and maps have bands. What is larger than a plot of one megabyte, or pictures of three, gets 70 % of its
    side.
    """
    size = path.stat().st_size
    if size <= LARGE:
        return
    with Image.open(path) as opened:
        made = opened.convert("RGB")
    if size > (HUGE_PICTURES if pictures else HUGE):
        smaller = (7 * made.width // 10, 7 * made.height // 10)
        made = made.resize(smaller, Image.Resampling.LANCZOS)
    if not pictures:
        made = made.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    made.save(path, format="PNG", compress_level=6)


def read_manifest(root: Path) -> dict[str, Any]:
    """The manifest of a figure folder: ``files`` and ``runs``; empty when there is none.

    Raises:
        ValueError: it is no manifest; the message says what to do.
    """
    path = root / MANIFEST
    if not os.path.lexists(path):
        return {"files": {}, "runs": {}}
    try:
        found: dict[str, Any] = read_json(path)
        is_one = isinstance(found["runs"], dict) and all(
            {"run", "caption", "sha256"} <= {*row} for row in found["files"].values()
        )
    except (ValueError, OSError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{told_of(path, error)}. {_MEND.format(path)}") from None
    if not is_one:
        raise ValueError(f"{path} is no manifest of figures. {_MEND.format(path)}")
    return found


def merge_manifest(
    root: Path, files: Mapping[str, Any], runs: Mapping[str, Any], replaces_runs: bool = False
) -> list[str]:
    """Add rows, by path relative to a figure folder, and the provenance of runs to its manifest.

    With ``replaces_runs`` the rows that these runs had before go; returns paths of those not set again.
    """
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f".{MANIFEST}.lock"):
        manifest = read_manifest(root)
        known = manifest["files"]
        stale = [
            path for path, row in known.items() if replaces_runs and row["run"] in runs and path not in files
        ]
        kept = {path: row for path, row in known.items() if path not in stale}
        write_json(root / MANIFEST, {"files": {**kept, **files}, "runs": {**manifest["runs"], **runs}})
    return stale


def forget_files(root: Path, names: Iterable[str]) -> None:
    """Take rows, by path relative to a figure folder, out of its manifest."""
    with FileLock(root / f".{MANIFEST}.lock"):
        manifest = read_manifest(root)
        kept = {name: row for name, row in manifest["files"].items() if name not in set(names)}
        write_json(root / MANIFEST, {**manifest, "files": kept})


def _of_one_kind(table: pd.DataFrame) -> pd.DataFrame:
    """A table whose columns hold one kind of value each, as Parquet wants them: else their texts."""
    mixed = [
        name
        for name, own in table.items()
        if own.dtype == object and len({type(value) for value in own.dropna()}) > 1
    ]
    return table.astype(dict.fromkeys(mixed, str))


def check_manifest(root: Path) -> list[str]:
    """What is wrong with a figure folder: files missing, or changed since they were recorded."""
    problems = []
    for name, row in read_manifest(root)["files"].items():
        path = root / name
        if not path.is_file():
            problems.append(f"{name}: missing")
        elif sha256(path) != row["sha256"]:
            problems.append(f"{name}: changed since it was recorded")
    return problems
