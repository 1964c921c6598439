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


def randomisation_check(
    methods: Mapping[str, Explain], cnn: nn.Module, images: Tensor, target: Tensor, stages: int, seed: int = 0
) -> pd.DataFrame:
    """Maps while ever more of the CNN's layers, from the last to the first, are drawn anew.

        methods = {"saliency": lambda net, x, y: Saliency(net).attribute(x, y)}
        randomisation_check(methods, cnn, images, classes, stages=6)

    Args:
        methods: by name, from a CNN, images (B, 3, H, W) and classes (B,) to maps (B, 1, H, W).
        cnn: left as it is.
        images: (B, 3, H, W) in [0, 1].
        target: (B,) the class that all maps explain.
        stages: of forgetting (:func:`gan_lib.classifiers.randomised`).
        seed: of the new weights.

    Returns:
        One row per method and stage: ``method``, ``share`` of the layers drawn anew; mean, 95 % interval and
        counted images of rank correlation (``rank``, ``rank_low``, ``rank_high``, ``rank_n``; a constant map
        has no ranks), and the same for SSIM (``ssim``, ...).

    Raises:
        ValueError: no method, no image or no stage.
    """
    positive(methods=len(methods), images=len(images), stages=stages)
    original = {name: explain(cnn, images, target) for name, explain in methods.items()}
    return pd.DataFrame(
        {"method": name, "share": share}
        | _alike(original[name], explain(forgetful.requires_grad_(False), images, target))
        for share, forgetful in randomised(cnn, images[:1], stages, seed)
        for name, explain in methods.items()
    )


def random_logit_check(
    methods: Mapping[str, Explain],
    cnn: nn.Module,
    images: Tensor,
    target: Tensor,
    classes: int,
    seed: int = 0,
) -> pd.DataFrame:
    """Maps for the explained class and for a random other one (Sixt et al., ICML 2020): are they the same?

    Args:
        methods, cnn, images, target: as for :func:`randomisation_check`.
        classes: number K of the CNN's classes; seed: of the choice among the other ones.

    Returns:
        One row per method, with the columns of :func:`randomisation_check` but ``share``.

    Raises:
        ValueError: no method, no image or no other class.
    """
    positive(methods=len(methods), images=len(images), other_classes=classes - 1)
    steps = torch.randint(1, classes, (len(target),), generator=torch.Generator().manual_seed(seed))
    other = (target + steps.to(target)) % classes
    return pd.DataFrame(
        {"method": name} | _alike(explain(cnn, images, target), explain(cnn, images, other))
        for name, explain in methods.items()
    )


def _alike(maps: Tensor, others: Tensor) -> dict[str, float]:
    columns: dict[str, float] = {}
    for name, measure in (("rank", rank_correlation), ("ssim", structural_similarity)):
        own = summary(measure(maps, others))
        columns |= {name: own.mean, f"{name}_low": own.low, f"{name}_high": own.high, f"{name}_n": own.n}
    return columns
