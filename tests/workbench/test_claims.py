"""Claims: what a file may say, what the tables decide, what a run counts."""

from __future__ import annotations

import pandas as pd
import pytest

from gan_lib.figures import check_manifest
from gan_lib.workbench import Claim, Places, ProfileError, Workbench, evaluate, load_claims
from gan_lib.workbench.claims import collect_claims, in_words, shown

TABLE = pd.DataFrame(
    {
        "method": ["ours", "ours", "theirs", "empty"],
        "against": ["a", "b", "a", "a"],
        "mean": [-3.0, -2.0, 0.5, float("nan")],
        "low": [-4.0, -5.0, 0.1, float("nan")],
        "high": [-1.0, 1.0, 0.9, float("nan")],
        "d": [2.0, 1.0, 0.0, float("nan")],
        "share": [5.0, 6.0, 7.0, 8.0],
        "share_low": [4.0, 5.0, 6.0, 7.0],
        "share_high": [5.5, 6.5, 7.5, 8.5],
        "n": [10, 20, 30, 0],
        "cnns": [5, 5, 5, 5],
    }
)


def verdict(**given):
    row = evaluate([Claim("c", "t", **given)], lambda _: TABLE).iloc[0]
    return row["verdict"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"where": {"method": "ours", "against": "a"}, "below": 0}, "holds"),  # [-4, -1]
        ({"where": {"method": "ours", "against": "a"}, "above": 0}, "does not hold"),
        ({"where": {"method": "ours", "against": "b"}, "below": 0}, "undecided"),  # [-5, 1]
        ({"where": {"method": "ours", "against": "b"}, "above": 0}, "undecided"),
        ({"where": {"method": "ours", "against": "a"}, "below": -1}, "undecided"),  # the bound is the end
        ({"where": {"method": "theirs"}, "above": 0.1}, "undecided"),
        ({"where": {"method": "theirs"}, "above": 0.09}, "holds"),
        # Several rows: as good as the weakest.
        ({"where": {"method": "ours"}, "below": 0}, "undecided"),
        ({"where": {"method": ["ours", "theirs"]}, "below": 0}, "does not hold"),
        ({"where": {"method": "ours"}, "below": 2}, "holds"),
        # An interval of its own goes before low and high; no interval is decided by the value.
        ({"where": {"method": "ours"}, "value": "share", "above": 3.9}, "holds"),
        ({"where": {"method": "ours"}, "value": "share", "above": 4.5}, "undecided"),
        # Nothing is there, or nothing that counts.
        ({"where": {"method": "nobody"}, "below": 0}, "not measured"),
        ({"where": {"method": "empty"}, "below": 0}, "not measured"),
    ],
)
def test_verdicts_by_hand(given, expected):
    assert verdict(**given) == expected


def test_the_weakest_row_is_shown():
    claims = [
        Claim("one", "t", {"method": "ours"}, below=0),
        Claim("none", "gone", {"method": "ours"}, below=0),
        Claim("plain", "plain", value="x", above=1),
    ]
    tables = {"t": TABLE, "plain": pd.DataFrame({"x": [2, 3]})}
    made = evaluate(claims, tables.get)
    assert made["verdict"].tolist() == ["undecided", "not measured", "holds"]
    assert made.loc[0, ["value", "low", "high", "n", "cnns"]].tolist() == [-2, -5, 1, 20, 5]
    assert made.loc[2, "value"] == 2
    assert made["condition"].tolist() == ["mean < 0", "mean < 0", "x > 1"]
    told = shown(made)
    assert told["measured"].to_dict() == {"one": "-2 [-5, 1]", "none": "", "plain": "2"}
    without = evaluate([Claim("c", "t", value="x", above=2.5)], lambda _: tables["plain"])
    assert without["verdict"].tolist() == ["does not hold"]


def test_near_misses():
    with pytest.raises(ProfileError, match="no column 'metod', but method"):
        verdict(where={"metod": "ours"}, below=0)
    with pytest.raises(ProfileError, match="no column 'mea', but mean"):
        verdict(value="mea", below=0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- {claim: a, table: t}", "either below or above"),
        ("- {claim: a, table: t, below: 0, above: 1}", "either below or above"),
        ("- {claim: a, table: t, belo: 0}", "belo"),
        ("- {claim: a, table: t, below: low}", "below"),
        ("- {claim: a, table: t, below: 0}\n- {claim: a, table: u, above: 0}", "the same words"),
        ("claims: [", "claims.yaml"),
        ("just words", "claims.yaml"),
    ],
)
def test_files_that_hold_no_claims(tmp_path, text, message):
    (tmp_path / "claims.yaml").write_text(text)
    with pytest.raises(ProfileError, match=message):
        load_claims(tmp_path / "claims.yaml")


def test_a_notebook_states_and_a_run_counts(places, tmp_path):
    own = Places(tmp_path / "notebooks", places.data, tmp_path / "figures")
    (own.notebooks / "profiles").mkdir(parents=True)
    (own.notebooks / "profiles/tiny.yaml").write_text((places.profiles / "tiny.yaml").read_text())
    with pytest.raises(FileNotFoundError, match="no claims at"):
        Workbench("01_x", "tiny", {}, own).claims()
    for name, bound in (("01_x", 0), ("studies/y", -10), ("gone", 0)):
        path = own.notebooks / "claims" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = f"- {{claim: c, table: t, where: {{method: ours, against: a}}, below: {bound}}}"
        path.write_text(f"{text}\n- {{claim: d, table: missing, above: 0}}\n")
        bench = Workbench(name, "tiny", {}, own)
        bench.figures.save_table(TABLE, "t", "A table")
        told = bench.claims()
        assert told.loc["c", "measured"] == "-3 [-4, -1]"
    every = collect_claims("tiny", ["01_x", "studies/y"], own)
    assert every["notebook"].tolist() == ["01_x"] * 2 + ["studies/y"] * 2, "what is gone does not linger"
    assert every["verdict"].tolist() == ["holds", "not measured", "does not hold", "not measured"]
    assert pd.read_csv(own.figures / "tiny/claims.csv")["claim"].tolist() == ["c", "d"] * 2
    assert not check_manifest(own.figures)
    words = in_words(every["verdict"].value_counts())
    assert words == "1 of 4 claims hold here: 1 do not hold, 2 not measured"
    assert in_words({"holds": 3}) == "3 of 3 claims hold here"
    assert collect_claims("none", ["01_x"], own).empty


def test_one_claim_broken_on_purpose_is_reported(tmp_path):
    """The same table with its sign turned round."""
    claim = Claim("ours is lower", "t", {"method": "ours", "against": "a"}, below=0)
    turned = TABLE.assign(mean=-TABLE["mean"], low=-TABLE["high"], high=-TABLE["low"])
    verdicts = [evaluate([claim], lambda _, own=own: own)["verdict"][0] for own in (TABLE, turned)]
    assert verdicts == ["holds", "does not hold"]
