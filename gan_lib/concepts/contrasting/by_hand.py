"""Insertion by hand: a crop pasted at a free place of images, beside a control (arXiv 2502.03422, table 4).

What contrasting has found ("persons speak for Malamute") is checked with a crop that somebody has cut out: it
is pasted into images of the other class, and so is a control of the same shape in one colour, which hides as
much and shows nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_lib.concepts.contrasting.insertion import paste
from gan_lib.concepts.layers import probabilities
from gan_lib.explainers import GradCAM
from gan_lib.metrics.intervals import same_images

STATES = ("before", "pasted", "control")  # of an image
BLACK = (0.0, 0.0, 0.0)
CONTROLS = ("black", "mean")
CHANGES = {"pasted - before": (1, 0), "control - before": (2, 0), "pasted - control": (1, 2)}
SAME = 1e-9  # of all evidence: places that hide amounts closer than this hide the same


@dataclass(frozen=True)
class Inserted:
    """Images with the crop and with the control, and what the CNN makes of them.

    Attributes:
        pasted, control: (B, 3, H, W) in [0, 1].
        rows: a row per image: ``left`` and ``top`` of the crop in pixels; the predicted class ``prediction``,
            ``prediction_pasted``, ``prediction_control``; and the probabilities of both classes,
            ``one_before``, ``one_pasted``, ``one_control``, ``other_before``, ...
    """

    pasted: Tensor
    control: Tensor
    rows: pd.DataFrame


def insert_crop(
    cnn: nn.Module,
    images: Tensor,
    crop: Tensor,
    one: int,
    other: int,
    colour: Sequence[float] = BLACK,
    at: tuple[int, int] | None = None,
) -> Inserted:
    """Paste a crop into images, and a control of the same shape, and ask a CNN about two classes.

        made = insert_crop(cnn, huskies, person, one=249, other=250)
        insertion_table(made.rows)    # mean probabilities before and after, with 95 % intervals

    The crop hides what lies below it, and so it is pasted where that speaks least for what the CNN predicts:
    where it covers the least of the Grad-CAM of the predicted class (:func:`free_places`). The control goes
    to the same place, and both hide each pixel to the same degree.

    Args:
        cnn: from images in [0, 1] to scores (B, K).
        images: (B, 3, H, W) in [0, 1]; in the published test of class ``other``.
        crop: (3, h, w) in [0, 1] in the images' pixels, or with its opacity as a fourth channel
            (:func:`scaled_crop` makes it larger or smaller).
        one: the class for which the crop is thought to speak.
        other: the class against which it is thought to speak.
        colour: of the control, red, green and blue in [0, 1] (:func:`control_colour`).
        at: left and top in pixels, for all images, instead of a free place.

    Raises:
        ValueError: a crop of another form, that is nowhere to be seen, or larger than the images; a place
            where it sticks out; twice the same class, or one that the CNN does not have; a CNN without a
            layer with places, for which Grad-CAM is not defined, unless there is ``at``.
    """
    pixels, alpha = _parts(crop)
    height, width = images.shape[-2:]
    tall, wide = alpha.shape[-2:]
    if tall > height or wide > width:
        raise ValueError(f"the crop is {tall}x{wide} pixels, larger than the images of {height}x{width}")
    if at is not None and not (0 <= at[0] <= width - wide and 0 <= at[1] <= height - tall):
        raise ValueError(
            f"a crop of {tall}x{wide} pixels at {at[0]},{at[1]} sticks out of images of {height}x{width}"
        )
    if one == other:
        raise ValueError(f"two classes are compared, and both are {one}")
    before = probabilities(cnn, images)  # (B, K)
    if not {one, other} <= set(range(before.shape[1])):
        raise ValueError(f"the CNN has classes 0 to {before.shape[1] - 1}, not {one} and {other}")
    if at is None:
        evidence = GradCAM(cnn).attribute(images, target=before.argmax(1)).cpu()  # (B, 1, H, W)
        places = free_places(evidence, alpha)
    else:
        places = torch.tensor([at]).expand(len(images), 2)
    boxes = torch.cat([places, places + torch.tensor([wide, tall])], 1)  # (B, 4)
    plain = torch.tensor(colour, dtype=pixels.dtype)[:, None, None].expand_as(pixels)
    pasted, control = (
        paste(images.cpu(), own.expand(len(images), -1, -1, -1), boxes, alpha) for own in (pixels, plain)
    )
    said = [before, probabilities(cnn, pasted), probabilities(cnn, control)]
    columns = {"left": places[:, 0], "top": places[:, 1]}
    names = ("prediction", "prediction_pasted", "prediction_control")
    columns |= {name: own.argmax(1) for name, own in zip(names, said, strict=True)}
    for name, label in (("one", one), ("other", other)):
        columns |= {f"{name}_{state}": own[:, label] for state, own in zip(STATES, said, strict=True)}
    return Inserted(pasted, control, pd.DataFrame({name: own.tolist() for name, own in columns.items()}))


def insertion_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean probabilities of both classes before and after, and their changes, with 95 % intervals.

    Changes are paired: of the same image with the crop, with the control, and as it was. What remains against
    the control is due to what the crop shows, and not to what it hides.

    Args:
        rows: of :class:`Inserted`, of all images; those with a probability that is not finite do not count.

    Returns:
        Per ``class`` (``one``, ``other``) a row per ``what``, ``before``, ``pasted``, ``control`` and the
        changes: ``mean``, ``low``, ``high``, ``n`` and ``skipped``.
    """
    made = []
    for name in ("one", "other"):
        states = [rows[f"{name}_{state}"].to_numpy(float) for state in STATES]
        values = dict(zip(STATES, states, strict=True))
        values |= {what: states[after] - states[from_] for what, (after, from_) in CHANGES.items()}
        for what, own in values.items():
            interval = same_images(own[None])._asdict()
            made.append({"class": name, "what": what, **interval})
    return pd.DataFrame(made).drop(columns="p")


def most_confused(probabilities: Tensor, labels: Tensor) -> tuple[int, int, float]:
    """Which class gets the most probability on images of another: that class, the other one, and how much.

    Counts of wrong predictions say little where a CNN is hardly ever wrong; the mean probability always tells
    classes apart. Of several pairs with the same it is the first.

    Args:
        probabilities: (N, K).
        labels: (N,) the images' classes, two or more; no other class is looked at.

    Raises:
        ValueError: one class alone.
    """
    classes = labels.unique()  # (C,), sorted
    if len(classes) < 2:
        raise ValueError(f"two classes or more can be confused, not {classes.tolist()}")
    means = torch.stack([probabilities[labels == label].mean(0) for label in classes])[:, classes]  # (C, C)
    means.fill_diagonal_(-1)
    other, one = divmod(int(means.argmax()), len(classes))
    return int(classes[one]), int(classes[other]), float(means[other, one])


def free_places(evidence: Tensor, alpha: Tensor) -> Tensor:
    """Where a patch hides the least evidence (B, 1, H, W) of each image: left and top, (B, 2).

    At every place where the patch lies inside the image, it hides the sum of its opacity ``alpha`` (1, h, w)
    times the evidence below it. Of places that hide equally little (where Grad-CAM is 0 there are many) it is
    the one whose middle is farthest from the evidence's centre of mass, or, without any evidence, from the
    image's middle; of these the first, row by row.
    """
    (height, width), (tall, wide) = evidence.shape[-2:], alpha.shape[-2:]
    whole = evidence[:, 0].double()  # (B, H, W)
    spectrum = torch.fft.rfft2(whole) * torch.fft.rfft2(alpha[0].double(), s=(height, width)).conj()
    hidden = torch.fft.irfft2(
        spectrum, s=(height, width)
    )  # a correlation; round the border beyond what is asked
    hidden = hidden[:, : height - tall + 1, : width - wide + 1]  # (B, H', W')
    total = whole.sum((1, 2), keepdim=True)  # (B, 1, 1)
    rows, columns = torch.arange(height).double() + 0.5, torch.arange(width).double() + 0.5
    mass = torch.where(total > 0, whole, torch.ones_like(whole))
    mass = mass / mass.sum((1, 2), keepdim=True)
    middle_y, middle_x = (mass.sum(2) * rows).sum(1), (mass.sum(1) * columns).sum(1)  # (B,)
    away_y = (torch.arange(hidden.shape[1]) + tall / 2 - middle_y[:, None]) ** 2  # (B, H')
    away_x = (torch.arange(hidden.shape[2]) + wide / 2 - middle_x[:, None]) ** 2  # (B, W')
    least = hidden <= hidden.amin((1, 2), keepdim=True) + SAME * total
    away = (away_y[:, :, None] + away_x[:, None]).masked_fill(~least, -1.0).flatten(1)
    # Sums in another order differ in their last digits: of what is equally far the first.
    first = (away >= away.amax(1, keepdim=True) * (1 - SAME)).double().argmax(1)
    return torch.stack([first % hidden.shape[2], first // hidden.shape[2]], 1)


def scaled_crop(crop: Tensor, share: float, size: tuple[int, int]) -> Tensor:
    """A crop (3 or 4, h, w) whose longer side is a share, in (0, 1], of the shorter one of images (H, W);
    of another share a ``ValueError``."""
    if not 0 < share <= 1:
        raise ValueError(
            f"a crop's size is a share of the image's shorter side, above 0 and at most 1, not {share}"
        )
    pixels, alpha = _parts(crop)
    scale = share * min(size) / max(alpha.shape[-2:])
    sides = [max(1, round(scale * side)) for side in alpha.shape[-2:]]
    given = torch.cat([pixels * alpha, alpha])[None]  # what cannot be seen has no colour to mix in
    made = F.interpolate(given, size=sides, mode="bilinear", antialias=True, align_corners=False)[0].clamp(
        0, 1
    )
    return torch.cat([(made[:3] / made[3:].clamp(min=1e-6)).clamp(0, 1), made[3:]])


def control_colour(cnn: nn.Module, name: str = "black") -> tuple[float, float, float]:
    """The colour of a control: ``black``, or ``mean``, which the CNN's normalisation makes 0, as published.

    Raises:
        ValueError: another name, or ``mean`` of a CNN whose normalisation is not known.
    """
    if name not in CONTROLS:
        raise ValueError(f"a control is {' or '.join(CONTROLS)}, not {name!r}")
    if name == "black":
        return BLACK
    mean = getattr(cnn, "mean", None)  # of a gan_lib.Classifier
    if not isinstance(mean, Tensor) or mean.numel() != 3:
        raise ValueError(
            "the mean colour is that of a Classifier's normalisation: wrap the CNN, or give a colour"
        )
    red, green, blue = mean.flatten().tolist()
    return red, green, blue


def _parts(crop: Tensor) -> tuple[Tensor, Tensor]:
    """Colours (3, h, w) and opacity (1, h, w) of a crop, if it is one."""
    if crop.ndim != 3 or crop.shape[0] not in (3, 4) or not crop.numel() or not crop.is_floating_point():
        raise ValueError(
            f"a crop is (3, h, w) or (4, h, w) in [0, 1], not {tuple(crop.shape)} of {crop.dtype}"
        )
    if not (crop.min() >= 0 and crop.max() <= 1):
        raise ValueError("the crop's values lie in [0, 1], without NaN")
    alpha = crop[3:] if len(crop) == 4 else torch.ones_like(crop[:1])
    if not alpha.any():
        raise ValueError("the crop is transparent everywhere: there is nothing to paste")
    return crop[:3].cpu().float(), alpha.cpu().float()
