"""Explainers: whatever turns images and a class into maps, all under Captum's interface.

Each is a :class:`captum.attr.Attribution` whose ``attribute(inputs, target=None)`` returns maps
(B, 1, H, W) in [0, 1]; so they are interchangeable and feed the same measures.
"""

from gan_lib.explainers.base import Explainer
from gan_lib.explainers.baselines import LinearReadout
from gan_lib.explainers.cams import CAM, EigenCAM, GradCAM, GradCAMPlusPlus, LayerCAM, ScoreCAM, XGradCAM
from gan_lib.explainers.controls import Edges, RandomMap, UniformMap
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
    ExpectedGradients,
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
from gan_lib.explainers.lrp import LRP
from gan_lib.explainers.perturbations import RISE, FeatureAblation, Occlusion, PerturbationExplainer
from gan_lib.explainers.registry import METHODS, Method, make_explainer, methods_of

__all__ = [
    "CAM",
    "ContrastiveExplainer",
    "DeepLift",
    "Edges",
    "EigenCAM",
    "EvidenceProjection",
    "ExpectedGradients",
    "Explainer",
    "Explanation",
    "FeatureAblation",
    "GANExplainer",
    "GeneratorExplainer",
    "GradCAM",
    "GradCAMPlusPlus",
    "GradientExplainer",
    "GradientShap",
    "GuidedBackprop",
    "GuidedFeatureInversion",
    "GuidedGradCAM",
    "InputXGradient",
    "IntegratedGradients",
    "LRP",
    "LayerCAM",
    "LinearReadout",
    "METHODS",
    "Method",
    "Occlusion",
    "PerturbationExplainer",
    "RISE",
    "RandomMap",
    "UniformMap",
    "Saliency",
    "ScoreCAM",
    "SmoothGrad",
    "UniversalExplainer",
    "XGradCAM",
    "make_explainer",
    "methods_of",
]
