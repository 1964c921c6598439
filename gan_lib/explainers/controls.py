"""Controls: maps that know nothing of the CNN. A measure that likes them measures something else."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.functional import gaussian_blur

from gan_lib.core.maps import min_max
from gan_lib.core.runtime import image_generators
from gan_lib.explainers.base import Explainer, Target


class RandomMap(Explainer):
    """Smooth noise, seeded by the sum of the image's pixels: the same for an image in any batch.

    Args:
        cnn: not looked at.
        seed: of the noise.
        grain: about how many blobs a side.
    """

    def __init__(self, cnn: nn.Module, seed: int = 0, grain: int = 8) -> None:
        super().__init__(cnn)
        self.seed, self.grain = seed, grain

    def maps(self, images: Tensor, target: Target) -> Tensor:
        generators = image_generators(images, self.seed)
        noise = [torch.rand(1, self.grain, self.grain, generator=own) for own in generators]
        size = (images.shape[-2], images.shape[-1])
        return min_max(F.interpolate(torch.stack(noise), size=size, mode="bicubic")).to(images)


class UniformMap(Explainer):
    """Maps (B, 1, H, W) of one value: the picture is only dimmed. They have no highest pixels.

        dimmed = images * UniformMap(cnn, 0.5).attribute(images)

    Args:
        cnn: not looked at.
        value: in [0, 1].
    """

    def __init__(self, cnn: nn.Module, value: float = 0.5) -> None:
        super().__init__(cnn)
        self.value = value

    def maps(self, images: Tensor, target: Target) -> Tensor:
        return torch.full_like(images[:, :1], self.value)  # (B, 1, H, W)


class Edges(Explainer):
    """Strength of the image's edges (Sobel), lightly smoothed."""

    def maps(self, images: Tensor, target: Target) -> Tensor:
        kernel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]).to(images)
        grey = F.pad(images.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")  # (B, 1, H + 2, W + 2)
        across, down = (F.conv2d(grey, own[None, None]) for own in (kernel, kernel.T))
        return min_max(gaussian_blur((across.square() + down.square()).sqrt(), [5, 5], [1.0, 1.0]))
