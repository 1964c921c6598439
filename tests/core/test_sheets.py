"""Cells that a spreadsheet would run."""

from __future__ import annotations

import pandas as pd
import pytest

from gan_lib.core.sheets import as_text, is_text, neutral, neutral_table, restored, restored_table

CELLS = {
    "=1+1": "'=1+1",
    "+cmd|' /C calc'!A0": "'+cmd|' /C calc'!A0",
    "-x": "'-x",
    "@SUM(A1)": "'@SUM(A1)",
    "\t=1": "'\t=1",
    "\r=1": "'\r=1",
    "'=1": "''=1",
    "''=1": "'''=1",
    "-1.5e-3": "-1.5e-3",
    "+.5": "+.5",
    "-": "'-",
    "-1+1": "'-1+1",
    "'quoted'": "'quoted'",
    "cat": "cat",
    "": "",
    "a=b": "a=b",
}


@pytest.mark.parametrize(("given", "written"), CELLS.items())
def test_cells_by_hand_and_back(given, written):
    assert neutral(given) == written
    assert restored(written) == given
    assert restored(neutral(written)) == written


def test_tables_keep_their_numbers():
    table = pd.DataFrame({"=name": ["=a", "b", None], "drop": [-1.5, 2.0, 0.0], "n": [-1, 2, 3]})
    made = neutral_table(table)
    assert made.to_csv(index=False) == "'=name,drop,n\n'=a,-1.5,-1\nb,2.0,2\n,0.0,3\n"
    assert restored_table(made).equals(table)
    assert table["=name"][0] == "=a", "the table itself stays"


def test_names_that_are_no_text():
    assert is_text("käse.png")
    assert not is_text("caf\udce9.png")
    assert as_text("caf\udce9.png") == "caf?.png"
