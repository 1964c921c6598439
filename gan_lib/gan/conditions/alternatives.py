"""Other conditions than CGMAs, to find out what CGMAs are worth, and planted ones, to test relevance.

The published method asks for an ablation of CGMA against a single layer's Grad-CAM that its authors
left open (arXiv 2301.08067, conclusion).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from gan_lib.core.capture import Capture, evaluation_mode
from gan_lib.core.maps import min_max, upsample
from gan_lib.gan.conditions.cumulative import ConditionMaker, Conditions

ALTERNATIVES = ("grad_cams", "last_grad_cam", "features", "planted")


class AlternativeMaker(ConditionMaker):
    """Leak-free conditions of another kind, in the place of the CGMAs; the target stays the same.

        maker = AlternativeMaker(cnn, (64, 64), kind="features")
        maker(images).cgma    # (B, 8, 64, 64), not CGMAs

    Kinds:

    * ``grad_cams``: the layers' own Grad-CAMs, not averaged.
    * ``last_grad_cam``: the Grad-CAM of the last layer before the target's, alone: one condition.
    * ``features``: what the layers respond to, whatever the class: the mean of the rectified channels,
      scaled to [0, 1] per image.
    * ``planted``: the target itself at one place and smooth noise at all others. What matters to a
      generator trained on these is known.

    Args:
        cnn, image_size, count: as for :class:`ConditionMaker`.
        kind: one of ``ALTERNATIVES``.
        place: of the planted target among the conditions, from 0.

    Raises:
        ValueError: another kind, or a place that is none.
    """

    def __init__(
        self,
        cnn: nn.Module,
        image_size: tuple[int, int],
        count: int = 8,
        kind: str = "grad_cams",
        place: int = 0,
        layers: Sequence[str] | None = None,
    ) -> None:
        if kind not in ALTERNATIVES:
            raise ValueError(f"kind is one of {ALTERNATIVES}, not {kind!r}")
        super().__init__(cnn, image_size, count, layers=layers)
        if kind == "last_grad_cam":
            self.positions = self.positions[-1:]
        if not 0 <= place < len(self.positions):
            raise ValueError(f"place is 0..{len(self.positions) - 1}, not {place}")
        self.place = place
        self.kind = f"planted/{place}" if kind == "planted" else kind

    def __call__(self, images: Tensor, target: int | Sequence[int] | Tensor | None = None) -> Conditions:
        """As :class:`ConditionMaker`; planted noise follows from the images, so it is the same again."""
        made = super().__call__(images, target)
        if self.kind == "features":
            return replace(made, cgma=self.responses(images))
        if self.kind.startswith("planted"):
            return replace(made, cgma=self._planted(images, made.target))
        return replace(made, cgma=made.grad_cams)

    def responses(self, images: Tensor) -> Tensor:
        """What the condition layers respond to (B, n, H, W) in [0, 1], for images (B, 3, H, W)."""
        names = self.condition_layers
        with torch.no_grad(), evaluation_mode(self.cnn), Capture(self.cnn, names) as captured:
            self.cnn(images)
            means = [captured[name].float().relu().mean(1, keepdim=True) for name in names]
        return torch.cat([min_max(upsample(mean, self.image_size)) for mean in means], dim=1)

    def _planted(self, images: Tensor, target: Tensor) -> Tensor:
        count, size = len(self.positions), (max(2, self.image_size[0] // 8), max(2, self.image_size[1] // 8))
        drawn = [
            torch.rand(count, *size, generator=torch.Generator().manual_seed(_seed_of(image)))
            for image in images
        ]
        noise = torch.stack(drawn) if drawn else images.new_empty((0, count, *size))
        conditions = min_max(upsample(noise.to(target), self.image_size))  # (B, n, H, W)
        conditions[:, self.place] = target[:, 0]
        return conditions


def _seed_of(image: Tensor) -> int:
    """A seed that follows from the pixels of an image (3, H, W)."""
    return int((image.double().sum() * 1e6).round().long().item() % (2**31))
