"""``gan-lib insert``: pictures and tables, or one line that says what is wrong and nothing written."""

from __future__ import annotations

import json
import math
import shlex
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from gan_lib.cli import app, values
from gan_lib.cli.problems import InputError
from gan_lib.data.reading import UnreadableImageError, read_cutout, read_image

NETS = Path(__file__).with_name("reporting") / "nets.py"
CNN = "--model nets.py:colours --class-names red,green,blue --image-size 32 --mean 0,0,0 --std 1,1,1"
ASKED = "--crop red.png --into photos --classes red,green"


@pytest.fixture
def photos(here):
    """Five photographs with a green square, in two folders, a red crop, and a CNN that sees mean colours."""
    shutil.copy(NETS, here / "nets.py")
    (here / "photos/more").mkdir(parents=True)
    for number in range(5):
        pixels = np.zeros((32, 40, 3), dtype=np.uint8)
        pixels[4:14, 6 + number : 16 + number, 1] = 255
        Image.fromarray(pixels).save(here / "photos" / ("more" if number > 2 else "") / f"{number}.png")
    Image.new("RGB", (14, 9), (255, 0, 0)).save(here / "red.png")
    return here / "photos"


def invoke(arguments):
    return CliRunner().invoke(app, shlex.split(f"insert {arguments}"))


def inserted(arguments, out="inserted"):
    done = invoke(arguments)
    assert done.exit_code == 0, done.output
    summary = pd.read_csv(Path(out) / "summary.csv").set_index(["class", "what"])
    return done, summary, pd.read_csv(Path(out) / "images.csv")


def pixels_of(path):
    with Image.open(path) as picture:
        return np.array(picture)


def test_pictures_and_tables(photos, here):
    done, summary, rows = inserted(f"{ASKED} {CNN}")
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == "a crop of 9x14 pixels in 5 images"
    assert lines[1].split() == ["red", "green"]
    assert [line.split("  ")[0] for line in lines[2:8]] == list(summary.loc["red"].index)
    assert lines[-1] == "folders: inserted/pasted, inserted/control"
    names = ["0.png", "1.png", "2.png", "more/3.png", "more/4.png"]
    assert rows["name"].tolist() == names
    assert rows["image"].tolist() == [f"photos/{name}" for name in names]
    assert set(rows["prediction"]) == {"green"}
    assert set(rows["prediction_control"]) == {"green"}
    assert set(rows["prediction_pasted"]) == {"red"}, "126 of 1024 pixels are red, 100 green"
    for row in rows.to_dict("records"):
        seen = read_image(row["image"], (32, 32)).permute(1, 2, 0).numpy()
        for kind, colour in (("pasted", [255, 0, 0]), ("control", [0, 0, 0])):
            picture = pixels_of(here / "inserted" / kind / row["name"])
            place = (slice(row["top"], row["top"] + 9), slice(row["left"], row["left"] + 14))
            assert (picture[place] == colour).all()
            picture[place] = seen[place]
            assert np.array_equal(picture, seen), "elsewhere it is the image as the CNN sees it"
            assert not seen[place][..., 1].any(), "the green square is not hidden"
    gain = rows["red: pasted"] - rows["red: control"]
    assert summary.loc[("red", "pasted - control"), "mean"] == pytest.approx(gain.mean(), abs=1e-6)
    half = 2.776 * gain.std() / math.sqrt(5)  # Student's t with four degrees of freedom
    low = max(gain.mean() - half, gain.min())  # no mean lies outside of what there is
    assert summary.loc[("red", "pasted - control"), "low"] == pytest.approx(low, abs=1e-4)
    assert summary.loc[("green", "pasted"), "mean"] < summary.loc[("green", "control"), "mean"]
    about = json.loads((here / "inserted/insert.json").read_text())
    assert about["classes"] == ["red", "green"]
    assert (about["control"], about["colour"], about["crop"]) == ("black", [0, 0, 0], [9, 14])


def test_size_place_control_and_classes_by_number(photos, here):
    """Half of 32 pixels for the longer side; the mean that the CNN takes for 0; a transparent crop."""
    cutout = Image.new("RGBA", (24, 12), (0, 0, 255, 255))
    cutout.putpixel((0, 0), (0, 0, 255, 0))
    cutout.save(here / "cut.png")
    cnn = CNN.replace("--mean 0,0,0", "--mean 0.2,0.4,0.6")
    options = "--classes 2,1 --size 0.5 --at 3,20 --control mean --out there"
    done, summary, rows = inserted(
        f"--crop cut.png --into photos/0.png --into photos/more {options} {cnn}", "there"
    )
    assert done.stdout.startswith("a crop of 8x16 pixels in 3 images\n")
    assert set(summary.index.get_level_values(0)) == {"blue", "green"}
    assert rows[["left", "top"]].drop_duplicates().to_numpy().tolist() == [[3, 20]]
    control, pasted = (pixels_of(here / "there" / kind / "0.png") for kind in ("control", "pasted"))
    assert control[24, 10].tolist() == [51, 102, 153]
    assert pasted[24, 10].tolist() == [0, 0, 255]
    assert 0 < pasted[20, 3, 2] < 255, "there it is transparent in part"
    assert pasted[19, 10].tolist() == pasted[28, 10].tolist() == [0, 0, 0]


def test_what_cannot_be_read_is_skipped_with_the_reason(photos, here):
    (photos / "text.png").write_text("hello")
    (photos / "empty.jpg").write_bytes(b"")
    done, _, rows = inserted(f"{ASKED} {CNN}")
    assert len(rows) == 5
    told = sorted(done.stderr.splitlines())
    assert [line.split(":")[0] for line in told] == ["skipped photos/empty.jpg", "skipped photos/text.png"]
    assert told[0].endswith("the file is empty")
    assert done.stdout.startswith("a crop of 9x14 pixels in 5 images, 2 skipped\n")
    shutil.rmtree(here / "inserted")
    none = invoke(f"--crop red.png --into broken --classes red,green {CNN}")
    assert none.exit_code == 1
    assert none.stderr.splitlines()[-1] == "error: nothing was inserted, 1 image skipped"
    assert not (here / "inserted").exists()


def test_many_images_and_names_that_are_taken(photos, here):
    """More than go through the CNN at once; of a.png and a.jpg there is one a.png."""
    first = Image.open(photos / "0.png")
    for number in range(20):
        first.save(photos / f"more/{number:02}.bmp")
    first.save(photos / "0.bmp")
    _, summary, rows = inserted(f"{ASKED} {CNN}")
    assert len(rows) == 26
    assert rows["name"].is_unique
    assert {"0.png", "0.png.png"} < set(rows["name"])
    assert sum(path.is_file() for path in (here / "inserted/pasted").rglob("*.png")) == 26
    assert set(summary["n"]) == {26}


def test_a_second_run(photos, here):
    """Not into the same folder, unless it is to be overwritten; a folder among the images is not read."""
    inserted(f"{ASKED} {CNN} --out photos/made", "photos/made")
    again = invoke(f"{ASKED} {CNN} --out photos/made")
    assert again.exit_code == 2
    assert "photos/made holds an insertion: take another folder (--out), or overwrite it" in again.stderr
    (photos / "1.png").unlink()
    _, _, rows = inserted(f"{ASKED} {CNN} --out photos/made --overwrite", "photos/made")
    assert len(rows) == 4
    assert not (photos / "made/pasted/1.png").exists()
    (here / "mine").mkdir()
    (here / "mine/images.csv").write_text("my own")
    for more in ("", "--overwrite"):
        done = invoke(f"{ASKED} {CNN} --out mine {more}")
        assert done.exit_code == 2
        assert "mine/images.csv is there already, and not from an insertion" in done.stderr
    assert (here / "mine/images.csv").read_text() == "my own"


WRONG = [
    (f"--into photos --classes red,green {CNN}", "Missing option '--crop'"),
    (f"--crop nowhere.png --into photos --classes red,green {CNN}", "there is no crop nowhere.png"),
    (f"--crop broken/x.png --into photos --classes red,green {CNN}", "cannot read broken/x.png as an image"),
    (f"--crop photos --into photos --classes red,green {CNN}", "it is a folder"),
    (f"--crop clear.png --into photos --classes red,green {CNN}", "transparent everywhere"),
    (f"--crop photo.png --into photos --classes red,green {CNN}", "photo.png is 50x80 pixels, larger"),
    (f"{ASKED} {CNN} --into nowhere", "nowhere is neither an image nor a folder"),
    (f"--crop red.png --into empty --classes red,green {CNN}", "no images in empty"),
    (f"--crop red.png --into photos --classes red {CNN}", "--classes red: give two classes, A,B"),
    (f"--crop red.png --into photos --classes red, {CNN}", "--classes red,: give two classes"),
    (f"--crop red.png --into photos --classes 0,1,2 {CNN}", "--classes 0,1,2: give two classes"),
    (f"--crop red.png --into photos --classes red,gren {CNN}", "no class 'gren'; did you mean 'green'?"),
    (f"--crop red.png --into photos --classes red,7 {CNN}", "no class '7'; there are 3 classes"),
    (f"--crop red.png --into photos --classes red,red {CNN}", "give two classes, both are 'red'"),
    (f"--crop red.png --into photos --classes red,0 {CNN}", "give two classes, both are 'red'"),
    (f"{ASKED} {CNN} --control grey", "--control grey: give black or mean"),
    (f"{ASKED} {CNN} --size 0", "--size 0: give a share"),
    (f"{ASKED} {CNN} --size 1.5", "--size 1.5: give a share"),
    (f"{ASKED} {CNN} --size nan", "--size nan: give a share"),
    (f"{ASKED} {CNN} --size big", "Invalid value for '--size'"),
    (f"{ASKED} {CNN} --at 3", "--at 3: give pixels"),
    (f"{ASKED} {CNN} --at=-1,2", "--at -1,2: give pixels"),
    (f"{ASKED} {CNN} --at 25,0", "a crop of 9x14 pixels at 25,0 sticks out of images of 32x32"),
    (f"{ASKED} {CNN} --out taken", "--out taken is a file: give a folder"),
    (f"{ASKED} {CNN} --device abacus", "not 'abacus'"),
    (f"{ASKED} {CNN.replace('red,green,blue', 'red,red,blue')}", "--class-names red,red,blue: names appear"),
    (f"{ASKED} {CNN.replace('colours', 'flat')}", "has places"),
]


@pytest.mark.parametrize(("arguments", "told"), WRONG, ids=[told for _, told in WRONG])
def test_a_mistake_is_told_in_one_line_and_nothing_is_written(photos, here, arguments, told):
    Image.new("RGBA", (5, 5), (255, 0, 0, 0)).save(here / "clear.png")
    before = sorted(path for path in here.rglob("*") if "__pycache__" not in path.parts)
    done = invoke(arguments)
    assert done.exit_code == 2, done.output
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.output
    assert told in errors[0]
    assert sorted(path for path in here.rglob("*") if "__pycache__" not in path.parts) == before


def test_points():
    assert values.point(" 20, 4 ", "--at") == (20, 4)
    assert values.point(None, "--at") is None
    for text in ("", "1", "1,2,3", "a,b", "1.5,2", "-1,2"):
        with pytest.raises(InputError, match="--at"):
            values.point(text, "--at")


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "LA", "RGBA"])
def test_cutouts(tmp_path, mode):
    """Of files without opacity all is seen; of a palette one colour may be transparent."""
    image = Image.new("RGBA", (3, 2), (255, 255, 255, 255))
    image.putpixel((2, 1), (0, 0, 0, 0))
    options = {}
    if mode == "P":
        image, options = image.convert("RGB").convert("P"), {"transparency": 0}
        image.putpixel((2, 1), 0)
        image.putpixel((0, 0), 255)
    image.convert(mode).save(path := tmp_path / "cut.png", **options)
    made = read_cutout(path)
    assert (made.shape, made.dtype) == ((4, 2, 3), torch.uint8)
    assert made[3, 1, 2] == (255 if mode in ("RGB", "L") else 0)
    assert made[3, 0, 0] == 255
    path.write_text("no image")
    with pytest.raises(UnreadableImageError, match=r"cut\.png"):
        read_cutout(path)
