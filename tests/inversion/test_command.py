"""``gan-lib invert``: pictures, table, boxes, and what is wrong in one line."""

from __future__ import annotations

import shlex
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import gan_lib
from gan_lib.cli import app
from gan_lib.data import Annotation, read_image, save_boxes
from gan_lib.inversion import GuidedInversion, blurred
from gan_lib.workbench.inverted import PICTURES, Inverting, box_table, boxes_to_find, invert_images

NET = """
import torch
from torch import nn


def make():
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU())
    return nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)).eval()
"""
CALL = "--model net.py:make --image-size 24 --classes a,n01_b,c"


def invoke(arguments):
    return CliRunner().invoke(app, shlex.split(arguments))


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)
    (tmp_path / "photos/deep").mkdir(parents=True)
    coarse = np.random.default_rng(0).integers(0, 255, (3, 5, 6, 3)).astype(np.uint8)
    for name, pixels in zip(("x.png", "deep/y.png", "x.bmp"), coarse, strict=True):
        Image.fromarray(pixels).resize((48, 24)).save(tmp_path / "photos" / name)
    return tmp_path / "photos"


def net():
    space: dict = {}
    exec(NET, space)
    with warnings.catch_warnings(action="ignore"):  # of ImageNet's mean
        return gan_lib.wrap(space["make"](), class_names=("a", "n01_b", "c"), image_size=(24, 24))


def picture(path):
    return torch.from_numpy(np.array(Image.open(path))).float() / 255


def test_five_pictures_and_a_row_per_image(photos):
    (photos / "broken.png").write_text("no picture")
    done = invoke(f"invert photos {CALL} --class n01_bb --out out")
    assert done.exit_code == 2
    assert "no class 'n01_bb'; did you mean 'n01_b'" in done.output
    assert not Path("out").exists()
    done = invoke(f"invert photos {CALL} --class n01_b --out out")
    assert done.exit_code == 0, done.output
    assert "3 images inverted, 1 skipped" in done.output
    assert "broken.png: cannot read" in done.output
    table = pd.read_csv("out/inversion.csv")
    assert sorted(table["name"]) == ["deep/y", "x_bmp", "x_png"]
    assert set(table["class"]) == {"n01_b"}
    made = sorted(path.relative_to("out").as_posix() for path in Path("out").rglob("*.png"))
    assert made == sorted(f"{kind}/{name}.png" for kind in PICTURES for name in table["name"])
    row, cnn = table[table["name"] == "x_png"].iloc[0], net()
    images = read_image(photos / "x.png", (24, 24))[None].float() / 255
    inversion = GuidedInversion(cnn)
    base = inversion.base(images)
    first = inversion.saliency(base)
    second = inversion.discriminate(base, first, 1)
    pixels = {kind: picture(f"out/{kind}/x_png.png") for kind in PICTURES}
    assert torch.allclose(pixels["mask"], first.masks[0, 0], atol=0.02)
    assert torch.allclose(pixels["background_mask"], 1 - first.masks[0, 0], atol=0.02)
    assert torch.allclose(pixels["class_mask"], second.masks[0, 0], atol=0.02)
    assert torch.allclose(pixels["blurred"], blurred(images)[0].permute(1, 2, 0), atol=0.02)
    assert pixels["heat_map"].shape == (24, 24, 3)
    with torch.no_grad():
        own = cnn(images).softmax(1)[0]
        inside = cnn(images * second.masks + base.hidden * (1 - second.masks)).softmax(1)[0, 1]
        left = cnn(images * (1 - first.masks) + base.hidden * first.masks).softmax(1)[0, 1]
    assert row["class_probability"] == pytest.approx(own[1].item(), abs=1e-3)
    assert row["probability"] == pytest.approx(own.max().item(), abs=1e-3)
    assert row["foreground_2"] == pytest.approx(inside.item(), abs=2e-3)
    assert row["background_1"] == pytest.approx(left.item(), abs=2e-3)
    assert row["area"] == pytest.approx(second.masks.mean().item(), abs=5e-3)


def test_a_folder_that_has_pictures_already(photos):
    assert invoke(f"invert photos {CALL} --out photos/out").exit_code == 0
    again = invoke(f"invert photos {CALL} --out photos/out")
    assert again.exit_code == 2
    assert "inversion.csv is there already" in again.output
    again = invoke(f"invert photos {CALL} --out photos/out --overwrite --published")
    assert again.exit_code == 0, again.output
    assert "3 images inverted" in again.output  # not the pictures of masks


def annotate(folder, name, boxes, names, size=(24, 48)):
    save_boxes(folder / f"{name}.xml", Annotation(torch.tensor(boxes, dtype=torch.float32), names, size))


def test_boxes(photos, tmp_path):
    """The picture's middle 24 x 24 is seen as it is: a box of 12 + the found one is the found one."""
    assert invoke(f"invert photos/x.png {CALL} --class a --out first").exit_code == 0
    found = pd.read_csv("first/inversion.csv")[["left", "top", "right", "bottom"]].iloc[0].tolist()
    shifted = [found[0] + 12, found[1], found[2] + 12, found[3]]
    half = [shifted[0], found[1], (shifted[0] + shifted[2]) // 2, found[3]]
    annotate(tmp_path / "boxes", "x", [half, shifted], ("n01", "a"))
    arguments = f"invert photos/x.png photos/deep/y.png {CALL} --boxes boxes"
    done = invoke(f"{arguments} --class a --out second")
    assert done.exit_code == 0, done.output
    table = pd.read_csv("second/inversion.csv").set_index("name")
    assert table.loc["x", "iou"] == 1.0
    assert table.loc["x", "objects"] == 1
    assert np.isnan(table.loc["y", "iou"])
    thresholds = pd.read_csv("second/boxes.csv").set_index("alpha")
    assert thresholds.loc[1.0, "iou"] == 1.0
    assert thresholds["n"].eq(1).all()
    assert "IoU of 1 boxes at 1 means (asked): 1.000" in done.output
    # The other class's name begins with the other object's, which is half as wide.
    assert boxes_to_find(Annotation(torch.arange(8.0).view(2, 4), ("n01", "a")), "n01_b").tolist() == [
        [0, 1, 2, 3]
    ]
    assert boxes_to_find(Annotation(torch.arange(8.0).view(2, 4), ("", "a")), "c").shape == (2, 4)
    annotate(tmp_path / "boxes", "x", [half], ("d",))
    assert invoke(f"{arguments} --class a --out third").exit_code == 0
    expected = (half[2] - half[0]) / (shifted[2] - shifted[0])
    assert pd.read_csv("third/inversion.csv")["iou"][0] == pytest.approx(expected, abs=1e-4)


def test_boxes_that_do_not_fit_are_told_of(photos, tmp_path):
    annotate(tmp_path / "boxes", "x", [[0, 0, 5, 5]], ("a",))  # left of what is seen
    annotate(tmp_path / "boxes", "y", [[0, 0, 5, 5]], ("a",), size=(30, 30))
    done = invoke(f"invert photos/x.png photos/deep/y.png {CALL} --boxes boxes --out out")
    assert done.exit_code == 0, done.output
    assert "x.xml has none within the cropped picture" in done.output
    assert "is of a picture of 30x30 pixels, the picture has 48x24" in done.output
    assert pd.read_csv("out/inversion.csv")["iou"].isna().all()
    assert not Path("out/boxes.csv").exists()


WRONG = [
    ("nowhere.png", "nowhere.png is neither an image nor a folder"),
    ("photos --class 7", "no class '7'; there are 3 classes, numbered 0 to 2"),
    ("photos --layer 0.9", "0.9"),
    ("photos --layer backbone.2", "a mask needs"),
    ("photos --boxes nowhere", "nowhere is no folder"),
    ("photos --boxes photos", "photos: no annotation there is called as an image is"),
    ("photos --alpha -1", "--alpha"),
    ("photos --out net.py", "--out net.py is a file"),
    ("photos --device gpu", "a device is auto"),
]


@pytest.mark.parametrize(("arguments", "told"), WRONG)
def test_what_is_wrong_is_told_in_one_line(photos, arguments, told):
    done = invoke(f"invert {arguments} {CALL}")
    assert done.exit_code == 2, done.output
    errors = [line for line in done.output.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert told in errors[0]
    assert not Path("inverted").exists()


def test_nothing_that_can_be_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)
    Path("a.png").write_text("no picture")
    done = invoke(f"invert a.png {CALL}")
    assert done.exit_code == 1
    assert "nothing was inverted, 1 image skipped" in done.output
    assert not Path("inverted").exists()


def test_many_images_are_inverted_as_one_is(photos, tmp_path):
    for number in range(10):
        Image.effect_noise((24, 24), 10 * number + 20).convert("RGB").save(photos / f"{number}.png")
    found = [(path, Path(path.name)) for path in sorted(photos.glob("*.png"))]
    together = invert_images(found, net(), Inverting((24, 24), 0), tmp_path / "all")
    alone = invert_images(found[9:10], net(), Inverting((24, 24), 0), tmp_path / "one")
    assert len(together.rows) == 11
    (row,) = [own for own in together.rows if own["name"] == "9"]
    assert row["foreground_2"] == pytest.approx(alone.rows[0]["foreground_2"], abs=5e-3)


def test_the_table_of_thresholds():
    scores = pd.DataFrame(
        {"alpha": [1.0, 1.0, 2.0, 2.0], "image": ["a", "b"] * 2, "seed": 0, "iou": [0.2, 0.6, 0.5, 0.9]}
    ).assign(error=[100.0, 0.0, 0.0, 0.0])
    table = box_table(scores).set_index("alpha")
    assert table["iou"].tolist() == pytest.approx([0.4, 0.7])
    assert table["error"].tolist() == [50.0, 0.0]
    assert (table["low"] <= table["iou"]).all()
    assert (table["iou"] <= table["high"]).all()
