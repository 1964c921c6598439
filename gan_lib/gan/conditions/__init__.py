"""What the generator is conditioned on: Grad-CAMs of many layers and their cumulative averages."""

from gan_lib.gan.conditions.alternatives import ALTERNATIVES, AlternativeMaker
from gan_lib.gan.conditions.cumulative import (
    ConditionMaker,
    Conditions,
    cumulative_average,
    linear_readout,
)
from gan_lib.gan.conditions.features import FeatureMaker, Features, pooled
from gan_lib.gan.conditions.store import StoredConditions, compute_conditions

__all__ = [
    "ALTERNATIVES",
    "AlternativeMaker",
    "ConditionMaker",
    "Conditions",
    "FeatureMaker",
    "Features",
    "StoredConditions",
    "compute_conditions",
    "cumulative_average",
    "linear_readout",
    "pooled",
]
