"""Faithfulness: what the CNN makes of an image of which only the explanation is left."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gan_lib.core.capture import evaluation_mode
from gan_lib.core.inputs import as_input
from gan_lib.core.outputs import probabilities


def class_probability(cnn: nn.Module, images: Tensor, target: Tensor) -> Tensor:
    """Probability (B,) that the CNN gives class ``target`` (B,) on images (B, 3, H, W)."""
    with evaluation_mode(cnn), torch.no_grad():
        found = probabilities(cnn, cnn(as_input(cnn, images)))  # (B, K)
    return found.gather(1, target[:, None].to(found.device))[:, 0]


def average_drop(before: Tensor, after: Tensor) -> Tensor:
    """Average drop (B,) in per cent: ``100 max(0, Y - O) / Y`` (Chattopadhay et al., WACV 2018).

    Y is the probability (B,) of the explained class on the image, O on the image masked by the map. NaN where
    Y is 0.
    """
    return 100 * (before - after).clamp(min=0) / before


def increase_in_confidence(before: Tensor, after: Tensor) -> Tensor:
    """100 where the class is more probable on the masked image, 0 elsewhere: per cent once averaged, (B,)
    (Chattopadhyay et al., WACV 2018)."""
    return 100.0 * (after > before).float()
