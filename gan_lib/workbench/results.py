"""The results that README and ``figures/RESULTS.md`` show, made from the tables, never typed.

``notebooks/results.yaml`` says which tables are shown and how, a list of

    - title: Generators trained by contrast
      table: cpu/03_contrastive_training/results
      columns: {evidence_dice: Dice with the digit, drop_black@10: "drop, black @10 [%]"}
      readme: [Grad-CAM, contrastive LSFT, edges, random]
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import NonNegativeInt, TypeAdapter

from gan_lib.core.options import options
from gan_lib.core.storage import atomic_path
from gan_lib.metrics import stated
from gan_lib.workbench.claims import CLAIMS, in_words
from gan_lib.workbench.claims import shown as shown_claims
from gan_lib.workbench.places import Places
from gan_lib.workbench.values import ProfileError, parsed

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
MOST_LINES = 40
NUMBER = r"-?\d+(?:\.\d+)?"
STATED = re.compile(rf"({NUMBER}) \[({NUMBER}), ({NUMBER})\]")


@options
class Sheet:
    """One table that is shown.

    Attributes:
        title: its heading.
        table: below ``figures``, without ending; as :func:`gan_lib.metrics.summarise` makes it.
        columns: measures and their headings; by default all columns are shown as they are.
        by: the column that names the rows.
        readme: rows that README shows as well; none by default.
        digits: after the point.
    """

    title: str
    table: str
    columns: dict[str, str] | None = None
    by: str = "method"
    readme: tuple[str, ...] = ()
    digits: NonNegativeInt = 2


_ADAPTER = TypeAdapter(tuple[Sheet, ...])


def load_sheets(path: Path) -> tuple[Sheet, ...]:
    """The sheets of a file.

    Raises:
        FileNotFoundError: no such file; ProfileError: one that holds no sheets.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no list of results at {path}")
    try:
        return _ADAPTER.validate_json(json.dumps(parsed(path.read_text(encoding="utf-8"), str(path)) or []))
    except ProfileError:
        raise
    except (TypeError, ValueError) as error:
        raise ProfileError(f"{path}: {error}") from None


def as_markdown(table: pd.DataFrame) -> list[str]:
    """A table with its index as lines of Markdown."""
    head: list[str] = [str(table.index.name or ""), *map(str, table.columns)]
    rows = [[str(name), *map(str, row)] for name, row in zip(table.index, table.to_numpy(), strict=True)]
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def sheet_table(sheet: Sheet, figures: Path) -> pd.DataFrame | None:
    """What a sheet shows, rows named by the index; ``None`` where its table was not made.

    Raises:
        ProfileError: a measure that the table does not have.
    """
    path = figures / f"{sheet.table}.csv"
    if not path.is_file():
        return None
    table = pd.read_csv(path)
    if sheet.columns is None:
        return table.set_index(sheet.by).round(sheet.digits)
    if missing := [name for name in sheet.columns if name not in set(table["measure"])]:
        raise ProfileError(f"{sheet.title!r}: {sheet.table} has no measures {missing}")
    return stated(table, sheet.columns, sheet.by, sheet.digits)


def _counts(sheet: Sheet, figures: Path) -> str:
    table = pd.read_csv(figures / f"{sheet.table}.csv")
    words = {"n": "images", "cnns": "CNNs"}
    told = [f"{int(table[name].max())} {word}" for name, word in words.items() if name in table]
    return ", ".join(told)


def readme_block(sheets: tuple[Sheet, ...], figures: Path) -> list[str]:
    """README's block, markers included.

    Raises:
        ProfileError: more lines than README has room for.
    """
    lines = [BEGIN]
    for sheet in sheets:
        table = sheet_table(sheet, figures) if sheet.readme else None
        if table is not None:
            rows = [name for name in sheet.readme if name in table.index]
            lines += [
                f"**{sheet.title}** ({_counts(sheet, figures)}):",
                "",
                *as_markdown(table.loc[rows]),
                "",
            ]
    for profile, claims in all_claims(figures):
        lines += [f"{in_words(claims['verdict'].value_counts())} (`figures/{profile}/{CLAIMS}.csv`).", ""]
    lines += ["All tables and claims: [figures/RESULTS.md](figures/RESULTS.md).", END]
    if len(lines) > MOST_LINES:
        raise ProfileError(f"README has room for {MOST_LINES} lines of results, not for {len(lines)}")
    return lines


def all_claims(figures: Path) -> Iterator[tuple[str, pd.DataFrame]]:
    """The claims of every profile that has some."""
    for path in sorted(figures.glob(f"*/{CLAIMS}.csv")):
        yield path.parent.name, pd.read_csv(path)


def results_page(sheets: tuple[Sheet, ...], figures: Path) -> str:
    """``figures/RESULTS.md``: all sheets, then all claims."""
    lines = ["# Results", "", "Made by `gan-lib results` from the tables in this folder."]
    lines += ["Intervals are of 95 %, over CNNs, generators and images.", ""]
    for sheet in sheets:
        if (table := sheet_table(sheet, figures)) is not None:
            place = f"`{sheet.table}.csv`"
            about = ", ".join(part for part in (_counts(sheet, figures), place) if part)
            lines += [f"## {sheet.title}", "", about, "", *as_markdown(table), ""]
    for profile, claims in all_claims(figures):
        lines += [f"## Claims, {profile}", "", f"{in_words(claims['verdict'].value_counts())}.", ""]
        for notebook, own in claims.groupby("notebook", sort=False):
            lines += [f"### {notebook}", "", *as_markdown(shown_claims(own)), ""]
    return "\n".join(lines)


def write_results(places: Places) -> list[Path]:
    """Write the page, and README's block between its markers; returns both paths.

    Raises:
        ProfileError: README without markers, or sheets that do not fit.
    """
    sheets = load_sheets(places.notebooks / "results.yaml")
    page, readme = places.figures / "RESULTS.md", places.notebooks.parent / "README.md"
    before, _, after = _around(readme)
    made = {page: results_page(sheets, places.figures)}
    made[readme] = "\n".join([*before, *readme_block(sheets, places.figures), *after]) + "\n"
    for path, text in made.items():
        with atomic_path(path) as temporary:
            temporary.write_text(text)
    return [page, readme]


def _around(readme: Path) -> tuple[list[str], list[str], list[str]]:
    """README's lines before the block, the block, and after it."""
    lines = readme.read_text().splitlines()
    if lines.count(BEGIN) != 1 or lines.count(END) != 1:
        raise ProfileError(f"{readme} needs the lines {BEGIN} and {END}, once each")
    first, last = lines.index(BEGIN), lines.index(END)
    return lines[:first], lines[first : last + 1], lines[last + 1 :]


def stale_results(places: Places) -> list[str]:
    """Lines of README's block that the tables no longer bear out: other words, or a mean that lies outside of
    the interval that stands there."""
    sheets = load_sheets(places.notebooks / "results.yaml")
    _, block, _ = _around(places.notebooks.parent / "README.md")
    made, stale = readme_block(sheets, places.figures), []
    if len(made) != len(block):
        return [f"README's block has {len(block)} lines, the tables give {len(made)}"]
    for there, now in zip(block, made, strict=True):
        if STATED.sub("#", there) != STATED.sub("#", now) or not all(_inside(there, now)):
            stale.append(f"{there!r} is now {now!r}")
    return stale


def _inside(there: str, now: str) -> Iterator[Any]:
    for old, new in zip(STATED.finditer(there), STATED.finditer(now), strict=True):
        low, high = sorted(map(float, old.groups()[1:]))
        yield low <= float(new[1]) <= high
