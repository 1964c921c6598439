"""Explain image files: maps, overlays and a table, streamed from files to files."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain, count, islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gan_lib.classifiers import Classifier, load_classifier, make_classifier
from gan_lib.core.capture import evaluation_mode
from gan_lib.core.masking import masked_images
from gan_lib.core.runtime import make_fabric, progress
from gan_lib.core.storage import read_json, save_tensors
from gan_lib.data import read_image
from gan_lib.explainers import METHODS, Explainer, GeneratorExplainer, make_explainer, methods_of
from gan_lib.figures import overlay
from gan_lib.metrics import average_drop, class_probability

OVERLAY = "_overlay"  # behind a map's name
IMAGENET_SIZE = (224, 224)
FOLDERS = {"grad_cam": "gradcam"}
COLUMNS = ("image", "name", "prediction", "probability", "target", "target_probability", "drop", "area")


@dataclass(frozen=True)
class Explained:
    """What became of the images.

    Attributes:
        images: how many were explained.
        skipped: path and reason of each that could not be read.
    """

    images: int
    skipped: tuple[tuple[Path, str], ...]


@dataclass(frozen=True)
class Loaded:
    """A CNN with its explainers.

    Attributes:
        cnn: the CNN.
        by_folder: explainers by the name of the folder that receives their maps.
        image_size: height and width at which they see images.
    """

    cnn: Classifier
    by_folder: dict[str, Explainer]
    image_size: tuple[int, int]


def load_explainers(
    pretrained: Path, model: str, method: str, weights: str | None = None, device: str = "auto"
) -> Loaded:
    """The explainer of a method, and Grad-CAM beside it.

    Args:
        pretrained: folder of pretrained CNNs and explainers, ``MODEL/METHOD``.
        model: one of them; for a baseline also an architecture that
            :func:`gan_lib.classifiers.make_classifier` knows, with ImageNet's classes.
        method: ``lsft``, ``gsft``, ``contrastive-lsft``, ``contrastive-gsft`` or a baseline's name.
        weights: of the CNN, where they do not lie there.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Raises:
        KeyError: an unknown method or CNN; what is there, or near misses, is listed.
        FileNotFoundError: weights that cannot be had; the message says which file to put where.
    """
    chosen = make_fabric(device).device
    folder, method = pretrained / model, METHODS.name(method)
    learns_nothing = METHODS[method].kind != "trained"
    if (folder / "classifier.json").is_file():
        cnn = load_classifier(folder, weights)
    elif learns_nothing:
        cnn = make_classifier(model, weights=weights or "DEFAULT").eval()
    else:
        known = sorted(path.parent.name for path in pretrained.glob("*/classifier.json"))
        raise KeyError(f"no pretrained explainer for {model!r}; there are some for {known}")
    cnn.requires_grad_(False)
    if learns_nothing:
        sizes = [read_json(path)["image_size"] for path in sorted(folder.glob("*/explainer.json"))]
        size = (sizes[0][0], sizes[0][1]) if sizes else IMAGENET_SIZE
        explainers: dict[str, Explainer] = {FOLDERS.get(method, method): make_explainer(method, cnn)}
    else:
        trained_folder = folder / method.replace("_", "-")
        if not (trained_folder / "explainer.json").is_file():
            known = sorted(path.parent.name for path in folder.glob("*/explainer.json"))
            raise KeyError(
                f"no method {method!r} for {model}; there are {known} and {methods_of('baseline')}"
            )
        trained = GeneratorExplainer.from_pretrained(trained_folder, cnn)
        size, explainers = trained.image_size, {"gan": trained}
    if method != "grad_cam":
        explainers["gradcam"] = make_explainer("grad_cam", cnn)
    return Loaded(cnn, {name: explainer.to(chosen) for name, explainer in explainers.items()}, size)


def resolve_class(cnn: Classifier, name: str | None) -> int | None:
    """A class by name or number.

    Raises:
        KeyError: no such class; near misses are listed.
    """
    if name is None:
        return None
    names = [known.lower() for known in cnn.class_names]
    if name.lower() in names:
        if names.count(name.lower()) > 1:
            numbers = [number for number, known in enumerate(names) if known == name.lower()]
            raise KeyError(f"several classes are called {name!r}: give one of the numbers {numbers}")
        return names.index(name.lower())
    if name.isdecimal() and int(name) < len(names):
        return int(name)
    near = [known for known in cnn.class_names if name.lower() in known.lower()][:5]
    hint = f"; did you mean {', '.join(map(repr, near))}?" if near else f"; there are {len(names)} classes"
    raise KeyError(f"no class {name!r}{hint}")


def explain_images(
    files: Iterable[tuple[Path, Path]],
    cnn: Classifier,
    explainers: dict[str, Explainer],
    image_size: tuple[int, int],
    out: Path,
    target: int | None = None,
    batch_size: int = 32,
    warn: Callable[[str], None] = lambda _: None,
) -> Explained:
    """Explain images one batch after the other, so that memory does not grow with their number.

    Args:
        files: path and name of every image, as :func:`gan_lib.data.find_images` gives them.
        cnn: the CNN whose predictions are explained.
        explainers: by the folder that receives their maps; the first one's are measured in the table.
        image_size: height and width at which the CNN sees the images.
        out: receives ``inputs/NAME.png``; per explainer ``NAME.png`` (the map in grey),
            ``NAME_overlay.png`` and ``NAME.safetensors`` (``map``, (1, H, W) float); and
            ``explanations.csv``, whose column ``name`` is NAME.
        target: class to be explained; ``None`` for the predicted one.
        batch_size: images at a time.
        warn: told about every image that cannot be read.

    Returns:
        How many images were explained, and which were skipped.
    """
    skipped: list[tuple[Path, str]] = []
    taken: set[Path] = set()
    explained = 0
    out.mkdir(parents=True, exist_ok=True)
    with (out / "explanations.csv").open("w", newline="") as file, ThreadPoolExecutor() as pool:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        remaining = iter(progress(files, "explaining"))
        while batch := list(islice(remaining, batch_size)):
            images, names = [], []
            for (path, name), read in zip(batch, pool.map(_reader(image_size), batch), strict=True):
                if isinstance(read, ValueError):
                    skipped.append((path, str(read)))
                    warn(f"skipped {path}: {read}")
                    continue
                images.append(read)
                names.append((path, _free_name(name, taken)))
            if not images:
                continue
            pictures = torch.stack(images).float() / 255  # (B, 3, H, W)
            rows, maps = _explain(cnn, explainers, pictures, target)
            for (path, stem), row in zip(names, rows, strict=True):
                table.writerow({"image": path.as_posix(), "name": stem.as_posix(), **row})
            stems = [stem for _, stem in names]
            list(pool.map(lambda job: job(), _writers(out, stems, pictures, maps)))
            file.flush()
            explained += len(images)
    return Explained(explained, tuple(skipped))


def _reader(image_size: tuple[int, int]) -> Callable[[tuple[Path, Path]], Tensor | ValueError]:
    def read(entry: tuple[Path, Path]) -> Tensor | ValueError:
        try:
            return read_image(entry[0], image_size)
        except ValueError as error:
            return error

    return read


def _free_name(name: Path, taken: set[Path]) -> Path:
    """A name without ending, not given before: ``a.jpg`` and ``a.png`` become ``a`` and ``a_png``."""

    def overlay_of(stem: Path) -> Path:
        return stem.with_name(f"{stem.name}{OVERLAY}")

    candidates = [name.with_suffix(""), name.with_name(name.name.replace(".", "_"))]
    numbered = (name.with_name(f"{name.stem}_{number}") for number in count(2))
    free = (stem for stem in chain(candidates, numbered) if not {stem, overlay_of(stem)} & taken)
    stem = next(free)
    taken |= {stem, overlay_of(stem)}
    return stem


def _explain(
    cnn: Classifier, explainers: dict[str, Explainer], pictures: Tensor, target: int | None
) -> tuple[list[dict[str, object]], dict[str, Tensor]]:
    """Rows of the table, and maps (B, 1, H, W) by explainer."""
    device = next(cnn.parameters()).device
    pictures = pictures.to(device)
    with evaluation_mode(cnn), torch.no_grad():
        probabilities = cnn(pictures).float().softmax(1)  # (B, K)
    best, prediction = probabilities.max(1)
    explained = prediction if target is None else torch.full_like(prediction, target)
    maps = {name: explainer.attribute(pictures, target=explained) for name, explainer in explainers.items()}
    first = next(iter(maps.values()))
    before = class_probability(cnn, pictures, explained)
    drop = average_drop(before, class_probability(cnn, masked_images(pictures, first, "blur"), explained))
    rows: list[dict[str, object]] = [
        {
            "prediction": cnn.class_names[int(prediction[index])],
            "probability": round(float(best[index]), 4),
            "target": cnn.class_names[int(explained[index])],
            "target_probability": round(float(before[index]), 4),
            "drop": round(float(drop[index]), 2),
            "area": round(float(first[index].mean()), 4),
        }
        for index in range(len(pictures))
    ]
    return rows, {name: own.cpu() for name, own in maps.items()}


def _writers(
    out: Path, stems: Sequence[Path], pictures: Tensor, maps: dict[str, Tensor]
) -> Iterator[Callable[[], None]]:
    """One call per file to be written."""

    def picture(path: Path, pixels: Tensor) -> Callable[[], None]:  # (3, H, W) or (1, H, W) in [0, 1]
        def write() -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            values = (pixels.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
            Image.fromarray(np.ascontiguousarray(values.squeeze())).save(path)

        return write

    for index, stem in enumerate(stems):
        yield picture(out / "inputs" / f"{stem}.png", pictures[index])
    for folder, own in maps.items():
        overlays = overlay(pictures, own)
        for index, stem in enumerate(stems):
            base = out / folder / stem
            yield picture(base.with_name(f"{stem.name}.png"), own[index])
            yield picture(base.with_name(f"{stem.name}{OVERLAY}.png"), overlays[index])
            yield partial(save_tensors, base.with_name(f"{stem.name}.safetensors"), {"map": own[index]})
