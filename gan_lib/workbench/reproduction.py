"""Regenerated tables against the committed ones: how far has the answer moved on this machine?

Every table with means and intervals is compared, row by row. A mean that lies inside the committed interval
is what the interval promised. Tables without intervals, such as those of costs in milliseconds, are not
compared.
"""

from __future__ import annotations

import io
import os
import subprocess
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from gan_lib.core.leftovers import OURS, temporary_folder
from gan_lib.figures import FigureFolder, check_manifest, read_manifest
from gan_lib.figures.save import MANIFEST
from gan_lib.workbench.claims import CLAIMS, FAILS, HOLDS

REPRODUCTION = "reproduction"
MOST_OUTSIDE = 0.07  # share of all means
ROUNDING = 1e-5  # tables have six significant digits, on either side
RESULTS = {"n", "skipped", "seeds", "cnns", "p", "p_holm", "d", "value"}  # columns that name no row
AXES = {"offset", "share", "alpha", "epoch"}  # numbers that do, though they are no integers


@dataclass(frozen=True)
class Reproduction:
    """How regenerated tables compare with committed ones.

    Attributes:
        tables: a row per ``table``: ``means`` compared, how many are ``inside`` the committed interval, the
            ``largest_shift`` in units of its half width, and rows that are ``only_committed`` or
            ``only_regenerated``.
        claims: those whose verdict is another: ``notebook``, ``claim``, ``committed``, ``regenerated`` and
            ``flipped``, between holding and not.
    """

    tables: pd.DataFrame
    claims: pd.DataFrame

    @property
    def outside(self) -> float:
        """Share of all means that lie outside of the committed intervals."""
        means = int(self.tables["means"].sum())
        return 1 - float(self.tables["inside"].sum()) / means if means else 0.0

    def save(self, figures: Path, profile: str, reference: str) -> None:
        """Write the table, with what it was compared with, to the profile's figures."""
        about = {"notebook": REPRODUCTION, "profile": profile, "reference": reference}
        caption = f"Means inside the intervals of {reference}, and the largest shift in half widths"
        FigureFolder(figures, profile, about).save_table(self.tables, REPRODUCTION, caption)

    @property
    def is_reproduced(self) -> bool:
        """At most 7 % of the means are outside, and no claim is flipped."""
        return self.outside <= MOST_OUTSIDE and not self.claims["flipped"].any()


@contextmanager
def committed_figures(reference: str, root: Path) -> Iterator[Path]:
    """The figure folder to compare with: a folder, or that of a git revision of the project at ``root``.

    Raises:
        FileNotFoundError: neither, or a revision without figures.
    """
    if Path(reference).is_dir():
        yield Path(reference)
        return
    command = ["git", "-C", str(root), "archive", "--format=zip", reference, "figures"]
    made = subprocess.run(command, capture_output=True, check=False)
    if made.returncode:
        why = made.stderr.decode().strip().splitlines()[-1:] or ["git failed"]
        raise FileNotFoundError(f"{reference!r} is no folder and no revision with figures: {why[0]}")
    with temporary_folder(OURS) as folder, zipfile.ZipFile(io.BytesIO(made.stdout)) as archive:
        archive.extractall(folder)  # which makes no link, and nothing outside the folder
        yield folder / "figures"


def compare_figures(committed: Path, regenerated: Path, profile: str) -> Reproduction:
    """Compare all tables of a profile in two figure folders.

    Raises:
        FileNotFoundError: either has no tables of the profile.
    """
    old, new = (_tables(folder, profile) for folder in (committed, regenerated))
    rows = [compare_tables(old[name], new[name]) | {"table": name} for name in old if name in new]
    for name in old.keys() ^ new.keys():  # whole tables
        side = "only_committed" if name in old else "only_regenerated"
        rows.append({"table": name, side: len((old if name in old else new)[name])})
    columns = ["table", "means", "inside", "largest_shift", "only_committed", "only_regenerated"]
    tables = pd.DataFrame(rows, columns=columns).sort_values("table", ignore_index=True)
    counts = ["means", "inside", "only_committed", "only_regenerated"]
    tables[counts] = tables[counts].fillna(0).astype(int)
    is_compared = (tables["means"] > 0) | (tables[counts[2:]].sum(axis=1) > 0)
    verdicts = [_claims(folder / profile) for folder in (committed, regenerated)]
    return Reproduction(tables[is_compared].reset_index(drop=True), changed_claims(*verdicts))


def _tables(folder: Path, profile: str) -> dict[str, pd.DataFrame]:
    """Tables by their path below the profile's folder, without ending."""
    home, left_out = folder / profile, {CLAIMS, REPRODUCTION}
    found = {
        path.relative_to(home).with_suffix("").as_posix(): pd.read_csv(path)
        for path in sorted(home.rglob("*.csv"))
        if path.stem not in left_out
    }
    if not found:
        raise FileNotFoundError(f"there are no tables of {profile!r} in {folder}")
    return found


def centres(table: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Columns of a table that have an interval: centre, lower and upper bound.

    ``low`` and ``high`` belong to the column before them; ``x_low`` and ``x_high`` to ``x``.
    """
    columns = [str(name) for name in table]
    found = [(name, f"{name}_low", f"{name}_high") for name in columns]
    found = [own for own in found if {*own} <= set(columns)]
    if "low" in columns and "high" in columns and columns.index("low"):
        found.append((columns[columns.index("low") - 1], "low", "high"))
    return found


def _named(table: pd.DataFrame, measured: Sequence[tuple[str, str, str]]) -> list[str]:
    """Columns that tell rows apart: words, whole numbers and axes, but no results."""
    results = {name for own in measured for name in own} | RESULTS
    columns = [str(name) for name in table]
    results |= {name for name in columns if name.endswith("_n")}
    left = [name for name in columns if name not in results]
    return [name for name in left if name in AXES or not pd.api.types.is_float_dtype(table[name])]


def compare_tables(old: pd.DataFrame, new: pd.DataFrame) -> dict[str, float]:
    """Counts of :class:`Reproduction` for one table. Rows of the same name are compared in their order."""
    measured = [own for own in centres(old) if {*own} <= set(new)]
    if not measured:
        return {"means": 0, "inside": 0, "largest_shift": 0.0, "only_committed": 0, "only_regenerated": 0}
    names = [name for name in _named(old, measured) if name in new]
    sides = []
    for own in (old, new):
        keys = own[names].map(str)  # of what is missing too
        sides.append(own.assign(key=keys.agg("/".join, axis=1) if names else "").copy())
        sides[-1]["turn"] = sides[-1].groupby("key").cumcount()
    pairs = sides[0].merge(sides[1], on=["key", "turn"], how="outer", suffixes=("", "_new"), indicator=True)
    both, means, inside, largest = pairs[pairs["_merge"] == "both"], 0, 0, 0.0
    for centre, low, high in measured:
        was, now = (both[name].to_numpy(float) for name in (centre, f"{centre}_new"))
        least, most = both[low].to_numpy(float), both[high].to_numpy(float)
        there = ~(np.isnan(was) & np.isnan(now))
        slack = ROUNDING * np.nanmax(np.abs([was, now, least, most]), axis=0, initial=0)
        is_inside = ~np.isnan(was) & (now >= least - slack) & (now <= most + slack)  # NaN is not
        is_inside |= np.isnan(least) & np.isnan(most) & (np.abs(now - was) <= slack)  # quoted, not measured
        means, inside = means + int(there.sum()), inside + int((is_inside & there).sum())
        moved = np.where(np.abs(now - was) <= slack, 0.0, np.abs(now - was))[there]
        half = ((most - least) / 2)[there]
        shifts = np.divide(moved, half, out=np.where(moved > 0, np.inf, 0.0), where=half > 0)
        largest = max(largest, float(np.nanmax(shifts, initial=0.0)))
    counts = pairs["_merge"].value_counts()
    alone = {"only_committed": int(counts["left_only"]), "only_regenerated": int(counts["right_only"])}
    return {"means": means, "inside": inside, "largest_shift": largest, **alone}


def _claims(folder: Path) -> pd.DataFrame:
    path = folder / f"{CLAIMS}.csv"
    return pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=["notebook", "claim", "verdict"])


def changed_claims(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Claims, of either side, whose verdict is another (:class:`Reproduction`); NaN where there was none."""
    keys = ["notebook", "claim"]
    both = old[[*keys, "verdict"]].merge(new[[*keys, "verdict"]], on=keys, how="outer", suffixes=("", "_new"))
    both = both.rename(columns={"verdict": "committed", "verdict_new": "regenerated"})
    changed = both[both["committed"].fillna("") != both["regenerated"].fillna("")].reset_index(drop=True)
    sides = changed[["committed", "regenerated"]]
    return changed.assign(flipped=[{*row} == {HOLDS, FAILS} for row in sides.itertuples(index=False)])


def told(made: Reproduction) -> list[str]:
    """The comparison in lines to be read."""
    lines, tables = [], made.tables
    for row in tables.to_dict("records"):
        outside = row["means"] - row["inside"]
        alone = row["only_committed"] + row["only_regenerated"]
        if outside or alone:
            lonely = f", {alone} rows on one side only" if alone else ""
            lines.append(
                f"{row['table']}: {outside} of {row['means']} means outside, largest shift "
                f"{row['largest_shift']:.2f} half widths{lonely}"
            )
    for row in made.claims.to_dict("records"):
        word = "FLIPPED" if row["flipped"] else "changed"
        lines.append(f"{word}: {row['claim']} ({row['committed']} -> {row['regenerated']})")
    total, inside = int(tables["means"].sum()), int(tables["inside"].sum())
    lines.append(
        f"{inside} of {total} means lie in the committed intervals, {100 * made.outside:.1f} % outside"
    )
    verdict = "reproduced" if made.is_reproduced else "NOT reproduced"
    lines.append(f"{int(made.claims['flipped'].sum())} claims flipped: {verdict}")
    return lines


def listed(figures: Path) -> tuple[dict[str, str], list[str]]:
    """Captions by file of a folder of figures, and what is wrong with them: missing, or changed by hand.

    Raises:
        FileNotFoundError: no figures were made there, so that there is nothing to check.
        ValueError: the manifest is none.
    """
    if not os.path.lexists(figures / MANIFEST):
        raise FileNotFoundError(
            f"no figures were made in {figures}: gan-lib run makes them, --root is the project"
        )
    captions = {name: row["caption"] for name, row in sorted(read_manifest(figures)["files"].items())}
    if not captions:
        raise FileNotFoundError(f"{figures / MANIFEST} names no figures: gan-lib run makes them")
    return captions, check_manifest(figures)
