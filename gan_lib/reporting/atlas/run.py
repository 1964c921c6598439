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
from pydantic import NonNegativeInt, PositiveInt

from gan_lib import concepts
from gan_lib.classifiers import Classifier
from gan_lib.core.options import options
from gan_lib.core.runtime import progress
from gan_lib.core.storage import atomic_path, read_json, save_tensors, tensor_bytes, write_json
from gan_lib.figures.labels import class_titles
from gan_lib.reporting.atlas import stages, tables
from gan_lib.reporting.atlas.sheet import Sheet, draw_sheet, pictures_of
from gan_lib.reporting.case import label_by_folder
from gan_lib.reporting.page import environment
from gan_lib.workbench.explain import Photo, find_photos

ABOUT, INDEX, BASIS = "atlas.json", "index.html", "basis.safetensors"
PAGES, THUMBS = "pages", "thumbs"
OTHERWISE = "take another folder (out), or overwrite it (overwrite)"


@options
class AtlasOptions:
    """What an atlas shows.

    Attributes:
        layer: dotted name; by default the last one with places.
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
    kept = out / tables.KEPT
    images = stages.Images(kept / "images", photos, [label_of(photo) for photo in photos], size)
    stage("images")
    stages.look_at_images(images.folder, hidden, photos, size, asked.pooling, tell)
    tables.write_list(out, images, cnn.class_names)
    stage("concepts")
    counts = (asked.components, asked.images_per_class, asked.seed)
    stages.learn_all(kept / "concepts", relevance, images, *counts)
    bank, lost = tables.joined(kept / "concepts")
    bank.vectors()  # says why, where no class has concepts
    save_tensors(out / BASIS, {f"{label:04d}": own for label, own in bank.basis.items()})
    stage("prototypes")
    pooled = images.pooled(hidden, asked.pooling)
    stages.search_all(kept / "prototypes", pooled, images, dict(bank.basis), asked.prototypes)
    tables.write_tables(out, bank, lost, cnn.class_names)
    tables.write_prototypes(out, pooled, images, cnn.class_names)
    stage("pages")
    titles = class_titles(cnn.class_names)
    _pages(out, pooled, images, bank, lost, titles, asked)
    if asked.test:
        stage("prediction test")
        stages.predict_montages(kept / "tests", pooled, images, bank, asked.seed)
        tables.write_tests(out, kept / "tests", cnn.class_names)
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
    return [out / name for name in (tables.KEPT, PAGES, THUMBS, INDEX, BASIS, *tables.TABLES, *tables.TESTED)]


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


def _pages(
    out: Path,
    pooled: concepts.PooledActivations,
    images: stages.Images,
    bank: concepts.ConceptBank,
    lost: pd.DataFrame,
    titles: Sequence[str],
    asked: AtlasOptions,
) -> None:
    shares, report = lost.set_index("class"), _report(bank)
    predicted = images.table["prediction"].to_numpy()
    for own in progress(stages.searched(out / tables.KEPT / "prototypes"), "pages", len(bank.basis)):
        label = int(own["class"].iloc[0])
        page, thumb = (out / folder / f"{label:04d}.jpg" for folder in (PAGES, THUMBS))
        if page.is_file() and thumb.is_file():
            continue
        rows = own["image"].tolist()
        crops = tables.with_boxes(own, pooled).assign(said=[titles[predicted[row]] for row in rows])
        labels = [f"concept {k + 1}\n{_share(one)} lost" for k, one in enumerate(shares.loc[label])]
        used, error = report[label]["images"], report[label]["error"]
        told = f"{_layer(pooled)}; learned from {used} images predicted as the class, error {error:.2f}; "
        told += "lost: share of the class's probability without the concept"
        sheet = Sheet(f"{label} {titles[label]}", told, asked.note, labels, crops, asked.prototypes)
        draw_sheet(sheet, pictures_of(images.split.images, rows), page, thumb)


def _report(bank: concepts.ConceptBank) -> dict[int, dict[str, Any]]:
    """Rows of the concepts' report by class."""
    rows: Any = bank.report.to_dict("records")
    return {row["class"]: row for row in rows}


def _layer(pooled: concepts.PooledActivations) -> str:
    height, width = pooled.cell
    return f"layer {pooled.hidden.layer}, crops of {height} x {width} pixels"


def _share(value: float) -> str:
    return "unknown" if value != value else f"{value:.0%}".replace("-", "\u2212")


def _index(
    out: Path,
    images: stages.Images,
    bank: concepts.ConceptBank,
    lost: pd.DataFrame,
    titles: Sequence[str],
    hidden: concepts.HiddenLayer,
    asked: AtlasOptions,
) -> Path:
    shares, report = lost.set_index("class").max(axis=1).to_dict(), _report(bank)
    cards = [
        {
            "number": label,
            "title": titles[label],
            "page": f"{PAGES}/{label:04d}.jpg",
            "thumb": f"{THUMBS}/{label:04d}.jpg",
            "images": report[label]["images"],
            "lost": _share(shares[label]),
        }
        for label in bank.classes
    ]
    told = {
        "layer": f"{hidden.layer}, {hidden.channels} channels, {hidden.size[0]} x {hidden.size[1]} places",
        "images": f"{len(images.split)} at {images.size[0]} x {images.size[1]} pixels",
        "concepts": f"{asked.components} of each class, from at most {asked.images_per_class} images",
        "relevance": f"{asked.relevance}, {asked.noise_copies} noisy copies",
        "importance": f"mean over at most {stages.IMPORTANCE_IMAGES} images of the class",
        "seed": str(asked.seed),
    }
    files: Iterable[str] = (*tables.TABLES, *(tables.TESTED if asked.test else ()), BASIS)
    page = (
        environment()
        .get_template("atlas.html")
        .render(
            cards=cards,
            width=asked.components,
            note=asked.note,
            about=told,
            tables=files,
            without=[(own, titles[own], row["skipped"]) for own, row in report.items() if row["skipped"]],
            skipped=images.skipped,
        )
    )
    with atomic_path(out / INDEX) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")
    return out / INDEX
