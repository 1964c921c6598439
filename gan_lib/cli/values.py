"""Values of options as they are typed: names of classes, sizes, numbers per channel."""

from __future__ import annotations

import math
import re
from pathlib import Path

from gan_lib.cli.problems import InputError, given

LARGEST = 8192  # pixels of a side


def class_names(text: str | None, option: str = "--classes") -> tuple[str, ...] | None:
    """Names of classes, in the order of the CNN's outputs: a file with one a line, or ``a,b,c``.

    Raises:
        InputError: no such file, no text, an empty line between names, no names, or one that appears twice.
    """
    if text is None:
        return None
    path = Path(text).expanduser()
    looks_like_file = "," not in text and (path.suffix or len(path.parts) > 1)
    if path.is_dir() or (looks_like_file and not path.is_file()):
        raise InputError(f"{option} {text}: there is no such file; give one name a line, or a,b,c")
    if path.is_file():
        with given(option, text):
            names = [line.strip() for line in path.read_text("utf-8-sig").rstrip().split("\n")]
    else:
        names = [name.strip() for name in text.split(",")]
    if not any(names):
        raise InputError(f"{option} {text!r}: there are no names")
    if "" in names:
        raise InputError(f"{option} {text}: name {names.index('') + 1} of {len(names)} is empty")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{option} {text}: names appear twice: {', '.join(twice[:5])}")
    return tuple(names)


def two_classes(text: str) -> tuple[str, str]:
    """Two names or numbers of ``A,B``; anything else raises :class:`InputError`."""
    names = [name.strip() for name in text.split(",")]
    if len(names) != 2 or not all(names):
        raise InputError(f"--classes {text}: give two classes, A,B, by name or number")
    return names[0], names[1]


def point(text: str | None, option: str) -> tuple[int, int] | None:
    """Two whole numbers from 0 on of ``X,Y``; anything else raises :class:`InputError`."""
    if text is None:
        return None
    if not (found := re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*", text, re.ASCII)):
        raise InputError(f"{option} {text}: give pixels from the left and from the top, for instance 20,40")
    return int(found[1]), int(found[2])


def image_size(text: str | None) -> tuple[int, int] | None:
    """Height and width in pixels of ``224`` or ``HxW``; what is neither raises :class:`InputError`."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", text.strip().lower())
    size = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not all(1 <= side <= LARGEST for side in size):
        raise InputError(f"--image-size {text}: give pixels, 224 or HEIGHTxWIDTH, from 1 to {LARGEST}")
    return size


def three_numbers(
    text: str | None, option: str, above: float = -math.inf
) -> tuple[float, float, float] | None:
    """A number per channel of ``r,g,b``; what is none, or not above a bound, raises :class:`InputError`."""
    if text is None:
        return None
    try:
        red, green, blue = map(float, text.split(","))
    except ValueError:
        raise InputError(f"{option} {text}: give three numbers, for instance 0.5,0.5,0.5") from None
    if not all(math.isfinite(number) and number > above for number in (red, green, blue)):
        bound = "finite" if above == -math.inf else f"above {above:g}"
        raise InputError(f"{option} {text}: the numbers must be {bound}")
    return red, green, blue


def span(text: str | None) -> tuple[float, float] | None:
    """Two rising numbers of ``low,high``; anything else raises :class:`InputError`."""
    if text is None:
        return None
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low, high = math.nan, math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(f"--span {text}: give the lowest and the highest value, for instance 0,10")
    return low, high


def place(text: str | None) -> str | int | None:
    """Which of several outputs: a number is a place, anything else a key or field."""
    return int(text) if text is not None and text.isdecimal() else text
