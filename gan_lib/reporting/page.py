"""The page of a report: one HTML file with its pictures and its style inside, no script and no address.

What a part holds was partly read from files (names of classes, of pictures, messages of errors), so every
text is escaped by jinja2, and the page forbids itself everything but its own pictures and style.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from gan_lib.core.storage import atomic_path
from gan_lib.reporting.parts import PICTURES, VERDICTS, short

PAGE, PARTS = "report.html", "parts"
KINDS = ("words", "heading", "table", "gallery", "finding")
NUMBER = re.compile(r"\[?[-+\u2212]?(\d[\d.,\s%e+\-\u00b1\u2212\[\]]*|nan|inf)")
LONG_TEXT, LONG_WORD = 48, 24  # characters from which on a cell, or a word in it, breaks anywhere


def write_page(
    folder: Path,
    title: str,
    lead: Sequence[Mapping[str, Any]],
    parts: Sequence[Mapping[str, Any]],
    about: Mapping[str, Any],
) -> Path:
    """Write ``report.html``, with the pictures of its parts inside.

        parts = [load_part(folder / "parts" / "trust"), {"name": "data", "title": "The data", "error": None}]
        write_page(folder, "What resnet18 relies on", parts[0]["findings"], parts, {"images": 200})

    Args:
        folder: of the report: pictures are read from ``parts/NAME/pictures``, tables are linked as
            ``tables/NAME.csv``.
        title: of the page.
        lead: findings that open the page, as a part has them in ``findings``; each links to its part.
        parts: in their order; each as :func:`gan_lib.reporting.parts.load_part` gives it, or ``name``,
            ``title`` and ``error``: why it could not be made, ``None`` where it is not made yet.
        about: what is told of the report at its end, by name; lists and mappings are written in one line.

    Returns:
        The page's path.

    Raises:
        ValueError: a block of a kind that is not known, two parts of one name, or a finding of the lead that
            belongs to none of the parts.
        FileNotFoundError: a picture that a part names is not there.
    """
    titles = {part["name"]: part["title"] for part in parts}
    if len(titles) < len(parts):
        raise ValueError(f"two parts of one name: {', '.join(part['name'] for part in parts)}")
    strange = [own["part"] for own in lead if own["part"] not in titles]
    if strange:
        raise ValueError(f"findings of {', '.join(strange)} are to open the page, which has no such part")
    tables = {block["name"] for part in parts for block in part.get("blocks", ()) if block["kind"] == "table"}
    page = (
        environment()
        .get_template(PAGE)
        .render(
            title=title,
            lead=[
                {**_finding(own, tables), "part": own["part"], "title": titles[own["part"]]} for own in lead
            ],
            parts=[_part(folder, part, tables) for part in parts],
            about={name: _in_one_line(value) for name, value in about.items()},
        )
    )
    with atomic_path(folder / PAGE) as temporary:
        # Names of files that are no text reach us with surrogates, which no page can hold.
        temporary.write_text(page, encoding="utf-8", errors="replace")
    return folder / PAGE


@cache
def environment() -> Environment:
    """Jinja's, made once, with this page's templates and filters; what is filled in is escaped."""
    loader = PackageLoader("gan_lib.reporting")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"anchor": anchor, "csv": _csv, "breakable": _breakable}
    environment.tests["long"] = _is_long
    return environment


def anchor(name: str, kind: str) -> str:
    """The id of a part or a table in the page, and what a link to it says after ``#``.

    An id holds no spaces; what is quoted in it is quoted in the link as well, and found as it stands.
    """
    return f"{kind}-{quote(name, safe='')}"


def _csv(name: str) -> str:
    return f"tables/{quote(name, safe='')}.csv"


def _breakable(text: str) -> Markup:
    """A name, which may be broken at its underscores first."""
    return escape(text).replace("_", Markup("_<wbr>"))


def _is_long(text: str) -> bool:
    return len(text) > LONG_TEXT or any(len(word) > LONG_WORD for word in text.split())


def _part(folder: Path, part: Mapping[str, Any], tables: set[str]) -> dict[str, Any]:
    """A part as the template needs it; ``error`` is only there where it was not made."""
    about = {"name": part["name"], "title": part["title"], "made": "error" not in part}
    if "error" in part:
        return about | {"error": part["error"]}
    return about | {"blocks": list(_blocks(folder, part, tables))}


def _blocks(folder: Path, part: Mapping[str, Any], tables: set[str]) -> Iterator[dict[str, Any]]:
    pictures = folder / PARTS / part["name"] / PICTURES
    decided = {_identity(own): own for own in part["findings"]}
    seen: set[str] = set()
    for block in part["blocks"]:
        kind = block["kind"]
        if kind == "table":
            yield {**_table(block), "first": block["name"] not in seen}  # an id is given once
            seen.add(block["name"])
        elif kind == "gallery":
            yield _gallery(pictures, block)
        elif kind == "finding":
            # The block need not repeat the numbers that the part's list of findings has.
            yield {**_finding({**decided.get(_identity(block), {}), **block}, tables), "kind": kind}
        elif kind in KINDS:
            yield block
        else:
            raise ValueError(
                f"part {part['name']!r} has a block of the kind {kind!r}; a page shows {', '.join(KINDS)}"
            )


def _identity(finding: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(finding[name] for name in ("sentence", "claim", "table", "where", "condition"))


def _finding(finding: Mapping[str, Any], tables: set[str]) -> dict[str, Any]:
    """A finding with its evidence in words, and the link to the table that decides it."""
    value, low, high = (short(finding.get(name)) for name in ("value", "low", "high"))
    table, n = finding["table"], finding.get("n")
    return {
        "sentence": finding["sentence"],
        "claim": finding["claim"],
        "verdict": finding["verdict"],
        "class": VERDICTS[finding["verdict"]],
        "table": table,
        "link": f"#{anchor(table, 'table')}" if table in tables else _csv(table),
        "where": finding["where"],
        "condition": finding["condition"],
        "value": f"{value} [{low}, {high}]" if value and low and high else value,
        "n": "" if n is None else f"{n:.0f}",
    }


def _table(block: dict[str, Any]) -> dict[str, Any]:
    """A table, and which of its columns hold numbers only, and stand at the right."""
    columns = [[row[column] for row in block["rows"]] for column in range(len(block["heads"]))]
    return {**block, "numeric": [_is_numeric(cells) for cells in columns]}


def _is_numeric(cells: Sequence[str]) -> bool:
    told = [cell.strip() for cell in cells if cell.strip()]
    return bool(told) and all(NUMBER.fullmatch(cell) for cell in told)


def _gallery(folder: Path, block: dict[str, Any]) -> dict[str, Any]:
    """A gallery whose pictures are addresses that hold them, each with a text in its place."""
    heads, titles = block["heads"], block["titles"]
    rows = []
    for number, row in enumerate(block["rows"]):
        title = titles[number] if number < len(titles) else ""
        cells = []
        for column, cell in enumerate(row):
            words = [title, heads[column] if column < len(heads) else ""]
            alt = (
                (cell and cell["caption"]) or ", ".join(filter(None, words)) or block["caption"] or "picture"
            )
            cells.append(cell and {**cell, "src": _inside(folder / cell["file"]), "alt": alt})
        rows.append({"title": title, "cells": cells})
    width = max([len(heads), *(len(row["cells"]) for row in rows)], default=0)
    heads = [*heads, *[""] * (width - len(heads))] if heads else []
    return {**block, "rows": rows, "heads": heads, "columns": width, "titled": any(titles)}


def _inside(path: Path) -> str:
    """A JPEG file as an address that holds it."""
    return f"data:image/jpeg;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _in_one_line(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_in_one_line(own)}" for name, own in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_in_one_line, value))
    return "" if value is None else str(value)
