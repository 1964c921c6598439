"""Image files of every depth and mode, with pixel values worked out by hand."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from gan_lib.data import find_images, read_image, read_images


def png(values, significant=()):
    """A PNG file of 16 bits: (H, W) grey, (H, W, 2) with transparency, (H, W, 3) or (H, W, 4) colours."""
    values = np.asarray(values)
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[1 if values.ndim == 2 else values.shape[2]]

    def chunk(name, content):
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    bits = chunk(b"sBIT", bytes(significant)) if significant else b""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = chunk(b"IHDR", header) + bits + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def tiff(values, kind=np.uint16, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, np.asarray(values, dtype=kind), **options)
    return file.getvalue()


def twelve_bits():
    """BitsPerSample 12, two pixels packed in three bytes: 0xFFF and 0x800."""
    image = bytearray(tiff([[0, 0]]))
    at = image.index(struct.pack("<HHI", 258, 3, 1))  # the tag, its type, how many
    struct.pack_into("<H", image, at + 8, 12)
    image[-4:] = b"\xff\xf8\x00\x00"
    return bytes(image)


def pixels(path, content, **options):
    path.write_bytes(content)
    height, width = Image.open(path).size[::-1]
    return read_image(path, (height, width), **options)


GREY = [[0, 3000, 65535]]  # 3000 * 255 / 65535 = 11.67
DARK = [[0, 3000, 4095]]  # of 4095: 0, 186.8, 255
COLOURS = [[[0, 3000, 65535], [1000, 2000, 256]]]
MAX_4095 = {"extratags": [(281, 3, 1, 4095, True)]}
READ = {
    "grey PNG": (png(GREY), {}, [[0, 12, 255]]),
    "grey TIFF": (tiff(GREY), {}, [[0, 12, 255]]),
    "big-endian TIFF": (tiff(GREY, byteorder=">"), {}, [[0, 12, 255]]),
    "TIFF where white is zero": (tiff(GREY, photometric="miniswhite"), {}, [[255, 243, 0]]),
    "12 bits given": (png(DARK), {"bits": 12}, [[0, 187, 255]]),
    "16 bits given": (png(DARK), {"bits": 16}, [[0, 12, 16]]),
    "14 bits given": (tiff([[0, 8191, 16383]]), {"bits": 14}, [[0, 127, 255]]),
    "12 bits in an sBIT chunk": (png(DARK, [12]), {}, [[0, 187, 255]]),
    "12 bits in an sBIT chunk, scaled to 16": (png(GREY, [12]), {}, [[0, 12, 255]]),
    "12 bits by MaxSampleValue": (tiff(DARK, **MAX_4095), {}, [[0, 187, 255]]),
    "12 bits by a MaxSampleValue that is in the image": (
        tiff([[0, 3000]], extratags=[(281, 3, 1, 3000, True)]),
        {},
        [[0, 187]],
    ),
    "16 bits by MaxSampleValue": (tiff(DARK, extratags=[(281, 3, 1, 65535, True)]), {}, [[0, 12, 16]]),
    "a bit depth given goes before the one stated": (tiff(DARK, **MAX_4095), {"bits": 16}, [[0, 12, 16]]),
    "12 bits by BitsPerSample": (twelve_bits(), {}, [[255, 128]]),
    "PGM of 4095": (b"P5 3 1 4095 " + np.array(DARK, ">u2").tobytes(), {}, [[0, 187, 255]]),
    "PGM of 65535": (b"P5 3 1 65535 " + np.array(DARK, ">u2").tobytes(), {}, [[0, 12, 16]]),
    "black of any depth": (png([[0, 0]]), {}, [[0, 0]]),
    "int32": (tiff(GREY, np.int32), {}, [[0, 12, 255]]),
    "uint32 of 20 bits": (tiff([[0, 2**20 - 1]], np.uint32), {"bits": 20}, [[0, 255]]),
    "int16": (tiff([[0, 16384, 32767]], np.int16), {}, [[0, 64, 127]]),
    "float": (tiff([[0, 0.25, 1]], np.float32), {}, [[0, 64, 255]]),
    "float where white is zero": (tiff([[0, 0.25]], np.float32, photometric="miniswhite"), {}, [[255, 191]]),
}


@pytest.mark.parametrize(("content", "options", "expected"), READ.values(), ids=READ)
def test_grey_files_of_more_than_8_bits(tmp_path, content, options, expected):
    read = pixels(tmp_path / "image", content, **options)
    assert torch.equal(read, torch.tensor(expected, dtype=torch.uint8).expand(3, -1, -1))


COLOUR_FILES = {
    "PNG": (png(COLOURS), {}),
    "PNG with transparency": (png(np.insert(COLOURS, 3, 65535, axis=2)), {}),
    "TIFF": (tiff(COLOURS, photometric="rgb"), {}),
    "big-endian TIFF": (tiff(COLOURS, photometric="rgb", byteorder=">"), {}),
    "compressed TIFF": (tiff(COLOURS, photometric="rgb", compression="zlib"), {}),
}


@pytest.mark.parametrize(("content", "options"), COLOUR_FILES.values(), ids=COLOUR_FILES)
def test_colours_of_16_bits(tmp_path, content, options):
    read = pixels(tmp_path / "image", content, **options)
    assert read.permute(1, 2, 0).tolist() == [[[0, 12, 255], [4, 8, 1]]]  # 1000 / 257 = 3.9, 2000 / 257 = 7.8


@pytest.mark.parametrize("make", [lambda rgb: png(rgb), lambda rgb: tiff(rgb, photometric="rgb")])
def test_colours_of_12_bits_keep_their_low_bytes(tmp_path, make):
    """Pillow keeps the high byte of 16, of 12 bits four: 2000 and 2040 would be alike, both 7 * 256."""
    rgb = [[[0, 2000, 2040], [4095, 2047, 1]]]
    read = pixels(tmp_path / "image", make(rgb), bits=12)
    assert read.permute(1, 2, 0).tolist() == [[[0, 125, 127], [255, 127, 0]]]
    opened = Image.open(io.BytesIO(make(rgb)))
    assert torch.equal(read_images(opened, (1, 2), bits=12)[0] * 255, read.float())


def test_grey_with_transparency_of_16_bits(tmp_path):
    content = png([[[65535, 0], [32768, 65535]]])
    assert pixels(tmp_path / "image", content)[0].tolist() == [[255, 128]]
    with pytest.raises(ValueError, match="only the high bytes can be read, not 12 bits"):
        read_image(tmp_path / "image", (1, 2), bits=12)


REFUSED = {
    "10 bits": (
        png([[0, 1023]]),
        {},
        "reach 1023 of 65535: it may have 10 bits, or 16 .*pass bits=10 or bits=16",
    ),
    "12 bits": (tiff(DARK), {}, "reach 4095 .* 12 bits"),
    "14 bits": (png([[0, 16383]]), {}, "14 bits, or 16 and be dark"),
    "12 bits in colours": (png([[[0, 3000, 4095]]]), {}, "reach 4095 .* 12 bits"),
    "a MaxSampleValue that is exceeded": (tiff([[0, 9000]], **MAX_4095), {}, "reach 9000 .* 14 bits"),
    "int32 of 12 bits": (tiff(DARK, np.int32), {}, "reach 4095 .* 12 bits"),
    "int32 beyond 16 bits": (tiff([[0, 70000]], np.int32), {}, "reach 70000, beyond 16 bits"),
    "negative int32": (tiff([[-5, 70]], np.int32), {}, "go from -5 to 70"),
    "negative int16": (tiff([[-5, 70]], np.int16), {}, "go from -5 to 70"),
    "uint32 beyond 31 bits": (tiff([[0, 2**31]], np.uint32), {}, "go from -2147483648"),
    "signed bytes": (tiff([[-5, 70]], np.int8), {}, "signed bytes"),
    "fewer bits than needed": (png(GREY), {"bits": 12}, "reach 65535, but with bits=12 white is 4095"),
    "no bits": (png(GREY), {"bits": 0}, "bits must be 1 to 32, not 0"),
    "float of 0..255": (tiff([[0, 254.5]], np.float32), {}, r"from 0 to 254\.5: .*divide by 255"),
    "normalised float": (tiff([[-2.1, 2.6]], np.float32), {}, r"from -2\.1 to 2\.6: they look normalised"),
    "NaN": (tiff([[0, np.nan]], np.float32), {}, "it has NaN or infinite values, 1 of 2"),
    "float64": (tiff([[0.0, 1.0]], np.float64), {}, "a kind that Pillow does not read; save it with 8 or 16"),
    "colours in planes": (
        tiff(np.moveaxis(COLOURS, 2, 0), photometric="rgb", planarconfig="separate"),
        {},
        "separate planes",
    ),
    "colours in compressed planes": (
        tiff(np.moveaxis(COLOURS, 2, 0), photometric="rgb", planarconfig="separate", compression="zlib"),
        {},
        "separate planes",
    ),
    "nothing": (b"", {}, "the file is empty"),
    "text": (b"no picture at all", {}, "no image format that is known"),
    "half a PNG": (png(np.random.default_rng(0).integers(0, 60000, (40, 40)))[:900], {}, "truncated|broken"),
    "a header of a PNG": (png(GREY)[:20], {}, "Truncated"),
}


@pytest.mark.parametrize(("content", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_known_is_refused(tmp_path, content, options, message):
    path = tmp_path / "image.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"cannot read .*image\.png as an image: .*({message})"):
        read_image(path, (1, 3), **options)
    with pytest.raises(ValueError, match=message):
        read_images(str(path), (1, 3), **options)


def test_what_is_no_file_is_said(tmp_path):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    for name, message in (
        ("folder", "it is a folder"),
        ("link", "a link to what is not there"),
        ("gone", "no such file"),
    ):
        with pytest.raises(ValueError, match=message):
            read_image(tmp_path / f"{name}.png", (4, 4))


PALETTE = Image.new("P", (1, 1), 1)
PALETTE.putpalette([9, 9, 9, 200, 100, 50])
MODES = {
    "1": (Image.new("1", (1, 1), 1), {}, [255, 255, 255]),
    "L": (Image.new("L", (1, 1), 77), {}, [77, 77, 77]),
    "LA": (Image.new("LA", (1, 1), (77, 3)), {}, [77, 77, 77]),
    "RGBA, all of it transparent": (Image.new("RGBA", (1, 1), (10, 20, 30, 0)), {}, [10, 20, 30]),
    "P": (PALETTE, {}, [200, 100, 50]),
    "P with a transparent colour": (PALETTE, {"transparency": 1}, [200, 100, 50]),
    "P with transparencies": (PALETTE, {"transparency": b"\xff\x00"}, [200, 100, 50]),
    # without black, white less the ink; then black takes its share: (255 - 51) * (1 - 0.4) = 122.4
    "CMYK": (Image.new("CMYK", (1, 1), (51, 0, 255, 0)), {}, [204, 255, 0]),
    "CMYK with black": (Image.new("CMYK", (1, 1), (102, 0, 0, 51)), {}, [122, 204, 204]),
}


@pytest.mark.parametrize(("image", "options", "expected"), MODES.values(), ids=MODES)
def test_modes_of_8_bits(tmp_path, image, options, expected):
    path = tmp_path / ("image.tif" if image.mode in ("CMYK", "LA") else "image.PNG")
    image.save(path, **options)
    assert read_image(path, (1, 1)).flatten().tolist() == expected
    assert (read_images(Image.open(path), 1) * 255).round().flatten().tolist() == expected


@pytest.mark.parametrize("kind", ["gif", "tif"])
def test_of_several_frames_the_first_is_read(tmp_path, kind):
    frames = [Image.new("L", (2, 2), shade) for shade in (40, 80, 120)]
    frames[0].save(tmp_path / f"many.{kind}", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / f"many.{kind}", (2, 2)).unique().tolist() == [40]


@pytest.mark.parametrize("mode", ["L", "I;16", "RGB"])
def test_images_of_any_depth_are_turned_upright(tmp_path, mode):
    """Orientation 6 is to be turned clockwise by a quarter: the left column comes to be the first row."""
    white = 255 if mode != "I;16" else 65535
    image = Image.fromarray(np.array([[0, white], [0, white]], np.uint8 if white == 255 else np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    (image.convert("RGB") if mode == "RGB" else image).save(tmp_path / "turned.png", exif=exif)
    assert read_image(tmp_path / "turned.png", (2, 2))[0].tolist() == [[0, 0], [255, 255]]


GIVEN = {
    "0..255": (np.full((4, 4), 255.0), r"from 255 to 255: they look like 0\.\.255; divide by 255"),
    "normalised": (
        torch.linspace(-2.1, 2.6, 48).view(3, 4, 4),
        r"from -2\.1 to 2\.6: they look normalised; undo",
    ),
    "in [-1, 1]": (torch.linspace(-1, 1, 48).view(3, 4, 4), r"look normalised; undo it, \(values \+ 1\) / 2"),
    "overshoot": (
        torch.linspace(-0.01, 1.02, 48).view(3, 4, 4),
        r"from -0\.01 to 1\.02: .*clip them to \[0, 1\]",
    ),
    "16 bits": (np.full((4, 4), 40000.0), "divide by the number that is white, such as 65535"),
    "NaN": (torch.tensor([[0.5, torch.nan]]), "NaN or infinite values, 1 of 2"),
    "int64": (np.zeros((4, 4), np.int64), "not torch.int64; make those of 0..255 uint8"),
    "uint16": (np.zeros((4, 4), np.uint16), "not torch.uint16; .*divide those of 16 bits by 65535"),
    "a PIL image": (Image.fromarray(np.full((4, 4), 300.0, np.float32)), "from 300 to 300: divide"),
}


@pytest.mark.parametrize(("given", "message"), GIVEN.values(), ids=GIVEN)
def test_arrays_are_refused_by_what_they_look_like(given, message):
    with pytest.raises(ValueError, match=rf"item 1.*({message})"):
        read_images([np.zeros((4, 4)), given], 4)


def test_true_and_false_are_white_and_black():
    given = np.array([[True, False]])
    for own in (given, torch.from_numpy(given)):
        assert read_images(own, (1, 2))[0, 0].tolist() == [[1, 0]]


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", "__MACOSX", ".cache"])
def test_hidden_files_are_never_found(tmp_path, hidden):
    for name in ("a.png", "inner/B.JPG", f"{hidden}/c.png", f"inner/{hidden}/d.png", "._a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2)).save(tmp_path / name)
    assert [name.as_posix() for _, name in find_images([tmp_path])] == ["a.png", "inner/B.JPG"]
    assert len(read_images(f"{tmp_path}/**/*.png", 2)) == 1
    assert len(read_images(f"{tmp_path}/{hidden}/*.png", 2)) == 1  # asked for by its name
    assert [name.name for _, name in find_images([tmp_path / hidden])] == ["c.png"]


def test_linked_folders_are_searched_and_circles_are_not(tmp_path):
    Image.new("L", (2, 2)).save(tmp_path / "a.png")
    (tmp_path / "elsewhere").mkdir()
    Image.new("L", (2, 2)).save(tmp_path / "elsewhere" / "b.png")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "photos")
    (tmp_path / "photos" / "self.png").symlink_to("self.png")
    assert [name.as_posix() for _, name in find_images([tmp_path / "photos"])] == ["linked/b.png"]
