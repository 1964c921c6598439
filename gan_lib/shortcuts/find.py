"""Find shortcuts: what a CNN relies on beside the object, by a search that is told nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from gan_lib.concepts.layers import probabilities
from gan_lib.core.options import positive
from gan_lib.core.runtime import progress
from gan_lib.data import ImageSplit
from gan_lib.metrics.intervals import same_images
from gan_lib.metrics.pairs import corrected
from gan_lib.shortcuts.exchange import exchange_test
from gan_lib.shortcuts.looks import Candidate, candidates

LEAST = 20.0  # per cent of the images that must change beyond the control
LEVEL = 0.05
FEWEST = 8  # images that a candidate must be pasted into to be found: of fewer alike ones nothing is known
READ = 64  # images that are read together
SCREENED = 12  # images, on which a candidate must do anything at all to be tested on others
FOUND, UNDECIDED, NONE = "found", "undecided", "none"


@dataclass(frozen=True)
class Shortcuts:
    """What was looked at, and what of it the CNN relies on.

    Attributes:
        table: a row per candidate, the strongest first: ``class``, ``name``, ``kind``, ``where`` in words,
            its box ``left``, ``top``, ``right``, ``bottom`` [pixels], ``images`` that have it, ``support``
            and ``elsewhere`` (shares of the class's images and of others that have it), ``evidence`` (the map
            there over its mean); of ``pasted`` and ``hidden``, in per cent, the ``pasted_share`` that
            changed, that of the control (``pasted_control``), the difference with its 95 % interval
            (``pasted``, ``pasted_low``, ``pasted_high``, ``pasted_n``), ``pasted_p`` and, by Holm over all
            that were tested, ``pasted_p_holm``; the ``stage``, ``screened`` for those that did nothing to a
            few images, or ``tested`` on others; and the ``verdict``, ``found``, ``undecided`` or ``none``.
        tests: a row per candidate, test and image of the stage that counts
            (:func:`gan_lib.shortcuts.exchange.exchange_test`).
        candidates: in the order of the table.
    """

    table: pd.DataFrame
    tests: pd.DataFrame
    candidates: tuple[Candidate, ...] = field(repr=False)

    @property
    def found(self) -> pd.DataFrame:
        """The rows of the table that count as found."""
        return self.table[self.table["verdict"] == FOUND]


def find_shortcuts(
    cnn: nn.Module,
    images: Tensor | ImageSplit,
    evidence: Tensor | None = None,
    predicted: Tensor | None = None,
    count: int = 48,
    fewest: int = 8,
    seed: int = 0,
) -> Shortcuts:
    """Search what returns in the images of a class, and test whether the CNN's prediction hangs on it.

        found = find_shortcuts(cnn, images, explainer.attribute(images)).found

    Nothing is known of the images but what the CNN predicts for them. Candidates are what images of a class
    have in common (:func:`gan_lib.shortcuts.looks.candidates`). Each is pasted into a few images of other
    classes; what turns any prediction more than its control is tested on others, none of the first, and is
    *found* where it turns at least 20 % more of them, eight or more, with p < 0.05 by Holm over all that are
    tested.

    A look that comes with the *object*, at the same place in every image, is found too: pictures are for a
    person to judge.

    Args:
        cnn: from images in [0, 1] to logits.
        images: (N, 3, H, W) in [0, 1], or a split.
        evidence: (N, 1, h, w), maps of the predicted classes.
        predicted: (N,) what the CNN predicts; by default asked for.
        count: images per test. fewest: images of a class, under which it is left out.
        seed: of all choices.

    Raises:
        ValueError: no image, not as many maps or predictions as images, or a count below 1.
    """
    positive(images=len(images), count=count, fewest=fewest)
    split = ImageSplit.of(images)
    if predicted is None:
        predicted = torch.cat([probabilities(cnn, own.images).argmax(1) for own in split.batches(READ)])
    predicted, evidence = predicted.cpu(), None if evidence is None else evidence.cpu()
    pixels = split.images[:]
    looked_at = candidates(pixels, predicted, evidence, fewest, seed=seed)

    def read(rows: Tensor) -> Tensor:
        return split.batch(rows).images

    tables, rows = [], []
    for number, own in enumerate(progress(looked_at, "exchange tests")):
        few = min(SCREENED, int((predicted != own.label).sum()) // 3)
        made, stage = exchange_test(cnn, read, predicted, own, few, seed, hide=False), "screened"
        if made["effect"].sum() > made["control"].sum():
            made, stage = exchange_test(cnn, read, predicted, own, count, seed, few), "tested"
        tables.append(made.assign(candidate=number))
        rows.append({"candidate": number, **_about(cnn, own, evidence), "stage": stage, **_effects(made)})
    if not rows:
        return Shortcuts(pd.DataFrame(columns=["verdict"]), pd.DataFrame(), ())
    table = pd.DataFrame(rows)
    tested = corrected(table.loc[table["stage"] == "tested"].rename(columns={"pasted_p": "p"}))
    table["pasted_p_holm"] = tested["p_holm"]
    table["verdict"] = [_verdict(row) for row in table.to_dict("records")]
    order = _ranked(table)
    table, place = table.loc[order].reset_index(drop=True), {old: new for new, old in enumerate(order)}
    tests = pd.concat(tables, ignore_index=True)
    tests = tests.assign(candidate=tests["candidate"].map(place)).sort_values("candidate", kind="stable")
    table["candidate"] = range(len(table))
    return Shortcuts(table, tests.reset_index(drop=True), tuple(looked_at[old] for old in order))


def _ranked(table: pd.DataFrame) -> list[int]:
    """Numbers of the rows: found ones first, then by what pasting does, then by what hiding does."""
    by = table.assign(first=(table["verdict"] == FOUND).astype(int))
    keys = ["first", "pasted", "hidden"]
    return by.sort_values(keys, ascending=False, kind="stable", na_position="last").index.tolist()


def _verdict(row: Mapping[Any, Any]) -> str:
    if row["pasted_p_holm"] < LEVEL and row["pasted"] >= LEAST and row["pasted_n"] >= FEWEST:
        return FOUND
    is_open = row["pasted_high"] >= LEAST if row["stage"] == "tested" else row["pasted_n"] < FEWEST
    return UNDECIDED if is_open else NONE


def _effects(made: pd.DataFrame) -> dict[str, Any]:
    """Shares and paired differences of both tests, in per cent."""
    row: dict[str, Any] = {}
    for test in ("pasted", "hidden"):
        effect, control = (
            100.0 * made.loc[made["test"] == test, name].to_numpy(float) for name in ("effect", "control")
        )
        row[f"{test}_share"], row[f"{test}_control"] = (
            float(own.mean()) if len(own) else math.nan for own in (effect, control)
        )
        found = same_images((effect - control)[None])._asdict()
        row[test] = found["mean"]
        row |= {f"{test}_{name}": found[name] for name in ("low", "high", "n", "p")}
    return row


def _about(cnn: nn.Module, candidate: Candidate, evidence: Tensor | None) -> dict[str, Any]:
    names: Sequence[str] | None = getattr(cnn, "class_names", None)
    box = candidate.box or (None,) * 4
    about: dict[str, Any] = {
        "class": candidate.label,
        "name": names[candidate.label] if names else str(candidate.label),
        "kind": candidate.kind,
        "where": where(candidate),
        **dict(zip(("left", "top", "right", "bottom"), box, strict=True)),
        "images": len(candidate.rows),
        "support": candidate.support,
        "elsewhere": candidate.elsewhere,
    }
    return about | {"evidence": _density_there(candidate, evidence)}


def _density_there(candidate: Candidate, evidence: Tensor | None) -> float:
    """The maps' mean at the candidate's place, over their mean everywhere."""
    if evidence is None or candidate.masks is None:
        return math.nan
    maps = evidence[candidate.rows].float()  # (D, 1, h, w)
    masks = nn.functional.adaptive_avg_pool2d(candidate.masks, (maps.shape[-2], maps.shape[-1]))
    inside = (maps * masks).sum((1, 2, 3)) / masks.sum((1, 2, 3)).clamp(min=1e-12)
    mean = maps.mean((1, 2, 3))
    return float((inside.sum() / mean.sum().clamp(min=1e-12)).item())


def where(candidate: Candidate) -> str:
    """A candidate's place in words."""
    box = candidate.box
    if box is None or candidate.masks is None:
        return "everywhere"
    if candidate.kind == "border":
        return "along the border"
    if candidate.kind == "returning":
        return "where the evidence is"
    height, width = candidate.masks.shape[-2:]
    across, down = (box[0] + box[2]) / (2 * width), (box[1] + box[3]) / (2 * height)
    named = (_third_of(down, ("upper", "", "lower")), _third_of(across, ("left", "", "right")))
    told = " ".join(own for own in named if own)
    wide, high = (box[2] - box[0]) / width, (box[3] - box[1]) / height
    if max(wide, high) > 0.8:
        return "across the image"
    if not told:
        return "middle"
    corner = min(across, 1 - across) < 0.25 and min(down, 1 - down) < 0.25
    return f"{told} corner" if corner else told


def _third_of(share: float, names: tuple[str, str, str]) -> str:
    return names[min(2, int(3 * share))]
