"""Explanations from evidence conditions alone: nothing is trained."""

from __future__ import annotations

from copy import copy
from math import inf
from typing import get_args

from torch import Tensor, nn

from gan_lib.core.maps import min_max
from gan_lib.explainers.base import Explainer, Target
from gan_lib.gan.conditions import EvidenceMakers
from gan_lib.gan.generators import Joint, emphasised, projections


class EvidenceProjection(Explainer):
    """Where the CNN's layers go with its evidence for the class: the mean of their evidence projections.

        maps = EvidenceProjection(cnn).attribute(images)    # one forward pass

    A CNN that does not end in a linear layer on pooled features costs a backward pass through its head, too.

    The evidence is the class's logit and log-odds at every place of the last features; a layer's
    projection adds up its channels by their covariance with it
    (:func:`gan_lib.gan.conditions.evidence_maps`).

    Args:
        cnn: the CNN to be explained.
        layers: how many of its layers are read, spread over the depth.
        emphasis: how many layers the evidence itself counts for in the mean, at least 0.
        joint: ``mean``, or ``product`` for the geometric mean of all layers, which then count alike
            (:func:`gan_lib.gan.generators.projections`).
    """

    def __init__(self, cnn: nn.Module, layers: int = 4, emphasis: float = 1.0, joint: Joint = "mean") -> None:
        super().__init__(cnn)
        if not 0 <= emphasis < inf:
            raise ValueError(f"emphasis={emphasis} is a number from 0")
        if joint not in get_args(Joint):
            raise ValueError(f"joint is mean or product, not {joint!r}")
        self.makers, self.emphasis, self.joint = EvidenceMakers(cnn, layers), emphasis, joint

    def on(self, cnn: nn.Module) -> EvidenceProjection:
        """The same of another CNN."""
        other = copy(self)
        other.cnn, other.makers = cnn, EvidenceMakers(cnn, self.makers.count)
        return other

    def maps(self, images: Tensor, target: Target) -> Tensor:
        conditions = self.makers(images, target).activations
        size = (images.shape[-2], images.shape[-1])
        weights = emphasised(len(conditions), self.emphasis)
        made = projections(conditions, size, weights, self.joint)
        return min_max(made.exp() if self.joint == "product" else made.relu())
