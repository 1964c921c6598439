"""Sanity checks (Adebayo et al., NeurIPS 2018): does a map change when what it explains changes?"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd
import torch
from torch import Tensor, nn

from gan_lib.classifiers import randomised
from gan_lib.core.options import positive
from gan_lib.metrics.base import summary
from gan_lib.metrics.similarity import rank_correlation, structural_similarity

Explain = Callable[[nn.Module, Tensor, Tensor], Tensor]


def sanity_checks(
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
        forgetting, other = sanity_checks(methods, cnn, images, target, stages=6, classes=10)

    Args:
        methods: by name, from a CNN, images (B, 3, H, W) and classes (B,) to maps (B, 1, H, W).
        cnn: left as it is.
        images: (B, 3, H, W) in [0, 1]; target: (B,) the classes that the first maps explain.
        stages: of forgetting (:func:`gan_lib.classifiers.randomised`).
        classes: number of the CNN's.
        seed: of the new weights, and of the choice of the other class.

    Returns:
        One row per method and stage, with ``share`` of the layers drawn anew, and one per method: mean, 95 %
        interval and counted images of rank correlation with the first maps (``rank``, ``rank_low``,
        ``rank_high``, ``rank_n``; a constant map has no ranks), and the same for SSIM (``ssim``, ...).

    Raises:
        ValueError: no method, no image, no stage or no other class.
    """
    positive(methods=len(methods), images=len(images), stages=stages, other_classes=classes - 1)
    first = {name: explain(cnn, images, target) for name, explain in methods.items()}
    forgetting = [
        {"method": name, "share": share}
        | _alike(first[name], explain(net.requires_grad_(False), images, target))
        for share, net in randomised(cnn, images[:1], stages, seed)
        for name, explain in methods.items()
    ]
    steps = torch.randint(1, classes, (len(target),), generator=torch.Generator().manual_seed(seed))
    other = (target + steps.to(target)) % classes
    logits = [
        {"method": name} | _alike(first[name], explain(cnn, images, other))
        for name, explain in methods.items()
    ]
    return pd.DataFrame(forgetting), pd.DataFrame(logits)


def _alike(maps: Tensor, others: Tensor) -> dict[str, float]:
    columns: dict[str, float] = {}
    for name, measure in (("rank", rank_correlation), ("ssim", structural_similarity)):
        own = summary(measure(maps, others))
        columns |= {name: own.mean, f"{name}_low": own.low, f"{name}_high": own.high, f"{name}_n": own.n}
    return columns
