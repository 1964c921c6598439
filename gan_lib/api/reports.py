"""A report: what a CNN relies on, and whether its maps can be trusted, in one page."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gan_lib.api.cnns import image_size, read_images
from gan_lib.api.explaining import explainer, made, train_explainer, usual
from gan_lib.classifiers import Classifier
from gan_lib.data import ImageSplit
from gan_lib.explainers import ContrastiveExplainer, Explainer
from gan_lib.reporting import Report, check_folder, photos_of, read_split, write_report
from gan_lib.reporting.about import is_said
from gan_lib.reporting.case import UNKNOWN
from gan_lib.reporting.folder import KEPT, OTHERWISE, TRAINING
from gan_lib.workbench import Places, Profile, Recipe
from gan_lib.workbench.places import comes_with

BESIDE = ("grad_cam", "evidence_projection")  # what a report holds its method against


def report(
    cnn: nn.Module,
    images: Any,
    out: str | Path = "report",
    method: str | Explainer | None = None,
    *,
    train: str | Recipe | None = None,
    overwrite: bool = False,
    seed: int = 0,
    tell: Callable[[str], None] = lambda _: None,
) -> Report:
    """What a CNN relies on, and whether its maps can be trusted, as one HTML page to send.

        written = gan_lib.report(cnn, "photos", "report")
        written.page, written.findings

    The page explains images of every class, holds the maps against controls and sanity checks, takes a layer
    apart into concepts, and searches for what the CNN relies on beside the object. Every sentence that says
    something of the CNN is decided by a table; the tables lie beside the page.

    Args:
        cnn: what :func:`wrap` or :func:`load_cnn` gave.
        images: files and folders, in which folders named after classes say which class their images are of; a
            split; or what :func:`read_images` takes.
        out: folder that receives the report; parts that it has are not made again.
        method: that the report is about; by default as for :func:`explain`.
        train: a recipe, by which a generator is trained for this CNN on the images first, and reported on.
        overwrite: whether a report of other settings in the folder is replaced.
        seed: of every choice of images.
        tell: is told what is being done.

    Raises:
        TypeError: a CNN that is not wrapped, or several methods.
        ValueError: the folder holds a report of other settings, or no image can be explained.
        KeyError, FileNotFoundError: as :func:`explainer` and :func:`read_images`.
    """
    if not isinstance(cnn, Classifier):
        raise TypeError(
            f"a report is about a CNN that says what it is: gan_lib.wrap({type(cnn).__name__}, ...)"
        )
    if not isinstance(method, str | Explainer | None):
        raise TypeError(f"a report is about one method, a name or an explainer, not {type(method).__name__}")
    folder, size = Path(out), image_size(cnn)
    split, skipped = _split_of(images, cnn, size, folder)
    explainers: dict[str, Explainer] = {}
    if train is not None:
        if not overwrite:
            check_folder(cnn, split, folder, skipped, said=is_said(cnn, None), seed=seed)
        own = train_for_report(cnn, split, train, folder, overwrite)
        explainers[own.name] = own
    (first,) = [usual(cnn, size)] if method is None else made([method], cnn)
    explainers.setdefault(first.name, first)
    for name in BESIDE:
        with suppress(KeyError, ValueError):  # not every CNN can be explained so
            explainers.setdefault(name, explainer(name, cnn))
    said = is_said(cnn, None)
    return write_report(
        cnn, split, explainers, folder, skipped, said=said, overwrite=overwrite, seed=seed, tell=tell
    )


def recipe_named(name: str, root: Path | None = None) -> Recipe:
    """A recipe by the name of a profile or the path of its file; ``"cpu"`` are the defaults.

    Args:
        root: the project whose profiles are meant; by default the one around the working directory, and where
            there is none, what comes with the library.

    Raises:
        ProfileError: no such profile, or one that does not fit.
    """
    if name == "cpu":
        return Recipe()
    try:
        places = Places.of(root) if root else Places.find()
    except FileNotFoundError:
        places = Places.of(comes_with())
    return Profile.load(name, places.profiles).recipe


def train_for_report(
    cnn: Classifier, split: ImageSplit, recipe: str | Recipe, out: Path, overwrite: bool = False
) -> ContrastiveExplainer:
    """A generator trained for a report; a training that was interrupted goes on, one of another CNN, other
    images or another recipe is begun anew where it may be overwritten, else a ``ValueError``."""
    folder = out / KEPT / TRAINING
    recipe = recipe_named(recipe) if isinstance(recipe, str) else recipe
    try:
        return train_explainer(cnn, split, recipe, folder)
    except ValueError as error:
        if str(folder) not in str(error):
            raise
        if not overwrite:
            raise ValueError(f"{error}: {OTHERWISE}") from error
    shutil.rmtree(folder)
    return train_explainer(cnn, split, recipe, folder)


def _split_of(
    images: Any, cnn: Classifier, size: tuple[int, int], out: Path
) -> tuple[ImageSplit, list[tuple[str, str]]]:
    """Images of a report, and files that could not be read."""
    if isinstance(images, ImageSplit):
        return images, []
    several = images if isinstance(images, Sequence) and not isinstance(images, str) else [images]
    paths = [Path(own).expanduser() for own in several if isinstance(own, str | Path)]
    if paths and len(paths) == len(several) and all(own.exists() for own in paths):
        return read_split(photos_of(paths, out), cnn, size)
    split = ImageSplit.of(read_images(images, size))
    return replace(split, labels=torch.full_like(split.labels, UNKNOWN)), []
