"""The stages of an atlas, each in parts that are there whole or not at all: what is there is not made again.

What a stage keeps lies in ``kept/STAGE``: shards of the images, concepts and prototypes of some classes each.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
import torch
from safetensors import safe_open
from torch import Tensor

from gan_lib import concepts
from gan_lib.concepts.prediction_test import allowed_images
from gan_lib.core.inputs import at_once
from gan_lib.core.outputs import probabilities
from gan_lib.core.runtime import progress
from gan_lib.core.storage import ShardedRows, atomic_path, save_tensors, write_json
from gan_lib.data import ImageSplit
from gan_lib.data.files import FileRows
from gan_lib.reporting.atlas.listing import CHUNK, first_two, read_chunk
from gan_lib.reporting.case import as_text
from gan_lib.workbench.explain import Photo

LEARNED, SEARCHED = 10, 50  # classes together: concepts are kept, and one search through all images serves
IMPORTANCE_IMAGES = 8  # per class
AMONG = ("all images", "not predicted")  # where prototypes are looked for


@dataclass(frozen=True)
class Images:
    """The readable images of an atlas, with what the CNN makes of them, as :func:`look_at_images` wrote it.

    Attributes:
        folder: of the shards.
        photos: all N files. labels: (N,), their classes, -1 where it is not known.
        size: height and width.
    """

    folder: Path
    photos: Sequence[Photo]
    labels: Sequence[int]
    size: tuple[int, int]

    @cached_property
    def columns(self) -> dict[str, Tensor]:
        """Those of the shards but the vectors: the file's number, and as :func:`first_two` names them."""
        parts = []
        for path in self._shards:
            with safe_open(path, framework="pt") as file:
                names = [name for name in file.keys() if name != "vectors"]  # noqa: SIM118
                parts.append({name: file.get_tensor(name).clone() for name in names})
        return {name: torch.cat([own[name] for own in parts]) for name in parts[0]}

    @property
    def _shards(self) -> list[Path]:
        return sorted(self.folder.glob("*.safetensors"))

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """Files that cannot be read, with the reason."""
        found: list[tuple[str, str]] = []
        for path in self._shards:
            with safe_open(path, framework="pt") as file:
                found += [(name, why) for name, why in json.loads(file.metadata()["skipped"])]
        return found

    @property
    def files(self) -> list[str]:
        """Names of the readable files."""
        return [as_text(self.photos[row][1]) for row in self.columns["number"].tolist()]

    @cached_property
    def split(self) -> ImageSplit:
        """The images, read when they are asked for."""
        rows = self.columns["number"].tolist()
        labels = torch.tensor([self.labels[row] for row in rows])
        return ImageSplit(FileRows([self.photos[row][0] for row in rows], self.size), labels)

    @cached_property
    def table(self) -> pd.DataFrame:
        """``image``, ``label`` and ``prediction`` of every readable image."""
        columns = {"label": self.split.labels, "prediction": self.columns["prediction"]}
        return pd.DataFrame({"image": range(len(self.split)), **{k: v.numpy() for k, v in columns.items()}})

    @property
    def classes(self) -> list[int]:
        """All that are predicted, by number."""
        return sorted(self.columns["prediction"].unique().tolist())

    def pooled(self, hidden: concepts.HiddenLayer, pool: int) -> concepts.PooledActivations:
        """Their pooled activations, which stay on disk."""
        vectors = ShardedRows(self.folder, "vectors")
        return concepts.PooledActivations(hidden, self.split, pool, vectors=vectors)


def look_at_images(
    folder: Path,
    hidden: concepts.HiddenLayer,
    photos: Sequence[Photo],
    size: tuple[int, int],
    pool: int,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """One forward pass of all images: what is predicted, and pooled activations as float16, in shards.

    Raises:
        ValueError: no image can be read.
    """
    rows: list[int] = []
    for number in progress(range(-(-len(photos) // CHUNK)), "looking at images"):
        path = folder / f"{number:05d}.safetensors"
        if not path.is_file():
            chunk = read_chunk(photos, number * CHUNK, size)
            for name, why in chunk.skipped:
                tell(f"skipped {name}: {' '.join(why.split())}")
            save_tensors(
                path,
                {"number": chunk.rows, **_looked_at(hidden, chunk.images, pool)},
                skipped=json.dumps(chunk.skipped),
            )
        with safe_open(path, framework="pt") as file:
            rows.append(file.get_slice("number").get_shape()[0])
    if not sum(rows):
        first = Images(folder, photos, (), size).skipped[0][1]
        raise ValueError(f"none of {len(photos)} images can be read; the first: {first}")
    write_json(folder / "index.json", {"rows": rows, "sha256": ""})


def _looked_at(hidden: concepts.HiddenLayer, images: Tensor, pool: int) -> dict[str, Tensor]:
    made: list[Tensor] = []
    cells = ((hidden.size[0] - pool) // pool + 1) * ((hidden.size[1] - pool) // pool + 1)

    def keep(activation: Tensor) -> Tensor:
        made.append(concepts.pooled_vectors(activation.float(), pool, pool))
        return activation

    parts = images.split(at_once(hidden.cnn, (images.shape[-2], images.shape[-1])))
    chances = [probabilities(hidden.cnn, hidden.logits(part, keep)).cpu() for part in parts if len(part)]
    empty = torch.empty(0, cells, hidden.channels, dtype=torch.float16)
    two = first_two(torch.cat(chances) if chances else torch.empty(0, 2))
    return {"vectors": torch.cat([empty, *made]), **two}


def groups(classes: Sequence[int], count: int) -> Iterator[tuple[str, list[int]]]:
    """Classes in groups of so many, with names for them."""
    for number, start in enumerate(range(0, len(classes), count)):
        yield f"{number:04d}", list(classes[start : start + count])


def learn_all(
    folder: Path,
    relevance: concepts.LayerRelevance,
    images: Images,
    components: int,
    images_per_class: int,
    seed: int,
) -> None:
    """Concepts of all classes, and how much each matters, one group of classes after the other."""
    total = -(-len(images.classes) // LEARNED)
    for name, classes in progress(groups(images.classes, LEARNED), "concepts", total):
        if (folder / name).is_dir():
            continue
        partial = folder / f"{name}.partial"
        shutil.rmtree(partial, ignore_errors=True)  # what a kill has left
        partial.mkdir(parents=True)
        given = (images.split, images.table)
        bank = concepts.learn_concepts(relevance, *given, classes, components, images_per_class, seed)
        bank.save(partial)
        lost = concepts.importance_table(relevance.hidden, *given, bank, IMPORTANCE_IMAGES, seed)
        columns = ["class", *(f"concept {k}" for k in range(components))]
        lost.reindex(columns=columns).to_csv(partial / "importance.csv", index=False, lineterminator="\n")
        os.replace(partial, folder / name)


def learned(folder: Path) -> Iterator[tuple[concepts.ConceptBank, pd.DataFrame]]:
    """What :func:`learn_all` wrote: concepts and importance, group by group."""
    for path in sorted(own for own in folder.iterdir() if own.suffix != ".partial"):
        lost = pd.read_csv(path / "importance.csv", float_precision="round_trip")
        yield concepts.ConceptBank.load(path), lost


def search_all(
    folder: Path, pooled: concepts.PooledActivations, images: Images, basis: dict[int, Tensor], count: int
) -> None:
    """The crops nearest to every concept, of all images and of those not predicted as its class.

    Tables of ``class``, ``concept``, ``among`` (:data:`AMONG`), ``rank``, ``image`` (row), ``place`` and
    ``similarity``, one for each group of classes. ``basis`` are (k, C) by class.
    """
    total = -(-len(basis) // SEARCHED)
    for name, classes in progress(groups(list(basis), SEARCHED), "prototypes", total):
        path = folder / f"{name}.csv"
        if path.is_file():
            continue
        vectors = torch.stack([basis[label] for label in classes])  # (K, k, C)
        others = allowed_images(classes, images.table, "strict").repeat_interleave(vectors.shape[1], 0)
        parts = [
            _rows(pooled.nearest(vectors.flatten(0, 1), count, allowed), classes, among)
            for among, allowed in zip(AMONG, (None, others), strict=True)
        ]
        with atomic_path(path) as temporary:
            pd.concat(parts).to_csv(temporary, index=False, lineterminator="\n")


def _rows(found: concepts.Places, classes: Sequence[int], among: str) -> pd.DataFrame:
    """Crops (K * k, T) as a table; where there were fewer, there is no row."""
    components, count = len(found.image) // len(classes), found.image.shape[1]
    order = torch.arange(found.image.numel())
    table = pd.DataFrame(
        {
            "class": torch.tensor(classes)[order // (components * count)].numpy(),
            "concept": (order // count % components).numpy(),
            "among": among,
            "rank": (order % count).numpy(),
            "image": found.image.flatten().numpy(),
            "place": found.place.flatten().numpy(),
            "similarity": found.similarity.flatten().double().numpy().round(6),
        }
    )
    return table[table["image"] >= 0]


def searched(folder: Path) -> Iterator[pd.DataFrame]:
    """What :func:`search_all` wrote, class by class."""
    for path in sorted(folder.glob("*.csv")):
        for _, own in pd.read_csv(path, float_precision="round_trip").groupby("class", sort=False):
            yield own


def predict_montages(
    folder: Path,
    pooled: concepts.PooledActivations,
    images: Images,
    bank: concepts.ConceptBank,
    seed: int,
    crop_counts: Sequence[int] = (4, 6),
) -> None:
    """The prediction test of all classes, one group after the other; another class is one of the group.

    The form by label is left out where there are images whose label is not known.
    """
    known = bool((images.table["label"] >= 0).all())
    forms = concepts.FORMS if known else concepts.FORMS[:2]
    total = -(-len(bank.classes) // SEARCHED)
    for name, classes in progress(groups(bank.classes, SEARCHED), "prediction test", total):
        path = folder / f"{name}.csv"
        if path.is_file():
            continue
        own = concepts.ConceptBank({label: bank.basis[label] for label in classes}, bank.report)
        made, _ = concepts.prediction_test(
            own, pooled, images.table, crop_counts, runs=1, seed=seed, forms=forms
        )
        with atomic_path(path) as temporary:
            made.to_csv(temporary, index=False, lineterminator="\n")


def tested(folder: Path) -> Iterator[pd.DataFrame]:
    """What :func:`predict_montages` wrote, group by group."""
    for path in sorted(folder.glob("*.csv")):
        yield pd.read_csv(path, float_precision="round_trip")
