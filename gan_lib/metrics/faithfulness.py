"""Faithfulness: what the CNN makes of an image of which only the explanation is left."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gan_lib.core.capture import evaluation_mode
from gan_lib.metrics.base import PerImageMetric


class AverageDrop(PerImageMetric):
    """Average drop in per cent: ``100 max(0, Y - O) / Y`` (Chattopadhay et al., WACV 2018).

    Y is the probability of the explained class on the image, O on the image masked by the map.
    """

    higher_is_better = False

    def update(self, before: Tensor, after: Tensor) -> None:
        """Probabilities (B,) of the explained class, on the image and on the masked image."""
        self.append(100 * (before - after).clamp(min=0) / before)


class IncreaseInConfidence(PerImageMetric):
    """Share, in per cent, of images whose masked form is more probable: ``O > Y``."""

    higher_is_better = True

    def update(self, before: Tensor, after: Tensor) -> None:
        """Probabilities (B,) of the explained class, on the image and on the masked image."""
        self.append(100.0 * (after > before).float())


def class_probability(cnn: nn.Module, images: Tensor, target: Tensor) -> Tensor:
    """Probability (B,) that the CNN gives class ``target`` (B,) on images (B, 3, H, W)."""
    with evaluation_mode(cnn), torch.no_grad():
        probabilities = cnn(images.to(next(cnn.parameters()))).float().softmax(1)  # (B, K)
    return probabilities.gather(1, target[:, None].to(probabilities.device))[:, 0]
