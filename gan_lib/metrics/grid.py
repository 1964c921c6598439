"""Grids of images of different classes: an explanation of one class belongs into that class's cell.

*GridPG* (Böhle et al., CVPR 2021) asks the CNN about the whole grid. What it says of a class need not come
from the class's own cell alone: a map outside may be right. *DiFull* (Rao et al., CVPR 2022) lets the CNN see
every cell by itself, so that what a map shows outside of the asked one is provably wrong.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from gan_lib.core.capture import evaluation_mode
from gan_lib.core.inputs import as_input
from gan_lib.core.options import positive
from gan_lib.core.outputs import probabilities
from gan_lib.metrics.sanity import Explain
from gan_lib.metrics.similarity import region_scores

AT_ONCE = 16  # grids that are explained in one pass
ROUNDING = 1e-3  # of the scores' spread
# Layers that look beyond a place, and those that make few values of all places, by torch's functions.
LOCAL = (F.conv2d, F.max_pool2d, F.avg_pool2d, F.pad)
POOLING = (F.adaptive_avg_pool2d, F.adaptive_max_pool2d)
MEANS, PLACES = (torch.mean, Tensor.mean), ({2, 3}, {-2, -1})


class Grids(NamedTuple):
    """Grids of images, side by side and one below the other."""

    images: Tensor  # (G, 3, side * H, side * W)
    classes: Tensor  # (G, side * side) of the cells, row by row, all different in a grid
    rows: Tensor  # (G, side * side) of the images that they are made of


def confident_grids(
    cnn: nn.Module,
    images: Tensor,
    labels: Tensor,
    side: int = 3,
    count: int | None = None,
    least: float = 0.5,
    seed: int = 0,
) -> Grids:
    """Grids of images that the CNN classifies rightly and surely, each image in one of them at most.

        grids = confident_grids(cnn, images, labels, side=2)
        grids.images  # (G, 3, 2 * H, 2 * W)

    Of every class the image of highest probability comes first. The classes of a grid are those with most
    images left, in random order.

    Args:
        cnn: from images in [0, 1] to logits.
        images: (N, 3, H, W) in [0, 1]; labels: (N,) their true classes.
        side: cells a side.
        count: at most so many grids; by default as many as the images make.
        least: probability that an image's class must have.
        seed: of the order of a grid's classes.

    Raises:
        ValueError: no cell, or images that make no grid: too few classes are classified surely.
    """
    positive(side=side)
    cells = side * side
    with evaluation_mode(cnn), torch.no_grad():
        parts = [probabilities(cnn, cnn(as_input(cnn, part))) for part in images.split(128)]
    found = torch.cat(parts).cpu()  # (N, K)
    own, known = found.gather(1, labels.cpu()[:, None])[:, 0], labels.cpu()  # (N,)
    is_sure = (found.argmax(1) == known) & (own >= least)
    order = own.argsort(descending=True, stable=True)
    left = {
        int(label): [int(i) for i in order if is_sure[i] and known[i] == label] for label in known.unique()
    }
    generator = torch.Generator().manual_seed(seed)
    grids: list[list[int]] = []
    while count is None or len(grids) < count:
        most = sorted((label for label in left if left[label]), key=lambda label: -len(left[label]))[:cells]
        if len(most) < cells:
            break
        mixed = torch.randperm(cells, generator=generator)
        grids.append([left[most[int(place)]].pop(0) for place in mixed])
    if not grids:
        sure = sum(map(bool, left.values()))
        raise ValueError(f"a grid of {side} x {side} takes {cells} classes; {sure} are classified surely")
    rows = torch.tensor(grids)  # (G, cells)
    return Grids(joined(images[rows.flatten().to(images.device)], side), known[rows], rows)


def joined(cells: Tensor, side: int) -> Tensor:
    """Grids (G, C, side * h, side * w) of their cells (G * side * side, C, h, w), row by row."""
    parts = cells.unflatten(0, (-1, side, side))  # (G, side, side, C, h, w)
    return parts.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


def parted(grids: Tensor, side: int) -> Tensor:
    """The cells (G * side * side, C, h, w) of grids (G, C, side * h, side * w)."""
    parts = grids.unflatten(3, (side, -1)).unflatten(2, (side, -1))  # (G, C, side, h, side, w)
    return parts.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


def grid_scores(methods: Mapping[str, Explain], cnn: nn.Module, grids: Grids) -> pd.DataFrame:
    """GridPG: share of a map's mass inside the cell whose class it is asked for, every cell in turn.

        methods = {"saliency": lambda net, x, y: Saliency(net).attribute(x, y)}
        grid_scores(methods, cnn, confident_grids(cnn, images, labels))

    Args:
        methods: by name, from a CNN, images (B, 3, H, W) and classes (B,) to maps (B, 1, H, W) in [0, 1].
        cnn: one that takes images of the grids' size.

    Returns:
        A row per ``method`` and ``image``, ``grid-cell``: the share ``inside``, 0..1, NaN for a map of zeros;
        a map that is the same everywhere has one by the number of cells.
    """
    return _asked(methods, grids, lambda cell: cnn)


def separate_scores(methods: Mapping[str, Explain], cnn: nn.Module, grids: Grids) -> pd.DataFrame:
    """DiFull: the same where the CNN sees every cell by itself (:func:`separated`), and is asked about one.

    Only 1 is right. To compare methods, let them look at the same layer: a gradient of the image is right by
    construction, and what the maps of later layers make of cells that count for nothing is what differs.

    Arguments, returns and errors as for :func:`grid_scores` and :func:`separated`.
    """
    side = round(grids.classes.shape[1] ** 0.5)
    return _asked(methods, grids, lambda cell: separated(cnn, side, cell, grids.images[:1]))


def _asked(methods: Mapping[str, Explain], grids: Grids, net_of: Callable[[int], nn.Module]) -> pd.DataFrame:
    positive(methods=len(methods), grids=len(grids.images))
    tables, cells = [], grids.classes.shape[1]
    side = round(cells**0.5)
    for cell in range(cells):
        net, asked = net_of(cell), grids.classes[:, cell].to(grids.images.device)
        ones = torch.zeros(cells, 1, grids.images.shape[2] // side, grids.images.shape[3] // side)
        ones[cell] = 1
        maps = {
            (name, 0): torch.cat(
                [
                    explain(net, pictures, target)
                    for pictures, target in zip(
                        grids.images.split(AT_ONCE), asked.split(AT_ONCE), strict=True
                    )
                ]
            )
            for name, explain in methods.items()
        }
        table = region_scores(maps, joined(ones, side).bool())
        tables.append(table.assign(image=table["image"].astype(str) + f"-{cell}"))
    return pd.concat(tables, ignore_index=True).drop(columns="seed")


def separated(cnn: nn.Module, side: int, cell: int, example: Tensor) -> nn.Module:
    """A CNN of grids that sees every cell by itself, and gives the scores of one.

        net = separated(cnn, side=2, cell=3, example=grids[:1])
        net(grids)  # (G, K), those of the lower right cell alone

    Its layers are those of the CNN, by the same names and with the same weights. Convolutions and pooling see
    no further than the cell's border; activations are whole grids, so that methods find their places; where
    all places become one, those of the asked cell do.

    Args:
        cnn: convolutions, pooling, what looks at one place, and behind a global pooling anything.
        side: cells a side; cell: the asked one, counted row by row from 0.
        example: a grid (1, 3, side * H, side * W), on which the scores are compared with the cell's own.

    Raises:
        ValueError: a cell that is not there, or a CNN that gives other scores this way.
    """
    if not 0 <= cell < side * side:
        raise ValueError(f"cell {cell} is not one of a grid of {side} x {side}, 0 to {side * side - 1}")
    kind = type(cnn)

    def forward(self: nn.Module, images: Tensor) -> Tensor:
        with _Separate(side, cell):
            scores: Tensor = kind.forward(self, images)
        return scores

    net = copy.copy(cnn)  # the same layers
    net.__class__ = type(f"Separated{kind.__name__}", (kind,), {"forward": forward})
    with evaluation_mode(cnn), evaluation_mode(net), torch.no_grad():
        expected = cnn(as_input(cnn, parted(example, side)[cell : cell + 1])).float()  # (1, K)
        try:
            error = float((net(as_input(cnn, example)).float() - expected).abs().max())
        except RuntimeError:  # shapes that no longer fit
            error = torch.inf
    if error > ROUNDING * float(expected.max() - expected.min()):
        raise ValueError(
            f"{kind.__name__} cannot look at the cells of a grid one by one: it must end in a global "
            "pooling, before which only convolutions and pooling look beyond a place"
        )
    return net


class _Separate(TorchFunctionMode):
    """Within the block, convolutions and pooling work cell by cell."""

    def __init__(self, side: int, cell: int) -> None:
        super().__init__()
        self.side, self.cell = side, cell

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        given = args[0] if args else named.pop("input", None)
        if not isinstance(given, Tensor) or given.ndim != 4 or not self._is_grid(given):
            return func(*args, **(kwargs or {}))
        rest = args[1:]
        if func in LOCAL:
            return joined(func(parted(given, self.side), *rest, **named), self.side)
        dims = named.get("dim", rest[0] if rest else None)
        if func in POOLING or (func in MEANS and isinstance(dims, tuple | list) and {*dims} in PLACES):
            return func(self._asked(given), *rest, **named)
        return func(*args, **(kwargs or {}))

    def _is_grid(self, given: Tensor) -> bool:
        return given.shape[2] % self.side == 0 and given.shape[3] % self.side == 0

    def _asked(self, given: Tensor) -> Tensor:
        """The asked cell (B, C, h, w) of every grid."""
        return parted(given, self.side).unflatten(0, (-1, self.side**2))[:, self.cell]
