"""Exchange tests: does a prediction go where a look goes?

Of what images of a class have in common (:mod:`gan_lib.shortcuts.looks`), two things are asked. *Pasted*
into images of other classes, does the CNN now predict this class? And images that have it, do they lose their
class when the same place comes from other images? Controls change as much: the same place, from images of a
third class when pasting, and from other images of the class itself when hiding. Edges that pasting leaves, or
a place that is sensitive anyway, cancel in the differences, image by image.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import torch
from torch import Tensor, nn

from gan_lib.concepts.layers import probabilities
from gan_lib.shortcuts.looks import Candidate
from gan_lib.shortcuts.textures import retextured


def pasted(images: Tensor, donors: Tensor, masks: Tensor | None, candidate: Candidate) -> Tensor:
    """Images (B, 3, H, W) in [0, 1] with a candidate's look, taken from donors of the same shape.

    Of a ``tone`` that is the mean colour, of a ``texture`` what
    :func:`gan_lib.shortcuts.textures.retextured` says, else the pixels under masks (B, 1, H, W).
    """
    if candidate.kind == "tone":
        shift = donors.mean((2, 3), keepdim=True) - images.mean((2, 3), keepdim=True)  # (B, 3, 1, 1)
        return (images + shift).clamp(0, 1)
    if candidate.band is not None:
        return retextured(images, donors, candidate.band)
    assert masks is not None
    return images * (1 - masks) + donors * masks


def exchange_test(
    cnn: nn.Module,
    read: Callable[[Tensor], Tensor],
    predicted: Tensor,
    candidate: Candidate,
    count: int = 16,
    seed: int = 0,
    skip: int = 0,
    hide: bool = True,
) -> pd.DataFrame:
    """Paste a candidate into images of other classes, and hide it where it is; both with controls.

    Args:
        cnn: from images in [0, 1] to logits.
        read: from rows (B,) to images (B, 3, H, W) in [0, 1].
        predicted: (N,) what the CNN predicts for the rows' images.
        candidate: what is moved.
        count: images of either kind, at most.
        seed: of the choice of images.
        skip: images that a choice by the same seed begins with, and that are not pasted into.
        hide: whether it is hidden too.

    Returns:
        A row per image and test (``pasted``, ``hidden``): ``image`` (its row), ``donor`` (whose look or place
        was pasted), ``control_donor``, ``effect`` and ``control``, 1 where the prediction became the class
        (pasted) or was lost (hidden), else 0, ``gain`` and ``control_gain``, by how much the class's
        probability grew (pasted) or fell (hidden). No row of a test for which there are no images.
    """
    drawn = torch.Generator().manual_seed(seed)
    label, having = candidate.label, candidate.rows
    others, own = (predicted != label).nonzero()[:, 0], (predicted == label).nonzero()[:, 0]
    tables = []
    receivers = balanced(others, predicted, skip + count, drawn)[skip:]
    if len(receivers):
        places = torch.arange(len(receivers)) % len(having)  # the most typical donors first
        third = _third(receivers, others, predicted, drawn)
        tables.append(_asked(cnn, read, candidate, receivers, places, having[places], third, "pasted"))
    keepers = torch.arange(min(count, len(having)))
    if hide and len(keepers) > 1 and len(others):
        foreign = balanced(others, predicted, len(keepers), drawn)
        foreign = foreign[torch.arange(len(keepers)) % len(foreign)]
        alike = having[(keepers + 1) % len(having)]
        is_held = torch.isin(having[keepers], own)
        held = keepers[is_held]
        if len(held):
            given = (having[held], held, foreign[is_held], alike[is_held])
            tables.append(_asked(cnn, read, candidate, *given, "hidden"))
    columns = ["test", "image", "donor", "control_donor", "effect", "control", "gain", "control_gain"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def _asked(
    cnn: nn.Module,
    read: Callable[[Tensor], Tensor],
    candidate: Candidate,
    receivers: Tensor,
    places: Tensor,
    donors: Tensor,
    controls: Tensor,
    test: str,
) -> pd.DataFrame:
    """One of the tests; ``places`` (B,) are those of the candidate's masks."""
    images, label = read(receivers), candidate.label  # (B, 3, H, W)
    masks = None
    if candidate.masks is not None:
        masks = candidate.masks[places if len(candidate.masks) > 1 else torch.zeros_like(places)]
    before = probabilities(cnn, images)  # (B, K)
    columns: dict[str, list[int] | list[float]] = {
        "image": receivers.tolist(),
        "donor": donors.tolist(),
        "control_donor": controls.tolist(),
    }
    for name, gain, rows in (("effect", "gain", donors), ("control", "control_gain", controls)):
        after = probabilities(cnn, pasted(images, read(rows), masks, candidate))
        is_label, grown = after.argmax(1) == label, after[:, label] - before[:, label]
        is_pasted = test == "pasted"
        columns[name] = (is_label if is_pasted else ~is_label).float().tolist()
        columns[gain] = (grown if is_pasted else -grown).tolist()
    return pd.DataFrame({"test": test, **columns})


def balanced(rows: Tensor, predicted: Tensor, count: int, drawn: torch.Generator) -> Tensor:
    """At most so many of rows (R,), classes in turn: from a few of every class to many."""
    mixed = rows[torch.randperm(len(rows), generator=drawn)]
    turn = torch.zeros(len(mixed), dtype=torch.long)
    seen: dict[int, int] = {}
    for place, label in enumerate(predicted[mixed].tolist()):
        turn[place] = seen[label] = seen.get(label, -1) + 1
    return mixed[turn.argsort(stable=True)][:count]


def _third(receivers: Tensor, others: Tensor, predicted: Tensor, drawn: torch.Generator) -> Tensor:
    """For every receiver an image of neither class; where all others are of one, another image of it."""
    chosen = []
    for row in receivers.tolist():
        foreign = others[predicted[others] != predicted[row]]
        foreign = foreign if len(foreign) else others[others != row] if len(others) > 1 else others
        chosen.append(int(foreign[torch.randint(len(foreign), (1,), generator=drawn)]))
    return torch.tensor(chosen)
