"""Guided feature inversion of image files: five pictures of each, and a table.

inverted/
    inversion.csv                a row per image: classes, probabilities, box, IoU
    boxes.csv                    where there are annotations: IoU at every threshold, with intervals
    heat_map/NAME.png            step 1's mask in colour over the image
    mask/NAME.png                step 1's mask
    background_mask/NAME.png     what it leaves
    blurred/NAME.png             what is seen where a mask is 0
    class_mask/NAME.png          step 2's mask, of the class
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from gan_lib.classifiers import Classifier
from gan_lib.core.capture import evaluation_mode
from gan_lib.core.inputs import at_once
from gan_lib.core.runtime import progress
from gan_lib.core.sheets import as_text, neutral_table
from gan_lib.core.storage import atomic_path
from gan_lib.data.annotations import Annotation, boxes_of, read_boxes
from gan_lib.data.reading import picture_size, read_image
from gan_lib.figures import overlay
from gan_lib.inversion import (
    PUBLISHED_STEP_2,
    STEP_1,
    STEP_2,
    GuidedInversion,
    InversionOptions,
    inside_and_outside,
)
from gan_lib.metrics import box_scores, class_probability, intervals_by, map_boxes
from gan_lib.metrics.boxes import ALPHAS, box_iou
from gan_lib.workbench.explain import Photo, find_photos, plain_name
from gan_lib.workbench.explained import name_problem

TABLE, BOXES = "inversion.csv", "boxes.csv"
PICTURES = ("heat_map", "mask", "background_mask", "blurred", "class_mask")
SECOND = {False: STEP_2, True: PUBLISHED_STEP_2}  # by whether it is to be as published
BATCH = 8  # images at a time at most
CORNERS = ("left", "top", "right", "bottom")


@dataclass(frozen=True)
class Inverting:
    """How images are inverted.

    Attributes:
        size: height and width at which the CNN sees them.
        target: the class asked for in step 2; ``None`` for the predicted one.
        alpha: threshold of the boxes, in means of the mask.
        layer: whose channels masks are made of; by default see :func:`gan_lib.inversion.inversion_layers`.
        first, second: options of the two steps.
    """

    size: tuple[int, int]
    target: int | None = None
    alpha: float = 1.0
    layer: str | None = None
    first: InversionOptions = STEP_1
    second: InversionOptions = SECOND[False]


@dataclass
class Inverted:
    """What has become of the images: rows of the table, IoU at every threshold, and how many were skipped."""

    rows: list[dict[str, object]] = field(default_factory=list)
    iou: list[pd.DataFrame] = field(default_factory=list)
    skipped: int = 0


def photos_to_invert(images: Sequence[Path], out: Path) -> list[Photo]:
    """As :func:`gan_lib.workbench.explain.find_photos`, without what an inversion has written.

    Raises:
        FileNotFoundError: a file or folder that is not there, or no image in them.
    """
    found = [
        photo
        for photo in find_photos(images, out)
        if not any((folder / TABLE).is_file() for folder in photo[0].absolute().parents[1:])
    ]
    if not found:
        raise FileNotFoundError(
            f"no images in {', '.join(map(str, images))} (pictures of masks are left out)"
        )
    return found


def annotations_of(folder: Path, photos: Sequence[Photo]) -> dict[Path, Path]:
    """Files of boxes by the photos' names (:func:`gan_lib.data.annotations.boxes_of`).

    Raises:
        FileNotFoundError: no such folder.
        ValueError: several files that may be meant, or none for any photo.
    """
    found = boxes_of(folder, [name for _, name in photos])
    if not found:
        raise ValueError(f"{folder}: no annotation there is called as an image is")
    return found


def check_layer(cnn: Classifier, how: Inverting) -> None:
    """Whether masks can be made of the layer, tried on one grey image.

    Raises:
        KeyError: an unknown layer; near misses are listed.
        RuntimeError, ValueError: one that runs several times, or has no places.
    """
    GuidedInversion(cnn, how.layer).base(torch.full((1, 3, *how.size), 0.5, device=cnn.mean.device))


def invert_images(
    photos: Sequence[Photo],
    cnn: Classifier,
    how: Inverting,
    out: Path,
    annotated: Mapping[Path, Path] | None = None,
    warn: Callable[[str], None] = lambda _: None,
) -> Inverted:
    """Invert images one batch after the other; pictures and the table are there after each.

        photos = photos_to_invert([Path("photos")], Path("out"))
        invert_images(photos, cnn, Inverting((224, 224), target=243), Path("out"))

    Args:
        photos: files and the names wanted for them (:func:`photos_to_invert`).
        cnn: the CNN that is asked.
        how: layer, steps, class and threshold.
        out: the folder that receives pictures and tables.
        annotated: files of boxes by the photos' names (:func:`gan_lib.data.annotations.boxes_of`).
        warn: told about every image or annotation that cannot be read.

    Raises:
        KeyError, ValueError: a layer that is not there or has no places; see :class:`GuidedInversion`.
    """
    made, together = Inverted(), min(BATCH, at_once(cnn, how.size))
    names = _names([wanted for _, wanted in photos])
    inversion = GuidedInversion(cnn, how.layer)
    for start in progress(range(0, len(photos), together), "inverting", -(-len(photos) // together)):
        kept: list[tuple[Photo, Path, Tensor]] = []
        for photo, name in zip(photos[start:][:together], names[start:], strict=False):
            try:
                if problem := name_problem(photo[0], name):
                    raise ValueError(problem)
                kept.append((photo, name, read_image(photo[0], how.size)))
            except ValueError as error:
                made.skipped += 1
                warn(as_text(f"skipped {photo[0]}: {error}"))
        if not kept:
            continue
        pixels = torch.stack([own for _, _, own in kept])  # (B, 3, H, W) uint8
        masks = _invert(inversion, pixels, [(own[0], name) for own, name, _ in kept], how, out, made)
        if annotated is not None:
            _judge(masks, [own for own, _, _ in kept], annotated, how, made, warn)
        _write(pd.DataFrame(made.rows), out / TABLE)
    if made.iou:
        _write(box_table(pd.concat(made.iou)), out / BOXES)
    return made


def box_table(scores: pd.DataFrame) -> pd.DataFrame:
    """IoU by threshold, of scores as :func:`gan_lib.metrics.box_scores` has them: ``alpha``, the mean ``iou``
    with a 95 % interval over images, ``n``, and ``error``, the share in per cent of boxes below one half."""
    table = intervals_by(scores, ["alpha"], "iou", "iou")
    errors = scores.groupby("alpha")["error"].mean()
    return table.assign(error=table["alpha"].map(errors))[["alpha", "iou", "low", "high", "n", "error"]]


def boxes_to_find(annotation: Annotation, name: str) -> Tensor:
    """Boxes (N, 4) of the objects that are of a class by name; of all objects where none is.

    Objects are often called by the first word of a class's name: ``n02108422`` of ``n02108422_bull_mastiff``.
    """
    wanted = plain_name(name)
    same = [plain_name(own) in (wanted, wanted.split(" ")[0]) and bool(own) for own in annotation.names]
    return annotation.boxes[torch.tensor(same)] if any(same) else annotation.boxes


def _invert(
    inversion: GuidedInversion,
    pixels: Tensor,
    named: Sequence[tuple[Path, Path]],
    how: Inverting,
    out: Path,
    made: Inverted,
) -> Tensor:
    """Both steps on images (B, 3, H, W) uint8; their pictures and rows, and the masks of step 2."""
    cnn = inversion.cnn
    assert isinstance(cnn, Classifier)
    images = pixels.to(cnn.mean.device).float() / 255  # (B, 3, H, W)
    with evaluation_mode(cnn), torch.no_grad():
        best, predicted = cnn.probabilities(cnn(images)).max(1)  # (B,) each
    target = predicted if how.target is None else torch.full_like(predicted, how.target)
    base = inversion.base(images)
    first = inversion.saliency(base, how.first)
    second = inversion.discriminate(base, first, target, how.second).masks  # (B, 1, H, W)
    numbers = {"class_probability": class_probability(cnn, images, target)}
    for step, masks in enumerate((first.masks, second), 1):
        parts = inside_and_outside(images, base.hidden, masks)
        for name, part in zip(("foreground", "background"), parts, strict=True):
            numbers[f"{name}_{step}"] = class_probability(cnn, part, target)
    boxes = map_boxes(second, how.alpha)  # (B, 4)
    pictures = (overlay(images, first.masks), first.masks, 1 - first.masks, base.hidden, second)
    for row, (path, wanted) in enumerate(named):
        for kind, picture in zip(PICTURES, pictures, strict=True):
            _save(picture[row], out / kind / f"{wanted}.png")
        about: dict[str, object] = {"image": path.as_posix(), "name": wanted.as_posix()}
        about |= {
            "prediction": cnn.class_names[int(predicted[row])],
            "probability": round(float(best[row]), 4),
        }
        about |= {"class": cnn.class_names[int(target[row])]}
        about |= {title: round(float(own[row]), 4) for title, own in numbers.items()}
        about |= {"area": round(float(second[row].mean()), 4)}
        about |= dict(zip(CORNERS, boxes[row].tolist(), strict=True))
        made.rows.append(about)
    return second


def _judge(
    masks: Tensor,
    photos: Sequence[Photo],
    annotated: Mapping[Path, Path],
    how: Inverting,
    made: Inverted,
    warn: Callable[[str], None],
) -> None:
    """IoU of the masks' boxes with the annotated ones, the best of several, in the rows just made."""
    rows = made.rows[-len(photos) :]
    for mask, (path, wanted), row in zip(masks, photos, rows, strict=True):
        row |= {"objects": 0, "iou": None}
        if wanted not in annotated:
            continue
        try:
            annotation = read_boxes(annotated[wanted])
            searched = Annotation(boxes_to_find(annotation, str(row["class"])), (), annotation.size)
            boxes = searched.fitted(how.size, picture_size(path))
        except ValueError as error:
            warn(f"without boxes of {path}: {error}")
            continue
        seen = boxes[~boxes.isnan().any(1)].to(masks.device)  # (N, 4), of what the crop shows
        if not len(seen):
            warn(f"without boxes of {path}: {annotated[wanted]} has none within the cropped picture")
            continue
        own = box_iou(map_boxes(mask[None], how.alpha).expand(len(seen), 4), seen)
        row |= {"objects": len(seen), "iou": round(float(own.max()), 4)}
        scores = box_scores({("step 2", 0): mask[None].expand(len(seen), -1, -1, -1)}, seen, ALPHAS)
        best = scores.groupby("alpha", as_index=False).agg({"iou": "max", "error": "min"})
        made.iou.append(best.assign(image=str(row["name"]), seed=0))


def _names(wanted: Sequence[Path]) -> list[Path]:
    """Names without ending; with it where two would be the same: ``a.jpg`` and ``a.png``."""
    plain = [name.with_suffix("") for name in wanted]
    names: list[Path] = []
    for name, own in zip(wanted, plain, strict=True):
        free = own if plain.count(own) == 1 else name.with_name(name.name.replace(".", "_"))
        number = 2
        while free in names:
            free, number = own.with_name(f"{own.name}_{number}"), number + 1
        names.append(free)
    return names


def _write(table: pd.DataFrame, path: Path) -> None:
    with atomic_path(path) as temporary:
        neutral_table(table).to_csv(temporary, index=False, lineterminator="\n")


def _save(picture: Tensor, path: Path) -> None:
    """Write (3, H, W) or (1, H, W) in [0, 1] as a PNG."""
    with atomic_path(path) as temporary:
        to_pil_image(picture.clamp(0, 1).mul(255).round().byte().cpu()).save(temporary, format="PNG")
