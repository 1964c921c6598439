"""Explain image files: maps, overlays and a table, streamed from files to files."""

from __future__ import annotations

import difflib
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, overload

import pandas as pd
import torch
from torch import Tensor

from gan_lib.classifiers import Classifier
from gan_lib.core.capture import evaluation_mode
from gan_lib.core.inputs import at_once
from gan_lib.core.masking import masked_images
from gan_lib.core.runtime import progress
from gan_lib.core.sheets import as_text
from gan_lib.core.storage import tensor_bytes
from gan_lib.data import find_images, read_image
from gan_lib.explainers import Explainer, GeneratorExplainer
from gan_lib.metrics import average_drop, class_probability
from gan_lib.workbench.explained import OTHERWISE, TABLE, ExplanationFolder, name_problem, written_to
from gan_lib.workbench.written import write_files

BATCH = 16  # images at a time at most: enough for a GPU, and rows come soon enough
HOPELESS = 16  # images one after the other that cannot be written: the run ends
Photo = tuple[Path, Path]  # an image file and the name wanted for it


@dataclass
class Counts:
    """How many images were explained by a run, were there before, and could not be explained; and of the
    latter, how many because their files could not be written."""

    explained: int = 0
    known: int = 0
    skipped: int = 0
    unwritten: int = 0


def resolve_class(cnn: Classifier, name: str | None) -> int | None:
    """A class by name or number; capitals, spaces, hyphens and underscores do not matter unless they must.

    Raises:
        KeyError: no such class, near misses are listed; or several.
    """
    if name is None:
        return None
    known = cnn.class_names
    for plain in (str, plain_name):  # as it is written, then as it is meant
        numbers = [number for number, own in enumerate(known) if plain(own) == plain(name)]
        if len(numbers) > 1:
            raise KeyError(f"several classes are called {name!r}: give one of the numbers {numbers}")
        if numbers:
            return numbers[0]
    if name.strip().isdecimal() and int(name) < len(known):
        return int(name)
    by_plain = {plain_name(own): own for own in known}
    near: list[str] = []
    if any(map(str.isalpha, name)):  # no number is like another
        near += [own for plain, own in by_plain.items() if plain_name(name) in plain]
        near += [by_plain[own] for own in difflib.get_close_matches(plain_name(name), by_plain, n=3)]
    told = ", ".join(map(repr, dict.fromkeys(near[:5])))
    count = f"there are {len(known)} classes, numbered 0 to {len(known) - 1}"
    raise KeyError(f"no class {name!r}; {f'did you mean {told}?' if told else count}")


def plain_name(name: str) -> str:
    """A class's name without what does not tell it from others: capitals, hyphens, underscores."""
    return name.strip().lower().replace("-", " ").replace("_", " ")


def settings_of(cnn: Classifier, size: tuple[int, int], target: int | None = None) -> dict[str, Any]:
    """What explanations of a CNN are made with, as JSON values: other ones belong in another folder."""
    card = {name: value for name, value in asdict(cnn.card).items() if name != "class_names"}
    return {
        **card,
        "weights": _hash(cnn.state_dict()),
        "class_names": hashlib.sha256("\n".join(cnn.class_names).encode()).hexdigest()[:16],
        "image_size": list(size),
        "target": None if target is None else f"{target}: {cnn.class_names[target]}",
    }


def version_of(explainer: Explainer) -> str:
    """What tells a trained explainer from another of its name; of others, which learn nothing, empty."""
    return _hash(explainer.generator.state_dict()) if isinstance(explainer, GeneratorExplainer) else ""


def _hash(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode() + tensor_bytes(state[name]))
    return digest.hexdigest()[:16]


class Photos(Sequence[Photo]):
    """Files and the names wanted for them, kept as one text each, with a NUL, which is in no path, between:
    there may be very many, and a ``Path`` is large."""

    def __init__(self, photos: Iterable[Photo]) -> None:
        self._photos = [f"{path}\0{wanted}" for path, wanted in photos]

    def __len__(self) -> int:
        return len(self._photos)

    @overload
    def __getitem__(self, place: int) -> Photo: ...
    @overload
    def __getitem__(self, place: slice) -> list[Photo]: ...
    def __getitem__(self, place: int | slice) -> Photo | list[Photo]:
        if isinstance(place, slice):
            return [self[own] for own in range(*place.indices(len(self)))]
        path, _, wanted = self._photos[place].partition("\0")
        return Path(path), Path(wanted)


def find_photos(images: Sequence[Path], out: Path) -> Photos:
    """Image files and the names wanted for them; what explanations consist of is left out.

    That is what a run before wrote to ``out`` or to a folder that is given, and all that lies in other
    folders of explanations below it.

    Raises:
        FileNotFoundError: a file or folder that is not there, or no image in them.
    """
    return Photos(_photos_found(images, out))


def _photos_found(images: Sequence[Path], out: Path) -> Iterator[Photo]:
    found: set[str] = set()
    holds_table = cache(lambda folder: (folder / TABLE).is_file())
    parts = cache(written_to)
    for path, wanted in find_images(images):
        *below, place = path.absolute().parents[: len(wanted.parts)]
        is_made = any(map(holds_table, below)) or any(
            file.is_relative_to(folder) and file.relative_to(folder).parts[0] in parts(folder)
            for file, folder in ((path.absolute(), place), (path.resolve(), out.resolve()))
        )
        if not is_made and str(path.absolute()) not in found:
            found.add(str(path.absolute()))
            yield path, wanted
    if not found:
        given = ", ".join(map(str, images))
        raise FileNotFoundError(f"no images in {given} (hidden files and explanations are left out)")


def explain_images(
    photos: Sequence[Photo],
    cnn: Classifier,
    explainers: Mapping[str, Explainer],
    size: tuple[int, int],
    folder: ExplanationFolder,
    target: int | None = None,
    batch_size: int | None = None,
    warn: Callable[[str], None] = lambda _: None,
) -> Counts:
    """Explain images one batch after the other, so that memory does not grow with their number.

    Args:
        photos: files and the names wanted for them (:func:`find_photos`).
        cnn: the CNN whose predictions are explained.
        explainers: by the name of their method.
        size: height and width at which the CNN sees the images.
        folder: receives pictures, maps and rows; what it has is not made again.
        target: class to be explained; ``None`` for the predicted one.
        batch_size: images at a time; by default as many as a CPU's caches hold, at most :data:`BATCH`.
        warn: told about every image that cannot be read or written, and every map that is not finite.

    Raises:
        OSError: of 16 images one after the other nothing could be written, or no row.
    """
    with ThreadPoolExecutor() as pool:
        run = _Run(cnn, explainers, size, folder, target, warn, pool)
        together = batch_size or min(BATCH, at_once(cnn, size))
        for _ in progress(run.stream(photos, together), "explaining", len(photos)):
            pass
    return run.counts


@dataclass
class _Run:
    """What :func:`explain_images` was given, and what has become of it."""

    cnn: Classifier
    explainers: Mapping[str, Explainer]
    size: tuple[int, int]
    folder: ExplanationFolder
    target: int | None
    warn: Callable[[str], None]
    pool: ThreadPoolExecutor
    counts: Counts = field(default_factory=Counts)
    hopeless: int = 0  # images that could not be written since the last that could

    def stream(self, photos: Sequence[Photo], batch_size: int) -> Iterator[None]:
        """Explain photos; a step for each, when it is done."""
        for start in range(0, len(photos), batch_size):
            batch = photos[start : start + batch_size]
            waiting: list[tuple[Photo, Tensor]] = []
            for photo, pixels in zip(batch, self.pool.map(self._read, batch), strict=True):
                if isinstance(pixels, str):
                    self._skip(photo[0], pixels)
                elif reason := self._unfit(*photo):
                    self._skip(photo[0], reason)
                elif self.folder.missing(photo[0], [*self.explainers]):
                    waiting.append((photo, pixels))
                else:
                    self.counts.known += 1
            if waiting:
                self._explain([photo for photo, _ in waiting], torch.stack([own for _, own in waiting]))
            yield from [None] * len(batch)

    def _read(self, photo: Photo) -> Tensor | str:
        """Pixels (3, H, W) uint8, or why there are none."""
        try:
            pixels = read_image(photo[0], self.size)
            if self.folder.is_changed(photo[0], pixels):
                return f"it has changed since it was explained there; {OTHERWISE}"
        except ValueError as error:
            return str(error)
        return pixels

    def _unfit(self, path: Path, wanted: Path) -> str:
        """Why an image that can be read cannot be explained there; empty where it can."""
        if problem := name_problem(path, self.folder.name_of(path, wanted)):
            return problem
        if damaged := self.folder.damaged(path, [*self.explainers]):
            return f"{damaged}, made of it before, is damaged; {OTHERWISE}"
        return ""

    def _skip(self, path: Path, reason: str) -> None:
        self.counts.skipped += 1
        self.warn(f"skipped {as_text(path)}: {as_text(reason)}")

    def _explain(self, photos: Sequence[Photo], pixels: Tensor) -> None:
        """Explain photos (B, 3, H, W) uint8, each by the methods that it lacks: files first, then rows."""
        pictures = pixels.to(self.cnn.mean.device).float() / 255  # (B, 3, H, W)
        with evaluation_mode(self.cnn), torch.no_grad():
            probabilities = self.cnn.probabilities(self.cnn(pictures))  # (B, K)
        best, prediction = probabilities.max(1)
        targets = prediction if self.target is None else torch.full_like(prediction, self.target)  # (B,)
        given = probabilities.gather(1, targets[:, None])[:, 0]  # (B,)
        is_sure = probabilities.isfinite().all(1).tolist()
        rows: list[dict[str, Any]] = []
        maps: dict[tuple[int, str], Tensor] = {}
        for method, explainer in self.explainers.items():
            chosen = [
                place
                for place, (path, _) in enumerate(photos)
                if is_sure[place] and self.folder.missing(path, [method])
            ]
            if not chosen:
                continue
            try:
                own = explainer.attribute(pictures[chosen], target=targets[chosen])  # (b, 1, H, W)
            except Exception as error:
                error.add_note(f"in {method}")
                raise
            drops = self._drop(pictures[chosen], own, targets[chosen], given[chosen])
            for place, one, drop in zip(chosen, own.cpu(), drops.tolist(), strict=True):
                if not (one.isfinite().all() and math.isfinite(drop)):
                    self.warn(f"skipped {photos[place][0]}, {method}: its map is not finite")
                    continue
                maps[place, method] = one
                measured = {"method": method, "drop": round(drop, 2), "area": round(float(one.mean()), 4)}
                rows.append({"place": place, **measured})
        names = self.cnn.class_names
        about: dict[int, dict[str, Any]] = {
            place: {
                "image": photos[place][0].as_posix(),
                "name": self.folder.name_of(*photos[place]).as_posix(),
                "prediction": names[int(prediction[place])],
                "probability": round(float(best[place]), 4),
                "target": names[int(targets[place])],
                "target_probability": round(float(given[place]), 4),
            }
            for place in sorted({place for place, _ in maps})
        }
        if about:
            self.folder.begin()
        inputs = {about[place]["name"]: pixels[place] for place in about}
        named = {
            (about[place]["name"], method): (pictures[place].cpu(), own)
            for (place, method), own in maps.items()
        }
        lost = write_files(self.folder.path, inputs, named, self.pool)
        unwritten = {place: lost[own["name"]] for place, own in about.items() if own["name"] in lost}
        rows = [row for row in rows if row["place"] not in unwritten]
        if rows:
            rows.sort(key=lambda row: row["place"])  # the methods of an image follow each other
            self.folder.append(pd.DataFrame([{**about[row["place"]], **row} for row in rows]))
        self._count(photos, is_sure, {row["place"] for row in rows}, unwritten)

    def _drop(self, pictures: Tensor, maps: Tensor, targets: Tensor, before: Tensor) -> Tensor:
        """Average drop (B,) in per cent; of a class of no probability, 0: there is nothing to lose."""
        shown = masked_images(pictures, maps, "blur")
        drop = average_drop(before, class_probability(self.cnn, shown, targets))
        return torch.where(before > 0, drop, 0.0)

    def _count(
        self,
        photos: Sequence[Photo],
        is_sure: Sequence[bool],
        explained: set[int],
        unwritten: Mapping[int, OSError],
    ) -> None:
        for place, (path, _) in enumerate(photos):
            if place in explained:
                self.counts.explained += 1
                self.hopeless = 0
            elif place in unwritten:
                self.counts.unwritten += 1
                self.hopeless += 1
                self._skip(path, f"{unwritten[place].filename or 'a file'}: {unwritten[place].strerror}")
                if self.hopeless == HOPELESS:
                    raise unwritten[place]
            elif is_sure[place]:
                self._skip(path, "no method has a map of it")
            else:
                self._skip(path, "the CNN's probabilities are not finite")
