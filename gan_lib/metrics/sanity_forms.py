"""Repaired sanity checks (Hedström et al., "Sanity Checks Revisited", arXiv 2401.06465).

The similarity of two maps falls with the noise of either, whatever they explain, so that a noisy method
passes the plain check (:mod:`gan_lib.metrics.sanity`) with ease. The smooth form takes the noise away first;
the efficient one compares no maps at all, but how complex they are.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor, nn

from gan_lib.classifiers import randomised
from gan_lib.core.options import positive
from gan_lib.core.runtime import image_generators
from gan_lib.metrics.quality import discrete_entropy
from gan_lib.metrics.sanity import Explain, forgetting_scores

COPIES, NOISE = 50, 0.1  # as published for ImageNet


def smoothed(explain: Explain, copies: int = COPIES, noise: float = NOISE, seed: int = 0) -> Explain:
    """The same method with its maps averaged over noisy copies of the image: the smooth form's first step.

        smooth = smoothed(lambda net, x, y: Saliency(net).attribute(x, y), copies=10)
        maps = smooth(cnn, images, target)

    .. math:: \\bar e = \\frac{1}{N} \\sum_{i=1}^{N} \\Phi(f, x + \\eta_i),\\; \\eta_i \\sim N(0, \\sigma^2)

    Noise is drawn image by image, from the seed and the image: every CNN sees the same copies.

    Args:
        explain: from a CNN, images (B, 3, H, W) in [0, 1] and classes (B,) to maps (B, 1, H, W).
        copies: N of an image, kept in [0, 1].
        noise: sigma, as a share of the image's range of values.
        seed: of the noise.

    Raises:
        ValueError: no copy, or noise below 0.
    """
    positive(copies=copies)
    if not noise >= 0:
        raise ValueError(f"noise is a share of the image's range, from 0, not {noise}")

    def averaged(cnn: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        flat = images.flatten(1)
        sigma = noise * (flat.amax(1) - flat.amin(1))[:, None, None, None]  # (B, 1, 1, 1)
        generators, total = image_generators(images, seed), torch.zeros_like(images[:, :1])
        for _ in range(copies):
            drawn = torch.stack([torch.randn(images.shape[1:], generator=own) for own in generators])
            total = total + explain(cnn, (images + sigma * drawn.to(images)).clamp(0, 1), target)
        return total / copies  # (B, 1, H, W)

    return averaged


def smooth_sanity_scores(
    methods: Mapping[str, Explain],
    cnn: nn.Module,
    images: Tensor,
    target: Tensor,
    stages: int,
    copies: int = COPIES,
    noise: float = NOISE,
    bottom_up: bool = True,
    seed: int = 0,
) -> pd.DataFrame:
    """Smooth MPRT: how alike maps stay, of which the noise is averaged away, while layers are drawn anew.

        forgetting = smooth_sanity_scores(methods, cnn, images, target, stages=6, copies=10)

    Args:
        methods, cnn, stages: as for :func:`gan_lib.metrics.sanity_scores`.
        images, target: (B, 3, H, W) in [0, 1], and classes (B,).
        copies, noise: as for :func:`smoothed`.
        bottom_up: from the first layer to the last, which the authors recommend, or the reverse.
        seed: of the new weights, and of the noise.

    Returns:
        A row per method, stage and ``image``, with ``share`` of the layers drawn anew: the rank correlation
        with the first map (``rank``; a constant map has none) and ``ssim``. Lower is better.

    Raises:
        ValueError: no method, no image, no stage, no copy, or noise below 0.
    """
    positive(methods=len(methods), images=len(images), stages=stages)
    smooth = {name: smoothed(explain, copies, noise, seed) for name, explain in methods.items()}
    first = {name: explain(cnn, images, target) for name, explain in smooth.items()}
    return forgetting_scores(smooth, first, cnn, images, target, stages, seed, bottom_up)


def efficient_sanity_scores(
    methods: Mapping[str, Explain],
    cnn: nn.Module,
    images: Tensor,
    target: Tensor,
    bins: int = 100,
    seed: int = 0,
) -> pd.DataFrame:
    """Efficient MPRT: how much more complex a map becomes when all of the CNN's layers are drawn anew.

        rises = efficient_sanity_scores(methods, cnn, images, target)

    With the complexity H (:func:`gan_lib.metrics.discrete_entropy`) of the map :math:`e` and of the random
    CNN's :math:`\\hat e`,

    .. math:: \\mathrm{eMPRT} = \\frac{H(\\hat e) - H(e)}{H(e)}

    Args:
        methods, cnn: as for :func:`gan_lib.metrics.sanity_scores`.
        images, target: (B, 3, H, W) in [0, 1], and classes (B,).
        bins: of the histograms.
        seed: of the new weights.

    Returns:
        A row per method and ``image``: ``complexity``, that of the random CNN's map (``randomised``), and the
        ``rise``, NaN for a constant map. Higher is better; 0 of what does not look at the CNN.

    Raises:
        ValueError: no method, no image or no bin.
    """
    positive(methods=len(methods), images=len(images), bins=bins)
    (_, forgetful), *_ = randomised(cnn, images[:1], 1, seed)
    forgetful.requires_grad_(False)
    tables = []
    for name, explain in methods.items():
        before, after = (discrete_entropy(explain(net, images, target), bins) for net in (cnn, forgetful))
        rise = torch.where(before > 0, (after - before) / before, torch.nan)
        columns = {"complexity": before.tolist(), "randomised": after.tolist(), "rise": rise.tolist()}
        tables.append(pd.DataFrame({"method": name, "image": range(len(images)), **columns}))
    return pd.concat(tables, ignore_index=True)
