"""Text that keeps to the room it has: broken into lines by its measured width, smaller, at last shortened."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache

from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties

Measure = Callable[[str], float]  # width of a line

SIZES = (8, 7, 6)  # points
LINE = 1.25  # distance of two lines, in sizes of the font
DPI = 150  # at which figures are saved
MORE = "…"
BREAKS = re.compile(r"(?<=[_\-/,|])")  # behind these a long word is broken first


def fitted_lines(text: str, wide: float, measure: Measure, most: int | None = None) -> list[str]:
    """Break a text into lines that are at most so wide; where there would be more than ``most``, the last
    one ends with an ellipsis.

        fitted_lines("English springer", 100, font.getlength)

    Words stay whole where they fit; longer ones are broken, behind ``_ - / , |`` if possible. Line breaks in
    the text stay.
    """
    lines = [line for paragraph in text.splitlines() or [""] for line in _wrapped(paragraph, wide, measure)]
    if most is None or len(lines) <= most:
        return lines
    return [*lines[: most - 1], shortened(" ".join(lines[most - 1 :]), wide, measure)]


def shortened(text: str, wide: float, measure: Measure) -> str:
    """The text, or as much of it as fits with an ellipsis behind it."""
    if measure(text) <= wide:
        return text
    while text and measure(text + MORE) > wide:
        text = text[:-1]
    return text.rstrip() + MORE


def _wrapped(text: str, wide: float, measure: Measure) -> list[str]:
    lines = [""]
    for word in text.split():
        for number, piece in enumerate(_pieces(word, wide, measure)):
            longer = f"{lines[-1]} {piece}" if lines[-1] and not number else lines[-1] + piece
            if lines[-1] and measure(longer) > wide:
                lines.append(piece)
            else:
                lines[-1] = longer
    return lines


def _pieces(word: str, wide: float, measure: Measure) -> Iterator[str]:
    """The word, or parts of it that fit; a single letter always counts as one that does."""
    if measure(word) <= wide:
        yield word
        return
    for part in BREAKS.split(word):
        while len(part) > 1 and measure(part) > wide:
            end = next(end for end in range(len(part) - 1, 0, -1) if end == 1 or measure(part[:end]) <= wide)
            yield part[:end]
            part = part[end:]
        yield part


@cache
def _renderer() -> RendererAgg:
    return RendererAgg(1, 1, DPI)


@cache
def text_width(text: str, size: float) -> float:
    """Width of a line in a figure's font, in points."""
    pixels = _renderer().get_text_width_height_descent(text, FontProperties(size=size), ismath=False)[0]
    return 72 * pixels / DPI


def fit_together(
    texts: Sequence[str], wide: float, high: float | None = None, most: int = 6
) -> tuple[list[str], int]:
    """Break texts of a figure into lines that fit, all in one size: the largest in which no word is broken.

    Args:
        wide, high: of the room that each has, in points; by default it may be as high as ``most`` lines.
        most: lines.

    Returns:
        The texts with line breaks, and the size in points.
    """
    for size in SIZES:
        allowed = most if high is None else max(1, min(most, int(high / (LINE * size))))
        measure = lambda text, size=size: text_width(text, size)  # noqa: E731
        whole = all(measure(word) <= wide for text in texts for word in text.split())
        if whole and all(len(fitted_lines(text, wide, measure)) <= allowed for text in texts):
            break
    return ["\n".join(fitted_lines(text, wide, measure, allowed)) for text in texts], size
