"""What a report is about: a CNN, images with what it predicts for them, and maps of several explainers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from gan_lib.classifiers import Classifier
from gan_lib.concepts.layers import probabilities
from gan_lib.core.inputs import at_once
from gan_lib.core.runtime import progress, release_memory
from gan_lib.core.sheets import as_text
from gan_lib.core.storage import load_tensors, save_tensors
from gan_lib.data import ImageSplit, read_image
from gan_lib.explainers import Explainer
from gan_lib.figures.labels import WORDNET_ID, class_titles
from gan_lib.workbench.explain import Photo, plain_name

READ = 64  # images that are read together
UNKNOWN = -1  # the label of an image whose true class is not known
SEEN = "seen.safetensors"


@dataclass(frozen=True)
class Case:
    """A CNN and what is known of its images; all parts of a report are made from it.

    Attributes:
        cnn: what is explained.
        split: the N images at its size; ``labels`` are their true classes where folders are named so, else
            :data:`UNKNOWN`; ``paths`` their files.
        probabilities: (N, K), float32. predicted: (N,).
        explainers: by method, the one that the report is about first.
        maps: by method (N, 1, H, W) uint8, of the predicted classes.
        skipped: files that are left out, with the reason.
        seed: of every choice.
    """

    cnn: Classifier
    split: ImageSplit
    probabilities: Tensor
    predicted: Tensor
    explainers: Mapping[str, Explainer]
    maps: Mapping[str, Tensor]
    skipped: Sequence[tuple[str, str]] = ()
    seed: int = 0

    def __len__(self) -> int:
        return len(self.split)

    @property
    def labels(self) -> Tensor:
        """(N,) true classes, :data:`UNKNOWN` where they are not known."""
        return self.split.labels

    @property
    def names(self) -> tuple[str, ...]:
        """What the classes are called."""
        return class_titles(self.cnn.class_names)

    @property
    def main(self) -> str:
        """The method that the report is about."""
        return next(iter(self.explainers))

    @property
    def sure(self) -> Tensor:
        """(N,) probability of the predicted classes."""
        return self.probabilities.gather(1, self.predicted[:, None])[:, 0]

    def images(self, rows: Tensor | Sequence[int]) -> Tensor:
        """Images (B, 3, H, W) in [0, 1]."""
        return self.split.batch(rows).images

    def maps_of(self, method: str, rows: Tensor | Sequence[int]) -> Tensor:
        """Maps (B, 1, H, W) in [0, 1]."""
        return self.maps[method][torch.as_tensor(rows, dtype=torch.long)].float() / 255

    def predictions(self) -> pd.DataFrame:
        """``image`` and ``prediction``, as the concepts' functions take them."""
        return pd.DataFrame({"image": range(len(self)), "prediction": self.predicted.tolist()})

    def classes(self, most: int | None = None, fewest: int = 1) -> list[int]:
        """Classes by how many images they are predicted for, the most first."""
        counts = torch.bincount(self.predicted, minlength=len(self.names))
        order = counts.argsort(descending=True, stable=True).tolist()
        return [label for label in order if counts[label] >= fewest][:most]

    def file(self, row: int) -> str:
        """What an image's file is called."""
        return as_text(self.split.paths[row]) if self.split.paths else f"image {row}"


def read_split(
    photos: Sequence[Photo], cnn: Classifier, size: tuple[int, int]
) -> tuple[ImageSplit, list[tuple[str, str]]]:
    """Image files at a CNN's size, and those that cannot be read, with the reason.

    Folders named like a class, with or without a WordNet id, say which class their images are of.

    Raises:
        ValueError: no image can be read.
    """
    label_of = label_by_folder(cnn)

    def read(photo: Photo) -> Tensor | str:
        try:
            return read_image(photo[0], size)
        except ValueError as error:
            return as_text(error)

    rows, labels, paths, skipped = [], [], [], []
    with ThreadPoolExecutor() as pool:
        made = progress(pool.map(read, photos), "reading", len(photos))
        for (path, wanted), pixels in zip(photos, made, strict=True):
            if isinstance(pixels, str):
                skipped.append((as_text(wanted), pixels))
                continue
            rows.append(pixels)
            labels.append(label_of((path, wanted)))
            paths.append(as_text(wanted))
    if not rows:
        raise ValueError(f"none of {len(photos)} images can be read; the first: {skipped[0][1]}")
    return ImageSplit(torch.stack(rows), torch.tensor(labels), paths=tuple(paths)), skipped


def label_by_folder(cnn: Classifier) -> Callable[[Photo], int]:
    """What tells the class of an image file: that of the nearest folder that is named after one, with or
    without a WordNet id; :data:`UNKNOWN` where there is none."""
    class_of = cache(_named(cnn))

    def label_of(photo: Photo) -> int:
        path, wanted = photo
        folders = (*reversed(wanted.parts[:-1]), path.absolute().parent.name)
        return next((label for own in folders if (label := class_of(own)) != UNKNOWN), UNKNOWN)

    return label_of


def _named(cnn: Classifier) -> Callable[[str], int]:
    """What tells the class that a folder is named after; :data:`UNKNOWN` for none, for several, and for a
    mere number."""
    named = list(cnn.class_names)
    without = [WORDNET_ID.sub("", own) for own in named]
    ids = [own.removesuffix(rest)[:-1] for own, rest in zip(named, without, strict=True)]

    def class_of(folder: str) -> int:
        for names, name in ((named, folder), (without, WORDNET_ID.sub("", folder)), (ids, folder)):
            for plain in (str, plain_name):  # as it is written, then as it is meant
                found = [number for number, own in enumerate(names) if own and plain(own) == plain(name)]
                if found:
                    return found[0] if len(found) == 1 else UNKNOWN
        return UNKNOWN

    return class_of


def see(
    cnn: Classifier,
    split: ImageSplit,
    explainers: Mapping[str, Explainer],
    skipped: Sequence[tuple[str, str]] = (),
    kept: Path | None = None,
    seed: int = 0,
    tell: Callable[[str], None] = lambda _: None,
) -> Case:
    """What a CNN predicts for images, and the maps of explainers; an image without finite ones is left out,
    and so is a method beside the first one that cannot explain the CNN.

    Args:
        kept: a folder in which all of this is kept, and found again.

    Raises:
        ValueError: no image has finite probabilities and maps, or the first method cannot explain the CNN; it
            is said what was wrong.
    """
    made: dict[str, Tensor] = {}
    if kept is not None:
        with suppress(FileNotFoundError, ValueError):  # not there, or cut short: it is made again
            made = load_tensors(kept / SEEN)
    if not len(split):
        raise ValueError("there is no image to report on")
    if "probabilities" not in made:
        batches = progress(split.batches(READ), "predicting", -(-len(split) // READ))
        parts = [probabilities(cnn, own.images) for own in batches]
        made["probabilities"] = torch.cat(parts)
        _keep(kept, made)
    found = made["probabilities"]  # (N, K)
    predicted = found.nan_to_num(-1).argmax(1)
    is_whole = found.isfinite().all(1)
    able: dict[str, Explainer] = {}
    for method, explainer in explainers.items():
        if method not in made:
            tell(f"maps of {method}")
            try:
                made[method], made[f"{method}.finite"] = _maps(explainer, split, predicted, is_whole)
            except ValueError as error:  # not every CNN can be explained so
                if not able:
                    raise ValueError(f"{method}: {error}; name another method") from error
                tell(f"without {method}: {error}")
                continue
            _keep(kept, made)
            release_memory()
        able[method] = explainer
    reasons = [
        (row, "the CNN's probabilities are not finite") for row in (~is_whole).nonzero()[:, 0].tolist()
    ]
    for method in able:
        lacks = is_whole & ~made[f"{method}.finite"]
        reasons += [(row, f"its map by {method} is not finite") for row in lacks.nonzero()[:, 0].tolist()]
        is_whole = is_whole & ~lacks
    told = [(as_text(split.paths[row]) if split.paths else f"image {row}", why) for row, why in reasons]
    if not is_whole.any():
        raise ValueError(f"nothing can be explained: of {len(split)} images, {told[0][0]}: {told[0][1]}")
    rows = is_whole.nonzero()[:, 0]
    return Case(
        cnn,
        split if len(rows) == len(split) else split.subset(rows),
        found[rows],
        predicted[rows],
        able,
        {method: made[method][rows] for method in able},
        [*skipped, *told],
        seed,
    )


def _maps(
    explainer: Explainer, split: ImageSplit, predicted: Tensor, is_whole: Tensor
) -> tuple[Tensor, Tensor]:
    """Maps (N, 1, H, W) uint8, zeros for images that are left out, and whether each is finite (N,)."""
    height, width = split.image_size
    maps = torch.zeros(len(split), 1, height, width, dtype=torch.uint8)
    rows, finite = is_whole.nonzero()[:, 0], is_whole.clone()
    together = at_once(explainer.cnn, (height, width))
    for part in progress(rows.split(together), explainer.name, -(-len(rows) // together)):
        own = explainer.attribute(split.batch(part).images, predicted[part])  # (B, 1, H, W)
        finite[part] = own.isfinite().all((1, 2, 3)).cpu()
        maps[part] = own.nan_to_num(0).clamp(0, 1).mul(255).round().byte().cpu()
    return maps, finite


def _keep(folder: Path | None, tensors: Mapping[str, Tensor]) -> None:
    if folder is not None:
        save_tensors(folder / SEEN, dict(tensors))
