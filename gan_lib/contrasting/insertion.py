"""Insertion test: does evidence that was found by contrasting change the prediction of other images?"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_lib.capture import evaluation_mode
from gan_lib.concepts import LayerRelevance


def insertion_test(
    cnn: nn.Module,
    relevance: LayerRelevance,
    images: Tensor,
    one: int,
    other: int,
    patches: Mapping[str, Tensor],
) -> tuple[pd.DataFrame, dict[str, Tensor]]:
    """Paste patches into images of another class, and compare both classes' probabilities.

        table, pasted = insertion_test(cnn, relevance, images_of_b, a, b, {"evidence": crops, "mean": grey})

    The test of arXiv 2502.03422 (table 4), with controls of the same size at the same place. The place
    is free: there a window of the patch's size covers the least of what speaks for the image's own class.

    Args:
        cnn: from images in [0, 1] to logits.
        relevance: decides which place is free.
        images: (B, 3, H, W) of class ``other``.
        one: the class whose evidence is pasted.
        other: the images' own class.
        patches: by name, one per image: (B, 3, h, w); all of one size.

    Returns:
        A row per image and patch: ``image``, ``patch``, ``before`` and ``after`` (probability of class
        ``one``), ``own_before`` and ``own_after`` (of class ``other``), ``flipped`` (the prediction became
        class ``one``); and the images with patches, by name.

    Raises:
        ValueError: patches of different sizes, or another number of them than of images.
    """
    sizes = {tuple(patch.shape) for patch in patches.values()}
    if len(sizes) != 1 or len(images) not in {size[0] for size in sizes}:
        raise ValueError(f"patches need one size, and one for each of {len(images)} images: {sizes}")
    device = next(cnn.parameters()).device
    images = images.to(device)
    size = next(iter(patches.values())).shape[-2:]
    corner = free_place(relevance(images, other), (images.shape[-2], images.shape[-1]), (size[0], size[1]))
    before = _probabilities(cnn, images)
    tables, pictures = [], {}
    for name, patch in patches.items():
        pasted = paste(images, patch.to(device), corner)
        after = _probabilities(cnn, pasted)
        pictures[name] = pasted.cpu()
        tables.append(
            pd.DataFrame(
                {
                    "image": range(len(images)),
                    "patch": name,
                    "before": before[:, one].tolist(),
                    "after": after[:, one].tolist(),
                    "own_before": before[:, other].tolist(),
                    "own_after": after[:, other].tolist(),
                    "flipped": ((after.argmax(1) == one) & (before.argmax(1) != one)).tolist(),
                }
            )
        )
    return pd.concat(tables, ignore_index=True), pictures


def free_place(relevance: Tensor, size: tuple[int, int], window: tuple[int, int]) -> Tensor:
    """Top left corners (B, 2), row and column, where a window covers the least relevance (B, 1, h, w).

    Of equal windows the one nearest to the top left corner.

    Raises:
        ValueError: a window larger than the image.
    """
    if window[0] > size[0] or window[1] > size[1]:
        raise ValueError(f"a patch of {window} does not fit into an image of {size}")
    large = F.interpolate(relevance.float(), size=size, mode="bilinear", align_corners=False)
    covered = F.avg_pool2d(large, window, stride=1)[:, 0]  # (B, H - h + 1, W - w + 1)
    place = covered.flatten(1).argmin(1)
    return torch.stack([place // covered.shape[2], place % covered.shape[2]], 1)


def paste(images: Tensor, patches: Tensor, corner: Tensor) -> Tensor:
    """Images (B, 3, H, W) with a patch (B, 3, h, w) each, its top left corner at (B, 2)."""
    made = images.clone()
    height, width = patches.shape[-2:]
    for picture, patch, (top, left) in zip(made, patches, corner.tolist(), strict=True):
        picture[:, top : top + height, left : left + width] = patch
    return made


def _probabilities(cnn: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad(), evaluation_mode(cnn):
        made: Tensor = cnn(images).float().softmax(1)
    return made
