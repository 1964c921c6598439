"""Claims: sentences with a condition on a table, decided by the numbers of the run at hand.

A notebook's conclusions are not typed into its prose, where no number would move with the tables. They are a
YAML file, ``notebooks/claims/NOTEBOOK.yaml``, a list of

    - claim: contrastive LSFT loses less than Grad-CAM at 10 % of the image, on black
      table: differences
      where: {method: contrastive LSFT, against: Grad-CAM, measure: drop_black@10}
      below: 0

A claim *holds* where the whole interval lies on the claimed side of the bound, does *not hold* where the
whole interval lies on the other side, and is *undecided* otherwise.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import TypeAdapter

from gan_lib.core.options import options
from gan_lib.figures import FigureFolder
from gan_lib.workbench.places import Places
from gan_lib.workbench.values import ProfileError, parsed

HOLDS, UNDECIDED, FAILS, UNKNOWN = "holds", "undecided", "does not hold", "not measured"
CLAIMS = "claims"  # name of their table, of a notebook and of a profile
COUNTS = ("n", "seeds", "cnns")
COLUMNS = ["claim", "table", "condition", "value", "low", "high", *COUNTS, "verdict"]
Scalar = str | int | float | bool


@options
class Claim:
    """A sentence, and the rows of a table that decide it.

    Attributes:
        claim: the sentence.
        table: name of one of the notebook's tables.
        where: columns, and the value, or one of the values, that rows have there; by default all rows.
        value: the column that is compared; ``value_low`` and ``value_high``, or ``low`` and ``high``, are its
            interval where the table has them.
        below, above: the bound; one of them.
    """

    claim: str
    table: str
    where: dict[str, Scalar | list[Scalar]] | None = None
    value: str = "mean"
    below: float | None = None
    above: float | None = None

    def __post_init__(self) -> None:
        if (self.below is None) == (self.above is None):
            raise ValueError(f"{self.claim!r} needs either below or above")

    @property
    def condition(self) -> str:
        """In words, without the rows."""
        bound = f"< {self.below:g}" if self.below is not None else f"> {self.above:g}"
        return f"{self.value} {bound}"


_ADAPTER = TypeAdapter(list[Claim])


def claims_file(places: Places, notebook: str) -> Path:
    """Where a notebook's claims are."""
    return places.notebooks / "claims" / f"{notebook}.yaml"


def load_claims(path: Path) -> list[Claim]:
    """The claims of a file.

    Raises:
        FileNotFoundError: no such file.
        ProfileError: no list of claims, or two of the same sentence.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no claims at {path}: a list of claim, table, where, and below or above")
    try:
        claims = _ADAPTER.validate_json(json.dumps(parsed(path.read_text(encoding="utf-8"), str(path)) or []))
    except ProfileError:
        raise
    except (TypeError, ValueError) as error:
        raise ProfileError(f"{path}: {error}") from None
    if len({own.claim for own in claims}) < len(claims):
        raise ProfileError(f"{path}: two claims of the same words")
    return claims


def evaluate(claims: Iterable[Claim], table: Callable[[str], pd.DataFrame | None]) -> pd.DataFrame:
    """Which claims the tables bear out.

    Args:
        claims: to be decided.
        table: gives a table by name, ``None`` for one that was not made.

    Returns:
        A row per claim: the sentence, ``table``, ``condition``, the ``value`` of the row that decides it, the
        one with the least room, with ``low`` and ``high`` where there is an interval, the counts of the row,
        and ``verdict``. Where no row is there, or none with a value, it is not measured.

    Raises:
        ProfileError: a column that the table does not have; near misses are listed.
    """
    rows = [_decided(own, table(own.table)) for own in claims]
    return pd.DataFrame(rows, columns=COLUMNS)


def _decided(claim: Claim, table: pd.DataFrame | None) -> dict[str, Any]:
    made = {"claim": claim.claim, "table": claim.table, "condition": claim.condition}
    rows = [] if table is None else _rows(claim, table)
    if not rows:
        return made | {"verdict": UNKNOWN}
    decisive = min(rows, key=lambda row: row["room"])
    return made | {name: own for name, own in decisive.items() if name in COLUMNS}


def _rows(claim: Claim, table: pd.DataFrame) -> list[dict[str, Any]]:
    """Value, interval, counts, verdict and room of every row that is meant; NaN values are left out."""
    for column in (*(claim.where or ()), claim.value):
        if column not in table:
            near = difflib.get_close_matches(column, list(table), n=3) or list(table)
            raise ProfileError(
                f"claim {claim.claim!r}: {claim.table!r} has no column {column!r}, but {', '.join(near)}"
            )
    for column, wanted in (claim.where or {}).items():
        table = table[table[column].isin(wanted if isinstance(wanted, list) else [wanted])]
    pairs = ([f"{claim.value}_low", f"{claim.value}_high"], ["low", "high"])
    bounds = next((pair for pair in pairs if set(pair) <= set(table)), None)
    bound, sign = (claim.below, -1) if claim.below is not None else (claim.above, 1)
    assert bound is not None
    rows = []
    for row in table.to_dict("records"):
        value = float(row[claim.value])
        if math.isnan(value):
            continue
        low, high = (float(row[name]) for name in bounds) if bounds else (value, value)
        worst, best = sorted((sign * (low - bound), sign * (high - bound)))  # positive: on the claimed side
        verdict = HOLDS if worst > 0 else FAILS if best < 0 or not bounds else UNDECIDED
        interval = {"low": low, "high": high} if bounds else {}
        counts = {name: row[name] for name in COUNTS if name in row}
        rank = {FAILS: 0, UNDECIDED: 1, HOLDS: 2}[verdict]  # one row that fails decides
        rows.append({"value": value, **interval, **counts, "verdict": verdict, "room": (rank, worst)})
    return rows


def shown(claims: pd.DataFrame) -> pd.DataFrame:
    """Claims to be read: what was measured, the condition and the verdict of each."""
    value, low, high = (claims[name].map("{:.3g}".format) for name in ("value", "low", "high"))
    measured = value.where(claims["low"].isna(), value + " [" + low + ", " + high + "]")
    columns = {"measured": measured.where(claims["value"].notna(), ""), "condition": claims["condition"]}
    return pd.DataFrame(columns).assign(verdict=claims["verdict"]).set_axis(claims["claim"], axis=0)


def in_words(verdicts: Mapping[str, int] | pd.Series) -> str:
    """How many claims hold, in a line, from how often each verdict was given."""
    counts = {name: int(dict(verdicts).get(name, 0)) for name in (HOLDS, UNDECIDED, FAILS, UNKNOWN)}
    words = {UNDECIDED: "undecided", FAILS: "do not hold", UNKNOWN: "not measured"}
    others = [f"{counts[name]} {own}" for name, own in words.items() if counts[name]]
    told = f"{counts[HOLDS]} of {sum(counts.values())} claims hold here"
    return f"{told}: {', '.join(others)}" if others else told


def collect_claims(profile: str, notebooks: Sequence[str], places: Places) -> pd.DataFrame:
    """All claims that the notebooks of a profile have decided, kept as ``figures/PROFILE/claims.csv``.

    Args:
        profile: its name; notebooks: theirs, in order. What others have left behind is not among them.

    Returns:
        The claims as :func:`evaluate` gives them, with ``notebook`` before.
    """
    paths = {name: places.figures / profile / name / f"{CLAIMS}.csv" for name in notebooks}
    parts = [pd.read_csv(path).assign(notebook=name) for name, path in paths.items() if path.is_file()]
    every = pd.concat(parts) if parts else pd.DataFrame(columns=["notebook", *COLUMNS])
    every = every[["notebook", *COLUMNS]]
    if parts:
        about = {"notebook": CLAIMS, "profile": profile}
        FigureFolder(places.figures, profile, about).save_table(every, CLAIMS, "All claims of all notebooks")
    return every
