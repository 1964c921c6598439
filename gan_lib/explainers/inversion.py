"""Guided feature inversion as an explainer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gan_lib.core.capture import evaluation_mode
from gan_lib.core.grad_cam import check_gradient
from gan_lib.core.maps import min_max
from gan_lib.core.targets import resolve_target
from gan_lib.explainers.base import Explainer, Target
from gan_lib.inversion import STEP_1, STEP_2, GuidedInversion, InversionOptions


class GuidedFeatureInversion(Explainer):
    """Masks by guided feature inversion (arXiv 1804.00506); see :mod:`gan_lib.inversion`.

        maps = GuidedFeatureInversion(cnn, "features.35", "features.36").attribute(images, target=3)

    Args:
        cnn: the CNN to be explained.
        layer, inverted_layer, sigma: as for :class:`gan_lib.inversion.GuidedInversion`.
        discriminative: go on to step 2, which asks for the class; step 1 alone does not.
        first, second: options of the steps; the first as published, for the second there is also
            :data:`gan_lib.inversion.PUBLISHED_STEP_2`.
    """

    needs_gradients = True

    def __init__(
        self,
        cnn: nn.Module,
        layer: str | None = None,
        inverted_layer: str | None = None,
        discriminative: bool = True,
        sigma: float | None = None,
        first: InversionOptions = STEP_1,
        second: InversionOptions = STEP_2,
    ) -> None:
        super().__init__(cnn)
        self.inversion = GuidedInversion(cnn, layer, inverted_layer, sigma)
        self.discriminative, self.first, self.second = discriminative, first, second

    def maps(self, images: Tensor, target: Target) -> Tensor:
        base = self.inversion.base(images)
        check_gradient(self.cnn, images[:1])
        if not self.discriminative:  # it is asked about no class, and refuses a wrong one all the same
            with torch.no_grad(), evaluation_mode(self.cnn):
                resolve_target(self.cnn(images), target)
        found = self.inversion.saliency(base, self.first)
        if self.discriminative:
            found = self.inversion.discriminate(base, found, target, self.second)
        return min_max(found.masks)  # a peak of 1, as other methods have it
