"""Textures: what is everywhere in the images of a class, the background included.

An object is somewhere, and what it adds to an image's spatial frequencies it adds to the quadrants that it is
in. A texture behind it is in all four. So per frequency the *lowest* of the four quadrants' amplitudes is
compared between classes: an object leaves it alone, unless it fills the image.
"""

from __future__ import annotations

import torch
from torch import Tensor

CLEAR = 6.0  # standard errors between the means of a class and of the others, in a frequency
DARK = 1e-3  # of an amplitude, below which nothing is seen


def quadrants(images: Tensor) -> Tensor:
    """The four quadrants (B, 4, C, h, w) of images (B, C, H, W); a middle row or column is left out."""
    high, wide = images.shape[-2] // 2, images.shape[-1] // 2
    rows = torch.stack([images[..., :high, :], images[..., -high:, :]], 1)  # (B, 2, C, h, W)
    return torch.cat([rows[..., :wide], rows[..., -wide:]], 1)


def everywhere(images: Tensor) -> Tensor:
    """Logarithm of the amplitude that every quadrant of images (B, 3, H, W) in [0, 1] has at least, for each
    spatial frequency: (B, h, w / 2 + 1)."""
    grey = quadrants(images.mean(1, keepdim=True))[:, :, 0]  # (B, 4, h, w)
    grey = grey - grey.mean((2, 3), keepdim=True)
    window = torch.outer(*(torch.hann_window(side, periodic=False) for side in grey.shape[-2:]))
    amplitude = torch.fft.rfft2(grey * window).abs() / window.sum()
    return (amplitude + DARK).log().amin(1)


def shared_band(ours: Tensor, theirs: Tensor) -> Tensor | None:
    """Frequencies (h, w / 2 + 1) bool that images of a class have more of, everywhere, than others; their
    neighbours are among them. ``None`` where there are none.

    Args:
        ours, theirs: (A, h, w / 2 + 1) and (B, h, w / 2 + 1), of :func:`everywhere`.
    """
    error = (ours.var(0) / len(ours) + theirs.var(0) / len(theirs)).sqrt().clamp(min=0.02)
    clear = (ours.mean(0) - theirs.mean(0)) / error >= CLEAR
    clear[0, 0] = False  # the mean
    if not clear.any():
        return None
    found = clear.clone()
    for rows in (-1, 0, 1):  # frequencies along the height go round
        moved = clear.roll(rows, 0)
        found |= moved
        found[:, 1:] |= moved[:, :-1]
        found[:, :-1] |= moved[:, 1:]
    found[0, 0] = False
    return found


def retextured(images: Tensor, donors: Tensor, band: Tensor) -> Tensor:
    """Images (B, 3, H, W) in [0, 1] with donors' texture, in a band of frequencies, in place of their own.

    The donor's texture is that of its emptiest quadrant, repeated over the image.

    Args:
        donors: (B, 3, H, W). band: (h, w / 2 + 1) bool, frequencies of quadrants.
    """
    parts = quadrants(donors)  # (B, 4, 3, h, w)
    height, width = images.shape[-2:]
    high, wide = parts.shape[-2:]
    own = torch.fft.irfft2(torch.fft.rfft2(parts) * band, s=(high, wide))  # (B, 4, 3, h, w)
    emptiest = (parts - own).var((2, 3, 4)).argmin(1)  # (B,)
    texture = own[torch.arange(len(own)), emptiest]  # (B, 3, h, w)
    repeated = texture.repeat(1, 1, -(-height // high), -(-width // wide))[..., :height, :width]
    rows = torch.fft.fftfreq(height).mul(high).round().long() % high  # the quadrants' nearest frequencies
    columns = torch.fft.rfftfreq(width).mul(wide).round().long().clamp(max=band.shape[1] - 1)
    left = torch.fft.irfft2(torch.fft.rfft2(images) * ~band[rows[:, None], columns], s=(height, width))
    return (left + repeated).clamp(0, 1)
