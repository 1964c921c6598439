"""Cumulative Grad-CAM averages, CGMA (arXiv 2301.08067, section 3).

In the order of depth, CGMA_k is the mean of the first k layers' Grad-CAMs. The published method
feeds CGMAs up to the last layer, whose Grad-CAM is also the target: the target can then be read off
by a subtraction (:func:`linear_readout`). Hence two settings: ``leak_free`` averages only the layers
before the target's, ``published`` includes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gan_lib.core.capture import layers_in_order, spread_positions
from gan_lib.core.grad_cam import grad_cam


def cumulative_average(maps: Tensor) -> Tensor:
    """CGMAs (B, L, H, W) of maps (B, L, H, W): channel k is the mean of channels 0..k."""
    counts = torch.arange(1, maps.shape[1] + 1, device=maps.device).view(1, -1, 1, 1)
    return maps.cumsum(1) / counts


def linear_readout(cgma: Tensor, positions: Sequence[int]) -> Tensor:
    """The last layers' mean Grad-CAM, read off the last two CGMAs: no learning involved.

    ``(k_n CGMA_n - k_(n-1) CGMA_(n-1)) / (k_n - k_(n-1))``, with ``k`` the number of layers averaged.
    When the last two positions are neighbours and the last is the target's layer (``published``),
    this is the target exactly; it is the control that a learned generator must be compared with.

    Args:
        cgma: (B, n, H, W) with n >= 2.
        positions: for every CGMA, how many layers it averages.

    Returns:
        (B, 1, H, W) in [0, 1].
    """
    before, last = positions[-2], positions[-1]
    total = last * cgma[:, -1:] - before * cgma[:, -2:-1]  # (B, 1, H, W)
    return (total / (last - before)).clamp(0, 1)


@dataclass(frozen=True)
class Conditions:
    """What a generator sees and should give, for a batch.

    Attributes:
        cgma: (B, n, H, W) in [0, 1], in the order of depth.
        grad_cams: (B, n, H, W) in [0, 1], the Grad-CAM of the layer at each CGMA's position.
        target: (B, 1, H, W) in [0, 1], Grad-CAM of the last convolution.
        explained: (B,) the class that all of them explain.
        probability: (B,) the CNN's probability of that class, 0..1.
    """

    cgma: Tensor
    grad_cams: Tensor
    target: Tensor
    explained: Tensor
    probability: Tensor


class ConditionMaker:
    """CGMA conditions and target for batches of images, from one pass over the CNN.

        maker = ConditionMaker(cnn, (64, 64))
        conditions = maker(images)
        conditions.cgma    # (B, 8, 64, 64)

    Args:
        cnn: the CNN to be explained.
        image_size: height and width that the CNN is used at.
        count: number n of conditions, spread over the depth (:func:`gan_lib.core.capture.spread_positions`).
        leak_free: average only the layers before the target's; ``False`` is the published setting.
        layers: layers in the order of depth, the last one the target's; by default all convolutions
            in the order in which they run.

    Raises:
        ValueError: fewer layers than conditions.
    """

    kind = "cgma"

    def __init__(
        self,
        cnn: nn.Module,
        image_size: tuple[int, int],
        count: int = 8,
        leak_free: bool = True,
        layers: Sequence[str] | None = None,
    ) -> None:
        if layers is None:
            device = next(cnn.parameters()).device
            layers = layers_in_order(cnn, torch.zeros(1, 3, *image_size, device=device))
        self.cnn, self.image_size, self.leak_free = cnn, image_size, leak_free
        self.layers = list(layers)
        self.averaged = self.layers[:-1] if leak_free else self.layers
        if len(self.averaged) < count:
            setting = "before the target's layer" if leak_free else "in all"
            raise ValueError(
                f"{count} conditions need as many layers; there are {len(self.averaged)} {setting}"
            )
        self.positions = spread_positions(len(self.averaged), count)

    @property
    def condition_layers(self) -> list[str]:
        """The layer at the end of every cumulative average."""
        return [self.averaged[position - 1] for position in self.positions]

    def __call__(self, images: Tensor, target: int | Sequence[int] | Tensor | None = None) -> Conditions:
        """Conditions of images (B, 3, H, W); ``target`` as in :func:`grad_cam`."""
        cams = grad_cam(self.cnn, images, self.layers, target)
        maps = cams.maps(self.image_size)  # (B, L, H, W)
        chosen = [position - 1 for position in self.positions]
        averaged = maps[:, : len(self.averaged)]
        probabilities = cams.logits.float().softmax(1)
        return Conditions(
            cgma=cumulative_average(averaged)[:, chosen],
            grad_cams=averaged[:, chosen],
            target=maps[:, -1:],
            explained=cams.target,
            probability=probabilities.gather(1, cams.target[:, None])[:, 0],
        )
