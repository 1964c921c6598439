"""What a CNN predicts for image files, read a few at a time: the prediction list of arXiv 2502.03422."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gan_lib.classifiers import Classifier
from gan_lib.concepts.layers import probabilities
from gan_lib.core.runtime import progress
from gan_lib.core.sheets import neutral
from gan_lib.core.storage import atomic_path
from gan_lib.data import read_image
from gan_lib.reporting.case import UNKNOWN, as_text, label_by_folder
from gan_lib.workbench.explain import Photo

CHUNK = 256  # files that are read together
COLUMNS = ["file", "label", "label name", "prediction", "prediction name", "probability"]
COLUMNS += ["runner-up", "runner-up name", "runner-up probability"]


@dataclass(frozen=True)
class Chunk:
    """Some of the files, in their order.

    Attributes:
        rows: (n,) numbers of the files that could be read.
        images: (n, 3, H, W) in [0, 1].
        skipped: names of the others, with the reason.
    """

    rows: Tensor
    images: Tensor
    skipped: tuple[tuple[str, str], ...]


def read_chunk(photos: Sequence[Photo], start: int, size: tuple[int, int]) -> Chunk:
    """The :data:`CHUNK` files from one on."""

    def read(photo: Photo) -> Tensor | str:
        try:
            return read_image(photo[0], size)
        except ValueError as error:
            return as_text(error)

    rows, images, skipped = [], [], []
    with ThreadPoolExecutor() as pool:
        some = photos[start : start + CHUNK]
        for row, (photo, made) in enumerate(zip(some, pool.map(read, some), strict=True), start):
            if isinstance(made, Tensor):
                rows.append(row)
                images.append(made)
            else:
                skipped.append((as_text(photo[1]), made))
    pixels = torch.stack(images) if images else torch.empty(0, 3, *size, dtype=torch.uint8)
    return Chunk(torch.tensor(rows, dtype=torch.long), pixels.float() / 255, tuple(skipped))


def first_two(chances: Tensor) -> dict[str, Tensor]:
    """Of probabilities (n, K), K at least 2, the two highest, with their classes."""
    values, classes = chances.topk(2, dim=1)
    return {
        "prediction": classes[:, 0],
        "probability": values[:, 0],
        "runner-up": classes[:, 1],
        "runner-up probability": values[:, 1],
    }


def write_predictions(
    cnn: Classifier,
    photos: Sequence[Photo],
    size: tuple[int, int],
    out: Path,
    tell: Callable[[str], None] = lambda _: None,
) -> int:
    """Write what a CNN predicts for image files as a table, a row each; what cannot be read is told.

        write_predictions(cnn, find_photos([Path("photos")], out), (224, 224), Path("predictions.csv"))

    Memory does not grow with the number of files, and the table is there whole or not at all. Its columns are
    :data:`COLUMNS`; ``label`` is empty where no folder is named after a class.

    Returns:
        The number of rows.

    Raises:
        ValueError: no image can be read.
    """
    count, first = 0, ""
    with atomic_path(out) as temporary:
        with temporary.open("w", newline="", encoding="utf-8", errors="replace") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            label_of = label_by_folder(cnn)
            for start in progress(range(0, len(photos), CHUNK), "predicting"):
                chunk = read_chunk(photos, start, size)
                for name, why in chunk.skipped:
                    tell(f"skipped {name}: {' '.join(why.split())}")
                    first = first or why
                if len(chunk.rows):
                    two = first_two(probabilities(cnn, chunk.images))
                    labels = [label_of(photos[row]) for row in chunk.rows.tolist()]
                    names = [as_text(photos[row][1]) for row in chunk.rows.tolist()]
                    rows = table_rows(names, labels, two, cnn.class_names)
                    writer.writerows([neutral(cell) for cell in row] for row in rows)
                count += len(chunk.rows)
        if not count:
            raise ValueError(f"none of {len(photos)} images can be read; the first: {first}")
    return count


def table_rows(
    files: Sequence[str], labels: Sequence[int], two: dict[str, Tensor], names: Sequence[str]
) -> Iterator[list[object]]:
    """Rows of the prediction list, in its columns; ``two`` are (N,) each."""
    for place, (file, label) in enumerate(zip(files, labels, strict=True)):
        known = ["", ""] if label == UNKNOWN else [label, names[label]]
        made: list[object] = [file, *known]
        for kind in ("prediction", "runner-up"):
            own = int(two[kind][place])
            chance = two["probability" if kind == "prediction" else "runner-up probability"][place]
            made += [own, names[own], f"{float(chance):.6g}"]
        yield made
