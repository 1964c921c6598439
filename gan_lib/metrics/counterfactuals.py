"""Maps against true counterfactuals: the same images, drawn again without what the class hangs on.

What differs between the two *is* the evidence, and pixels of one put into the other leave no fill behind that
the CNN has never seen. :func:`gan_lib.metrics.judge` takes them as ``counterfactuals``.
"""

from __future__ import annotations

import torch
from sklearn.metrics import average_precision_score
from torch import Tensor

from gan_lib.metrics.checks import check_pair

RERENDERED = "rerendered"  # what columns call counterfactuals in place of hidden pixels


def differing(images: Tensor, counterfactuals: Tensor) -> Tensor:
    """Places (B, 1, H, W) bool where images (B, 3, H, W) differ from their counterfactuals in any colour.

    evidence = differing(layers.rendered(), without_digit(layers).rendered())

    Raises:
        ValueError: counterfactuals of another number or size.
    """
    if images.shape != counterfactuals.shape:
        shapes = f"{tuple(counterfactuals.shape)} for images {tuple(images.shape)}"
        raise ValueError(f"counterfactuals {shapes}: they are the same images with one thing changed")
    return (images != counterfactuals).any(1, keepdim=True)


def average_precision(maps: Tensor, evidence: Tensor) -> Tensor:
    """Average precision (B,) of a map as a ranking of the evidence's pixels, 0..1, by scikit-learn.

        scores = average_precision(maps, differing(images, counterfactuals))

    With the precision :math:`P_n` and the recall :math:`R_n` of the pixels that reach the n-th highest value,

    .. math:: AP = \\sum_n (R_n - R_{n-1}) P_n

    Equal values count together: a constant map scores the evidence's share of the image.

    Args:
        maps: (B, 1, H, W) in [0, 1].
        evidence: (B, 1, H, W) bool, or (1, 1, H, W) for all; NaN where there is none.

    Raises:
        ValueError: maps with NaN, or evidence that is no boolean mask of theirs.
    """
    check_pair(maps, evidence)
    known = evidence.expand_as(maps).flatten(1).cpu().numpy()  # (B, H * W)
    scores = [
        average_precision_score(own, values) if own.any() else torch.nan
        for own, values in zip(known, maps.flatten(1).cpu().numpy(), strict=True)
    ]
    return torch.tensor(scores, dtype=torch.float32)
