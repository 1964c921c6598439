"""ROAD: what removing pixels does to the CNN, when nothing but the evidence is lost."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gan_lib.core.masking import pixel_ranks
from gan_lib.core.options import positive
from gan_lib.metrics.curves import Probe
from gan_lib.metrics.imputation import Imputer

NOISE = 0.01
UNDONE = 3e-3  # relative residual at which what the solver leaves undone is, root mean square, a third of it


def road_curves(
    probe: Probe,
    images: Tensor,
    maps: Tensor,
    target: Tensor,
    shares: Sequence[float],
    noise: float = NOISE,
) -> tuple[Tensor, Tensor]:
    """Probability of the class when the highest, and when the lowest, pixels are removed (Rong et al., 2022).

        highest_gone, lowest_gone = road_curves(Probe(cnn), images, maps, classes, [0.3, 0.7])

    Removed pixels are filled in from their neighbours (:class:`gan_lib.metrics.imputation.Imputer`), so that
    no sharp border gives the removed shape away. Exactly a share goes, equal values in reading order, where
    pytorch-grad-cam removes by a threshold at the percentile: of equal values all or none.

    Args:
        probe, images, maps, target: as for :func:`gan_lib.metrics.perturbation_curves`.
        shares: S of the pixels, that are removed.
        noise: standard deviation of what is added to imputed pixels, in the images' range.

    Returns:
        Two tensors (B, S).

    Raises:
        ValueError: no share.
    """
    positive(shares=len(shares))
    impute = Imputer(tolerance=UNDONE if noise >= NOISE else 1e-5)
    drawn = noise * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    drawn = drawn.to(images.device)  # (B, C, H, W), the same for all shares
    counts = [round(share * maps.shape[1:].numel()) for share in shares]
    orders = pixel_ranks(maps), pixel_ranks(-maps)
    found = []
    for rows in torch.arange(len(images), device=images.device).split(impute.at_once(images)):
        filled = [
            impute(images[rows], ranks[rows] >= count, drawn[rows]) for ranks in orders for count in counts
        ]
        asked = target[rows].repeat(len(filled))
        found.append(probe(torch.cat(filled), asked).view(2, len(shares), len(rows)))
    highest, lowest = torch.cat(found, dim=2).mT  # (B, S) each
    return highest, lowest


def road_score(road: tuple[Tensor, Tensor]) -> Tensor:
    """ROAD (B,), combined as in pytorch-grad-cam: half of (lowest removed - highest removed), -0.5..0.5
    (Rong et al., ICML 2022).

    High when the class survives the loss of the least, and not that of the most relevant pixels
    (:func:`road_curves`).
    """
    highest_gone, lowest_gone = road
    return (lowest_gone - highest_gone).mean(1) / 2
