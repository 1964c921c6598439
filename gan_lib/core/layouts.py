"""Where the places of an activation are: channels first, channels last, or tokens.

A convolution gives (B, C, h, w), blocks of Swin and ConvNeXt (B, h, w, C), a vision transformer tokens
(B, N, C), with or without tokens that are no place. The layout is known by the picture: h and w are to each
other as its height and width are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["channels first", "channels last", "tokens", "tokens first"]
EXTRA = (0, 1, 2, 4, 5)  # tokens before the places: of the class, of a teacher, four registers
MOST = 32  # of them, where the number of the places is known
OFF = 0.1  # by which a grid's aspect may miss the picture's, for layers round their sides down or up


@dataclass(frozen=True)
class Layout:
    """How an activation holds its places.

    Attributes:
        kind: the order of its dimensions; ``tokens first`` is (N, B, C).
        size: height h and width w of its grid of places.
        extra: tokens before those of the places.
    """

    kind: Kind
    size: tuple[int, int]
    extra: int = 0

    def places(self, activation: Tensor) -> Tensor:
        """An activation, or its gradient, as (B, C, h, w)."""
        if self.kind == "channels first":
            return activation
        if self.kind == "channels last":
            return activation.permute(0, 3, 1, 2)
        tokens = activation.transpose(0, 1) if self.kind == "tokens first" else activation  # (B, N, C)
        return tokens[:, self.extra :].transpose(1, 2).unflatten(2, self.size)

    def replaced(self, activation: Tensor, places: Tensor) -> Tensor:
        """An activation with other places (B, C, h, w), in its own layout; tokens that are no place stay."""
        if self.kind == "channels first":
            return places
        if self.kind == "channels last":
            return places.permute(0, 2, 3, 1)
        tokens, along = places.flatten(2).transpose(1, 2), 1  # (B, h * w, C)
        if self.kind == "tokens first":
            tokens, along = tokens.transpose(0, 1), 0  # (h * w, B, C)
        return torch.cat([activation.narrow(along, 0, self.extra), tokens], along)


def layout_of(
    activation: Tensor,
    image_size: tuple[int, int],
    layer: str = "",
    batch: int | None = None,
    grid: tuple[int, int] | None = None,
) -> Layout:
    """How an activation of pictures of a size holds its places.

        layout_of(torch.zeros(2, 197, 768), (224, 224)).size   # (14, 14): one token is no place

    Args:
        activation: (B, C, h, w), (B, h, w, C), (B, N, C) or (N, B, C).
        image_size: height and width of the pictures.
        layer: what the message of an error calls it.
        batch: number B of pictures; by default the activation's first dimension.
        grid: that of the convolution before, if it is known: of tokens there are as many, and some that are
            no place.

    Raises:
        ValueError: no layout with places fits.
    """
    shape, aspect = tuple(activation.shape), image_size[0] / image_size[1]
    count = shape[0] if batch is None else batch
    if len(shape) == 4 and shape[0] == count:
        first, last = (_miss((shape[i], shape[i + 1]), aspect) for i in (2, 1))
        if last < first and last < math.log(1 + OFF) + _rounding(shape[1:3]) and shape[3] > 1:
            return Layout("channels last", (shape[1], shape[2]))
        return Layout("channels first", (shape[2], shape[3]))
    if len(shape) == 3:
        is_first = shape[0] != count and shape[1] == count
        tokens = shape[0] if is_first else shape[1]
        others = tokens - grid[0] * grid[1] if grid is not None else -1
        if grid is not None and 0 <= others <= MOST:
            return Layout("tokens first" if is_first else "tokens", grid, others)
        for extra in EXTRA:
            size = _grid(tokens - extra, aspect)
            if size is not None:
                return Layout("tokens first" if is_first else "tokens", size, extra)
    told = f"layer {layer!r} gives" if layer else "an activation"
    raise ValueError(
        f"{told} {shape} for {count} pictures of {image_size[0]} x {image_size[1]}, which is not "
        "(B, C, H, W) and has no places: choose a layer whose output is a grid of the picture's aspect"
    )


def _miss(size: tuple[int, int], aspect: float) -> float:
    """How far a grid's aspect is off, as a logarithm."""
    height, width = size
    return abs(math.log(height / width / aspect)) if height and width else math.inf


def _rounding(size: tuple[int, ...]) -> float:
    """What rounding a grid's sides can do to the logarithm of its aspect: half a place each."""
    return sum(0.5 / side for side in size)


def _grid(places: int, aspect: float) -> tuple[int, int] | None:
    """The grid of so many places whose aspect is nearest, unless it is off."""
    pairs = [(h, places // h) for h in range(1, places + 1) if places % h == 0]
    best = min(pairs, key=lambda pair: _miss(pair, aspect), default=None)
    return best if best is not None and _miss(best, aspect) < math.log(1 + OFF) else None
