"""Sanity checks (Adebayo et al., NeurIPS 2018): does a map change when what it explains changes?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from gan_lib.classifiers import randomised
from gan_lib.core.options import positive
from gan_lib.metrics.base import interval_of
from gan_lib.metrics.similarity import rank_correlation, structural_similarity

Explain = Callable[[nn.Module, Tensor, Tensor], Tensor]


def sanity_scores(
    methods: Mapping[str, Explain],
    cnn: nn.Module,
    images: Tensor,
    target: Tensor,
    stages: int,
    classes: int,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Maps while ever more of the CNN's layers, from the last to the first, are drawn anew; and maps for a
    random other class (Sixt et al., ICML 2020). What stays the same does not explain the CNN, or the class.

        methods = {"saliency": lambda net, x, y: Saliency(net).attribute(x, y)}
        forgetting, other = sanity_scores(methods, cnn, images, target, stages=6, classes=10)

    Args:
        methods: by name, from a CNN, images (B, 3, H, W) and classes (B,) to maps (B, 1, H, W).
        cnn: left as it is.
        images: (B, 3, H, W) in [0, 1]; target: (B,) the classes that the first maps explain.
        stages: of forgetting (:func:`gan_lib.classifiers.randomised`).
        classes: number of the CNN's.
        seed: of the new weights, and of the choice of the other class.

    Returns:
        A row per method, stage and ``image``, with ``share`` of the layers drawn anew, and one per method and
        ``image``: the rank correlation with the first map (``rank``; a constant map has none) and ``ssim``.

    Raises:
        ValueError: no method, no image, no stage or no other class.
    """
    positive(methods=len(methods), images=len(images), stages=stages, other_classes=classes - 1)
    first = {name: explain(cnn, images, target) for name, explain in methods.items()}
    forgetting = forgetting_scores(methods, first, cnn, images, target, stages, seed)
    steps = torch.randint(1, classes, (len(target),), generator=torch.Generator().manual_seed(seed))
    other = (target + steps.to(target)) % classes
    logits = [
        _alike(first[name], explain(cnn, images, other), method=name) for name, explain in methods.items()
    ]
    return forgetting, pd.concat(logits, ignore_index=True)


def forgetting_scores(
    methods: Mapping[str, Explain],
    first: Mapping[str, Tensor],
    cnn: nn.Module,
    images: Tensor,
    target: Tensor,
    stages: int,
    seed: int = 0,
    bottom_up: bool = False,
) -> pd.DataFrame:
    """The part of :func:`sanity_scores` in which layers are drawn anew, given the ``first`` maps
    (B, 1, H, W) by name; with ``bottom_up`` from the first layer to the last."""
    made = [
        _alike(first[name], explain(net.requires_grad_(False), images, target), method=name, share=share)
        for share, net in randomised(cnn, images[:1], stages, seed, bottom_up)
        for name, explain in methods.items()
    ]
    return pd.concat(made, ignore_index=True)


def _alike(maps: Tensor, others: Tensor, **labels: Any) -> pd.DataFrame:
    rank, ssim = rank_correlation(maps, others).tolist(), structural_similarity(maps, others).tolist()
    return pd.DataFrame({**labels, "image": range(len(maps)), "rank": rank, "ssim": ssim})


def sanity_checks(
    methods: Mapping[str, Explain], *given: Any, **named: Any
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What :func:`sanity_scores` says of one CNN: means over its images.

    Returns:
        One row per method and stage, and one per method: mean, 95 % interval and counted images of rank
        correlation with the first maps (``rank``, ``rank_low``, ``rank_high``, ``rank_n``) and of SSIM.
    """
    forgetting, other = sanity_scores(methods, *given, **named)
    return pooled(forgetting.assign(seed=0), ["method", "share"]), pooled(other.assign(seed=0), ["method"])


def pooled(scores: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Intervals of ``rank`` and ``ssim``, in columns, of each part of scores with ``seed`` and ``image``."""
    rows = []
    for key, own in scores.groupby(list(by), sort=False):
        row: dict[str, Any] = dict(zip(by, key if isinstance(key, tuple) else (key,), strict=True))
        for name in ("rank", "ssim"):
            found = interval_of(own, name)
            row |= {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}
            row[f"{name}_n"] = found.n
        rows.append(row)
    return pd.DataFrame(rows)
