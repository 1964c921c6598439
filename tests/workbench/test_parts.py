"""Tables that the store keeps."""

from __future__ import annotations

import math

import pandas as pd

from gan_lib.workbench import parts


def test_a_table_is_read_as_it_was_made(bench):
    """To the last digit, with what is missing; the second time it is not made at all."""
    table = pd.DataFrame(
        {
            "method": ["a, b", 'c "d"', "alone"],
            "seed": [0, 1, 2],
            "image": ["x/0", "x/1", "y/0"],
            "score": [1 / 3, math.nan, -1e-17],
            "won": [100.0, 0.0, 50.0],
        }
    )
    made, subject = [], bench.subject()

    def make():
        made.append(1)
        return table

    for _ in range(2):
        found = parts.kept_table(subject, "gan_lib.workbench.parts", {"of": "a table"}, make)
        pd.testing.assert_frame_equal(found, table, check_exact=True)
    assert len(made) == 1
    parts.kept_table(subject, "gan_lib.workbench.parts", {"of": "another"}, make)
    assert len(made) == 2


def test_tables_of_another_cnn_are_others(bench):
    subjects = [bench.subject({"cnn.seed": seed}) for seed in (0, 1)]
    for own in subjects:
        table = pd.DataFrame({"cnn": [own.trained.key]})
        found = parts.kept_table(own, "gan_lib.workbench.parts", {}, lambda table=table: table)
        assert found["cnn"].tolist() == [own.trained.key]
