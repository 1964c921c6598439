"""The reader's test of a report: what the page says is what its tables say, and nothing else is measured.

    assert not problems(Path("report"))

A reader who distrusts the page has the CSV files alone. So every finding is decided here a second time, from
``tables/*.csv`` and the words of ``where`` and ``condition``, without any code of the reports.
"""

from __future__ import annotations

import base64
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd

BADGES = {"holds", "does not hold", "undecided"}
NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?![\w])")
CELL = re.compile(r"([-+\d.e]+) \[([-+\d.e]+), ([-+\d.e]+)\]")
STATES = ("holds", "does not hold", "undecided")
# What a sentence says where its claim holds, where it does not, and where that is undecided.
SAYS = {
    "right": ("The CNN is right for", "The CNN is wrong for most", "may be less than half"),
    "shown_less_hidden": ("keep more of", "keep less of", "is undecided"),
    "compared": ("better than", "worse than", "Whether .* is undecided"),
    "sanity": (" change when", "hardly change", "Whether .* is undecided"),
    "reading": ("may be read as", "may not be read", "is undecided whether"),
    "reached": ("turns most", "turns few", "may be less than half"),
    "coverage": ("more than chance", "less than chance", "Whether .* is undecided"),
    "found": ("^None", "^It relies on|^Undecided are", "-"),
    "candidates": ("the CNN relies on", "does not rely", "Whether .* is undecided"),
}
# Numbers that were chosen, not measured, and may stand in words and sentences.
SETTINGS = {"20", "95", "0.05"}


class Page(HTMLParser):
    """Elements with their attributes, text, and findings as badge and sentence, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.sentences: list[tuple[str, str]] = []
        self.text, self._open = "", list[str]()
        self._spans: list[str] | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        own = dict(attrs)
        self.elements.append((tag, own))
        if tag == "p" and own.get("class") == "sentence":
            self._spans = []
        elif tag == "span" and self._spans is not None:
            self._spans.append("")
        if tag not in ("meta", "img", "wbr", "br"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass
        if tag == "p" and self._spans is not None:
            self.sentences.append((self._spans[0], self._spans[1]))
            self._spans = None

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.text += data
        if self._spans and self._open and self._open[-1] == "span":
            self._spans[-1] += data


def problems(folder: Path) -> list[str]:
    """Everything in a report that does not follow from its tables, or is not whole; none is good."""
    return list(_problems(Path(folder)))


def read_csv(path: Path) -> pd.DataFrame:
    """A table as it is written: every cell a word."""
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def _problems(folder: Path) -> Iterator[str]:
    text = (folder / "report.html").read_text(encoding="utf-8")
    page, told = Page(text), _json(folder / "report.json")
    parts = {path.parent.name: _json(path) for path in sorted(folder.glob("parts/*/part.json"))}
    tables = {path.stem: read_csv(path) for path in sorted(folder.glob("tables/*.csv"))}
    yield from _page(page, text, parts)
    yield from _files(folder, parts, tables, told)
    yield from _same_everywhere(folder, page, parts, told)
    for finding in told["findings"]:
        for problem in _finding(finding, tables):
            yield f"{finding['sentence']!r}: {problem}"
    for part in parts.values():
        for problem in [*_words(part, tables), *_cells(part, tables), *_captions(part, tables)]:
            yield f"part {part['name']}: {problem}"
    yield from _recounted(tables)
    for name, why in told["failed"].items():
        if why not in page.text:
            yield f"the page does not say why {name} could not be made: {why}"


def _json(path: Path) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{path} is no JSON: {constant}")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def _page(page: Page, text: str, parts: Mapping[str, Any]) -> Iterator[str]:
    """One page that asks for nothing else: no script, pictures inside, links to itself and its tables."""
    tags = {tag for tag, _ in page.elements}
    if strange := tags & {"script", "iframe", "object", "link", "form", "base", "svg"}:
        yield f"the page holds {strange}"
    if not text.rstrip().endswith("</html>"):
        yield "the page does not end"
    ids = [own["id"] for _, own in page.elements if "id" in own]
    if len(ids) != len(set(ids)):
        yield "an id is given twice"
    for tag, own in page.elements:
        if handlers := [name for name in own if name.startswith("on")]:
            yield f"{tag} has {handlers}"
        src, href = own.get("src"), own.get("href")
        if src is not None:
            head, _, data = src.partition(",")
            if head != "data:image/jpeg;base64" or base64.b64decode(data)[:2] != b"\xff\xd8":
                yield f"{tag} shows {src[:60]}"
        if href is not None and href[1:] not in ids and not re.fullmatch(r"tables/[\w%.-]+\.csv", href):
            yield f"a link leads to {href!r}"
    pictures = sum(
        cell is not None
        for part in parts.values()
        for block in part["blocks"]
        if block["kind"] == "gallery"
        for row in block["rows"]
        for cell in row
    )
    if pictures != sum(tag == "img" for tag, _ in page.elements):
        yield f"parts have {pictures} pictures, the page another number"


def _files(
    folder: Path, parts: Mapping[str, Any], tables: Mapping[str, pd.DataFrame], told: Mapping[str, Any]
) -> Iterator[str]:
    """Tables are there, once, and as the part has them."""
    named = [name for part in parts.values() for name in part["tables"]]
    if sorted(named) != sorted(tables):
        yield f"tables {sorted(set(named) ^ set(tables))} are of no part, or not there"
    for part in parts.values():
        for name in part["tables"]:
            own = folder / "parts" / part["name"] / "tables" / f"{name}.csv"
            beside = folder / "tables" / f"{name}.csv"
            if not own.is_file() or not beside.is_file() or own.read_bytes() != beside.read_bytes():
                yield f"{beside} is not what its part has"
    if both := set(told["failed"]) & set(parts):
        yield f"made and failed: {both}"


def _same_everywhere(
    folder: Path, page: Page, parts: Mapping[str, Any], told: Mapping[str, Any]
) -> Iterator[str]:
    """Findings of parts, page, JSON and CSV are the same ones."""
    findings = told["findings"]
    every = [own for part in parts.values() for own in part["findings"]]
    if sorted(map(str, every)) != sorted(map(str, findings)):
        yield "report.json has other findings than the parts"
    pairs = [(own["verdict"], own["sentence"]) for own in findings]
    shown = [(badge, _squeezed(sentence)) for badge, sentence in page.sentences]
    lead = len(shown) - len(pairs)
    if lead < 0 or shown[lead:] != [(badge, _squeezed(own)) for badge, own in pairs]:
        yield "the page shows other findings than report.json"
    elif not set(shown[:lead]) <= set(shown[lead:]):
        yield "the page opens with a finding that it does not have"
    rows = read_csv(folder / "findings.csv")
    if list(zip(rows["verdict"], rows["sentence"], strict=True)) != pairs:
        yield "findings.csv has other findings than report.json"
    for block, own in zip(
        [own for part in parts.values() for own in part["blocks"] if own["kind"] == "finding"],
        every,
        strict=True,
    ):
        if any(block[name] != own[name] for name in ("sentence", "verdict", "table", "where", "condition")):
            yield f"the block of {own['sentence']!r} says something else"


def _squeezed(text: str) -> str:
    """Without what HTML parsers change: carriage returns."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _finding(finding: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    """One finding, decided again from the rows of its table."""
    if finding["table"] not in tables:
        yield f"there is no table {finding['table']}"
        return
    table = tables[finding["table"]]
    rows = _rows(table, finding["where"])
    if not rows:
        yield f"no row of {finding['table']} is {finding['where']!r}"
        return
    column, sign, bound = re.fullmatch(r"(\w+) ([<>]) (\S+)", finding["condition"]).groups()
    decided = [_decided(row, column, sign, float(bound)) for row in rows]
    verdicts = {own[0] for own in decided}
    order = ("does not hold", "undecided", "holds")
    verdict = next((own for own in order if own in verdicts), None)
    if verdict == "holds" and "no value" in verdicts:
        verdict = "undecided"
    if verdict != finding["verdict"]:
        yield f"the table says {verdict}, the badge {finding['verdict']}"
    told = tuple(finding[name] for name in ("value", "low", "high", "n"))
    deciding = [own[1:] for own in decided if own[0] == verdict or verdict not in verdicts]
    if not any(all(itertools.starmap(_is_same, zip(own, told, strict=True))) for own in deciding):
        yield f"no row that decides has value, low, high, n {told}"
    yield from _sentence(finding, rows)


def _rows(table: pd.DataFrame, where: str) -> list[dict[str, str]]:
    """Rows of which ``where`` speaks, in words: ``column = value, other = value``."""
    every = table.to_dict("records")
    if not where:
        return every
    for count in (1, 2):
        for columns in itertools.permutations(table.columns, count):
            found = [row for row in every if ", ".join(f"{own} = {row[own]}" for own in columns) == where]
            if found:
                return found
    return []


def _decided(row: Mapping[str, str], column: str, sign: str, bound: float) -> tuple[Any, ...]:
    """Verdict of a row by itself, with the numbers it rests on. Fewer than six images decide nothing: that
    all lie on one side of the bound happens by chance more often than one time in twenty."""
    if not row[column]:
        return "no value", None, None, None, None
    value = float(row[column])
    names = (f"{column}_low", f"{column}_high") if f"{column}_low" in row else ("low", "high")
    has_interval = set(names) <= set(row)
    low, high = (float(row[name]) for name in names) if has_interval else (value, value)
    counted = row.get(f"{column}_n", row.get("n", ""))
    n = float(counted) if counted else None
    if not low <= value <= high:
        return "value outside of its interval", value, low, high, n
    holds = low > bound if sign == ">" else high < bound
    fails = high < bound if sign == ">" else low > bound
    if not has_interval:
        return ("holds" if holds else "does not hold"), value, None, None, n
    if n is not None and n < 6:
        return "undecided", value, low, high, n
    return ("holds" if holds else "does not hold" if fails else "undecided"), value, low, high, n


def _is_same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=2e-5, abs_tol=1e-6)


def _sentence(finding: Mapping[str, Any], rows: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """What the sentence says is what the badge says, and its numbers are those of the row."""
    plain = finding["sentence"]
    names = {row[own] for row in rows for own in ("class", "name", "where") if own in row}
    names |= {finding["where"].partition("class = ")[2].rpartition(", concept = ")[0]}
    concept = re.match(r"(?:Concept|Whether concept) (\d+) of ", plain)
    if concept and f"concept = {concept[1]}" not in finding["where"]:
        yield f"it speaks of concept {concept[1]}, its row of {finding['where']}"
    plain = re.sub(r"[Cc]oncept \d+ of ", "", plain)
    for name in sorted(filter(None, names), key=len, reverse=True):
        plain = plain.replace(name, "NAME", 1)
    forms = dict(zip(STATES, SAYS[finding["table"]], strict=True))
    if not re.search(forms[finding["verdict"]], plain, re.DOTALL):
        yield f"the badge says {finding['verdict']}, the sentence does not"
    allowed = {_short(finding[own]) for own in ("value", "low", "high", "n")} | SETTINGS
    if finding["table"] == "candidates":
        allowed |= {f"{float(row[own]):.0f}" for row in rows for own in ("pasted_share", "pasted_control")}
    if strange := [own for own in NUMBER.findall(plain) if own not in allowed]:
        yield f"the numbers {strange} are not of the row that decides"
    if re.search(r"[{}]", plain) and "{" not in "".join(names):
        yield "a form was not filled in"


def _short(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value == int(value) else f"{value:.3g}"


def _words(part: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    """Words explain: no number in them is measured. Names of classes and layers may hold some."""
    named = {own for name in ("classes", "images") for own in _names(tables.get(name)) if not own.isdecimal()}
    for block in part["blocks"]:
        if block["kind"] != "words":
            continue
        plain = re.sub(r"^Made again by: .*|the layer \S+,", "", block["text"], flags=re.DOTALL)
        for name in sorted(named, key=len, reverse=True):
            plain = plain.replace(name, "NAME")
        if strange := set(NUMBER.findall(plain.replace("%", " %"))) - SETTINGS:
            yield f"words state the numbers {sorted(strange)}: {block['text'][:100]!r}"


def _names(table: pd.DataFrame | None) -> set[str]:
    if table is None:
        return set()
    return {own for name in ("class", "label", "prediction") if name in table for own in table[name] if own}


def _cells(part: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    """Tables on the page: as many rows as in the file, and ``mean [low, high]`` as in a row of it."""
    for block in part["blocks"]:
        if block["kind"] != "table" or block["name"] not in tables:
            continue
        table, wide = tables[block["name"]], block["name"] in ("faithfulness", "moved")
        if not wide and len(block["rows"]) + block["left_out"] != len(table):
            yield f"{block['name']} shows another number of rows than its file has"
        sets = [("mean", "low", "high"), ("pasted", "pasted_low", "pasted_high")]
        known = [
            tuple(float(row[own]) for own in names)
            for names in sets
            if set(names) <= set(table)
            for row in table.to_dict("records")
            if row[names[0]]
        ]
        for cell in [cell for row in block["rows"] for cell in row]:
            found = CELL.fullmatch(cell)
            if found and not any(all(map(_rounds_to, own, found.groups())) for own in known):
                yield f"{block['name']} shows {cell!r}, which no row of its file has"


def _captions(part: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    """Per cent below and beside pictures are those of the tables."""
    galleries = [block for block in part["blocks"] if block["kind"] == "gallery"]
    if part["name"] == "classes":
        rows = iter(tables["shown_and_hidden"].to_dict("records"))
        for heads, cells in ((own["heads"], cells) for own in galleries for cells in own["rows"]):
            row = next(rows)
            for name, column in (("image", "whole"), ("shown", "shown"), ("hidden", "hidden")):
                told = cells[heads.index(name)]["caption"]
                if not _rounds_to(100 * float(row[column]), told.removesuffix("%")):
                    yield f"{told} below a picture whose table says {row[column]}"
    if part["name"] == "concepts" and "importance" in tables:
        known = {
            (row["class"], row["concept"]): row["mean"] for row in tables["importance"].to_dict("records")
        }
        for told in galleries[0]["titles"]:
            name, number, share = re.fullmatch(r"(.*), concept (\d+): (\S+)%", told, re.DOTALL).groups()
            if not _rounds_to(100 * float(known[name, number]), share):
                yield f"{told!r}, but its table says {known[name, number]}"


def _rounds_to(value: float, text: str) -> bool:
    digits = len(text.partition(".")[2])
    return abs(value - float(text)) <= 0.5 * 10**-digits + 1e-5 * max(1.0, abs(value))


def _recounted(tables: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    """Means that a reader can take himself, from the tables of single images."""
    if "right" in tables:
        images = tables["images"]
        known = images[images["label"] != ""]
        share = 100 * (known["label"] == known["prediction"]).mean()
        yield from _equal(tables["right"], share, len(known), "right")
    if "shown_less_hidden" in tables:
        own = tables["shown_and_hidden"]
        gap = own["shown"].astype(float) - own["hidden"].astype(float)
        yield from _equal(tables["shown_less_hidden"], gap.mean(), len(gap), "shown_less_hidden")
    if "classes" in tables and tables["images"]["prediction"].value_counts().to_dict() != dict(
        zip(tables["classes"]["class"], tables["classes"]["images"].astype(int), strict=True)
    ):
        yield "classes counts other images than images has"
    if "candidates" in tables:
        yield from _candidates(tables["candidates"], tables["exchanged"], tables.get("found"))


def _candidates(
    candidates: pd.DataFrame, exchanged: pd.DataFrame, found: pd.DataFrame | None
) -> Iterator[str]:
    is_found = candidates["verdict"] == "found"
    counts = candidates["verdict"].value_counts()
    told = [] if found is None else found.to_dict("records")
    if not told or any(
        (int(own["value"]), int(own["n"])) != (counts.get(own["what"], 0), len(candidates)) for own in told
    ):
        yield "found counts other candidates than there are"
    if is_found.any() and not is_found.iloc[: is_found.sum()].all():
        yield "the candidates that are found do not come first"
    for row in candidates.to_dict("records"):
        own = exchanged[(exchanged["candidate"] == row["candidate"]) & (exchanged["test"] == "pasted")]
        share, control = (100 * own[name].astype(float).mean() for name in ("effect", "control"))
        for name, value in (
            ("pasted_share", share),
            ("pasted_control", control),
            ("pasted", share - control),
        ):
            if row[name] and not math.isclose(float(row[name]), value, rel_tol=1e-4, abs_tol=1e-3):
                yield f"candidate {row['candidate']}: {name} is {row[name]}, its images give {value}"


def _equal(table: pd.DataFrame, value: float, count: int, name: str) -> Iterator[str]:
    if not math.isclose(float(table["mean"][0]), value, rel_tol=1e-4, abs_tol=1e-5):
        yield f"{name} says {table['mean'][0]}, its images give {value}"
    if int(table["n"][0]) + int(table["skipped"][0]) != count:
        yield f"{name} counts {table['n'][0]} images, not {count}"
