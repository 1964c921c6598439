"""What a CNN is given: images on its device, in its number format, in the memory layout that it takes."""

from __future__ import annotations

from itertools import chain
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from gan_lib.core.capture import evaluation_mode

_CONTIGUOUS: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()  # whether a CNN takes nothing else
CANNOT_VIEW = "view size is not compatible"
CACHED, ON_GPU = 2**17, 2**22  # pixels of images that go through a CNN together: more overflow a CPU's caches


def weight_of(cnn: nn.Module) -> Tensor:
    """A tensor with the device and number format that a CNN's images must have: its first floating-point
    parameter or buffer, (C, ...) of any shape, or a new one where it has none."""
    held = chain(cnn.parameters(), cnn.buffers())
    return next((own for own in held if own.is_floating_point()), torch.zeros(0))


def layout_for(cnn: nn.Module, images: Tensor) -> torch.memory_format:
    """Channels last, the faster layout for convolutions on CPU and GPU, unless the CNN does not take it.

    A CNN that flattens by ``view``, as PyTorch's first tutorial has it, takes contiguous images alone. One
    image tells, once for every CNN.

    Args:
        images: (B, 3, H, W), of any device and format.
    """
    if cnn not in _CONTIGUOUS and len(images):
        one = images[:1].detach().to(weight_of(cnn)).contiguous(memory_format=torch.channels_last)
        found = False
        try:
            with evaluation_mode(cnn), torch.no_grad():
                cnn(one)
        except Exception as error:  # any other will come again, where it can be told
            found = CANNOT_VIEW in str(error)
        _CONTIGUOUS[cnn] = found
    return torch.contiguous_format if _CONTIGUOUS.get(cnn, False) else torch.channels_last


def at_once(cnn: nn.Module, size: tuple[int, int]) -> int:
    """How many images of a size go through a CNN together: on a CPU 2 of 224 x 224 pixels, 32 of 64 x 64.

    More take longer each (MobileNetV2 at 224 pixels: 16 at a time twice as long as 2), and more memory.
    """
    pixels = CACHED if weight_of(cnn).device.type == "cpu" else ON_GPU
    return max(1, pixels // (size[0] * size[1]))


def as_input(cnn: nn.Module, images: Tensor) -> Tensor:
    """Images (B, 3, H, W) as a CNN takes them; a copy, so that no CNN that works in place changes them."""
    made = images.to(weight_of(cnn)).contiguous(memory_format=layout_for(cnn, images))
    return made.clone() if made.data_ptr() == images.data_ptr() else made
