"""Tables that are read some rows at a time."""

from __future__ import annotations

import hashlib
import tracemalloc

import pandas as pd
import pytest

from gan_lib.workbench import long_table
from gan_lib.workbench.long_table import TableError, parts_of_table

COLUMNS = ("image", "score")
TEXT = "image,score\na,1\nb,2\nc,3\n"


def written(folder, text):
    path = folder / "table.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def noted(text):
    return {"bytes": len(text.encode()), "sha256": hashlib.sha256(text.encode()).hexdigest()}


def rows(*given, **options):
    return [tuple(row) for part in parts_of_table(*given, **options) for row in part.to_numpy()]


def test_all_rows_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(long_table, "AT_ONCE", 2)
    parts = [*parts_of_table(written(tmp_path, TEXT), COLUMNS, noted(TEXT))]
    assert [part.to_numpy().tolist() for part in parts] == [[["a", "1"], ["b", "2"]], [["c", "3"]]]


def test_the_first_rows_alone(tmp_path):
    assert rows(written(tmp_path, TEXT), COLUMNS, noted(TEXT), most=2) == [("a", "1"), ("b", "2")]


def test_a_line_that_is_not_whole_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(long_table, "BLOCK", 4)  # the end is looked for block by block
    assert rows(written(tmp_path, TEXT + "a long name,"), COLUMNS) == rows(written(tmp_path, TEXT), COLUMNS)


def test_nothing_behind_what_is_noted_is_read(tmp_path):
    path = written(tmp_path, TEXT + "d,4\n")
    assert rows(path, COLUMNS, noted(TEXT)) == [("a", "1"), ("b", "2"), ("c", "3")]
    assert len(rows(path, COLUMNS)) == 4


@pytest.mark.parametrize("text", ["", "image,score\n", "image,sc"])
def test_no_rows_are_a_part_with_columns(tmp_path, text):
    for path in (written(tmp_path, text), tmp_path / "none.csv"):
        (part,) = parts_of_table(path, COLUMNS)
        assert part.empty
        assert tuple(part.columns) == COLUMNS


def test_a_table_that_is_noted_and_gone(tmp_path):
    with pytest.raises(TableError, match=r"table\.csv is gone"):
        rows(tmp_path / "table.csv", COLUMNS, noted(TEXT))


def test_quoted_lines_and_words(tmp_path):
    text = 'image,score\n"two\nlines",NA\n"a, b",\n'
    assert rows(written(tmp_path, text), COLUMNS) == [("two\nlines", "NA"), ("a, b", "")]


@pytest.mark.parametrize(
    ("text", "known", "told"),
    [
        (TEXT.replace("b", "x"), noted(TEXT), "damaged, or was changed"),
        (TEXT[:-4], noted(TEXT), "damaged, or was changed"),
        (TEXT, {**noted(TEXT), "bytes": -1}, "damaged, or was changed"),
        (TEXT.replace("score", "drop"), None, "has other columns than image, score"),
        (TEXT + "d,4,5\n", None, "damaged"),
        (TEXT.encode() + b"\xff,4\n", None, "damaged"),
    ],
)
def test_what_is_not_what_was_written(tmp_path, text, known, told):
    with pytest.raises(TableError, match=f"table.csv.*{told}"):
        rows(written(tmp_path, text), COLUMNS, known)


def test_memory_does_not_follow_the_length(tmp_path, monkeypatch):
    monkeypatch.setattr(long_table, "AT_ONCE", 100)

    def peak(count):
        text = "image,score\n" + "".join(f"{'name' * 50}{number},1\n" for number in range(count))
        path, known = written(tmp_path, text), noted(text)
        del text
        tracemalloc.start()
        assert sum(map(len, parts_of_table(path, COLUMNS, known))) == count
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(10)  # what is imported first
    assert peak(50_000) < 1.2 * peak(10_000)


def test_a_table_of_words(tmp_path):
    (part,) = parts_of_table(written(tmp_path, TEXT), COLUMNS)
    pd.testing.assert_frame_equal(part, pd.DataFrame({"image": [*"abc"], "score": [*"123"]}, dtype=str))
