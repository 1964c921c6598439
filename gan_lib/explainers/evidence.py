"""Explanations from evidence conditions alone: nothing is trained."""

from __future__ import annotations

from torch import Tensor, nn

from gan_lib.core.maps import min_max
from gan_lib.explainers.base import Explainer, Target
from gan_lib.gan.conditions import EvidenceMakers
from gan_lib.gan.generators import projections


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
    """

    def __init__(self, cnn: nn.Module, layers: int = 4) -> None:
        super().__init__(cnn)
        self.makers = EvidenceMakers(cnn, layers)

    def maps(self, images: Tensor, target: Target) -> Tensor:
        conditions = self.makers(images, target).activations
        return min_max(projections(conditions, (images.shape[-2], images.shape[-1])).relu())
