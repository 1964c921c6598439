"""Explainers: whatever turns images and a class into maps, all under Captum's interface.

Each is a :class:`captum.attr.Attribution` whose ``attribute(inputs, target=None)`` returns maps
(B, 1, H, W) in [0, 1]; so they are interchangeable and feed the same measures.
"""

from gan_lib.explainers.base import Explainer, Target
from gan_lib.explainers.baselines import BASELINES, CaptumExplainer, GradCAM, LinearReadout, make_baseline
from gan_lib.explainers.controls import Edges, RandomMap
from gan_lib.explainers.gan import ContrastiveExplainer, GANExplainer, GeneratorExplainer

__all__ = [
    "BASELINES",
    "CaptumExplainer",
    "ContrastiveExplainer",
    "Edges",
    "Explainer",
    "GANExplainer",
    "GeneratorExplainer",
    "GradCAM",
    "LinearReadout",
    "RandomMap",
    "Target",
    "make_baseline",
]
