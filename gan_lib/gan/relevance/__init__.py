"""Which conditions a trained generator relies on.

Another measure of relevance is a function of the generator, images, their conditions and the objective's name
to (B, n), ``MEASURES.register("mine", mine)``.
"""

from gan_lib.gan.relevance.conditions import (
    OBJECTIVES,
    ConditionedGenerator,
    as_parts,
    mean_conditions,
    objective,
    zero_conditions,
)
from gan_lib.gan.relevance.measures import MEASURES, all_relevances, relevance, relevance_maps
from gan_lib.gan.relevance.tables import (
    agreement_table,
    ends_table,
    first_against_last,
    first_ranked,
    over_depth,
    rank_agreement,
    shares,
    stand_in_table,
)

__all__ = [
    "MEASURES",
    "OBJECTIVES",
    "ConditionedGenerator",
    "agreement_table",
    "all_relevances",
    "as_parts",
    "ends_table",
    "first_against_last",
    "first_ranked",
    "mean_conditions",
    "objective",
    "over_depth",
    "rank_agreement",
    "relevance",
    "relevance_maps",
    "shares",
    "stand_in_table",
    "zero_conditions",
]
