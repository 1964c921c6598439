"""The numbered notebooks as pages of the site: as they were executed last, else with the committed figures.

``notebooks/conf.py`` builds the site from ``notebooks``; what it shows of a notebook is decided here.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pandas as pd

from gan_lib.core.storage import read_json
from gan_lib.figures import read_manifest
from gan_lib.workbench.places import Places

STRING = re.compile(r"""(f?)(["'])((?:(?!\2).)+)\2""")
FIELD = re.compile(r"\{[^{}]*\}")
SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields|Note|Example)s?:$")
NAMES = re.compile(r"    [a-z]\w*(?:, [a-z]\w*)+(?=:)")


def page(source: str, name: str, places: Places, profile: str = "cpu") -> str:
    """A notebook as the site shows it.

    Args:
        source: the notebook in ``notebooks``, JSON; ``name`` without ending, ``studies/ablations``.
        places: folders; ``data/runs`` may hold the notebook as it was executed.
        profile: whose run and figures are shown.

    Returns:
        JSON: the executed notebook where its last run succeeded with these very cells, without the cell that
        papermill puts in; else ``source``, each cell that saves figures followed by the committed ones.
    """
    written = json.loads(source)
    done = _executed(written, places.data / "runs" / profile / name)
    return json.dumps(done or _illustrated(written, f"{profile}/{name}", places.figures))


def _executed(written: Mapping[str, Any], run: Path) -> dict[str, Any] | None:
    """The last run of a notebook; ``None`` where there is none that is whole and of the same cells."""
    status, file = run.with_name(f"{run.name}.json"), run.with_name(f"{run.name}.ipynb")
    if not (status.is_file() and file.is_file() and read_json(status)["state"] == "completed"):
        return None
    made: dict[str, Any] = read_json(file)
    made["cells"] = [own for own in made["cells"] if "injected-parameters" not in _tags(own)]
    return made if _sources(made) == _sources(written) else None


def _tags(cell: Mapping[str, Any]) -> list[str]:
    return list(cell["metadata"].get("tags", []))


def _sources(notebook: Mapping[str, Any]) -> list[str]:
    return ["".join(cell["source"]) for cell in notebook["cells"]]


def _illustrated(written: dict[str, Any], run: str, figures: Path) -> dict[str, Any]:
    """The notebook with the committed figures as outputs of the cells whose code names them."""
    captions = {name: own["caption"] for name, own in read_manifest(figures)["files"].items()}
    stems = {path.stem: path for path in sorted((figures / run).glob("*.png"))}
    for cell in written["cells"]:
        if cell["cell_type"] != "code":
            continue
        for stem in figures_named("".join(cell["source"]), stems):
            path = stems.pop(stem)  # the first cell that names it has made it
            caption = captions.get(path.relative_to(figures).as_posix(), "")
            cell["outputs"].append(_picture(path, caption))
    return written


def figures_named(code: str, stems: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """Those of the figures' names that a cell's strings name: ``"loss"``, or ``f"concepts_{name}"``.

    A field of a string stands for anything.
    """
    texts = [(text, bool(fields)) for fields, _, text in STRING.findall(code)]
    patterns = [FIELD.sub("*", text) if fields else text for text, fields in texts]
    patterns = [own for own in patterns if own.strip("*")]
    return [
        stem for stem in stems if any(stem == own or ("*" in own and fnmatch(stem, own)) for own in patterns)
    ]


def _picture(path: Path, caption: str) -> dict[str, Any]:
    pixels = base64.b64encode(path.read_bytes()).decode()
    data = {"image/png": pixels, "text/plain": caption or path.stem}
    return {"output_type": "display_data", "metadata": {}, "data": data}


def as_sphinx_reads(lines: Sequence[str]) -> list[str]:
    """A docstring as Sphinx is to see it: examples are literal blocks, several names of one field one word.

    What is indented behind a blank line, outside of sections such as ``Args:``, gets ``::`` before it; of
    ``low, high: bounds`` in a section a type and a name would be made.
    """
    made: list[str] = []
    in_section, in_example = False, False
    for line in lines:
        indented = line.startswith("    ")
        if line.strip() and not indented:
            in_section, in_example = bool(SECTION.match(line)), False
        if indented and not in_section and not in_example and made and not made[-1].strip():
            in_example = True
            before = next((own for own in reversed(made) if own.strip()), "")
            if not before.rstrip().endswith("::"):
                made += ["::", ""]
        names = NAMES.match(line) if in_section else None
        made.append(line.replace(names[0], names[0].replace(", ", ","), 1) if names else line)
    return made


def beside_tables(table: pd.DataFrame) -> str:
    """What ``tests/benchmarks/beside.py`` measured, as Markdown.

    Args:
        table: its ``figures/beside.csv``: ``task``, ``library``, ``version``, ``difference``, ``ratio`` with
            ``low`` and ``high`` (ours over theirs), ``MiB`` and ``their MiB``.

    Returns:
        The versions, a table of all rows, and the tasks in which this library loses, in time or in memory.
    """
    others = table.dropna(subset="ratio")
    versions = others.drop_duplicates("library")
    named = ", ".join(f"{row.library} {row.version}" for row in versions.itertuples())
    lines = [f"Versions: {named}; PyTorch {table['torch'].iloc[0]}.", ""]
    lines += ["| task | library | difference | time | memory [MiB] |", "| --- | --- | --- | --- | --- |"]
    for row in table.to_dict("records"):
        known = row["ratio"] == row["ratio"]
        spent = f"{row['ratio']:.2f} [{row['low']:.2f}, {row['high']:.2f}]" if known else ""
        grown = f"{row['MiB']:.0f}, {row['their MiB']:.0f}" if known else ""
        lines.append(f"| {row['task']} | {row['library']} | {row['difference']:.1g} | {spent} | {grown} |")
    slower, larger = others[others["low"] > 1], others[others["MiB"] > 1.1 * others["their MiB"] + 1]
    lines += ["", "## Where this library loses", ""]
    for found, what in (
        (slower, "slower (all of the quartiles above 1)"),
        (larger, "more memory, by a tenth"),
    ):
        told = "; ".join(f"{row.task}, than {row.library}" for row in found.itertuples())
        lines.append(f"* {what}: {told or 'in none of these'}.")
    return "\n".join(lines)
