"""Pictures of many pixels, read without holding all of them.

A picture of 13000 x 13000 pixels takes 676 MB as Pillow holds it, and its file may be a few kilobytes. What
is wanted of it is a picture of a few hundred pixels. So above :data:`MOST` pixels a JPEG is decoded at a part
of its size (libjpeg's scaled decoding), and a PNG strip by strip, each averaged at once. Files of other
formats, interlaced PNGs, progressive JPEGs and PNGs of more than 8 bits cannot be read in parts: above that
size they are refused. Above about 179 million pixels Pillow refuses every file.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

MOST = 32_000_000  # pixels that are decoded as a whole: 128 MB
FINER = 4  # times the size that is wanted, at least, at which a large picture is decoded
STRIP = 4_000_000  # bytes of it that are decoded at once
PIECE = 65_536  # bytes of a file that are read at once
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by PNG's type of colour
GREY, PALETTE = 0, 3
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def reduced(image: Image.Image, path: Path, size: tuple[int, int] | None) -> Image.Image:
    """The picture of a file that was opened and not decoded, smaller where it is a large one.

    Args:
        image: as ``Image.open`` gives it; path: of its file.
        size: height and width that are wanted in the end; ``None`` for the picture's own.

    Raises:
        ValueError: more than :data:`MOST` pixels in a file that cannot be read in parts.
    """
    width, height = image.size
    if width * height <= MOST:
        return image
    sides = f"it has {width} x {height} pixels, and more than {MOST // 10**6} million"
    if size is None:
        raise ValueError(f"{sides} are read at a smaller size only")
    factor = max(1, math.floor(min(height, width) / (FINER * max(size))))
    if image.format == "JPEG" and not (image.info.get("progressive") or image.info.get("progression")):
        image.draft(image.mode, (width // factor, height // factor))
        if image.size[0] * image.size[1] <= MOST:
            return image
        raise ValueError(f"{sides} are read of a JPEG at an eighth of its sides, still too many")
    if image.format == "PNG" and not image.info.get("interlace"):
        with path.open("rb") as file:
            made, behind = _averaged(file, factor)
        # Where it has not come before the pixels, Pillow would decode them all to look for it.
        is_known = {"exif", "Raw profile type exif"} & image.info.keys()
        about = image.getexif() if is_known else Image.Exif()
        if not is_known and behind:
            about.load(behind)
        if orientation := about.get(ExifTags.Base.Orientation):
            made.getexif()[ExifTags.Base.Orientation] = orientation
        return made
    kinds = {"PNG": "an interlaced PNG", "JPEG": "a progressive JPEG"}
    kind = kinds.get(str(image.format), image.format)
    raise ValueError(f"{sides} are read of a plain JPEG or PNG only, this is {kind}; save it smaller")


def _averaged(file: BinaryIO, factor: int) -> tuple[Image.Image, bytes]:
    """A PNG as RGB, every square of so many pixels a side averaged; and its EXIF data."""
    chunks = _chunks(file)
    name, header = next(chunks)
    if name != b"IHDR":
        raise ValueError("it is a damaged PNG")
    width, height, depth, colour = struct.unpack(">IIBB", header[:10])
    if depth > 8:
        raise ValueError(f"it has more than {MOST // 10**6} million pixels of {depth} bits; save it with 8")
    stride = 1 + -(-width * CHANNELS[colour] * depth // 8)  # bytes of a row, its filter's number before them
    ramp = np.repeat(np.linspace(0, 255, 2**depth).round().astype(np.uint8), 3).tobytes()
    kind = PALETTE if colour == GREY and depth < 8 else colour  # so that Pillow keeps the numbers
    palette, others = {"PLTE": ramp} if kind != colour else {}, dict[str, bytes]()
    made = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    rows = factor * max(1, STRIP // (stride * factor))
    before, waiting, top = bytes(stride), bytearray(), 0
    for data in _inflated(chunks, palette, others):
        waiting += data
        while top < height and len(waiting) >= stride * min(rows, height - top):
            count = min(rows, height - top)
            strip = _decoded((width, count + 1, depth, kind), palette, before + waiting[: stride * count])
            del waiting[: stride * count]
            before = b"\0" + _packed(strip.crop((0, count, width, count + 1)), depth)
            seen = strip.crop((0, 1, width, count + 1)).convert("RGB").reduce(factor)
            made.paste(seen, (0, top // factor))
            top += count
    if top < height:
        raise ValueError("its file is cut short")
    return made, others.get("eXIf", b"")


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Chunks of a PNG, those of pixels in pieces; a damaged one raises ``ValueError``."""
    if file.read(8) != SIGNATURE:
        raise ValueError("it is no PNG")
    while len(head := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        total, left = zlib.crc32(name), length
        while True:
            content = file.read(min(left, PIECE) if name == b"IDAT" else left)
            total, left = zlib.crc32(content, total), left - len(content)
            if left and not content:
                raise ValueError("its file is cut short")
            yield name, content
            if not left:
                break
        if file.read(4) != struct.pack(">I", total):
            raise ValueError("it is a damaged PNG")
        if name == b"IEND":
            return


def _inflated(
    chunks: Iterator[tuple[bytes, bytes]], palette: dict[str, bytes], others: dict[str, bytes]
) -> Iterator[bytes]:
    """The rows of a PNG as bytes, a piece at a time; ``palette`` receives what stands before them, ``others``
    the EXIF data, before or behind."""
    packer = zlib.decompressobj()
    try:
        for name, content in chunks:
            if name == b"PLTE":
                palette["PLTE"] = content
            if name == b"eXIf":
                others["eXIf"] = content
            while name == b"IDAT" and content:
                yield packer.decompress(content, STRIP)
                content = packer.unconsumed_tail
        yield packer.flush()
    except zlib.error as error:
        raise ValueError(f"it is a damaged PNG: {error}") from None


def _decoded(header: tuple[int, int, int, int], palette: dict[str, bytes], rows: bytes) -> Image.Image:
    """Rows as they stand in a PNG, decoded by Pillow."""
    width, height, depth, colour = header
    about = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [("IHDR", about), *palette.items(), ("IDAT", zlib.compress(rows, 0)), ("IEND", b"")]
    whole = [SIGNATURE]
    for name, content in parts:
        body = name.encode() + content
        whole += [struct.pack(">I", len(content)), body, struct.pack(">I", zlib.crc32(body))]
    with Image.open(io.BytesIO(b"".join(whole))) as image:
        image.load()
        return image


def _packed(row: Image.Image, depth: int) -> bytes:
    """The pixels of a row (W, 1) as they stand in a PNG without a filter."""
    values: NDArray[np.uint8] = np.frombuffer(row.tobytes(), dtype=np.uint8)
    if depth == 8:
        return values.tobytes()
    bits = np.unpackbits(values[:, None], axis=1)[:, 8 - depth :]
    return np.packbits(bits.ravel()).tobytes()
