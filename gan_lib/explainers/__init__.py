"""Explainers: whatever turns images and a class into maps, all under Captum's interface.

Each is a :class:`captum.attr.Attribution` whose ``attribute(inputs, target=None)`` returns maps
(B, 1, H, W) in [0, 1]; so they are interchangeable and feed the same measures.
"""

from gan_lib.explainers.base import Explainer
from gan_lib.explainers.baselines import GradCAM, LinearReadout
from gan_lib.explainers.controls import Edges, RandomMap
from gan_lib.explainers.evidence import EvidenceProjection
from gan_lib.explainers.explanation import Explanation
from gan_lib.explainers.gan import (
    ContrastiveExplainer,
    GANExplainer,
    GeneratorExplainer,
    UniversalExplainer,
)
from gan_lib.explainers.gradients import (
    DeepLift,
    GradientExplainer,
    GradientShap,
    GuidedBackprop,
    GuidedGradCAM,
    InputXGradient,
    IntegratedGradients,
    Saliency,
    SmoothGrad,
)
from gan_lib.explainers.inversion import GuidedFeatureInversion
from gan_lib.explainers.perturbations import FeatureAblation, Occlusion, PerturbationExplainer
from gan_lib.explainers.registry import METHODS, Method, make_explainer, methods_of

__all__ = [
    "ContrastiveExplainer",
    "DeepLift",
    "Edges",
    "EvidenceProjection",
    "Explainer",
    "Explanation",
    "FeatureAblation",
    "GANExplainer",
    "GeneratorExplainer",
    "GradCAM",
    "GradientExplainer",
    "GradientShap",
    "GuidedBackprop",
    "GuidedFeatureInversion",
    "GuidedGradCAM",
    "InputXGradient",
    "IntegratedGradients",
    "LinearReadout",
    "METHODS",
    "Method",
    "Occlusion",
    "PerturbationExplainer",
    "RandomMap",
    "Saliency",
    "SmoothGrad",
    "UniversalExplainer",
    "make_explainer",
    "methods_of",
]
