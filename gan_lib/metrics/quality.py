"""Measures of a map as such: is it small, stable, and does it explain what it shows? (B,) each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from captum.metrics import sensitivity_max
from scipy.stats import entropy as shannon_entropy
from torch import Tensor

from gan_lib.core.options import positive
from gan_lib.core.runtime import quiet, seeded
from gan_lib.metrics.similarity import correlation

RADIUS, COPIES = 0.02, 4  # largest change of a pixel, in the images' range, and noisy copies of an image


def entropy(maps: Tensor) -> Tensor:
    """Complexity as entropy (Bhatt et al., IJCAI 2020), in nats, of shares of the mass of maps (B, 1, H, W).

    From 0 for a single pixel to ``log(H * W)`` for a constant map; NaN for a map of zeros.
    """
    flat = maps.flatten(1).double()  # (B, H * W)
    total = flat.sum(1, keepdim=True)
    found = torch.special.entr(flat / total.clamp(min=1e-12)).sum(1)
    return torch.where(total[:, 0] > 0, found, torch.nan).float()


def discrete_entropy(maps: Tensor, bins: int = 100) -> Tensor:
    """Complexity as the entropy (B,) of the histogram of a map's values, in nats (Hedström et al., 2023).

        discrete_entropy(maps)  # 0 for a constant map, log(bins) for values that are evenly spread

    With the share :math:`p_i` of the pixels whose value lies in the i-th of equal bins, which reach from the
    map's least value to its greatest,

    .. math:: H = -\\sum_i p_i \\log p_i

    Raises:
        ValueError: no bin.
    """
    positive(bins=bins)
    values = maps.detach().flatten(1).double().cpu().numpy()  # (B, H * W)
    counts = [np.histogram(own, bins)[0] for own in values]
    return torch.tensor([shannon_entropy(own) for own in counts], dtype=torch.float32)


def adcc(maps: Tensor, maps_of_shown: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Average DCC (Poppi et al., CVPR workshops 2021), 0..1: three properties in one number.

    The harmonic mean of *coherency* (the map of the image that the map shows is the same map: Pearson's
    correlation, from [-1, 1] to [0, 1]; 0 where either is constant), of 1 - *complexity* (the map's mean) and
    of 1 - *drop* (of the class's probability when only the explained part is left, on black).

    Args:
        maps, maps_of_shown: (B, 1, H, W) in [0, 1], of the images and of the images under these maps.
        before, after: (B,) probability of the class on either; NaN where there was none before.
    """
    kept = 1 - (before - after).clamp(min=0) / before
    return torch.where(before > 0, _harmonic(maps, maps_of_shown, kept), torch.nan)


def arcc(maps: Tensor, maps_of_shown: Tensor, road: tuple[Tensor, Tensor]) -> Tensor:
    """ARCC ("How to Evaluate and Refine your CAM", arXiv 2605.14641), 0..1: ADCC with ROAD for the drop.

    The harmonic mean of *coherency* and of 1 - *complexity*, as in :func:`adcc`, and of ROAD: the probability
    without the least relevant pixels, less that without the most relevant ones, averaged over shares and cut
    off at 0. So an author's code in pytorch-grad-cam has it, with shares of 0.2, 0.4, 0.6 and 0.8.

    It is not among the registered measures, since it asks for ROAD once more; :func:`gan_lib.metrics.judge`
    takes it, where it is given shares for ROAD, after

        MEASURES.register("arcc", Measure(arcc, "ARCC"))

    Args:
        maps, maps_of_shown: as for :func:`adcc`.
        road: two (B, S), as :func:`gan_lib.metrics.road_curves` gives them.
    """
    highest_gone, lowest_gone = road
    return _harmonic(maps, maps_of_shown, (lowest_gone - highest_gone).mean(1).clamp(0, 1))


def _harmonic(maps: Tensor, maps_of_shown: Tensor, faithful: Tensor) -> Tensor:
    """Harmonic mean (B,) of coherency, 1 - complexity and a third number (B,), 0 where one of them is."""
    alike = correlation(maps.flatten(1), maps_of_shown.flatten(1))
    coherency = ((alike + 1) / 2).nan_to_num(0.0).to(faithful)
    simplicity = 1 - maps.mean((1, 2, 3)).to(faithful)
    parts = torch.stack([coherency, simplicity, faithful])  # (3, B)
    return torch.where((parts > 0).all(0), 3 / (1 / parts.clamp(min=1e-12)).sum(0), 0.0)


def max_sensitivity(explain: Callable[[Tensor, Tensor], Tensor], images: Tensor, target: Tensor) -> Tensor:
    """How far a map moves when the image hardly does (Yeh et al., NeurIPS 2019): Captum's measure.

    Args:
        explain: from images (B, 3, H, W) in [0, 1] and classes (B,), as given, to maps (B, 1, H, W).

    Returns:
        (B,) the largest relative change, in the Frobenius norm, over noisy copies; NaN for a map of zeros.
    """
    if not len(images):
        return images.new_empty(0)

    def explained(inputs: tuple[Tensor, ...] | Tensor, target: Tensor) -> Tensor:
        pictures = inputs if isinstance(inputs, Tensor) else inputs[0]
        return explain(pictures.clamp(0, 1), target)

    with seeded(0), quiet():
        moved = sensitivity_max(
            explained,
            images,
            perturb_radius=RADIUS,
            n_perturb_samples=COPIES,
            max_examples_per_batch=len(images),
            target=target,
        )
    return torch.where(moved.isfinite(), moved, torch.nan)
