"""Images to look at, some of a data set and what people upload; and pictures and bars for panels."""

from __future__ import annotations

import html
import io
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import ipywidgets as widgets
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gan_lib.data import ImageSplit
from gan_lib.data.folders import read_image

LARGE = 4096  # pixels a side, from which an upload is called large


class Gallery:
    """Named images, at any size that a CNN wants.

        gallery = Gallery(data.test, data.class_names, count=12)
        called, notice = gallery.upload("holiday.jpg", content)
        image = gallery.image(called, (64, 64))  # (1, 3, 64, 64) in [0, 1]

    Args:
        split: the images that are there from the start.
        class_names: of the split's labels.
        count: how many of them, from the first on.
    """

    def __init__(self, split: ImageSplit, class_names: Sequence[str], count: int = 24) -> None:
        self.own: dict[str, Tensor] = {}
        self.uploads: dict[str, bytes] = {}
        rows = range(min(count, len(split)))
        for number, (image, label) in enumerate(zip(split.images[rows], split.labels[rows], strict=True)):
            self.own[f"{number + 1}: {class_names[int(label)]}"] = image

    def __iter__(self) -> Iterator[str]:
        yield from self.uploads
        yield from self.own

    def upload(self, name: str, content: bytes) -> tuple[str, str]:
        """Add an image file; returns what it is called here, and what there is to say about it.

        Another file of the same name takes its place, but for the images that were there from the start.

        Raises:
            ValueError: no readable image.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                with Image.open(io.BytesIO(content)) as picture:
                    width, height = picture.size
            _read(name, content, (8, 8))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            why = f": {error}" if isinstance(error, Image.DecompressionBombError) else ""
            raise ValueError(f"{name} is no image that can be read{why}") from error
        called = f"{name} (upload)" if name in self.own else name
        self.uploads[called] = content
        if max(width, height) >= LARGE:
            notice = f"{name} is large, {width} x {height} pixels: it is cropped to a square and made smaller"
        elif min(width, height) < 8:
            notice = f"{name} has only {width} x {height} pixels: there is not much to see in it"
        else:
            notice = f"{name}, {width} x {height} pixels, is cropped to a square and resized"
        return called, notice

    def image(self, name: str, size: tuple[int, int]) -> Tensor:
        """One image (1, 3, H, W) in [0, 1].

        Raises:
            KeyError: no such image.
        """
        if name in self.uploads:
            return _read(name, self.uploads[name], size)[None].float() / 255
        if name not in self.own:
            raise KeyError(f"no image {name!r}")
        image = self.own[name]
        if tuple(image.shape[-2:]) != size:
            picture = Image.fromarray(image.permute(1, 2, 0).numpy())
            resized = np.array(picture.resize((size[1], size[0]), Image.Resampling.BICUBIC))
            image = torch.from_numpy(resized).permute(2, 0, 1)
        return image[None].float() / 255


@lru_cache(maxsize=64)
def _read(name: str, content: bytes, size: tuple[int, int]) -> Tensor:
    """An image file (3, H, W), uint8; kept by its content, whatever it is called."""
    stream = io.BytesIO(content)
    stream.name = name  # what an error message calls it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return read_image(stream, size)  # type: ignore[arg-type]


def png(own: Tensor, side: int = 192) -> bytes:
    """A picture (3, H, W) in [0, 1] as a PNG whose longer side has about so many pixels."""
    pixels = (own.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()  # (H, W, 3)
    scale = max(1, round(side / max(pixels.shape[:2])))
    stream = io.BytesIO()
    large = Image.fromarray(np.ascontiguousarray(pixels.repeat(scale, 0).repeat(scale, 1)))
    large.save(stream, format="PNG", compress_level=1)
    return stream.getvalue()


def tile(title: str, own: Tensor, below: str = "", side: int = 192) -> Any:
    """A titled picture (3, H, W), with words below it."""
    image = widgets.Image(value=png(own, side), format="png", width=side)
    image.add_class("gan-lib-picture")
    parts = [widgets.HTML(f"<b>{html.escape(title)}</b>"), image]
    if below:
        parts.append(widgets.HTML(f"<span>{html.escape(below)}</span>"))
    return widgets.VBox(parts, layout=widgets.Layout(margin="0 10px 6px 0", width=f"{side + 12}px"))


def bars(values: Sequence[tuple[str, float]], title: str) -> str:
    """Probabilities as bars, with numbers for who cannot see them."""
    rows = "".join(
        f'<div style="display:flex;gap:6px">'
        f'<span style="width:110px;overflow:hidden">{html.escape(name)}</span>'
        f'<span style="width:120px;background:#eee"><span style="display:block;height:100%;'
        f'width:{100 * value:.0f}%;background:#0173b2"></span></span><span>{100 * value:.1f} %</span></div>'
        for name, value in values
    )
    return f"<div><i>{html.escape(title)}</i>{rows}</div>"
