"""Other conditions than CGMAs, to find out what CGMAs are worth, and planted ones, to test relevance.

The published method asks for an ablation of CGMA against a single layer's Grad-CAM that its authors left open
(arXiv 2301.08067, conclusion). The target stays the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gan_lib.core.capture import Capture, evaluation_mode
from gan_lib.core.maps import min_max, upsample
from gan_lib.gan.conditions.cumulative import CONDITIONS, ConditionMaker


@CONDITIONS.register("grad_cams")
class LayerGradCAMs(ConditionMaker):
    """The layers' own Grad-CAMs, not averaged."""

    def conditions(self, images: Tensor, maps: Tensor, explained: Tensor) -> Tensor:
        return self.at_positions(maps)


@CONDITIONS.register("last_grad_cam")
class LastGradCAM(LayerGradCAMs):
    """The Grad-CAM of the last layer before the target's, alone: one condition, whatever the count."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.positions = self.positions[-1:]


@CONDITIONS.register("features")
class LayerResponses(ConditionMaker):
    """What the layers respond to, whatever the class: the mean of the rectified channels, min-max scaled."""

    def conditions(self, images: Tensor, maps: Tensor, explained: Tensor) -> Tensor:
        names = [self.layers[position - 1] for position in self.positions]
        with torch.no_grad(), evaluation_mode(self.cnn), Capture(self.cnn, names) as captured:
            self.cnn(images)
            means = [captured[name].float().relu().mean(1, keepdim=True) for name in names]
        return torch.cat([min_max(upsample(mean, self.image_size)) for mean in means], dim=1)


@CONDITIONS.register("planted")
class PlantedTarget(ConditionMaker):
    """The target itself at one place and smooth noise at all others, the same again for the same image.

    What matters to a generator that is trained on these is known.

    Args:
        place: of the target among the conditions, from 0; other arguments are :class:`ConditionMaker`'s.

    Raises:
        ValueError: a place that is none.
    """

    def __init__(self, *args: Any, place: int = 0, **settings: Any) -> None:
        super().__init__(*args, **settings)
        if not 0 <= place < self.count:
            raise ValueError(f"place is 0..{self.count - 1}, not {place}")
        self.place = place

    @property
    def kind(self) -> str:
        return f"{super().kind}/{self.place}"

    def conditions(self, images: Tensor, maps: Tensor, explained: Tensor) -> Tensor:
        size = (max(2, self.image_size[0] // 8), max(2, self.image_size[1] // 8))
        noise = maps.new_empty((len(images), self.count, *size))
        for image, own in zip(images, noise, strict=True):
            seed = int(
                (image.double().sum() * 1e6).round().long().item() % (2**31)
            )  # follows from its pixels
            own.copy_(torch.rand(own.shape, generator=torch.Generator().manual_seed(seed)))
        given = min_max(upsample(noise, self.image_size))  # (B, n, H, W)
        given[:, self.place] = maps[:, -1]
        return given
