"""Boxes (N, 4): left, top, right, bottom in pixels, right and bottom exclusive; NaN where there is none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from torch import Tensor

from gan_lib.core.options import positive

ALPHAS = tuple(np.arange(0, 5.5, 0.5).tolist())  # as published
NEIGHBOURS = np.ones((3, 3))  # eight: corners touch
NOWHERE = (slice(np.nan, np.nan), slice(np.nan, np.nan))
LOCALISED = 0.5  # IoU


def map_boxes(maps: Tensor, alpha: float = 1.0) -> Tensor:
    """Boxes (B, 4) of the largest connected region of maps (B, 1, H, W) above ``alpha`` times their mean.

    arXiv 1804.00506, section 4.3. Of regions of the same size the first in reading order is taken.
    """
    above = maps > alpha * maps.mean((2, 3), keepdim=True)
    return _boxes(_largest(own) for own in above[:, 0].cpu().numpy()).to(maps.device)


def evidence_boxes(evidence: Tensor) -> Tensor:
    """Boxes (B, 4) around evidence (B, 1, H, W) bool, in one piece or not."""
    return _boxes(evidence[:, 0].cpu().numpy()).to(evidence.device)


def box_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union (B,) of boxes (B, 4) with others, pair by pair: 0 without a box, NaN without
    another one."""
    low, high = torch.maximum(boxes[:, :2], others[:, :2]), torch.minimum(boxes[:, 2:], others[:, 2:])
    both = (high - low).clamp(min=0).prod(1)
    areas = [(given[:, 2:] - given[:, :2]).prod(1) for given in (boxes, others)]
    overlap = (both / (areas[0] + areas[1] - both)).nan_to_num(0.0)
    return torch.where(others.isnan().any(1), torch.nan, overlap)


def box_scores(
    maps: Mapping[tuple[str, int], Tensor], evidence: Tensor, alphas: Sequence[float] = ALPHAS
) -> pd.DataFrame:
    """IoU of boxes at several thresholds.

        scores = box_scores({("Grad-CAM", 0): maps}, masks)

    Args:
        maps: by method and training seed, (N, 1, H, W) in [0, 1].
        evidence: (N, 1, H, W) bool, or boxes (N, 4).
        alphas: of the thresholds.

    Returns:
        One row per ``method``, ``seed``, ``alpha`` and ``image``: ``iou``, and ``error``, 100 where that is
        below 0.5 and 0 elsewhere; NaN where there is no evidence, or NaN in the map.

    Raises:
        ValueError: no map or no threshold, or evidence of another number or size.
    """
    positive(maps=len(maps), alphas=len(alphas))
    boxes, tables = evidence if evidence.ndim == 2 else evidence_boxes(evidence), []
    for (method, seed), own in maps.items():
        if evidence.shape not in (own.shape, (len(own), 4)):
            raise ValueError(f"maps {(*own.shape,)} and evidence {(*evidence.shape,)} do not belong together")
        undefined = own.flatten(1).isnan().any(1)
        for alpha in alphas:
            found = box_iou(map_boxes(own, alpha), boxes.to(own.device)).masked_fill(undefined, torch.nan)
            iou = found.cpu().numpy()
            error = np.where(np.isnan(iou), np.nan, 100.0 * (iou < LOCALISED))
            scores = {"image": range(len(iou)), "iou": iou, "error": error}
            tables.append(pd.DataFrame({"method": method, "seed": seed, "alpha": alpha, **scores}))
    return pd.concat(tables, ignore_index=True)


def best_alphas(chosen_on: pd.DataFrame) -> pd.Series:
    """Each method's best threshold by mean IoU, by method, without those that have no IoU.

    Choose on :func:`box_scores` of other images than those to be reported.
    """
    means = chosen_on.groupby(["method", "alpha"], sort=False)["iou"].mean().unstack()
    return means.dropna(how="all").idxmax(axis=1)


def _largest(above: np.ndarray) -> np.ndarray:
    """The largest connected region of (H, W) bool, as one of the same kind."""
    labels, count = ndimage.label(above, NEIGHBOURS)
    return labels == 1 + np.bincount(labels.flat)[1:].argmax() if count else above


def _boxes(regions: Iterable[np.ndarray]) -> Tensor:
    """Boxes (B, 4) around regions (H, W) bool."""
    found = [(ndimage.find_objects(own.astype(int)) or [NOWHERE])[0] for own in regions]
    boxes = [[columns.start, rows.start, columns.stop, rows.stop] for rows, columns in found]
    return torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
