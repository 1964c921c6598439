"""An atlas: a page of concepts for each class that a CNN predicts, an index, tables and the basis vectors."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from gan_lib import concepts
from gan_lib.classifiers import Classifier
from gan_lib.concepts.prediction_test import LIMITS
from gan_lib.core.options import options
from gan_lib.core.runtime import progress
from gan_lib.core.storage import atomic_path, read_json, save_tensors, tensor_bytes, write_json
from gan_lib.figures.labels import class_titles
from gan_lib.reporting.atlas import stages
from gan_lib.reporting.atlas.listing import COLUMNS, table_rows
from gan_lib.reporting.atlas.sheet import Sheet, draw_sheet, pictures_of
from gan_lib.reporting.case import UNKNOWN, label_by_folder
from gan_lib.reporting.page import environment
from gan_lib.workbench.explain import Photo, find_photos

ABOUT, INDEX, BASIS = "atlas.json", "index.html", "basis.safetensors"
KEPT, PAGES, THUMBS = "kept", "pages", "thumbs"
TABLES = ("predictions.csv", "concepts.csv", "importance.csv", "prototypes.csv")
TESTED = ("prediction_test.csv", "prediction_test_classes.csv")
OTHERWISE = "take another folder (out), or overwrite it (overwrite)"


@options
class AtlasOptions:
    """What an atlas shows.

    Attributes:
        layer: dotted name; by default the last one with places, behind a ReLU.
        components: concepts of each class. prototypes: crops of each concept.
        images_per_class: that concepts are learned from, at most.
        relevance: how much a place matters, as :class:`gan_lib.concepts.LayerRelevance` knows it.
        noise_copies: of every image, for the relevance; 20 as published, 0 for the image itself.
        pooling: side of a crop, in places of the layer, and the step between crops; 2 as published.
        seed: of all that is random.
        test: whether the prediction test is done as well.
        note: a sentence that stands on every page and in the index.
    """

    layer: str | None = None
    components: PositiveInt = 6
    prototypes: PositiveInt = 8
    images_per_class: PositiveInt = 60
    relevance: str = "gradient_x_activation"
    noise_copies: NonNegativeInt = 0
    pooling: PositiveInt = 2
    seed: NonNegativeInt = 0
    test: bool = False
    note: str = ""


def atlas_photos(images: Sequence[Path], out: Path) -> list[Photo]:
    """Image files and the names wanted for them; the pictures of atlases are left out.

    Raises:
        FileNotFoundError: a file or folder that is not there, or no image in them.
    """
    found = [own for own in find_photos(images, out) if not _is_picture(own[0])]
    if not found:
        raise FileNotFoundError(f"no images in {', '.join(map(str, images))} but the pictures of an atlas")
    return found


def _is_picture(path: Path) -> bool:
    folder = path.absolute().parent
    return folder.name in (PAGES, THUMBS) and (folder.parent / ABOUT).is_file()


def write_atlas(
    cnn: Classifier,
    photos: Sequence[Photo],
    size: tuple[int, int],
    out: Path,
    asked: AtlasOptions | None = None,
    *,
    overwrite: bool = False,
    tell: Callable[[str], None] = lambda _: None,
    stage: Callable[[str], None] = lambda _: None,
) -> Path:
    """Write the concepts of all classes that a CNN predicts for image files.

        write_atlas(cnn, find_photos([Path("photos")], out), (224, 224), Path("atlas"))

    Everything is streamed from files to files, class by class, so that memory does not grow with the images.
    Interrupted at any moment, the same call makes what is missing, and the files are those of a run that was
    not interrupted.

    Args:
        cnn: what predicts.
        photos: files, and the names wanted for them (:func:`gan_lib.workbench.explain.find_photos`).
        size: height and width at which the CNN sees images.
        out: folder; with an atlas of other settings it is refused, unless ``overwrite``.
        tell: is told what is skipped. stage: is told the name of every stage before it begins.

    Returns:
        The path of the index.

    Raises:
        ValueError: no image can be read; no class has concepts; files of another origin in the folder; a
            layer that does not fit. KeyError: an unknown layer.
    """
    asked = asked or AtlasOptions()
    hidden = concepts.HiddenLayer(cnn, asked.layer, size)
    if asked.pooling > min(hidden.size):
        raise ValueError(f"cannot pool {asked.pooling} x {asked.pooling} of {hidden.size} places")
    relevance = concepts.LayerRelevance(hidden, asked.relevance, asked.noise_copies, asked.seed)
    _prepare(out, _settings(cnn, photos, size, hidden, asked), overwrite)
    label_of = label_by_folder(cnn)
    kept = out / KEPT
    images = stages.Images(kept / "images", photos, [label_of(photo) for photo in photos], size)
    stage("images")
    stages.look_at_images(images.folder, hidden, photos, size, asked.pooling, tell)
    _predictions(out, images, cnn.class_names)
    stage("concepts")
    counts = (asked.components, asked.images_per_class, asked.seed)
    stages.learn_all(kept / "concepts", relevance, images, *counts)
    bank, lost = _joined(kept / "concepts")
    bank.vectors()  # says why, where no class has concepts
    save_tensors(out / BASIS, {f"{label:04d}": own for label, own in bank.basis.items()})
    stage("prototypes")
    pooled = images.pooled(hidden, asked.pooling)
    stages.search_all(kept / "prototypes", pooled, images, dict(bank.basis), asked.prototypes)
    _tables(out, bank, lost, cnn.class_names)
    _prototype_table(out, pooled, images, cnn.class_names)
    stage("pages")
    titles = class_titles(cnn.class_names)
    _pages(out, pooled, images, bank, lost, titles, asked)
    if asked.test:
        stage("prediction test")
        stages.predict_montages(kept / "tests", pooled, images, bank, asked.seed)
        _tests(out, kept / "tests", cnn.class_names)
    return _index(out, images, bank, lost, titles, hidden, asked)


def _settings(
    cnn: Classifier,
    photos: Sequence[Photo],
    size: tuple[int, int],
    hidden: concepts.HiddenLayer,
    asked: AtlasOptions,
) -> dict[str, Any]:
    """What decides the files, as JSON values: options, the CNN's weights and names, the images' names and
    lengths."""
    weights, files = hashlib.sha256(), hashlib.sha256()
    for name, tensor in sorted(cnn.state_dict().items()):
        weights.update(name.encode() + tensor_bytes(tensor))
    weights.update(repr(cnn.class_names).encode())
    for path, wanted in photos:
        files.update(f"{wanted} {path.stat().st_size}\n".encode(errors="surrogateescape"))
    own = {"cnn": weights.hexdigest()[:16], "images": files.hexdigest()[:16], "size": list(size)}
    return {**asdict(asked), "layer": hidden.layer, **own}


def _made(out: Path) -> list[Path]:
    """All that an atlas writes into its folder."""
    return [out / name for name in (KEPT, PAGES, THUMBS, INDEX, BASIS, *TABLES, *TESTED)]


def _prepare(out: Path, settings: Mapping[str, Any], overwrite: bool) -> None:
    known: Any = None
    with suppress(FileNotFoundError, NotADirectoryError, ValueError):
        known = read_json(out / ABOUT)
    if known == settings:
        return
    there = [path for path in _made(out) if path.exists()]
    if there and not overwrite:
        if not isinstance(known, dict):
            raise ValueError(f"{there[0]} is there already, and not from such a run: {OTHERWISE}")
        told = [name for name in {**known, **settings} if known.get(name) != settings.get(name)]
        raise ValueError(f"{out} holds an atlas of other settings ({', '.join(told)}): {OTHERWISE}")
    for path in there:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_json(out / ABOUT, dict(settings))


def _csv(path: Path, table: pd.DataFrame) -> None:
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n", errors="replace")


def _predictions(out: Path, images: stages.Images, names: Sequence[str]) -> None:
    labels = images.split.labels.tolist()
    rows = table_rows(images.files, labels, images.columns, names)
    _csv(out / TABLES[0], pd.DataFrame(rows, columns=COLUMNS))


def _joined(folder: Path) -> tuple[concepts.ConceptBank, pd.DataFrame]:
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


def _tables(out: Path, bank: concepts.ConceptBank, lost: pd.DataFrame, names: Sequence[str]) -> None:
    _csv(out / TABLES[1], _named(bank.report, names))
    long = lost.melt("class", var_name="concept", value_name="lost")
    long["concept"] = long["concept"].str.removeprefix("concept ").astype(int) + 1
    _csv(out / TABLES[2], _named(long.sort_values(["class", "concept"]), names))


def _named(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """With the class's name beside its number."""
    made = table.copy()
    made.insert(1, "name", [names[label] for label in table["class"]])
    return made


def _with_boxes(found: pd.DataFrame, pooled: concepts.PooledActivations) -> pd.DataFrame:
    boxes = pooled.boxes(torch.tensor(found["place"].to_numpy().copy())).double().numpy().round(2)
    sides = dict(zip(("left", "top", "right", "bottom"), boxes.T, strict=True))
    return found.assign(**sides)


def _prototype_table(
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
            made = _named(_with_boxes(own, pooled), names).assign(
                concept=own["concept"] + 1,
                rank=own["rank"] + 1,
                file=[files[row] for row in rows],
                prediction=predicted,
                label=["" if one == UNKNOWN else str(one) for one in label],
            )
            made["prediction name"] = [names[one] for one in predicted]
            options: Any = {"mode": "a", "index": False, "header": header, "float_format": "%.6g"}
            made[columns].to_csv(temporary, lineterminator="\n", errors="replace", **options)
            header = False


def _pages(
    out: Path,
    pooled: concepts.PooledActivations,
    images: stages.Images,
    bank: concepts.ConceptBank,
    lost: pd.DataFrame,
    titles: Sequence[str],
    asked: AtlasOptions,
) -> None:
    shares = lost.set_index("class")
    report = bank.report.set_index("class")
    predicted = images.table["prediction"].to_numpy()
    for own in progress(stages.searched(out / KEPT / "prototypes"), "pages", len(bank.basis)):
        label = int(own["class"].iloc[0])
        page, thumb = (out / folder / f"{label:04d}.jpg" for folder in (PAGES, THUMBS))
        if page.is_file() and thumb.is_file():
            continue
        rows = own["image"].tolist()
        crops = _with_boxes(own, pooled).assign(said=[titles[predicted[row]] for row in rows])
        labels = [f"concept {k + 1}\n{_share(one)} lost" for k, one in enumerate(shares.loc[label])]
        used, error = report.loc[label, "images"], report.loc[label, "error"]
        told = f"{_layer(pooled)}; learned from {used} images predicted as the class, error {error:.2f}; "
        told += "lost: share of the class's probability without the concept"
        sheet = Sheet(f"{label} {titles[label]}", told, asked.note, labels, crops, asked.prototypes)
        draw_sheet(sheet, pictures_of(images.split.images, rows), page, thumb)


def _layer(pooled: concepts.PooledActivations) -> str:
    height, width = pooled.cell
    return f"layer {pooled.hidden.layer}, crops of {height} x {width} pixels"


def _share(value: float) -> str:
    return "unknown" if value != value else f"{value:.0%}".replace("-", "\u2212")


def _tests(out: Path, folder: Path, names: Sequence[str]) -> None:
    classes = pd.concat(stages.tested(folder), ignore_index=True)
    scores = concepts.prediction_scores(classes)
    _csv(out / TESTED[0], concepts.prediction_summary(scores))
    measures = ["probability", "won", *(f"over {limit}" for limit in LIMITS)]
    _csv(
        out / TESTED[1],
        _named(scores.rename(columns={"image": "class"})[["class", "form", "method", *measures]], names),
    )


def _index(
    out: Path,
    images: stages.Images,
    bank: concepts.ConceptBank,
    lost: pd.DataFrame,
    titles: Sequence[str],
    hidden: concepts.HiddenLayer,
    asked: AtlasOptions,
) -> Path:
    shares, report = lost.set_index("class"), bank.report.set_index("class")
    cards = [
        {
            "number": label,
            "title": titles[label],
            "page": f"{PAGES}/{label:04d}.jpg",
            "thumb": f"{THUMBS}/{label:04d}.jpg",
            "images": int(report.loc[label, "images"]),
            "lost": _share(float(shares.loc[label].max())),
        }
        for label in bank.classes
    ]
    without = report[report["skipped"] != ""]
    told = {
        "layer": f"{hidden.layer}, {hidden.channels} channels, {hidden.size[0]} x {hidden.size[1]} places",
        "images": f"{len(images.split)} at {images.size[0]} x {images.size[1]} pixels",
        "concepts": f"{asked.components} of each class, from at most {asked.images_per_class} images",
        "relevance": f"{asked.relevance}, {asked.noise_copies} noisy copies",
        "importance": f"mean over at most {stages.IMPORTANCE_IMAGES} images of the class",
        "seed": str(asked.seed),
    }
    tables: Iterable[str] = (*TABLES, *(TESTED if asked.test else ()), BASIS)
    page = (
        environment()
        .get_template("atlas.html")
        .render(
            cards=cards,
            width=asked.components,
            note=asked.note,
            about=told,
            tables=tables,
            without=[(label, titles[label], row["skipped"]) for label, row in without.iterrows()],
            skipped=images.skipped,
        )
    )
    with atomic_path(out / INDEX) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")
    return out / INDEX
