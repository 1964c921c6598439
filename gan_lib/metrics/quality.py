"""Measures of a map as such: is it small, stable, and does it explain what it shows?"""

from __future__ import annotations

from collections.abc import Callable

import torch
from captum.metrics import sensitivity_max
from torch import Tensor

from gan_lib.core.runtime import quiet, seeded
from gan_lib.metrics.base import PerImageMetric


class Entropy(PerImageMetric):
    """Complexity as entropy (Bhatt et al., IJCAI 2020), in nats, of a map's shares of its mass.

    From 0 for a single pixel to ``log(H * W)`` for a constant map; a map of zeros does not count.
    """

    higher_is_better = False

    def update(self, maps: Tensor) -> None:
        """Maps (B, 1, H, W) in [0, 1]."""
        flat = maps.flatten(1).double()  # (B, H * W)
        total = flat.sum(1, keepdim=True)
        entropy = torch.special.entr(flat / total.clamp(min=1e-12)).sum(1)
        self.append(torch.where(total[:, 0] > 0, entropy, torch.nan))


def correlation(maps: Tensor, others: Tensor) -> Tensor:
    """Pearson's correlation (B,) of the pixels of maps (B, 1, H, W); NaN where one is constant."""
    first, second = (given.flatten(1).double() for given in (maps, others))
    first, second = first - first.mean(1, keepdim=True), second - second.mean(1, keepdim=True)
    norms = first.norm(dim=1) * second.norm(dim=1)
    return torch.where(norms > 1e-12, (first * second).sum(1) / norms.clamp(min=1e-12), torch.nan)


class ADCC(PerImageMetric):
    """Average DCC (Poppi et al., CVPR workshops 2021), 0..1: three properties in one number.

    The harmonic mean of *coherency* (the map of the image that the map shows is the same map: Pearson's
    correlation, from [-1, 1] to [0, 1]), of 1 - *complexity* (the map's mean) and of 1 - *drop* (of the
    class's probability when only the explained part is left, on black). An image whose map, or whose
    map's map, is constant counts with a coherency of 0; one whose class has no probability does not count.
    """

    higher_is_better = True

    def update(self, maps: Tensor, maps_of_shown: Tensor, before: Tensor, after: Tensor) -> None:
        """Append a batch.

        Args:
            maps: (B, 1, H, W) in [0, 1] of the images.
            maps_of_shown: (B, 1, H, W) in [0, 1] of the images under their own maps, for the same class.
            before, after: (B,) probability of the class on the images, and under their maps.
        """
        coherency = ((correlation(maps, maps_of_shown) + 1) / 2).nan_to_num(0.0).to(before)
        simplicity = 1 - maps.mean((1, 2, 3)).to(before)
        kept = 1 - (before - after).clamp(min=0) / before
        parts = torch.stack([coherency, simplicity, kept])  # (3, B)
        harmonic = 3 / (1 / parts.clamp(min=1e-12)).sum(0)
        scores = torch.where((parts > 0).all(0), harmonic, 0.0)
        self.append(torch.where(before > 0, scores, torch.nan))


class MaxSensitivity(PerImageMetric):
    """How far a map moves when the image hardly does (Yeh et al., NeurIPS 2019): Captum's measure.

    The largest relative change, in the Frobenius norm, over noisy copies of the image.

    Args:
        radius: largest change of a pixel, in the images' range.
        copies: noisy ones per image.
        seed: of the noise and of the bootstrap.
    """

    higher_is_better = False

    def __init__(self, radius: float = 0.02, copies: int = 4, seed: int = 0) -> None:
        super().__init__(seed)
        self.radius, self.copies = radius, copies

    def update(self, explain: Callable[[Tensor, Tensor], Tensor], images: Tensor, target: Tensor) -> None:
        """Append a batch.

        Args:
            explain: from images (B, 3, H, W) and classes (B,) to maps (B, 1, H, W).
            images: (B, 3, H, W) in [0, 1].
            target: (B,) the explained class.
        """

        def explained(inputs: tuple[Tensor, ...] | Tensor, target: Tensor) -> Tensor:
            pictures = inputs if isinstance(inputs, Tensor) else inputs[0]
            return explain(pictures.clamp(0, 1), target)

        with seeded(self.seed), quiet():
            moved = sensitivity_max(
                explained,
                images,
                perturb_radius=self.radius,
                n_perturb_samples=self.copies,
                max_examples_per_batch=len(images),
                target=target,
            )
        self.append(torch.where(moved.isfinite(), moved, torch.nan))
