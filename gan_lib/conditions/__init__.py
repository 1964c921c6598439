"""What the generator is conditioned on: Grad-CAMs of many layers and their cumulative averages."""

from gan_lib.conditions.alternatives import ALTERNATIVES, AlternativeMaker
from gan_lib.conditions.cumulative import (
    ConditionMaker,
    Conditions,
    cumulative_average,
    linear_readout,
)
from gan_lib.conditions.features import FeatureMaker, Features, pooled
from gan_lib.conditions.grad_cam import GradCAMs, grad_cam, token_grid
from gan_lib.conditions.maps import min_max, upsample
from gan_lib.conditions.store import StoredConditions, compute_conditions

__all__ = [
    "ALTERNATIVES",
    "AlternativeMaker",
    "ConditionMaker",
    "Conditions",
    "FeatureMaker",
    "Features",
    "GradCAMs",
    "StoredConditions",
    "compute_conditions",
    "cumulative_average",
    "grad_cam",
    "linear_readout",
    "min_max",
    "pooled",
    "token_grid",
    "upsample",
]
