"""What generators are conditioned on: Grad-CAMs of many layers, their cumulative averages, or features."""

from gan_lib.gan.conditions import alternatives  # noqa: F401 (registers kinds of conditions)
from gan_lib.gan.conditions.cumulative import (
    CONDITIONS,
    ConditionMaker,
    Conditions,
    condition_maker,
    cumulative_average,
    linear_readout,
)
from gan_lib.gan.conditions.evidence import EvidenceMaker, EvidenceMakers, evidence_channels, evidence_maps
from gan_lib.gan.conditions.features import FeatureMaker, Features, pooled
from gan_lib.gan.conditions.store import StoredConditions, compute_conditions

READERS: dict[str, type[FeatureMaker]] = {own.reads: own for own in (FeatureMaker, EvidenceMaker)}

__all__ = [
    "CONDITIONS",
    "READERS",
    "ConditionMaker",
    "Conditions",
    "EvidenceMaker",
    "EvidenceMakers",
    "FeatureMaker",
    "Features",
    "StoredConditions",
    "compute_conditions",
    "condition_maker",
    "cumulative_average",
    "evidence_channels",
    "evidence_maps",
    "linear_readout",
    "pooled",
]
