"""Explain image files: maps, overlays and a table, streamed from files to files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain, count, islice
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from gan_lib.classifiers import Classifier
from gan_lib.core.capture import evaluation_mode
from gan_lib.core.masking import masked_images
from gan_lib.core.runtime import progress
from gan_lib.core.storage import save_tensors
from gan_lib.data import find_images, read_image
from gan_lib.explainers import Explainer
from gan_lib.figures import overlay
from gan_lib.metrics import average_drop, class_probability

OVERLAY = "_overlay"  # behind a map's name
COLUMNS = ("image", "name", "prediction", "probability", "target", "target_probability", "drop", "area")


def resolve_class(cnn: Classifier, name: str | None) -> int | None:
    """A class by name or number.

    Raises:
        KeyError: no such class, near misses are listed; or several.
    """
    if name is None:
        return None
    names = [known.lower() for known in cnn.class_names]
    numbers = [number for number, known in enumerate(names) if known == name.lower()]
    if len(numbers) > 1:
        raise KeyError(f"several classes are called {name!r}: give one of the numbers {numbers}")
    if numbers:
        return numbers[0]
    if name.isdecimal() and int(name) < len(names):
        return int(name)
    near = [known for known in cnn.class_names if name.lower() in known.lower()][:5]
    hint = f"; did you mean {', '.join(map(repr, near))}?" if near else f"; there are {len(names)} classes"
    raise KeyError(f"no class {name!r}{hint}")


def explain_images(
    images: Sequence[Path],
    cnn: Classifier,
    explainers: Mapping[str, Explainer],
    size: tuple[int, int],
    out: Path,
    target: int | None = None,
    batch_size: int = 32,
    warn: Callable[[str], None] = lambda _: None,
) -> tuple[int, int]:
    """Explain images one batch after the other, so that memory does not grow with their number.

    Args:
        images: files, and folders that are searched for them (:func:`gan_lib.data.find_images`).
        cnn: the CNN whose predictions are explained.
        explainers: by the folder that receives their maps; the first one's are measured in the table.
        size: height and width at which the CNN sees the images.
        out: receives ``inputs/NAME.png``; per explainer ``NAME.png`` (the map in grey),
            ``NAME_overlay.png`` and ``NAME.safetensors`` (``map``, (1, H, W) float); and
            ``explanations.csv``, whose column ``name`` is NAME.
        target: class to be explained; ``None`` for the predicted one.
        batch_size: images at a time.
        warn: told about every image that cannot be read.

    Returns:
        How many images were explained, and how many could not be read.

    Raises:
        FileNotFoundError: a file or folder that is not there, or no image in them.
    """
    files = list(find_images(images))
    if not files:
        raise FileNotFoundError(f"no images in {', '.join(map(str, images))}")

    def read(entry: tuple[Path, Path]) -> Tensor | ValueError:
        try:
            return read_image(entry[0], size)
        except ValueError as error:
            return error

    explained, skipped, taken = 0, 0, set[Path]()
    out.mkdir(parents=True, exist_ok=True)
    with (out / "explanations.csv").open("w", newline="") as file, ThreadPoolExecutor() as pool:
        pd.DataFrame(columns=COLUMNS).to_csv(file, index=False)
        remaining = iter(progress(files, "explaining"))
        while batch := list(islice(remaining, batch_size)):
            good: dict[Path, tuple[Path, Tensor]] = {}
            for (path, name), image in zip(batch, pool.map(read, batch), strict=True):
                if isinstance(image, Tensor):
                    good[_free_name(name, taken)] = path, image
                else:
                    warn(f"skipped {path}: {image}")
            explained, skipped = explained + len(good), skipped + len(batch) - len(good)
            if not good:
                continue
            pictures = torch.stack([image for _, image in good.values()]).float() / 255  # (B, 3, H, W)
            table, maps = _explain(cnn, explainers, pictures, target)
            table.insert(0, "image", [path.as_posix() for path, _ in good.values()])
            table.insert(1, "name", [stem.as_posix() for stem in good])
            table.to_csv(file, index=False, header=False)
            list(pool.map(lambda write: write(), _writers(out, list(good), pictures, maps)))
            file.flush()
    return explained, skipped


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
    cnn: Classifier, explainers: Mapping[str, Explainer], pictures: Tensor, target: int | None
) -> tuple[pd.DataFrame, dict[str, Tensor]]:
    """The other columns of the table, and maps (B, 1, H, W) by explainer."""
    pictures = pictures.to(next(cnn.parameters()).device)
    with evaluation_mode(cnn), torch.no_grad():
        probabilities = cnn(pictures).float().softmax(1)  # (B, K)
    best, prediction = probabilities.max(1)
    explained = prediction if target is None else torch.full_like(prediction, target)
    maps = {name: explainer.attribute(pictures, target=explained) for name, explainer in explainers.items()}
    first = next(iter(maps.values()))
    before = probabilities.gather(1, explained[:, None])[:, 0]  # (B,)
    drop = average_drop(before, class_probability(cnn, masked_images(pictures, first, "blur"), explained))
    named = ([cnn.class_names[label] for label in labels.tolist()] for labels in (prediction, explained))
    numbers = (own.double().cpu().numpy().round(4) for own in (best, before, drop, first.mean((1, 2, 3))))
    (predicted, asked), (sure, given, lost, area) = named, numbers
    columns = (predicted, sure, asked, given, lost.round(2), area)
    table = pd.DataFrame(dict(zip(COLUMNS[2:], columns, strict=True)))
    return table, {name: own.cpu() for name, own in maps.items()}


def _writers(
    out: Path, stems: Sequence[Path], pictures: Tensor, maps: Mapping[str, Tensor]
) -> Iterator[Callable[[], None]]:
    """One call per file to be written."""
    for folder in ("inputs", *maps):
        for stem in stems:
            (out / folder / stem).parent.mkdir(parents=True, exist_ok=True)
    for stem, image in zip(stems, pictures, strict=True):
        yield partial(_save, image, out / "inputs" / f"{stem}.png")
    for folder, own in maps.items():
        for stem, one, picture in zip(stems, own, overlay(pictures, own), strict=True):
            base = out / folder / stem
            yield partial(_save, one, base.with_name(f"{stem.name}.png"))
            yield partial(_save, picture, base.with_name(f"{stem.name}{OVERLAY}.png"))
            yield partial(save_tensors, base.with_name(f"{stem.name}.safetensors"), {"map": one})


def _save(pixels: Tensor, path: Path) -> None:
    """Write (3, H, W) or (1, H, W) in [0, 1] as a PNG."""
    to_pil_image(pixels.clamp(0, 1).mul(255).round().byte()).save(path)
