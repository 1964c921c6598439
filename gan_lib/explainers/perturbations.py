"""Captum's perturbation methods as explainers: hide a part, look at the class's probability.

A map is the positive part of the loss of probability, scaled to [0, 1]: where hiding *helps* the class,
there is no evidence for it. No gradients are needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from captum.attr import FeatureAblation as CaptumFeatureAblation
from captum.attr import Occlusion as CaptumOcclusion
from skimage.segmentation import slic
from torch import Tensor, nn

from gan_lib.core.capture import evaluation_mode
from gan_lib.core.inputs import as_input
from gan_lib.core.maps import min_max, upsample
from gan_lib.core.options import positive
from gan_lib.core.outputs import probabilities
from gan_lib.core.targets import resolve_target
from gan_lib.explainers.base import Explainer, Target

PARTS = ("grid", "superpixels")
AT_ONCE = 64  # masked images in one pass


class PerturbationExplainer(Explainer):
    """Base: a variant overrides :meth:`raw`."""

    def raw(self, images: Tensor, target: Tensor) -> Tensor:
        """Loss of probability (B, 3 or 1, H, W) of images (B, 3, H, W), for classes (B,)."""
        raise NotImplementedError

    def maps(self, images: Tensor, target: Target) -> Tensor:
        with evaluation_mode(self.cnn), torch.no_grad():
            chosen = resolve_target(self.cnn(images), target)
            return min_max(self.raw(images, chosen).float().mean(1, keepdim=True).relu())

    def probabilities(self, images: Tensor) -> Tensor:
        """(B, K), whatever the CNN's number format."""
        return probabilities(self.cnn, self.cnn(as_input(self.cnn, images)))


class Occlusion(PerturbationExplainer):
    """A grey window that slides over the image (Zeiler & Fergus, 2014).

        maps = Occlusion(cnn, window=16, stride=8).attribute(images)

    Args:
        cnn: the CNN to be explained.
        window: side of the window in pixels; by default an eighth of the image's shorter side.
        stride: by default half the window.
    """

    def __init__(self, cnn: nn.Module, window: int | None = None, stride: int | None = None) -> None:
        super().__init__(cnn)
        self.window, self.stride = window, stride

    def raw(self, images: Tensor, target: Tensor) -> Tensor:
        window = min(self.window or max(1, min(images.shape[-2:]) // 8), *images.shape[-2:])
        stride = min(self.stride or max(1, window // 2), window)
        hide = CaptumOcclusion(self.probabilities)
        made: list[Tensor] = [
            hide.attribute(
                one,
                sliding_window_shapes=(images.shape[1], window, window),
                strides=(images.shape[1], stride, stride),
                baselines=0.5,
                target=own,
                perturbations_per_eval=AT_ONCE,
            )
            for one, own in zip(images.split(1), target.split(1), strict=True)
        ]  # one by one: a CNN rounds differently in batches of another size
        return torch.cat(made)


class RISE(PerturbationExplainer):
    """Random masks, added up by the class's probability on what they show (Petsiuk et al., BMVC 2018).

        maps = RISE(cnn, masks=2000).attribute(images)

    ``S = sum_i p_c(x * M_i) M_i / (N keep)``, equation 6: a mask is a coarse grid of cells that are kept with
    a probability, enlarged bilinearly and shifted by a part of a cell. They are drawn from the seed alone,
    the same for all images.

    Args:
        cnn: the CNN to be explained.
        masks: number N, each of which costs a forward pass.
        cells: a side of the grid.
        keep: probability of a cell to be shown.
        seed: of the masks.

    Raises:
        ValueError: no mask or cell, or a probability outside 0..1, or at its ends.
    """

    def __init__(
        self, cnn: nn.Module, masks: int = 2000, cells: int = 7, keep: float = 0.5, seed: int = 0
    ) -> None:
        super().__init__(cnn)
        positive(masks=masks, cells=cells)
        if not 0 < keep < 1:
            raise ValueError(f"keep={keep} is a probability between 0 and 1: at either all masks are alike")
        self.count, self.cells, self.keep, self.seed = masks, cells, keep, seed

    def masks(self, size: tuple[int, int], at_once: int) -> Iterator[Tensor]:
        """All masks of a size, a few at a time: (M, 1, H, W) in [0, 1], the same however many at once."""
        generator = torch.Generator().manual_seed(self.seed)
        grids = torch.rand(self.count, 1, self.cells, self.cells, generator=generator) < self.keep
        height, width = (-(-side // self.cells) for side in size)  # of a cell, in pixels
        large = (height * (self.cells + 1), width * (self.cells + 1))
        limits = torch.tensor([height, width])
        shifts = (torch.rand(self.count, 2, generator=generator) * limits).long()  # (N, 2)
        for grid, shift in zip(grids.split(at_once), shifts.split(at_once), strict=True):
            enlarged = upsample(grid.float(), large)
            yield torch.stack(
                [
                    own[:, top : top + size[0], left : left + size[1]]
                    for own, (top, left) in zip(enlarged, shift.tolist(), strict=True)
                ]
            )

    def raw(self, images: Tensor, target: Tensor) -> Tensor:
        total = images.new_zeros((len(images), 1, *images.shape[-2:]), dtype=torch.float32)
        size, at_once = (images.shape[-2], images.shape[-1]), max(1, AT_ONCE // max(1, len(images)))
        for made in self.masks(size, at_once):
            masks = made.to(total)  # (M, 1, H, W)
            shown = (images[:, None] * masks.to(images)).flatten(0, 1)  # (B M, 3, H, W)
            asked = target.repeat_interleave(len(masks))[:, None]
            found = self.probabilities(shown).gather(1, asked).view(len(images), -1)  # (B, M)
            total += torch.einsum("bm,mchw->bchw", found.to(total), masks)
        return total / (self.count * self.keep)


class FeatureAblation(PerturbationExplainer):
    """Parts of the image, one after the other replaced by grey: cells of a grid, or superpixels,
    as Captum does it (Kokhlikyan et al., arXiv 2009.07896).

    Args:
        cnn: the CNN to be explained.
        parts: ``grid`` or ``superpixels`` (SLIC, scikit-image).
        count: cells a side of the grid; about its square superpixels.

    Raises:
        ValueError: another kind of parts.
    """

    def __init__(self, cnn: nn.Module, parts: str = "superpixels", count: int = 8) -> None:
        super().__init__(cnn)
        if parts not in PARTS:
            raise ValueError(f"parts is one of {PARTS}, not {parts!r}")
        self.parts, self.count = parts, count

    def raw(self, images: Tensor, target: Tensor) -> Tensor:
        hide, parts = (
            CaptumFeatureAblation(self.probabilities),
            self.masks(images).expand(len(images), -1, -1, -1),
        )
        given: Any = {"baselines": 0.5, "perturbations_per_eval": AT_ONCE}
        made: list[Tensor] = [
            hide.attribute(one, feature_mask=own, target=label, **given)
            for one, own, label in zip(images.split(1), parts.split(1), target.split(1), strict=True)
        ]  # one by one, as for Occlusion
        return torch.cat(made)

    def masks(self, images: Tensor) -> Tensor:
        """The number of the part that a pixel belongs to, from 0: (1 or B, 1, H, W), int64."""
        height, width = images.shape[-2:]
        if self.parts == "grid":
            rows = torch.arange(height, device=images.device) * self.count // height
            columns = torch.arange(width, device=images.device) * self.count // width
            return (rows[:, None] * self.count + columns)[None, None]
        pictures = images.permute(0, 2, 3, 1).float().cpu().numpy()  # (B, H, W, 3)
        count = self.count**2
        segments = [slic(np.ascontiguousarray(own), n_segments=count, start_label=0) for own in pictures]
        return torch.from_numpy(np.stack(segments)).long()[:, None].to(images.device)
