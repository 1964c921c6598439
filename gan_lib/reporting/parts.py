"""What a report is made of: parts, each with words, findings, tables and pictures, kept as files.

A part can be written, read again and put into a page, whatever made it. What it says of the CNN at hand is
a *finding*: a sentence chosen by a claim (:mod:`gan_lib.workbench.claims`), with the row of the table that
decides it. Plain words explain; they state nothing that was measured.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image
from torch import Tensor

from gan_lib.core.sheets import neutral_table
from gan_lib.core.storage import atomic_path, read_json, write_json
from gan_lib.workbench.claims import FAILS, HOLDS, UNDECIDED, UNKNOWN, Claim, evaluate

PART, TABLES, PICTURES = "part.json", "tables", "pictures"
QUALITY = 82  # of JPEG
# Images without which nothing is decided: an interval goes no further than the scores do, and between the
# lowest and the highest of n lies the middle of all with a probability of 1 - 2 / 2^n, of 5 less than 95 %.
FEWEST = 6
COLUMNS = ["part", "sentence", "claim", "table", "where", "condition", "value", "low", "high", "n", "verdict"]
VERDICTS = {HOLDS: "holds", FAILS: "fails", UNDECIDED: "undecided", UNKNOWN: "unmeasured"}


@dataclass(frozen=True)
class Sentence:
    """A sentence of the report, in the form that a claim's verdict gives it.

    Attributes:
        claim: the condition and the table that decides; its ``claim`` is the sentence's name in ``findings``.
        holds, fails, undecided: what is said in each case. ``{value}``, ``{low}``, ``{high}`` and ``{n}`` are
            those of the row that decides; nothing is said where nothing was measured.
    """

    claim: Claim
    holds: str
    fails: str
    undecided: str


@dataclass
class Part:
    """One part of a report, as it grows.

        part = Part("trust", "Can these maps be trusted?")
        part.words("Each map is held against two that do not look at the CNN.")
        part.table("faithfulness", frame, "Means with 95 % intervals.")
        part.say(Sentence(claim, "The maps may be read.", "They may not.", "It is undecided."))
        part.gallery([[(pixels, "tench 97 %")]], heads=["image"])
        part.save(folder)

    Attributes:
        name: of the part, a file name; title: its heading.
        blocks: what stands in it, in order, as JSON values.
    """

    name: str
    title: str
    blocks: list[dict[str, Any]] = field(default_factory=list)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)
    findings: list[dict[str, Any]] = field(default_factory=list)

    def words(self, text: str) -> None:
        """A paragraph that explains."""
        self.blocks.append({"kind": "words", "text": text})

    def heading(self, text: str) -> None:
        """A heading within the part."""
        self.blocks.append({"kind": "heading", "text": text})

    def table(
        self,
        name: str,
        frame: pd.DataFrame,
        caption: str,
        shown: pd.DataFrame | None = None,
        most: int | None = None,
    ) -> None:
        """A table, kept whole as CSV.

        Args:
            name: of its file, unlike all others of the report.
            shown: what is to be read of it, words and numbers as they shall stand; by default all of it.
                With no column it is kept and not shown.
            most: rows that are shown; by default all.
        """
        self.tables[name] = frame
        own = frame if shown is None else shown
        if not len(own.columns):
            return
        rows = own.head(most) if most else own
        cells = [[_cell(value) for value in row] for row in rows.itertuples(index=False)]
        made = {"kind": "table", "name": name, "caption": caption, "heads": list(map(str, own.columns))}
        self.blocks.append({**made, "rows": cells, "left_out": len(own) - len(rows)})

    def gallery(
        self,
        rows: Sequence[Sequence[tuple[Tensor, str] | None]],
        heads: Sequence[str] = (),
        titles: Sequence[str] = (),
        caption: str = "",
        smooth: bool = True,
    ) -> None:
        """Pictures in rows and columns.

        Args:
            rows: of each cell the pixels (3, h, w) in [0, 1] and a caption; ``None`` leaves it empty.
            heads: one word per column; titles: one per row; caption: below all.
            smooth: whether small pictures are enlarged smoothly, or pixel by pixel.
        """
        cells = [[None if own is None else self._picture(*own) for own in row] for row in rows]
        made = {"kind": "gallery", "rows": cells, "heads": list(heads), "titles": list(titles)}
        self.blocks.append({**made, "caption": caption, "smooth": smooth})

    def say(self, sentence: Sentence) -> str:
        """A finding, decided by a table that the part has; returns the verdict.

        What rests on fewer than :data:`FEWEST` images, and what holds for all rows but those without a value,
        is undecided.
        """
        row = _evaluated(sentence.claim, self.tables.get(sentence.claim.table))
        verdict = str(row["verdict"])
        forms = {HOLDS: sentence.holds, FAILS: sentence.fails, UNDECIDED: sentence.undecided}
        if verdict in forms:
            numbers = {name: short(row[name]) for name in ("value", "low", "high", "n")}
            text = forms[verdict].format(**numbers)
            where = ", ".join(
                f"{own} = {_listed(value)}" for own, value in (sentence.claim.where or {}).items()
            )
            kept = {name: None if pd.isna(row[name]) else row[name] for name in ("value", "low", "high", "n")}
            told = {"sentence": text, "claim": sentence.claim.claim, "table": sentence.claim.table}
            told |= {"where": where, "condition": row["condition"], "verdict": verdict}
            self.findings.append({"part": self.name, **told, **kept})
            self.blocks.append({"kind": "finding", **told, "class": VERDICTS[verdict]})
        return verdict

    def _picture(self, pixels: Tensor, caption: str) -> dict[str, Any]:
        name = f"{len(self.pictures):04d}.jpg"
        self.pictures[name] = jpeg(pixels)
        height, width = pixels.shape[-2:]
        return {"file": name, "caption": caption, "width": width, "height": height}

    def save(self, folder: Path) -> None:
        """Write tables and pictures, then ``part.json``, without which they are not believed."""
        for name, frame in self.tables.items():
            with atomic_path(folder / TABLES / f"{name}.csv") as temporary:
                neutral_table(frame).to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")
        for file, data in self.pictures.items():
            with atomic_path(folder / PICTURES / file) as temporary:
                temporary.write_bytes(data)
        about = {"name": self.name, "title": self.title, "blocks": self.blocks}
        write_json(folder / PART, {**about, "tables": list(self.tables), "findings": self.findings})


def load_part(folder: Path) -> Mapping[str, Any] | None:
    """What :meth:`Part.save` wrote: ``name``, ``title``, ``blocks``, ``tables``, ``findings``; ``None`` where
    it was not finished, is damaged, or lacks a file."""
    try:
        found: Mapping[str, Any] = read_json(folder / PART)
        files = [folder / TABLES / f"{name}.csv" for name in found["tables"]]
        galleries = [block["rows"] for block in found["blocks"] if block["kind"] == "gallery"]
        files += [
            folder / PICTURES / cell["file"] for rows in galleries for row in rows for cell in row if cell
        ]
        is_whole = {"name", "title", "findings"} <= set(found) and all(own.stat().st_size for own in files)
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError):
        return None
    return found if is_whole else None


def _evaluated(claim: Claim, table: pd.DataFrame | None) -> dict[Any, Any]:
    """The row that decides a claim, as :func:`evaluate` gives it, with the count of its own value."""
    if table is not None and f"{claim.value}_n" in table:
        table = table.drop(columns="n", errors="ignore").rename(columns={f"{claim.value}_n": "n"})

    def of(rows: pd.DataFrame | None) -> dict[Any, Any]:
        return evaluate([claim], lambda _: rows).iloc[0].to_dict()

    every = of(table)
    if table is None or "n" not in table or pd.isna(every["low"]):
        return every
    many, few = of(table[table["n"] >= FEWEST]), of(table[table["n"] < FEWEST])
    if many["verdict"] != FAILS and few["verdict"] != UNKNOWN:
        return {**few, "verdict": UNDECIDED}
    meant = table
    for column, wanted in (claim.where or {}).items():
        meant = meant[meant[column].isin(wanted if isinstance(wanted, list) else [wanted])]
    is_open = every["verdict"] == HOLDS and meant[claim.value].isna().any()
    return {**every, "verdict": UNDECIDED} if is_open else every


def jpeg(pixels: Tensor) -> bytes:
    """Pixels (3, h, w) in [0, 1] as a JPEG file."""
    whole = pixels.detach().cpu().clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(whole).save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue()


def safe(text: str) -> str:
    """A text that the forms of a sentence leave as it is: names may hold braces."""
    return text.replace("{", "{{").replace("}", "}}")


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if pd.isna(value) else f"{value:.3g}"
    return str(value)


def short(value: Any) -> str:
    """A number in sentences: three digits, whole numbers with all of theirs; nothing where there is none."""
    if value is None or pd.isna(value):
        return ""
    return f"{value + 0:.0f}" if float(value).is_integer() else f"{value:.3g}"


def _listed(value: Any) -> str:
    return " or ".join(map(str, value)) if isinstance(value, list) else str(value)
