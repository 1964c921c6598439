"""Which conditions a trained generator relies on."""

from gan_lib.gan.relevance.conditions import (
    OBJECTIVES,
    ConditionedGenerator,
    as_parts,
    mean_conditions,
    objective,
    zero_conditions,
)
from gan_lib.gan.relevance.measures import MEASURES, relevance, relevance_maps
from gan_lib.gan.relevance.tables import first_against_last, first_ranked, over_depth, rank_agreement, shares

__all__ = [
    "MEASURES",
    "OBJECTIVES",
    "ConditionedGenerator",
    "as_parts",
    "first_against_last",
    "first_ranked",
    "mean_conditions",
    "objective",
    "over_depth",
    "rank_agreement",
    "relevance",
    "relevance_maps",
    "shares",
    "zero_conditions",
]
