"""Measures of an explanation, one score per image first, then a summary with an interval.

The measures are :class:`torchmetrics.Metric`: ``update`` with batches, ``compute`` for the summary,
states that add up over processes. :func:`explanation_scores` applies them to several methods' maps,
:func:`summarise` states the result over images and seeds.
"""

from gan_lib.masking import FILLS, filling, masked_images
from gan_lib.metrics.base import PerImageMetric, Summary, bootstrap, stated, summarise
from gan_lib.metrics.faithfulness import AverageDrop, IncreaseInConfidence, class_probability
from gan_lib.metrics.localisation import (
    Dice,
    DiceAtArea,
    DistinctValues,
    MassInside,
    MeanArea,
    PointingGame,
    RankCorrelation,
)
from gan_lib.metrics.scores import explanation_scores
from gan_lib.metrics.similarity import ClassSimilarity, class_similarity

__all__ = [
    "FILLS",
    "AverageDrop",
    "ClassSimilarity",
    "Dice",
    "DiceAtArea",
    "DistinctValues",
    "IncreaseInConfidence",
    "MassInside",
    "MeanArea",
    "PerImageMetric",
    "PointingGame",
    "RankCorrelation",
    "Summary",
    "bootstrap",
    "class_probability",
    "class_similarity",
    "explanation_scores",
    "filling",
    "masked_images",
    "stated",
    "summarise",
]
