"""What generators are conditioned on: Grad-CAMs of many layers, their cumulative averages, or features."""

from gan_lib.gan.conditions.alternatives import (
    LastGradCAM,
    LayerGradCAMs,
    LayerResponses,
    PlantedTarget,
)
from gan_lib.gan.conditions.cumulative import (
    CONDITIONS,
    ConditionMaker,
    Conditions,
    condition_maker,
    cumulative_average,
    linear_readout,
)
from gan_lib.gan.conditions.features import FeatureMaker, Features, pooled
from gan_lib.gan.conditions.store import JoinedConditions, StoredConditions, compute_conditions

__all__ = [
    "CONDITIONS",
    "ConditionMaker",
    "Conditions",
    "FeatureMaker",
    "Features",
    "JoinedConditions",
    "LastGradCAM",
    "LayerGradCAMs",
    "LayerResponses",
    "PlantedTarget",
    "StoredConditions",
    "compute_conditions",
    "condition_maker",
    "cumulative_average",
    "linear_readout",
    "pooled",
]
