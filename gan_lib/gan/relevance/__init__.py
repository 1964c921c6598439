"""Which conditions a trained generator relies on.

Another measure is a function from a :class:`ConditionedGenerator`, images and their conditions to (B, n):
``MEASURES.register("mine", mine)``.
"""

from gan_lib.gan.relevance.conditions import (
    ConditionedGenerator,
    as_parts,
    mean_conditions,
    overlap,
    zero_conditions,
)
from gan_lib.gan.relevance.measures import MEASURES, all_relevances, relevance, relevance_maps
from gan_lib.gan.relevance.tables import (
    first_against_last,
    first_ranked,
    over_depth,
    rank_agreement,
    share_scores,
    shares,
    stand_ins,
)

__all__ = [
    "MEASURES",
    "ConditionedGenerator",
    "all_relevances",
    "as_parts",
    "first_against_last",
    "first_ranked",
    "mean_conditions",
    "over_depth",
    "overlap",
    "rank_agreement",
    "relevance",
    "relevance_maps",
    "share_scores",
    "shares",
    "stand_ins",
    "zero_conditions",
]
