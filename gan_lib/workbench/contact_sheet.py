"""Contact sheets of a folder of explanations: a row per image, a column per method, pages of 40 rows.

Of very many images the first are drawn, as many as somebody may look at; the table has all.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from PIL import Image, ImageDraw, ImageFont, ImageOps

from gan_lib.core.storage import atomic_path
from gan_lib.figures.fitting import fitted_lines
from gan_lib.workbench.explained import INPUTS, OVERLAY

ROWS, PAGES = 40, 50  # of a page, at most
SIDE, GAP, HEAD, WORDS = 160, 6, 34, 260  # pixels: of a picture, between them, of the titles, of the words
LINES, HEADLINES = 8, 2  # of a row, of a title
FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


def contact_sheets(table: pd.DataFrame, methods: Sequence[str], folder: Path) -> list[Path]:
    """Draw all rows of a table of explanations (:class:`gan_lib.workbench.explained.ExplanationFolder`).

    Args:
        table: its rows, as words.
        methods: a column each; cells of which there is no picture stay empty.
        folder: holds the pictures and receives ``contact_sheet.png``, ``contact_sheet_2.png``, ...

    Returns:
        The pages, :data:`PAGES` at most.
    """
    images = table.drop_duplicates("name").head(ROWS * PAGES).to_dict("records")
    pages = []
    for number, start in enumerate(range(0, len(images), ROWS), start=1):
        page = folder / (f"contact_sheet_{number}.png" if number > 1 else "contact_sheet.png")
        drawn = _page(images[start : start + ROWS], methods, folder)
        with atomic_path(page) as temporary:
            drawn.save(temporary, format="PNG")
        pages.append(page)
    return pages


def _page(rows: Sequence[dict[Any, str]], methods: Sequence[str], folder: Path) -> Image.Image:
    with Image.open(folder / INPUTS / f"{rows[0]['name']}.png") as first:
        wide, high = ImageOps.contain(
            first, (SIDE, SIDE), Image.Resampling.BILINEAR
        ).size  # all have one size
    cell, tall = wide + GAP, max(high, SIDE) + GAP
    size = (WORDS + cell * (1 + len(methods)), HEAD + tall * len(rows))
    page = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(page), ImageFont.truetype(FONT, 13)
    for column, title in enumerate(("image", *methods)):
        lines = fitted_lines(title.replace("_", " "), wide, font.getlength, HEADLINES)
        draw.text((WORDS + column * cell, 2), "\n".join(lines), "black", font, spacing=1)
    for line, row in enumerate(rows):
        top, name = HEAD + line * tall, row["name"]
        draw.text((GAP, top), _words(row, font), "black", font)
        files = [Path(INPUTS, f"{name}.png"), *(Path(own, f"{name}{OVERLAY}.png") for own in methods)]
        for column, file in enumerate(files):
            if (folder / file).is_file():
                with Image.open(folder / file) as picture:
                    page.paste(picture.convert("RGB").resize((wide, high)), (WORDS + column * cell, top))
    return page


def _words(row: dict[Any, str], font: ImageFont.FreeTypeFont) -> str:
    """Name, prediction and its probability; the class that is explained where it is another."""
    told = [row["name"], "", f"{row['prediction']}  {float(row['probability']):.1%}"]
    if row["target"] != row["prediction"]:
        told.append(f"explained: {row['target']}  {float(row['target_probability']):.1%}")
    return "\n".join(fitted_lines("\n".join(told), WORDS - 2 * GAP, font.getlength, LINES))
