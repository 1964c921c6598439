"""Shifting test: do activations that are moved along the normal become the other class?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from gan_lib.concepts import HiddenLayer
from gan_lib.concepts.contrasting.evidence import Evidence
from gan_lib.concepts.contrasting.hyperplanes import Hyperplanes
from gan_lib.core.inputs import at_once
from gan_lib.core.options import positive
from gan_lib.core.outputs import probabilities
from gan_lib.data import ImageSplit
from gan_lib.metrics import intervals_by

PUBLISHED_OFFSETS = (0.0, 0.5, 1.0, 2.0, 10.0, 15.0, 20.0, 35.0, 50.0, 200.0)


def shifting_test(
    hidden: HiddenLayer,
    planes: Hyperplanes,
    evidence: Mapping[int, Evidence],
    split: ImageSplit,
    pairs: Sequence[tuple[int, int]],
    offsets: Sequence[float] = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0),
    absolute: bool = False,
    images_per_class: int = 20,
    draws: int = 1,
    seed: int = 0,
) -> pd.DataFrame:
    """Move the activations of one class's images towards another class, and run the rest of the network.

    The test of arXiv 2502.03422 (table 3): every place is moved by the same vector, ReLU after, in three
    directions: the hyperplane's normal, the difference of the classes' mean activations, and random ones.

    Signed activations a are moved as their halves relu(a) and relu(-a), with ReLU after each, and are joined
    again: max(relu(a) + u, 0) - max(relu(-a) + v, 0) by a move (u, v). A half that is lowered ends at 0, so
    that lowering what is above 0 never takes it below: for the other sign the other half has to be raised.

    Args:
        hidden, planes: the layer, and the hyperplanes in it.
        evidence, split: by class, its mean activation and its images' rows; the images.
        pairs: from the first class to the second.
        offsets: lengths of the move, in units of the distance between both classes' mean activations.
        absolute: offsets are lengths as they are (:data:`PUBLISHED_OFFSETS`).
        images_per_class: at most so many.
        draws, seed: random directions per pair.

    Returns:
        A row per pair, image, direction and offset: ``class``, ``other``, ``image`` (its row),
        ``direction``, ``draw`` (0 but for the random ones), ``offset``, ``reached`` (the prediction is the
        other class), ``probability`` of the other class, and ``growth`` since no move.

    Raises:
        ValueError: no pair or no offset, a count below 1.
        KeyError: a class without hyperplanes.
    """
    positive(pairs=len(pairs), offsets=len(offsets), images_per_class=images_per_class, draws=draws)
    drawn = torch.Generator().manual_seed(seed)
    tables = []
    for one, other in pairs:
        normal, rows = planes.direction(one, other), evidence[one].rows[:images_per_class]
        images = split.batch(rows).images.to(hidden.device)
        apart = evidence[other].vectors.mean(0) - evidence[one].vectors.mean(0)  # (C,)
        unit = 1.0 if absolute else float(apart.norm())
        random = F.normalize(torch.randn(draws, len(apart), generator=drawn), dim=1)
        directions = [
            ("normal", 0, normal),
            ("difference of means", 0, F.normalize(apart, dim=0)),
            *(("random", draw, own) for draw, own in enumerate(random)),
        ]
        lengths = unit * torch.tensor(offsets).to(apart)  # (S,)
        moves = torch.cat([lengths[:, None] * direction.to(apart) for *_, direction in directions])
        moves, which = torch.cat([torch.zeros_like(moves[:1]), moves]).unique(dim=0, return_inverse=True)
        probability, reached = _probabilities(hidden, images, moves, other)  # (M, B), no move once only
        steps = [(name, draw, offset) for name, draw, _ in directions for offset in offsets]
        for (name, draw, offset), row in zip(steps, which[1:].tolist(), strict=True):
            move = {"class": one, "other": other, "direction": name, "draw": draw, "offset": offset}
            growth = probability[row] - probability[which[0]]  # (B,)
            values = {"reached": reached[row], "probability": probability[row], "growth": growth}
            columns = {column: value.tolist() for column, value in values.items()}
            tables.append(pd.DataFrame({"image": rows.tolist(), **move, **columns}))
    return pd.concat(tables, ignore_index=True)


def shifting_scores(shifted: pd.DataFrame) -> pd.DataFrame:
    """The rows of :func:`shifting_test` in the mean over random draws: per direction, called ``method``,
    ``offset`` and ``image``, one for every pair, ``reached`` [%] and ``growth``."""
    own = shifted.rename(columns={"direction": "method"}).assign(reached=100.0 * shifted["reached"])
    own["image"] = own[["class", "other", "image"]].astype(str).agg("/".join, axis=1)
    means = own.groupby(["method", "offset", "image"], sort=False)[["reached", "growth"]].mean()
    return means.reset_index().assign(seed=0)


def reached_scores(shifted: pd.DataFrame) -> pd.DataFrame:
    """Per direction, called ``method``, and ``image``, one for every pair: ``reached``, 100 where it becomes
    the other class at *some* offset, in the mean over random draws."""
    own = shifted.rename(columns={"direction": "method"}).assign(reached=100.0 * shifted["reached"])
    own["image"] = own[["class", "other", "image"]].astype(str).agg("/".join, axis=1)
    some = own.groupby(["method", "draw", "image"], sort=False)["reached"].max().reset_index()
    means = some.groupby(["method", "image"], sort=False)["reached"].mean()
    return means.reset_index().assign(seed=0)


def shifting_curves(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores of :func:`shifting_scores`, of one CNN or several, for ``figures.method_curves``: a row per
    ``method`` and ``offset`` with ``reached``, ``growth`` and their intervals."""
    by = ["method", "offset"]
    reached, growth = (intervals_by(scores, by, name, name) for name in ("reached", "growth"))
    both = [own.rename(columns={"low": f"{name}_low", "high": f"{name}_high"})
            for name, own in (("reached", reached), ("growth", growth))]  # fmt: skip
    return both[0].merge(both[1][[*by, "growth", "growth_low", "growth_high"]], on=by)


def _probabilities(hidden: HiddenLayer, images: Tensor, moves: Tensor, label: int) -> tuple[Tensor, Tensor]:
    """Probability (M, B) of a class for images (B, 3, H, W) moved by (M, C), and if it is predicted."""
    made = []
    pairs = torch.cartesian_prod(torch.arange(len(moves)), torch.arange(len(images)))  # (M * B, 2)
    together = at_once(hidden.cnn, (images.shape[-2], images.shape[-1]))
    for move, image in (part.T for part in pairs.split(together)):
        each = moves[move][:, :, None, None]  # (b, C, 1, 1)
        change = lambda own, each=each: (own + each.to(own)).relu()  # noqa: E731
        made.append(hidden.logits(images[image], change))
    logits = torch.cat(made).unflatten(0, (len(moves), len(images)))  # (M, B, K)
    found = probabilities(hidden.cnn, logits.flatten(0, 1)).view_as(logits)  # (M, B, K)
    return found[..., label].cpu(), (logits.argmax(2) == label).cpu()
