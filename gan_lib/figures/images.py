"""Pictures of images and maps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from gan_lib.figures.fitting import fit_together

MAP_COLOURS = "inferno"  # perceptually uniform, readable with any colour vision
CELL = 1.05  # inches
FRAME = "#00e5ff"
OPACITY = 0.65  # of the map in an overlay
PAD = 1.5  # points round text in a picture
INSET = 0.05  # of the picture's sides, where its text begins


def overlay(images: Tensor, maps: Tensor, opacity: float = OPACITY) -> Tensor:
    """Maps (B, 1, H, W) in colour over grey images (B, 3, H, W); returns (B, 3, H, W) in [0, 1]."""
    grey = images.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    coloured = colormaps[MAP_COLOURS](maps[:, 0].clamp(0, 1).cpu().numpy())[..., :3]  # (B, H, W, 3)
    colour = torch.from_numpy(np.ascontiguousarray(coloured)).permute(0, 3, 1, 2).to(images)
    return (1 - opacity) * grey + opacity * colour


def _grid(rows: int, columns: int, cell: float, aspect: float = 1.0) -> tuple[Figure, np.ndarray]:
    size, gaps = (columns * cell * aspect, rows * cell), {"wspace": 0.06, "hspace": 0.06}
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, gridspec_kw=gaps)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    return figure, axes


def _draw(axis: Axes, picture: Tensor) -> None:
    """One picture: (3, H, W) as it is, (1, H, W) as a map in colour, (1, H, W) bool in white."""
    colours = "gray" if picture.dtype == torch.bool else MAP_COLOURS  # count for one channel only
    shown = picture.clamp(0, 1) if len(picture) == 3 else picture
    axis.imshow(shown.permute(1, 2, 0).cpu().numpy(), cmap=colours, vmin=0, vmax=1, interpolation="nearest")


def _room(axis: Axes) -> tuple[float, float]:
    """Width and height of a picture as it is drawn, in points."""
    axis.apply_aspect()
    figure = axis.get_figure(root=True)
    assert figure is not None
    box, size = axis.get_position(), figure.get_size_inches()
    return 72 * box.width * size[0], 72 * box.height * size[1]


def _labels(axes: Iterable[Axes], texts: Sequence[str]) -> None:
    """Text in the upper left corner of pictures of one size, readable on any, all of it inside."""
    if not texts:
        return
    axes = list(axes)
    (wide, high), ground = _room(axes[0]), {"facecolor": "black", "alpha": 0.65, "pad": PAD, "linewidth": 0}
    lines, size = fit_together(texts, (1 - 2 * INSET) * wide - 2 * PAD, (1 - 2 * INSET) * high - 2 * PAD)
    place: dict[str, Any] = {"va": "top", "color": "white", "fontsize": size, "bbox": ground}
    for axis, text in zip(axes, lines, strict=True):
        axis.text(INSET, 1 - INSET, text, transform=axis.transAxes, **place)


def image_grid(images: Tensor, masks: Tensor | None = None, titles: Sequence[str] = ()) -> Figure:
    """Images (N, 3, H, W), ten in a row, each with its mask (N, 1, H, W) below it when masks are given."""
    layers = [images] if masks is None else [images, masks]
    figure, axes = _grid(-(-len(images) // 10) * len(layers), 10, CELL)
    for axis in axes.flat:
        axis.axis("off")
    for index in range(len(images)):
        row, column = divmod(index, 10)
        for offset, pictures in enumerate(layers):
            _draw(axes[row * len(layers) + offset, column], pictures[index])
    _labels(axes[:: len(layers)].flatten()[: len(titles)], titles)
    return figure


def map_grid(
    columns: Mapping[str, Tensor | None],
    row_labels: Sequence[str] = (),
    cell: float = CELL,
    colour_bar: bool = True,
    captions: Mapping[str, Sequence[float | str]] | None = None,
    frames: Mapping[str, Tensor] | None = None,
    once: Sequence[str] = (),
) -> Figure:
    """One row per image, one named column per kind of picture.

    Args:
        columns: per title, images (N, 3, H, W), maps (N, 1, H, W) in [0, 1] or masks (bool); ``None`` for
            what is not known is left out.
        row_labels: N labels for the left edge.
        cell: height of a picture in inches.
        colour_bar: draw the scale of the maps' colours at the right.
        captions: per title, N numbers or words to be written into the pictures.
        frames: per title, boxes (N, 4) to be drawn into the pictures: left, top, right, bottom, in pixels.
        once: titles of columns in which a picture that is the one above it is not drawn again.
    """
    known = {title: pictures for title, pictures in columns.items() if pictures is not None}
    first = next(iter(known.values()))
    count = len(first)
    figure, axes = _grid(count, len(known), cell, first.shape[-1] / first.shape[-2])
    for column, (title, pictures) in enumerate(known.items()):
        for row in range(count):
            if not (title in once and row and torch.equal(pictures[row], pictures[row - 1])):
                _draw(axes[row, column], pictures[row])
            if frames is not None and title in frames:
                left, top, right, bottom = frames[title][row].tolist()
                corner, sides = (left - 0.5, top - 0.5), (right - left, bottom - top)
                axes[row, column].add_patch(Rectangle(corner, *sides, fill=False, color=FRAME, linewidth=1.6))
    if colour_bar:
        scale = plt.cm.ScalarMappable(plt.Normalize(0, 1), MAP_COLOURS)
        bar = figure.colorbar(scale, ax=axes, fraction=0.015, pad=0.01, ticks=[0, 0.5, 1])
        bar.ax.tick_params(labelsize=7)
        bar.outline.set_visible(False)
    _write(axes, list(known), row_labels, captions or {})  # the colour bar has taken its room
    return figure


def _write(
    axes: np.ndarray,
    titles: Sequence[str],
    row_labels: Sequence[str],
    captions: Mapping[str, Sequence[float | str]],
) -> None:
    """Titles above the columns, labels at the left of the rows, captions in the pictures."""
    wide, high = _room(axes[0, 0])
    lines, size = fit_together(titles, wide)
    for axis, text in zip(axes[0], lines, strict=True):
        axis.set_title(text, fontsize=size, pad=3)
    lines, size = fit_together(row_labels, high)
    for axis, text in zip(axes[:, 0], lines, strict=False):
        axis.set_ylabel(text, fontsize=size)
    for title, own in captions.items():
        if title in titles:
            told = [text if isinstance(text, str) else f"{text:.2f}" for text in own]
            _labels(axes[:, titles.index(title)], told)
