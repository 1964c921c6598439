"""Shifting test: do activations that are moved along the normal become the other class?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from gan_lib.concepts import HiddenLayer
from gan_lib.contrasting.evidence import Evidence
from gan_lib.contrasting.hyperplanes import Hyperplanes
from gan_lib.data import ImageSplit

DIRECTIONS = ("normal", "difference of means", "random")
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
    seed: int = 0,
) -> pd.DataFrame:
    """Move the activations of one class's images towards another class, and run the rest of the network.

    The test of arXiv 2502.03422 (table 3): every place of the layer is moved by the same vector, ReLU
    after, in three directions: the hyperplane's normal, the difference of both classes' mean activations,
    and a random one.

    Args:
        hidden: the layer, whose channels have not been split.
        planes: between the classes.
        evidence: by class; it names the images and gives the means.
        split: the images.
        pairs: from the first class to the second.
        offsets: lengths of the move, in units of the distance between both classes' mean activations.
        absolute: offsets are lengths as they are (:data:`PUBLISHED_OFFSETS`).
        images_per_class: at most so many.
        seed: of the random directions.

    Returns:
        A row per pair, image, direction and offset: ``class``, ``other``, ``image`` (its row),
        ``direction``, ``offset``, ``reached`` (the prediction is the other class), ``probability`` of the
        other class, and ``growth`` since no move.

    Raises:
        ValueError: a layer with split channels.
    """
    if hidden.negative == "split":
        raise ValueError("the network behind the layer does not take split channels")
    device = next(hidden.cnn.parameters()).device
    drawn = torch.Generator().manual_seed(seed)
    tables = []
    for one, other in pairs:
        rows = evidence[one].rows[:images_per_class]
        images = split.batch(rows).images.to(device)
        apart = evidence[other].vectors.mean(0) - evidence[one].vectors.mean(0)  # (C,)
        unit = 1.0 if absolute else float(apart.norm())
        directions = {
            "normal": planes.direction(one, other),
            "difference of means": F.normalize(apart, dim=0),
            "random": F.normalize(torch.randn(len(apart), generator=drawn), dim=0),
        }
        before = _probability(hidden, images, torch.zeros_like(apart), other)[0]
        for name, direction in directions.items():
            for offset in offsets:
                move = offset * unit * direction.to(apart)
                probability, reached = _probability(hidden, images, move, other)
                tables.append(
                    pd.DataFrame(
                        {
                            "class": one,
                            "other": other,
                            "image": rows.tolist(),
                            "direction": name,
                            "offset": offset,
                            "reached": reached.tolist(),
                            "probability": probability.tolist(),
                            "growth": (probability - before).tolist(),
                        }
                    )
                )
    return pd.concat(tables, ignore_index=True)


def _probability(hidden: HiddenLayer, images: Tensor, move: Tensor, label: int) -> tuple[Tensor, Tensor]:
    """Probability (B,) of a class after a move (C,), and whether it is predicted."""
    logits = hidden.logits(images, lambda own: (own + move[:, None, None].to(own)).relu())
    return logits.softmax(1)[:, label].cpu(), (logits.argmax(1) == label).cpu()
