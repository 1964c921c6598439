"""Guided feature inversion: a mask made of a layer's channels, whose weights are optimised per image.

Du, Liu, Song and Hu, "Towards Explanation of DNN-based Prediction with Guided Feature Inversion"
(KDD 2018, arXiv 1804.00506).
"""

from gan_lib.inversion.mask import PIXELS_PER_SIGMA, blurred, channel_mask, inversion_layers
from gan_lib.inversion.optimise import (
    PUBLISHED_STEP_2,
    STEP_1,
    STEP_2,
    Inversion,
    InversionOptions,
    convergence,
    inside_and_outside,
)
from gan_lib.inversion.steps import GuidedInversion

__all__ = [
    "GuidedInversion",
    "Inversion",
    "InversionOptions",
    "PIXELS_PER_SIGMA",
    "PUBLISHED_STEP_2",
    "STEP_1",
    "STEP_2",
    "blurred",
    "channel_mask",
    "convergence",
    "inside_and_outside",
    "inversion_layers",
]
