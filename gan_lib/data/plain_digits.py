"""The handwritten digits of the embedded data set by themselves, white on black."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from gan_lib.data.images import ImageData, ImageSplit
from gan_lib.data.scenes import CLASS_NAMES, digit_pools, digit_samples


def plain_digits(
    train: int | None = None, test: int | None = None, size: int = 64, seed: int = 0
) -> ImageData:
    """scikit-learn's handwritten digits (``load_digits``), upscaled.

        data = plain_digits(size=64)

    Training and test digits are those of :func:`gan_lib.data.digits_in_scenes` with the same seed, so
    that a CNN or a generator trained on either set has not seen the test digits of the other.

    Args:
        train: at most so many of the 1348 training images.
        test: at most so many of the 449 test images.
        size: side of the images in pixels.
        seed: decides which digits are held out, and their order.

    Returns:
        Data of 10 classes; a mask marks where the digit is brighter than half.
    """
    digits, labels = digit_samples()
    held_out, rest = digit_pools(len(labels), torch.Generator().manual_seed(seed))
    return ImageData(
        "plain digits",
        CLASS_NAMES,
        {
            name: _split(digits, labels, rows, size)
            for name, rows in (("train", rest[:train]), ("test", held_out[:test]))
        },
    )


def _split(digits: Tensor, labels: Tensor, rows: Tensor, size: int) -> ImageSplit:
    large = F.interpolate(digits[rows], size=(size, size), mode="bicubic", align_corners=False).clamp(0, 1)
    images = (255 * large).round().to(torch.uint8).expand(-1, 3, -1, -1).contiguous()
    return ImageSplit(images, labels[rows], large > 0.5)
