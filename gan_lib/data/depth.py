"""Images of more than 8 bits: what number is white, and the image in 8 bits.

A file of 16 bits may hold the 10, 12 or 14 bits of a camera. Many say so: TIFF by ``BitsPerSample`` or
``MaxSampleValue`` (tags 258 and 281), PNG by its ``sBIT`` chunk, PGM and JPEG 2000 by their headers. Where a
file does not, and none of its numbers is above a quarter of the range, it may be a dark image of 16 bits as
well as a bright one of 12. To guess would change the brightness of one and not of another, so it is refused
with a sentence that says how to state the bits.
"""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from gan_lib.data.values import range_problem

CONTAINER = 16  # bits of a file that holds whole numbers of more than 8
CAMERAS = (8, 10, 12, 14)  # bits that are kept in 16
SCALED_BY_PILLOW = ("PPM", "JPEG2000")  # whose headers say the bits: Pillow scales them to 16
# Tags of TIFF, and values of theirs:
BITS_PER_SAMPLE, PHOTOMETRIC, MAX_SAMPLE_VALUE, PLANES, SAMPLE_FORMAT = 258, 262, 281, 284, 339
WHITE_IS_ZERO, SEPARATE, SIGNED = 0, 2, 2
BOTH_ORDERS = ("RGB;16", "RGBA;16", "RGBX;16", "CMYK;16")  # Pillow unpacks them from either byte order


def in_eight_bits(image: Image.Image, bits: int | None = None) -> Image.Image:
    """A PIL image the right way up, of 8 bits a channel; one that has them stays as it is.

    Whole numbers are divided by ``2 ** bits - 1``, the bits being those given, those that the file states, or
    16. Floating point numbers are taken as they are, 1 is white. Of an animation or a file of several pages
    it is the frame that the image stands at, the first where nobody has moved it.

    Args:
        image: best not loaded yet: of colours of 16 bits a loaded one has kept 8.
        bits: of a pixel's whole numbers, where the file does not say them.

    Raises:
        ValueError: negative numbers, NaN, numbers beyond the range, or bits that cannot be known.
    """
    tags = getattr(image, "tag_v2", {})
    depths = tuple(np.atleast_1d(tags.get(BITS_PER_SAMPLE, 8)).tolist())
    raw = _raw_mode(image)
    file = _file(image) if image.mode.startswith("I") or ";16" in raw else b""
    stated = _stated_bits(image, file, depths)
    if bits is not None and not 1 <= bits <= 32:
        raise ValueError(f"bits must be 1 to 32, not {bits}")
    if len(depths) > 1 and max(depths) > 8 and tags.get(PLANES) == SEPARATE:  # Pillow reads them wrongly
        raise ValueError("its colours of 16 bits lie in separate planes; save it with interleaved colours")
    if max(depths) <= 8 and SIGNED in np.atleast_1d(tags.get(SAMPLE_FORMAT, 1)):
        raise ValueError("its numbers are signed bytes; save it with 0 as black and 255 as white")
    if ";16" in raw and not image.mode.startswith("I"):
        return _colours(image, raw, file, bits, stated)
    upright = ImageOps.exif_transpose(image)
    if upright.mode == "F":
        shades = _from_floats(np.asarray(upright, dtype=np.float64))
    elif upright.mode.startswith("I"):
        shades = _from_integers(np.asarray(upright, dtype=np.int64), bits, stated)
    else:
        return upright
    return Image.fromarray(255 - shades if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else shades)


def _from_floats(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    if problem := range_problem(values):
        raise ValueError(f"it has {problem}")
    return (values * 255).round().astype(np.uint8)


def _from_integers(values: NDArray[np.int64], bits: int | None, stated: int | None) -> NDArray[np.uint8]:
    low, high = int(values.min()), int(values.max())
    if low < 0:
        raise ValueError(f"its whole numbers go from {low} to {high}: of negative ones no shade is known")
    known = bits or (stated if stated and high < 2**stated else None)
    if known is None and high >= 2**CONTAINER:
        raise ValueError(
            f"its whole numbers reach {high}, beyond 16 bits, and what is white is not known; "
            "pass bits=N if 2^N - 1 is white, or save it with 8 or 16 bits"
        )
    likely = next((own for own in CAMERAS if high < 2**own), None)
    if known is None and likely is not None and high > 0:
        raise ValueError(
            f"its whole numbers reach {high} of {2**CONTAINER - 1}: it may have {likely} bits, or 16 and be "
            f"dark, and does not say which; pass bits={likely} or bits={CONTAINER}"
        )
    white = 2 ** (known or CONTAINER) - 1
    if high > white:
        raise ValueError(f"its whole numbers reach {high}, but with bits={known} white is {white}")
    return (values * 255 / white).round().astype(np.uint8)


def _colours(image: Image.Image, raw: str, file: bytes, bits: int | None, stated: int | None) -> Image.Image:
    """Colours of 16 bits, of which Pillow keeps the high bytes: decoded once more for the low ones."""
    frame = image.tell()
    mode = "CMYK" if image.mode == "CMYK" else "RGB"  # transparency is left out
    high = ImageOps.exif_transpose(image).convert(mode)
    values = np.asarray(high, dtype=np.int64)  # (H, W, C)
    if raw.startswith(BOTH_ORDERS):
        twin: Any = Image.open(io.BytesIO(file))
        twin.seek(frame)
        twin.tile = [_of_other_bytes(tile) for tile in twin.tile]
        values = values * 256 + np.asarray(ImageOps.exif_transpose(twin).convert(mode))
    elif bits in (None, CONTAINER):
        values = values * 257
    else:
        raise ValueError(f"of its {image.mode} of 16 bits only the high bytes can be read, not {bits} bits")
    shades = _from_integers(values, bits, stated)
    return Image.frombytes(mode, high.size, shades.tobytes())


def _of_other_bytes(tile: Any) -> Any:
    """What Pillow's decoder is told of a part of an image, changed so that it keeps the low bytes."""
    arguments = tile[3]
    raw = arguments if isinstance(arguments, str) else arguments[0]
    big = raw[-1] == "B" or (raw[-1] == "N" and struct.pack("=H", 1) == b"\0\1")
    other = raw[:-1] + ("L" if big else "B")
    arguments = other if isinstance(arguments, str) else (other, *arguments[1:])
    return tile._replace(args=arguments) if hasattr(tile, "_replace") else (*tile[:3], arguments)


def _raw_mode(image: Image.Image) -> str:
    """How the pixels of an image that is not loaded lie in its file; empty for others."""
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else []
    if not tiles:
        return ""
    arguments = tiles[0][3]
    first = arguments if isinstance(arguments, str) else arguments[0] if arguments else ""
    return first if isinstance(first, str) else ""


def _file(image: Image.Image) -> bytes:
    """The file of an image that is not loaded, which goes on as if it had not been read; empty for others."""
    file = image.fp if isinstance(image, ImageFile.ImageFile) and image.tile else None
    if file is None:
        return b""
    place = file.tell()
    file.seek(0)
    whole = file.read()
    file.seek(place)
    return whole


def _stated_bits(image: Image.Image, file: bytes, depths: tuple[int, ...]) -> int | None:
    """The bits that a file says its numbers have; 16 where Pillow has scaled them."""
    if image.format in SCALED_BY_PILLOW:
        return CONTAINER
    if image.format == "PNG":
        return _significant_bits(file)
    if image.format == "TIFF":
        largest = getattr(image, "tag_v2", {}).get(MAX_SAMPLE_VALUE)
        if largest is not None:
            return int(np.max(largest)).bit_length()
        return max(depths) if 8 < max(depths) < CONTAINER else None
    return None


def _significant_bits(file: bytes) -> int | None:
    """The most bits that a PNG file's ``sBIT`` chunk names for a channel."""
    place = 8  # after the signature, a chunk: length, name, content, check sum
    while place + 8 <= len(file):
        length, name = struct.unpack(">I4s", file[place : place + 8])
        if name == b"sBIT":
            return max(file[place + 8 : place + 8 + length], default=None)
        if name == b"IDAT":
            return None
        place += 12 + length
    return None
