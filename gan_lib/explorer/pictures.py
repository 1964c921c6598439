"""Images to look at, some of a data set and what people upload; and pictures and bars for panels."""

from __future__ import annotations

import html
import io
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import ipywidgets as widgets
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from gan_lib.data import ImageSplit, read_images

LARGE = 4096  # pixels a side, from which an upload is kept smaller


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
        self.uploads: dict[str, Image.Image] = {}
        self.split = split.subset(range(min(count, len(split))))
        labels = enumerate(self.split.labels.tolist(), 1)
        self.own = {f"{number}: {class_names[label]}": number - 1 for number, label in labels}

    def __iter__(self) -> Iterator[str]:
        yield from self.uploads
        yield from self.own

    def sample(self, count: int, seed: int) -> list[str]:
        """Names of some of the images that were there from the start, classes in proportion."""
        names = list(self.own)
        return [names[row] for row in self.split.sample(count, seed).tolist()]

    def upload(self, name: str, content: bytes) -> tuple[str, str]:
        """Add an image file; returns what it is called here, and what there is to say about it.

        Another file of the same name takes its place, but for the images that were there from the start.

        Raises:
            ValueError: no readable image.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                picture: Image.Image = Image.open(io.BytesIO(content))
                width, height = picture.size
                picture = ImageOps.exif_transpose(picture)  # all of it is read here
            if max(width, height) >= LARGE:
                picture.thumbnail((LARGE // 2, LARGE // 2))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            why = f": {error}" if isinstance(error, Image.DecompressionBombError) else ""
            raise ValueError(f"{name} is no image that can be read{why}") from error
        called = f"{name} (upload)" if name in self.own else name
        self.uploads[called] = picture
        return called, f"{name}, {width} x {height} pixels, is cropped to a square and resized"

    def image(self, name: str, size: tuple[int, int]) -> Tensor:
        """One image (1, 3, H, W) in [0, 1].

        Raises:
            KeyError: no such image.
        """
        if name in self.uploads:
            return read_images(self.uploads[name], size)
        if name not in self.own:
            raise KeyError(f"no image {name!r}")
        return read_images(self.split.images[self.own[name]], size)


def png(own: Tensor, side: int = 192) -> bytes:
    """A picture (3, H, W) in [0, 1] as a PNG whose longer side has about so many pixels."""
    picture = to_pil_image((own.clamp(0, 1) * 255).round().byte().cpu())
    stream = io.BytesIO()
    large = ImageOps.scale(picture, max(1, round(side / max(picture.size))), Image.Resampling.NEAREST)
    large.save(stream, format="PNG", compress_level=1)
    return stream.getvalue()


def spaced(name: str) -> str:
    """A method's name as people read it."""
    return name.replace("_", " ")


def tile(title: str, own: Tensor, below: str = "", side: int = 192) -> Any:
    """A titled picture (3, H, W), with words below it."""
    image = widgets.Image(value=png(own, side), format="png", width=side)
    image.add_class("gan-lib-picture")
    parts = [widgets.HTML(f"<b>{html.escape(spaced(title))}</b>"), image]
    if below:
        parts.append(widgets.HTML(f"<span>{html.escape(below)}</span>"))
    return widgets.VBox(parts, layout=widgets.Layout(margin="0 10px 6px 0", width=f"{side + 12}px"))


def bars(values: Sequence[tuple[str, float]], title: str) -> str:
    """Probabilities as bars, with numbers for who cannot see them."""
    rows = "".join(
        f'<div><span style="display:inline-block;width:110px;overflow:hidden">{html.escape(name)}</span> '
        f'<meter value="{value:.3f}" style="width:120px"></meter> {100 * value:.1f} %</div>'
        for name, value in values
    )
    return f"<div><i>{html.escape(title)}</i>{rows}</div>"
