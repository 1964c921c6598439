"""One class's concepts as a picture, in the form of figure 1 of arXiv 2502.03422."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gan_lib.core.storage import Rows, atomic_path
from gan_lib.figures.fitting import shortened
from gan_lib.reporting.atlas.stages import AMONG

SIDE, GAP, BETWEEN = 88, 3, 20  # pixels of a crop, between crops, between blocks of them
MARGIN, CAPTION, LABEL, HEAD, NOTE = 16, 15, 96, 62, 22
PAPER, INK, QUIET, FRAME = "#ffffff", "#1d2125", "#59616a", "#d1342f"
Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels
QUALITY, THUMB = 75, 64
HEADS = ("prototypes", "from images not predicted as the class", "the images these were cut from")


@dataclass(frozen=True)
class Sheet:
    """What stands in the picture.

    Attributes:
        title, told: its two lines. note: a third, below; empty for none.
        labels: of the concepts.
        crops: rows of ``concept``, ``among``, ``rank``, ``image``, ``left``, ``top``, ``right``, ``bottom``
            and ``said``, what the CNN predicts for the image.
        count: crops of each concept.
    """

    title: str
    told: str
    note: str
    labels: Sequence[str]
    crops: pd.DataFrame
    count: int

    def rows(self) -> list[dict[str, Any]]:
        """The crops, one after the other."""
        made: Any = self.crops.to_dict("records")
        return list(made)


def _box(row: Mapping[str, Any]) -> Box:
    return row["left"], row["top"], row["right"], row["bottom"]


@cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf" / name, size)


def _fitting(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The text, or as much of it as fits."""
    return shortened(text, width, font.getlength)


def draw_sheet(sheet: Sheet, pictures: Mapping[int, Tensor], path: Path, thumb: Path) -> None:
    """Write the picture and a small one of the first prototypes, as JPEG.

    Args:
        pictures: by row, (3, H, W) uint8, all that the crops name.
        path, thumb: of the files.
    """
    opened = {row: Image.fromarray(own.permute(1, 2, 0).numpy()) for row, own in pictures.items()}
    columns = sheet.count if sheet.count <= 4 else -(-sheet.count // 2)
    lines = -(-sheet.count // columns)
    block, pitch = columns * (SIDE + GAP) - GAP, SIDE + CAPTION
    high = lines * pitch + 6
    width = 2 * MARGIN + LABEL + 3 * block + 2 * BETWEEN
    height = 2 * MARGIN + HEAD + high * len(sheet.labels) + (NOTE if sheet.note else 0)
    page = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(page)
    inner = width - 2 * MARGIN
    pen.text((MARGIN, MARGIN - 4), _fitting(sheet.title, _font(17, True), inner), INK, _font(17, True))
    pen.text((MARGIN, MARGIN + 20), _fitting(sheet.told, _font(11), inner), QUIET, _font(11))
    for number, head in enumerate(HEADS):
        left = MARGIN + LABEL + number * (block + BETWEEN)
        pen.text((left, MARGIN + 41), _fitting(head, _font(12), block), INK, _font(12))
    for concept, label in enumerate(sheet.labels):
        top = MARGIN + HEAD + concept * high
        pen.multiline_text((MARGIN, top), label, INK, _font(11), spacing=5)
    for row in sheet.rows():
        picture, box = opened[row["image"]], _box(row)
        across, down = (row["rank"] % columns) * (SIDE + GAP), (row["rank"] // columns) * pitch
        left = MARGIN + LABEL + across + AMONG.index(row["among"]) * (block + BETWEEN)
        top = MARGIN + HEAD + row["concept"] * high + down
        page.paste(_cut(picture, box), (left, top))
        if row["among"] == AMONG[1]:
            left += block + BETWEEN
            page.paste(_framed(picture, box), (left, top))
            pen.text((left, top + SIDE + 1), _fitting(row["said"], _font(9), SIDE), QUIET, _font(9))
    if sheet.note:
        text = _fitting(sheet.note, _font(11), inner)
        pen.text((MARGIN, height - MARGIN - 12), text, QUIET, _font(11))
    _save(page, path)
    _save(_strip(sheet, opened), thumb)


def _cut(picture: Image.Image, box: Box, side: int = SIDE) -> Image.Image:
    return picture.resize((side, side), Image.Resampling.BICUBIC, box)


def _framed(picture: Image.Image, box: Box) -> Image.Image:
    """The whole image as a square, and where the crop lies in it."""
    small = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    scale = [SIDE / picture.width, SIDE / picture.height] * 2
    left, top, right, bottom = (own * by for own, by in zip(box, scale, strict=True))
    ImageDraw.Draw(small).rectangle((left, top, right - 1, bottom - 1), outline=FRAME, width=2)
    return small


def _strip(sheet: Sheet, opened: Mapping[int, Image.Image]) -> Image.Image:
    """The first prototype of every concept, side by side."""
    strip = Image.new("RGB", (len(sheet.labels) * THUMB, THUMB), PAPER)
    for row in sheet.rows():
        if row["among"] == AMONG[0] and row["rank"] == 0:
            strip.paste(_cut(opened[row["image"]], _box(row), THUMB), (row["concept"] * THUMB, 0))
    return strip


def _save(picture: Image.Image, path: Path) -> None:
    with atomic_path(path) as temporary:
        picture.save(temporary, format="JPEG", quality=QUALITY, optimize=True)


def pictures_of(images: Rows, rows: Sequence[int]) -> dict[int, Tensor]:
    """Images (3, H, W) by row, each read once."""
    once = sorted(set(rows))
    return dict(zip(once, images[torch.tensor(once, dtype=torch.long)], strict=True))
