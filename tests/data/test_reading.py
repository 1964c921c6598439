from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gan_lib.data import find_images, read_image, read_images


@pytest.fixture
def photos(tmp_path):
    """Two files whose left half is red and right half blue, 8 wide and 4 high, and one below, all green."""
    picture = np.zeros((4, 8, 3), dtype=np.uint8)
    picture[:, :4, 0] = picture[:, 4:, 2] = 255
    (tmp_path / "inner").mkdir()
    for name in ("b.png", "a.png"):
        Image.fromarray(picture).save(tmp_path / name)
    Image.new("RGB", (6, 6), (0, 255, 0)).save(tmp_path / "inner" / "c.bmp")
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def colours(images):
    return [tuple(colour) for colour in images.mean((2, 3)).mul(4).round().long().tolist()]  # quarters


def test_files_folders_and_patterns(photos, monkeypatch):
    split, green = (2, 0, 2), (0, 4, 0)
    assert read_images(photos / "a.png", 4).shape == (1, 3, 4, 4)
    assert colours(read_images(str(photos / "*.png"), 4)) == [split, split]
    assert colours(read_images(photos, 4)) == [split, split, green]
    assert colours(read_images(f"{photos}/**/*.bmp", 4)) == [green]
    assert colours(read_images([photos / "inner", str(photos / "a.png")], (4, 6))) == [green, split]
    assert colours(read_images((photos / "inner").iterdir(), 2)) == [green]
    monkeypatch.setenv("HOME", str(photos))
    assert len(read_images("~/inner", 4)) == 1
    Image.new("L", (4, 4), 255).save(photos / "B.png")
    white = (4, 4, 4)
    assert colours(read_images(str(photos / "*.png"), 4)) == [white, split, split]  # in the order of names
    odd = photos / "[x]*.png"  # a file of that name comes before the pattern
    (photos / "a.png").rename(odd)
    assert colours(read_images(str(odd), 4)) == [split]


def test_the_middle_is_kept_and_nothing_is_stretched(photos):
    """Of an image 8 wide and 4 high the middle 4 columns: two red ones, two blue ones."""
    expected = torch.zeros(1, 3, 4, 4)
    expected[:, 0, :, :2] = expected[:, 2, :, 2:] = 1
    array = np.asarray(Image.open(photos / "a.png"))
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    for given in (photos / "a.png", Image.open(photos / "a.png"), array, array / 255.0, tensor, tensor / 255):
        assert torch.equal(read_images(given, 4), expected)
    tall = read_images(array, (4, 2))
    assert torch.equal(tall[0, 0], torch.tensor([[1.0, 0.0]] * 4))
    thin = read_images(np.zeros((1, 300)), (300, 300))  # a strip of no height at that aspect keeps a pixel
    assert thin.shape == (1, 3, 300, 300)


def test_arrays_and_tensors_of_every_form():
    ramp = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    grey = read_images(ramp, 4)
    assert torch.equal(grey, torch.from_numpy(ramp).expand(1, 3, 4, 4))
    colour = np.stack([ramp, ramp**2, ramp**3], axis=2)  # (4, 4, 3)
    expected = torch.from_numpy(colour).permute(2, 0, 1)[None]
    see_through = np.concatenate([colour, np.zeros((4, 4, 1), np.float32)], axis=2)
    tensor = expected[0].clone().requires_grad_()
    for given in (colour, colour[None], see_through, tensor, tensor[None], [colour], (Path(), colour)[1:]):
        assert torch.equal(read_images(given, 4), expected)
    for given in (ramp[:, :, None], torch.from_numpy(ramp), torch.from_numpy(ramp)[None]):
        assert torch.equal(read_images(given, 4), grey)
    assert torch.equal(read_images(colour[:, ::-1], 4), expected.flip(3))  # negative strides
    assert torch.equal(read_images([colour, ramp], 4), torch.cat([expected, grey]))
    assert read_images(np.float64(ramp), 4).dtype == torch.float32
    assert not read_images(tensor, 4).requires_grad


def test_arrays_are_made_smaller_as_files_are(tmp_path):
    """All average over what a pixel covers: bytes give what the file gives, floats nearly so."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    file = read_images(tmp_path / "noise.png", 10)
    assert torch.equal(file, read_images(noise, 10))
    assert torch.equal(file, read_images(torch.from_numpy(noise).permute(2, 0, 1), 10))
    difference = (file - read_images(noise / 255, 10)).abs()
    assert difference[..., 1:-1].max() < 1 / 255
    assert difference.max() < 8 / 255  # at the edges of the part kept Pillow looks beyond them
    assert torch.equal(file[0] * 255, read_image(tmp_path / "noise.png", (10, 10)).float())


def test_a_turned_photograph_is_turned_back(tmp_path):
    picture = Image.fromarray(np.uint8([[0, 255], [0, 255]]))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    picture.save(tmp_path / "turned.png", exif=exif)
    assert read_images(tmp_path / "turned.png", 2)[0, 0].tolist() == [[0, 0], [1, 1]]


def test_errors_name_what_is_wrong(photos):
    good = np.zeros((4, 4))
    wrong = [
        (photos / "nothing.png", FileNotFoundError, r"nothing\.png is neither"),
        (f"{photos}/*.jpg", FileNotFoundError, r"no image in .*\*\.jpg"),
        ([], ValueError, "no images were given"),
        ([good, photos / "notes.txt"], ValueError, r"cannot read .*notes\.txt"),
        ([good, good + 2], ValueError, r"item 1: image 0 has values outside \[0, 1\]"),
        ([good, torch.full((2, 3, 4, 4), torch.nan)], ValueError, "item 1: image 0 has NaN"),
        ([good, np.zeros((3, 4, 5))], ValueError, r"item 1: an array must be .*\(3, 4, 5\)"),
        (torch.zeros(4, 4, 3), ValueError, r"the images: a tensor must be .*\(4, 4, 3\)"),
        (torch.zeros(5), ValueError, "a tensor must be"),
        (np.zeros((4, 4), dtype=np.int64), ValueError, r"uint8 or float in \[0, 1\], not torch.int64"),
        ([good, None], TypeError, "item 1: a picture is a path"),
    ]
    for given, kind, message in wrong:
        with pytest.raises(kind, match=message):
            read_images(given, 4)
    (photos / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no image in .*empty"):
        read_images(photos / "empty", 4)


def test_files_are_found_with_their_names(photos):
    found = [(path.name, name.as_posix()) for path, name in find_images([photos, photos / "notes.txt"])]
    assert found == [
        ("a.png", "a.png"),
        ("b.png", "b.png"),
        ("c.bmp", "inner/c.bmp"),
        ("notes.txt", "notes.txt"),
    ]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        list(find_images([photos / "nowhere"]))
