"""Insertion by hand, from files to files: a crop pasted into a folder's images, pictures and tables.

inserted/
    insert.json            what all of it was made with
    images.csv             a row per image
    summary.csv            mean probabilities of both classes before and after, with intervals
    pasted/NAME.png        the image as the CNN saw it, with the crop
    control/NAME.png       the same with the control
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from gan_lib.classifiers import Classifier
from gan_lib.concepts.contrasting import CONTROLS as CONTROLS
from gan_lib.concepts.contrasting import control_colour, insert_crop, insertion_table, scaled_crop
from gan_lib.core.inputs import at_once
from gan_lib.core.runtime import progress
from gan_lib.core.sheets import as_text, neutral_table
from gan_lib.core.storage import atomic_path, write_json
from gan_lib.data import read_image
from gan_lib.data.reading import read_cutout
from gan_lib.workbench.explain import BATCH, Photo, find_photos, settings_of
from gan_lib.workbench.explained import name_problem

ROWS, SUMMARY, SETTINGS = "images.csv", "summary.csv", "insert.json"
PICTURES = ("pasted", "control")


@dataclass(frozen=True)
class Insertion:
    """What is pasted, and what is asked.

    Attributes:
        crop: (4, h, w) in [0, 1], in the pixels of the images as the CNN sees them (:func:`crop_of`).
        one, other: the class that the crop is thought to speak for, and the one against which.
        control: ``black`` or ``mean`` (:func:`gan_lib.concepts.contrasting.control_colour`).
        at: left and top in pixels; ``None`` for a free place of each image.
    """

    crop: Tensor
    one: int
    other: int
    control: str = "black"
    at: tuple[int, int] | None = None


def crop_of(path: Path, size: tuple[int, int], share: float | None = None) -> Tensor:
    """A crop's file as (4, h, w) in [0, 1], with its opacity.

    Args:
        path: of the file.
        size: height and width of the images.
        share: of the images' shorter side, that the crop's longer side takes; ``None``: its own pixels.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an unreadable one, a share that is none, or a crop that is larger than the images.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no crop {path}")
    crop = read_cutout(path).float() / 255
    if share is not None:
        return scaled_crop(crop, share, size)
    if crop.shape[1] > size[0] or crop.shape[2] > size[1]:
        own, its = (f"{tall}x{wide}" for tall, wide in (crop.shape[1:], size))
        raise ValueError(f"the crop {path} is {own} pixels, larger than the images of {its}: give its size")
    return crop


def check_out(out: Path, overwrite: bool) -> None:
    """Whether a folder may receive an insertion.

    Raises:
        ValueError: it holds one already, or files of another origin in their place.
    """
    if (out / SETTINGS).is_file():
        if not overwrite:
            raise ValueError(
                f"{out} holds an insertion: take another folder (--out), or overwrite it (--overwrite)"
            )
    elif there := [name for name in (ROWS, SUMMARY, *PICTURES) if (out / name).exists()]:
        raise ValueError(f"{out / there[0]} is there already, and not from an insertion: take another folder")


def photos_into(folders: Sequence[Path], out: Path) -> list[Photo]:
    """Images of folders and the names wanted for them; what an insertion has written to ``out`` is left out.

    Raises:
        FileNotFoundError: a folder that is not there, or no image in them.
    """
    written = [(out / name).resolve() for name in PICTURES]
    found = [
        own
        for own in find_photos(folders, out)
        if not any(own[0].resolve().is_relative_to(folder) for folder in written)
    ]
    if not found:
        raise FileNotFoundError(f"no images in {', '.join(map(str, folders))} but those of an insertion")
    return found


def insert_into(
    photos: Sequence[Photo],
    cnn: Classifier,
    size: tuple[int, int],
    asked: Insertion,
    out: Path,
    warn: Callable[[str], None] = lambda _: None,
) -> pd.DataFrame:
    """Paste a crop into images, a few at a time, write both pictures of each, and the tables.

    Args:
        photos: files and the names wanted for them (:func:`photos_into`).
        cnn: the CNN that is asked.
        size: height and width at which it sees the images.
        asked: the crop and the classes.
        out: folder that receives pictures and tables; those of an earlier insertion are taken away.
        warn: told about every image that cannot be read.

    Returns:
        Mean probabilities with intervals, as :func:`gan_lib.concepts.contrasting.insertion_table`, with the
        classes' names; empty if no image could be read.

    Raises:
        ValueError: as :func:`gan_lib.concepts.contrasting.insert_crop`.
    """
    colour, together = control_colour(cnn, asked.control), min(BATCH, at_once(cnn, size))
    classes = {"one": cnn.class_names[asked.one], "other": cnn.class_names[asked.other]}
    about: dict[str, Any] = {"classes": [*classes.values()], "control": asked.control, "colour": list(colour)}
    about |= {"crop": list(asked.crop.shape[1:]), "at": list(asked.at or ())}
    tables: list[pd.DataFrame] = []
    taken: set[str] = set()
    batches = [photos[start : start + together] for start in range(0, len(photos), together)]
    with ThreadPoolExecutor() as pool:
        for batch in progress(batches, "inserting"):
            read = list(pool.map(partial(_read, size=size), batch))
            known = [(photo, own) for photo, own in zip(batch, read, strict=True) if isinstance(own, Tensor)]
            for photo, reason in zip(batch, read, strict=True):
                if isinstance(reason, str):
                    warn(as_text(f"skipped {photo[0]}: {reason}"))
            if not known:
                continue
            images = torch.stack([own for _, own in known])
            made = insert_crop(cnn, images, asked.crop, asked.one, asked.other, colour, asked.at)
            if not tables:  # now there is something in place of what was there
                clear(out)
                write_json(out / SETTINGS, settings_of(cnn, size) | about)
            names = [_free_name(photo[1], taken) for photo, _ in known]
            tables.append(made.rows.assign(image=[str(photo[0]) for photo, _ in known], name=names))
            for kind, pictures in zip(PICTURES, (made.pasted, made.control), strict=True):
                list(pool.map(_save, pictures, [out / kind / name for name in names]))
    if not tables:
        return pd.DataFrame()
    rows = pd.concat(tables, ignore_index=True)
    table = insertion_table(rows).replace({"class": classes})
    for name, own in ((ROWS, _named(rows, cnn, classes)), (SUMMARY, table)):
        with atomic_path(out / name) as temporary:
            neutral_table(own).to_csv(temporary, index=False)
    return table


def clear(out: Path) -> None:
    """Take away what an insertion has written, and nothing else."""
    for name in (SETTINGS, ROWS, SUMMARY):
        (out / name).unlink(missing_ok=True)
    for name in PICTURES:
        shutil.rmtree(out / name, ignore_errors=True)


def _read(photo: Photo, size: tuple[int, int]) -> Tensor | str:
    """Pixels (3, H, W) in [0, 1], or why there are none."""
    if problem := name_problem(*photo):
        return problem
    try:
        return read_image(photo[0], size).float() / 255
    except ValueError as error:
        return str(error)


def _free_name(wanted: Path, taken: set[str]) -> str:
    """A picture's name: the image's with the ending .png, and with its own before it where that is taken."""
    name = wanted.with_suffix(".png").as_posix()
    number = 1
    while name.lower() in taken:
        name = f"{wanted.as_posix()}{'' if number == 1 else f'_{number}'}.png"
        number += 1
    taken.add(name.lower())
    return name


def _save(picture: Tensor, path: Path) -> None:
    with atomic_path(path) as temporary:
        to_pil_image((255 * picture).round().byte()).save(temporary, format="PNG")


def _named(rows: pd.DataFrame, cnn: Classifier, classes: dict[str, str]) -> pd.DataFrame:
    """The rows as they are written: predictions and columns by the classes' names."""
    made = rows.rename(columns=partial(_heading, classes=classes))
    for column in made.columns[made.columns.str.startswith("prediction")]:
        made[column] = [cnn.class_names[label] for label in rows[column]]
    return made[["image", "name", *made.columns.drop(["image", "name"])]]


def _heading(column: str, classes: dict[str, str]) -> str:
    """``one_pasted`` as ``cat: pasted``."""
    which, _, state = column.partition("_")
    return f"{classes[which]}: {state}" if which in classes else column
