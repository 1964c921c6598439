"""Measures of an explanation, one score per image first, then a summary with an interval.

The measures are :class:`torchmetrics.Metric`: ``update`` with batches, ``compute`` for the summary,
states that add up over processes. :func:`explanation_scores` applies them to several methods' maps,
:func:`summarise` states the result over images and seeds.
"""

from gan_lib.core.masking import FILLS, filling, masked_images
from gan_lib.metrics.base import PerImageMetric, Summary, bootstrap, stated, summarise
from gan_lib.metrics.boxes import (
    ALPHAS,
    BoxIoU,
    best_alphas,
    box_iou,
    box_scores,
    evidence_boxes,
    map_boxes,
)
from gan_lib.metrics.curves import Curves, Deletion, Insertion, Probe, perturbation_curves
from gan_lib.metrics.faithfulness import AverageDrop, IncreaseInConfidence, class_probability
from gan_lib.metrics.imputation import impute
from gan_lib.metrics.localisation import (
    Dice,
    DiceAtArea,
    DistinctValues,
    IoU,
    IoUAtArea,
    MassInside,
    MeanArea,
    PointingGame,
    RankCorrelation,
)
from gan_lib.metrics.pairs import paired_tests, per_image, win_shares, wins_against
from gan_lib.metrics.quality import ADCC, Entropy, MaxSensitivity
from gan_lib.metrics.road import ROAD, road_curves
from gan_lib.metrics.sanity import StructuralSimilarity, random_logit_check, randomisation_check
from gan_lib.metrics.scores import explanation_scores, quality_scores, ranking_scores
from gan_lib.metrics.similarity import ClassSimilarity, agreement, class_similarity

__all__ = [
    "wins_against",
    "ADCC",
    "ALPHAS",
    "AverageDrop",
    "BoxIoU",
    "ClassSimilarity",
    "Curves",
    "Deletion",
    "Dice",
    "DiceAtArea",
    "DistinctValues",
    "Entropy",
    "FILLS",
    "IncreaseInConfidence",
    "Insertion",
    "IoU",
    "IoUAtArea",
    "MassInside",
    "MaxSensitivity",
    "MeanArea",
    "PerImageMetric",
    "PointingGame",
    "Probe",
    "ROAD",
    "RankCorrelation",
    "StructuralSimilarity",
    "Summary",
    "agreement",
    "best_alphas",
    "bootstrap",
    "box_iou",
    "box_scores",
    "class_probability",
    "class_similarity",
    "evidence_boxes",
    "explanation_scores",
    "filling",
    "impute",
    "map_boxes",
    "masked_images",
    "paired_tests",
    "per_image",
    "perturbation_curves",
    "quality_scores",
    "random_logit_check",
    "randomisation_check",
    "ranking_scores",
    "road_curves",
    "stated",
    "summarise",
    "win_shares",
]
