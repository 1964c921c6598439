"""Regenerated tables against committed ones."""

from __future__ import annotations

import subprocess

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from gan_lib.cli import app
from gan_lib.figures import check_manifest
from gan_lib.workbench.reproduction import centres, changed_claims, compare_figures, compare_tables, told

OLD = pd.DataFrame(
    {
        "method": ["a", "a", "b", "b"],
        "measure": ["x", "y", "x", "y"],
        "mean": [1.0, 2.0, 3.0, 4.0],
        "low": [0.5, 1.5, 2.5, 4.0],
        "high": [1.5, 2.5, 3.5, 4.0],
        "n": [10, 10, 10, 10],
    }
)


def test_what_has_an_interval():
    assert centres(OLD) == [("mean", "low", "high")]
    both = pd.DataFrame(columns=["offset", "share", "low", "high", "rank", "rank_low", "rank_high", "rank_n"])
    assert centres(both) == [("rank", "rank_low", "rank_high"), ("share", "low", "high")]
    assert centres(pd.DataFrame(columns=["method", "ms per image"])) == []


def test_means_inside_and_the_largest_shift_by_hand():
    """a/x moves by .4 of a half width of .5 (0.8 of it, inside), b/x by 1 (2 of them, outside)."""
    new = OLD.assign(mean=[1.4, 2.0, 4.0, 4.0])
    made = compare_tables(OLD, new.sample(frac=1, random_state=0))  # rows are matched by name
    assert made == {
        "means": 4,
        "inside": 3,
        "largest_shift": pytest.approx(2.0),
        "only_committed": 0,
        "only_regenerated": 0,
    }
    assert compare_tables(OLD, OLD)["inside"] == 4


def test_no_width_leaves_room_for_rounding_only():
    rounded, other = (OLD.assign(mean=[1.0, 2.0, 3.0, 4.0 + moved]) for moved in (1e-5, 1e-3))
    assert compare_tables(OLD, rounded)["inside"] == 4
    assert compare_tables(OLD, other)["inside"] == 3
    assert np.isinf(compare_tables(OLD, other)["largest_shift"])


def test_a_quoted_value_without_an_interval_is_itself_or_outside():
    quoted = OLD.assign(low=[np.nan, 1.5, 2.5, 4.0], high=[np.nan, 2.5, 3.5, 4.0])
    assert compare_tables(quoted, quoted)["inside"] == 4
    assert compare_tables(quoted, quoted.assign(mean=[1.1, 2.0, 3.0, 4.0]))["inside"] == 3


def test_a_name_that_is_missing_is_a_name():
    of_all = OLD.assign(layer=["first", None, None, "last"])
    moved = compare_tables(of_all, of_all.assign(mean=[1.0, 2.0, 3.0, 5.0]))
    assert (moved["means"], moved["inside"], moved["only_committed"]) == (4, 3, 0)


def test_rows_of_one_side_and_nothing():
    made = compare_tables(OLD, OLD.iloc[:3])
    assert (made["means"], made["only_committed"], made["only_regenerated"]) == (3, 1, 0)
    made = compare_tables(OLD.iloc[1:], OLD)
    assert (made["means"], made["only_committed"], made["only_regenerated"]) == (3, 0, 1)
    gone = OLD.assign(mean=[np.nan, 2.0, 3.0, 4.0])
    assert compare_tables(OLD, gone)["inside"] == 3, "a mean that is gone is outside"
    assert compare_tables(gone, OLD)["inside"] == 3
    assert compare_tables(gone, gone)["means"] == 3, "what was never there is not compared"


def test_axes_and_whole_numbers_name_rows():
    old = pd.DataFrame(
        {"offset": [0.5, 1.5], "condition": [1, 2], "mean": [1.0, 9.0], "low": [0, 8], "high": [2, 10]}
    )
    turned = old.iloc[::-1]
    assert compare_tables(old, turned)["inside"] == 2
    swapped = turned.assign(offset=[0.5, 1.5])
    assert compare_tables(old, swapped)["only_committed"] == 2


def test_twice_the_same_name_is_compared_in_order():
    old = pd.concat([OLD, OLD.assign(mean=OLD["mean"] + 10, low=OLD["low"] + 10, high=OLD["high"] + 10)])
    assert compare_tables(old, old)["inside"] == 8


def write(folder, table, name="cpu/01_x/results", claims=("holds", "holds", "undecided")):
    path = folder / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)
    rows = {"notebook": "01_x", "claim": ["one", "two", "three"], "verdict": claims}
    pd.DataFrame(rows).to_csv(folder / "cpu" / "claims.csv", index=False)


def test_folders_are_compared_and_claims(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    write(old, OLD)
    write(new, OLD.assign(mean=[1.4, 2.0, 4.0, 4.0]), claims=("does not hold", "undecided", "undecided"))
    write(old, pd.DataFrame({"method": ["a"], "ms": [1.0]}), "cpu/01_x/cost")
    write(
        new,
        pd.DataFrame({"method": ["a"], "ms": [9.0]}),
        "cpu/01_x/cost",
        ("does not hold", "undecided", "undecided"),
    )
    write(old, OLD, "cpu/02_y/gone")
    made = compare_figures(old, new, "cpu")
    assert made.tables["table"].tolist() == ["01_x/results", "02_y/gone"]
    assert made.tables["inside"].tolist() == [3, 0]
    assert made.tables["only_committed"].tolist() == [0, 4]
    assert made.outside == pytest.approx(0.25)
    assert made.claims["claim"].tolist() == ["one", "two"]
    assert made.claims["flipped"].tolist() == [True, False]
    assert not made.is_reproduced
    lines = "\n".join(told(made))
    assert "01_x/results: 1 of 4 means outside, largest shift 2.00 half widths" in lines
    assert "FLIPPED: one (holds -> does not hold)" in lines
    assert "25.0 % outside" in lines
    assert compare_figures(old, old, "cpu").is_reproduced
    with pytest.raises(FileNotFoundError, match="no tables of 'gpu'"):
        compare_figures(old, new, "gpu")


@pytest.mark.parametrize(("outside", "expected"), [(7, True), (8, False)])
def test_seven_of_a_hundred_may_be_outside(tmp_path, outside, expected):
    rows = {"method": [f"m{i}" for i in range(100)], "mean": 1.0, "low": 0.5, "high": 1.5}
    old = pd.DataFrame(rows)
    write(tmp_path / "old", old)
    write(tmp_path / "new", old.assign(mean=[9.0] * outside + [1.0] * (100 - outside)))
    assert compare_figures(tmp_path / "old", tmp_path / "new", "cpu").is_reproduced == expected


def test_a_claim_that_was_never_stated_is_changed_not_flipped():
    old = pd.DataFrame({"notebook": ["n"], "claim": ["one"], "verdict": ["holds"]})
    new = pd.DataFrame({"notebook": ["n"], "claim": ["two"], "verdict": ["does not hold"]})
    assert changed_claims(old, new)["flipped"].tolist() == [False, False]
    assert changed_claims(old, old).empty


def test_command_line(tmp_path):
    """Against a folder, a revision, and what is neither."""
    root = tmp_path / "project"
    write(root / "figures", OLD)
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=b", "commit", "-qm", "c"],
    ):
        subprocess.run(["git", "-C", str(root), *command], check=True)
    call = ["figures", "--root", str(root), "--compare"]
    same = CliRunner().invoke(app, call)  # with HEAD
    assert same.exit_code == 0, same.output
    assert "4 of 4 means lie in the committed intervals" in same.output
    saved = pd.read_csv(root / "figures/cpu/reproduction.csv")
    assert saved["table"].tolist() == ["01_x/results"]
    assert not check_manifest(root / "figures")
    write(root / "figures", OLD.assign(mean=[9.0, 9.0, 9.0, 4.0]))
    moved = CliRunner().invoke(app, [*call, "HEAD"])
    assert moved.exit_code == 1
    assert "NOT reproduced" in moved.output
    write(tmp_path / "others", OLD.assign(low=0.0, high=9.0))
    assert CliRunner().invoke(app, [*call, str(tmp_path / "others")]).exit_code == 0
    missing = CliRunner().invoke(app, [*call, "no-such-thing"])
    assert missing.exit_code == 2
    assert "is no folder and no revision" in missing.output
