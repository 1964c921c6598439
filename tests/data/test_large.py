"""Pictures of many pixels: read in parts they are what they are read as a whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from gan_lib.data import large, reading
from gan_lib.data.reading import read_image

KINDS = {
    "RGB": {},
    "L": {},
    "P": {},
    "RGBA": {},
    "LA": {},
    "1": {},
    "P4": {"bits": 4},
    "P2": {"bits": 2},
    "P1": {"bits": 1},
}


@pytest.fixture
def picture():
    pixels = np.random.default_rng(0).integers(0, 255, (9, 11, 3)).astype(np.uint8)
    return Image.fromarray(pixels).resize((211, 173), Image.Resampling.BICUBIC)


@pytest.fixture
def small(monkeypatch):
    """What is large, made so small that tests are fast."""
    monkeypatch.setattr(large, "MOST", 1000)
    monkeypatch.setattr(large, "STRIP", 3000)
    monkeypatch.setattr(large, "PIECE", 77)


def saved(picture, path, kind):
    own = picture.quantize(2 ** int(kind[1])) if kind in ("P4", "P2", "P1") else picture.convert(kind)
    own.save(path, **KINDS[kind])
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_strips_of_a_png_are_its_average(picture, small, tmp_path, kind):
    path = saved(picture, tmp_path / "a.png", kind)
    with Image.open(path) as whole, path.open("rb") as file:
        expected = np.asarray(whole.convert("RGB").reduce(5), dtype=int)
        assert np.array_equal(np.asarray(large._averaged(file, 5)[0], dtype=int), expected)


def test_a_png_of_four_shades_of_grey(small, tmp_path):
    """Grey of two bits, which Pillow does not write: made by hand, two rows of eight pixels."""
    rows = b"\0" + bytes([0b00011011, 0b11100100]) + b"\2" + bytes([0, 0])  # the second as the one above
    image = large._decoded((8, 2, 2, 0), {}, rows)
    path = tmp_path / "grey.png"
    # Pillow decodes what is written by hand; then the same file in strips.
    import struct
    import zlib

    header = struct.pack(">IIBBBBB", 8, 2, 2, 0, 0, 0, 0)
    whole = large.SIGNATURE
    for name, content in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        crc = zlib.crc32(name + content)
        whole += struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc)
    path.write_bytes(whole)
    with path.open("rb") as file:
        found = np.asarray(large._averaged(file, 1)[0])[..., 0]
    assert found.tolist() == [[0, 85, 170, 255, 255, 170, 85, 0]] * 2
    assert np.array_equal(np.asarray(image.convert("L")), found)


@pytest.mark.parametrize(("name", "most"), [("a.png", 3), ("a.jpg", 6)])
def test_a_large_picture_is_nearly_what_it_is_as_a_whole(picture, tmp_path, monkeypatch, name, most):
    picture.save(tmp_path / name, quality=95)
    whole = read_image(tmp_path / name, (16, 20)).float()
    monkeypatch.setattr(large, "MOST", 10_000)
    parts = read_image(tmp_path / name, (16, 20)).float()
    assert (parts - whole).abs().mean() < most
    assert not torch.equal(parts, whole), "another way was taken"


def test_it_is_turned_upright(picture, small, tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.png", exif=exif)
    turned = read_image(tmp_path / "a.png", (20, 16))
    monkeypatch.setattr(large, "MOST", 10**9)
    whole = read_image(tmp_path / "a.png", (20, 16))
    assert (turned.float() - whole.float()).abs().mean() < 3
    assert (turned.float() - whole.flip(2).float()).abs().mean() > 20


@pytest.mark.parametrize("place", ["before the pixels", "behind them", "nowhere"])
def test_the_whole_is_never_decoded(picture, small, tmp_path, monkeypatch, place):
    """Pillow decodes all pixels to look for EXIF data that may stand behind them."""
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.png", exif=b"" if place == "nowhere" else exif)
    content = (tmp_path / "a.png").read_bytes()
    if place == "behind them":
        start = content.index(b"eXIf") - 4
        end = start + 12 + int.from_bytes(content[start : start + 4], "big")
        last = content.rindex(b"IEND") - 4
        content = content[:start] + content[end:last] + content[start:end] + content[last:]
        (tmp_path / "a.png").write_bytes(content)
    load, most = PngImageFile.load, picture.size[0] * picture.size[1]

    def watched(image):
        assert image.size[0] * image.size[1] < most, "decoded as a whole"
        return load(image)

    monkeypatch.setattr(PngImageFile, "load", watched)
    monkeypatch.setattr(large, "STRIP", 3000)
    made = read_image(tmp_path / "a.png", (20, 16))
    monkeypatch.setattr(large, "MOST", 10**9)
    monkeypatch.setattr(PngImageFile, "load", load)
    assert (made.float() - read_image(tmp_path / "a.png", (20, 16)).float()).abs().mean() < 3


def test_what_cannot_be_read_in_parts_is_refused(picture, small, tmp_path):
    picture.save(tmp_path / "a.jpg", progressive=True)
    picture.save(tmp_path / "a.bmp")
    Image.fromarray(np.full((200, 200), 40_000, dtype=np.uint16)).save(tmp_path / "deep.png")
    for name, told in (("a.jpg", "progressive JPEG"), ("a.bmp", "BMP"), ("deep.png", "16 bits")):
        with pytest.raises(ValueError, match=told):
            read_image(tmp_path / name, (16, 16))
    picture.save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="at a smaller size only"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("damage", ["cut", "flipped", "short"])
def test_damaged_ones_are_told(picture, small, tmp_path, damage):
    path = tmp_path / "a.png"
    picture.save(path)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "flipped":
        content[len(content) // 2] ^= 0x10
    else:
        content[19] ^= 1  # one row more than there are
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"cut short|damaged"):
        read_image(path, (16, 16))


def test_one_large_picture_is_decoded_at_a_time(monkeypatch, tmp_path, picture):
    monkeypatch.setattr(reading, "ALONE", 10)
    picture.save(tmp_path / "a.png")
    seen = []
    monkeypatch.setattr(
        reading, "_as_rgb", lambda image, _: seen.append(reading._LARGE.locked()) or image.convert("RGB")
    )
    read_image(tmp_path / "a.png", (8, 8))
    assert seen == [True]
    assert not reading._LARGE.locked()
