"""The tables of an atlas."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from gan_lib import concepts
from gan_lib.concepts.prediction_test import LIMITS
from gan_lib.core.sheets import neutral_table
from gan_lib.core.storage import atomic_path
from gan_lib.reporting.atlas import stages
from gan_lib.reporting.atlas.listing import COLUMNS, table_rows
from gan_lib.reporting.case import UNKNOWN

KEPT = "kept"
TABLES = ("predictions.csv", "concepts.csv", "importance.csv", "prototypes.csv")
TESTED = ("prediction_test.csv", "prediction_test_classes.csv")


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table without its index, whole or not at all."""
    with atomic_path(path) as temporary:
        made = neutral_table(table)
        made.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n", errors="replace")


def write_list(out: Path, images: stages.Images, names: Sequence[str]) -> None:
    """Write the list of predictions: a row per image."""
    labels = images.split.labels.tolist()
    rows = table_rows(images.files, labels, images.columns, names)
    write_csv(out / TABLES[0], pd.DataFrame(rows, columns=COLUMNS))


def joined(folder: Path) -> tuple[concepts.ConceptBank, pd.DataFrame]:
    """Concepts and importance of all groups of classes."""
    basis: dict[int, Tensor] = {}
    reports, lost = [], []
    for bank, own in stages.learned(folder):
        basis |= bank.basis
        reports.append(bank.report)
        lost.append(own)
    # A group none of whose classes has concepts gives a table whose columns have no kind.
    shares = pd.concat(lost).astype(float).astype({"class": int})
    return concepts.ConceptBank(basis, pd.concat(reports, ignore_index=True)), shares


def write_tables(out: Path, bank: concepts.ConceptBank, lost: pd.DataFrame, names: Sequence[str]) -> None:
    """Write the tables of concepts: their importance, prototypes, and what was lost."""
    write_csv(out / TABLES[1], named(bank.report, names))
    long = lost.melt("class", var_name="concept", value_name="lost")
    long["concept"] = long["concept"].str.removeprefix("concept ").astype(int) + 1
    write_csv(out / TABLES[2], named(long.sort_values(["class", "concept"]), names))


def named(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """With the class's name beside its number."""
    made = table.copy()
    made.insert(1, "name", [names[label] for label in table["class"]])
    return made


def with_boxes(found: pd.DataFrame, pooled: concepts.PooledActivations) -> pd.DataFrame:
    """Crops with the corners of their places in pixels."""
    boxes = pooled.boxes(torch.tensor(found["place"].to_numpy().copy())).double().numpy().round(2)
    sides = dict(zip(("left", "top", "right", "bottom"), boxes.T, strict=True))
    return found.assign(**sides)


def write_prototypes(
    out: Path, pooled: concepts.PooledActivations, images: stages.Images, names: Sequence[str]
) -> None:
    """Where every prototype was cut from, written class by class."""
    files, table = images.files, images.table
    columns = ["class", "name", "concept", "among", "rank", "file", "left", "top", "right", "bottom"]
    columns += ["similarity", "prediction", "prediction name", "label"]
    with atomic_path(out / TABLES[3]) as temporary:
        header = True
        for own in stages.searched(out / KEPT / "prototypes"):
            rows = own["image"].to_numpy()
            predicted, label = table["prediction"].to_numpy()[rows], table["label"].to_numpy()[rows]
            made = named(with_boxes(own, pooled), names).assign(
                concept=own["concept"] + 1,
                rank=own["rank"] + 1,
                file=[files[row] for row in rows],
                prediction=predicted,
                label=["" if one == UNKNOWN else str(one) for one in label],
            )
            made["prediction name"] = [names[one] for one in predicted]
            options: Any = {"mode": "a", "index": False, "header": header, "float_format": "%.6g"}
            neutral_table(made[columns]).to_csv(temporary, lineterminator="\n", errors="replace", **options)
            header = False


def write_tests(out: Path, folder: Path, names: Sequence[str]) -> None:
    """Write the prediction test's tables, where it was done."""
    classes = pd.concat(stages.tested(folder), ignore_index=True)
    scores = concepts.prediction_scores(classes)
    write_csv(out / TESTED[0], concepts.prediction_summary(scores))
    measures = ["probability", "won", *(f"over {limit}" for limit in LIMITS)]
    write_csv(
        out / TESTED[1],
        named(scores.rename(columns={"image": "class"})[["class", "form", "method", *measures]], names),
    )
