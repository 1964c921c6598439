"""Measures of an explanation, one score per image first, then a summary with an interval.

A measure is a function to scores (B,) of a batch of images, NaN where it is not defined. :func:`judge`
applies all registered ones (:data:`MEASURES`, where the recipe for one's own is) to several methods' maps;
:func:`summary` states one, :func:`summarise` all of them over images and seeds. :class:`PerImage` makes a
:class:`torchmetrics.Metric` of one, whose scores add up over batches and processes.
"""

from gan_lib.core.masking import masked_images
from gan_lib.metrics.base import PerImage, intervals_by, stated, summarise, summary
from gan_lib.metrics.boxes import best_alphas, box_scores, evidence_boxes, map_boxes
from gan_lib.metrics.counterfactuals import average_precision, differing
from gan_lib.metrics.curves import Probe, area_under, perturbation_curves
from gan_lib.metrics.faithfulness import average_drop, class_probability, increase_in_confidence
from gan_lib.metrics.grid import Grids, confident_grids, grid_scores, separate_scores, separated
from gan_lib.metrics.localisation import (
    dice,
    dice_at_area,
    distinct_values,
    iou_at_area,
    mass_inside,
    pointing_game,
)
from gan_lib.metrics.measures import MEASURES, Measure, headings
from gan_lib.metrics.pairs import corrected, differences, verdicts, win_shares, wins_against
from gan_lib.metrics.quality import adcc, arcc, discrete_entropy, entropy, max_sensitivity
from gan_lib.metrics.road import road_curves, road_score
from gan_lib.metrics.sanity import pooled, sanity_checks, sanity_scores
from gan_lib.metrics.sanity_forms import efficient_sanity_scores, smooth_sanity_scores, smoothed
from gan_lib.metrics.scores import judge
from gan_lib.metrics.similarity import (
    agreement,
    class_similarity,
    rank_correlation,
    region_scores,
    similarity_scores,
    structural_similarity,
)

__all__ = [
    "Grids",
    "MEASURES",
    "Measure",
    "PerImage",
    "Probe",
    "adcc",
    "agreement",
    "arcc",
    "area_under",
    "average_drop",
    "average_precision",
    "best_alphas",
    "box_scores",
    "class_probability",
    "class_similarity",
    "dice",
    "dice_at_area",
    "confident_grids",
    "corrected",
    "differences",
    "differing",
    "discrete_entropy",
    "distinct_values",
    "efficient_sanity_scores",
    "entropy",
    "evidence_boxes",
    "grid_scores",
    "headings",
    "increase_in_confidence",
    "intervals_by",
    "iou_at_area",
    "judge",
    "map_boxes",
    "mass_inside",
    "masked_images",
    "max_sensitivity",
    "perturbation_curves",
    "pointing_game",
    "pooled",
    "rank_correlation",
    "region_scores",
    "road_curves",
    "road_score",
    "sanity_checks",
    "sanity_scores",
    "separate_scores",
    "separated",
    "similarity_scores",
    "smooth_sanity_scores",
    "smoothed",
    "stated",
    "structural_similarity",
    "summarise",
    "summary",
    "verdicts",
    "win_shares",
    "wins_against",
]
