"""``gan-lib explain``: what it writes, what it adds to, what it leaves alone."""

from __future__ import annotations

import errno
import io
import os
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from gan_lib import api
from gan_lib.classifiers import load_classifier, save_classifier
from gan_lib.cli import app
from gan_lib.core.storage import load_tensors, save_tensors
from gan_lib.explainers import METHODS, Explainer, Method
from gan_lib.workbench.contact_sheet import GAP, HEAD, SIDE, WORDS
from gan_lib.workbench.explained import COLUMNS, ExplanationFolder

ROOT = Path(__file__).parents[2]


def invoke(arguments):
    return CliRunner().invoke(app, shlex.split(arguments))


def table(out):
    return pd.read_csv(out / "explanations.csv", dtype={"name": str})


def explained(arguments):
    done = invoke(f"explain {arguments}")
    assert done.exit_code == 0, done.output
    return done


def test_several_methods_in_one_run(photos, here):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(photos / "1.png")
    done = explained("photos --method saliency --method edges --out out")
    rows = table(here / "out")
    assert rows["method"].tolist() == ["saliency", "edges", "grad_cam"] * 3
    assert rows["name"].tolist() == [name for name in "012" for _ in range(3)]
    for row in rows.itertuples():
        (area,) = load_tensors(here / "out" / row.method / f"{row.name}.safetensors")["map"].mean((1, 2))
        assert row.area == pytest.approx(float(area), abs=6e-5), "of that method"
    one = rows[rows["name"] == "1"]
    assert one["prediction"].nunique() == 1
    assert one["drop"].nunique() > 1
    assert done.stdout.splitlines() == [
        "3 images explained",
        "table: out/explanations.csv",
        "contact sheet: out/contact_sheet.png",
        "folders: out/inputs, out/saliency, out/edges, out/grad_cam",
    ]


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_second_run_adds_what_is_not_there(photos, here):
    explained("photos/0.png photos/1.png --method edges --out out")
    before = contents(here / "out")
    done = explained(f"photos {photos}/0.png --method saliency --method edges --out out")
    assert done.stdout.startswith("3 images explained\n")
    rows = table(here / "out")
    assert sorted(zip(rows["name"], rows["method"], strict=True)) == [
        (name, method) for name in "012" for method in ("edges", "grad_cam", "saliency")
    ]
    after = contents(here / "out")
    changed = {path.name for path, own in before.items() if after[path] != own}
    assert changed == {"explanations.csv", "explain.json", "contact_sheet.png"}
    table_before = before[here / "out" / "explanations.csv"]
    assert after[here / "out" / "explanations.csv"].startswith(table_before)
    done = explained("photos --method edges --out out")
    assert done.stdout.startswith("0 images explained, 3 there before\n")
    assert (
        contents(here / "out")[here / "out" / "explanations.csv"] == after[here / "out" / "explanations.csv"]
    )


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ("--target 3", 'target was null, now "3: 3"'),
        ("--image-size 32", "image_size was [64, 64], now [32, 32]"),
        ("--mean 0.5,0.5,0.5 --std 0.2,0.2,0.2", "mean was"),
        ("--classes a,b,c,d,e,f,g,h,i,j", "class_names was"),
    ],
)
def test_other_settings_are_refused_or_overwrite(photos, here, other, told):
    explained("photos --method edges --out out")
    (here / "out" / "mine.txt").write_text("stays")
    before = contents(here / "out")
    done = invoke(f"explain photos/1.png --method saliency --out out {other}")
    assert done.exit_code == 2
    assert told in done.stderr
    assert "--overwrite" in done.stderr
    assert contents(here / "out") == before
    explained(f"photos/1.png --method saliency --out out --overwrite {other}")
    assert table(here / "out")["method"].tolist() == ["saliency", "grad_cam"]
    left = {path.name for path in contents(here / "out")}
    maps = {"1.png", "1_overlay.png", "1.safetensors"}
    assert left == {"mine.txt", "explanations.csv", "explain.json", "contact_sheet.png"} | maps


def test_other_weights_are_other_settings(photos, here):
    cnn = load_classifier(ROOT / "data/pretrained/slim_vgg")
    save_classifier(cnn, here / "mine")
    explained("photos --model mine --method edges --out out")
    with torch.no_grad():
        next(cnn.parameters()).mul_(1.01)
    save_classifier(cnn, here / "mine")
    done = invoke("explain photos --model mine --method edges --out out")
    assert done.exit_code == 2
    assert "(weights was " in done.stderr


def test_files_of_another_origin_are_never_written_over(photos, here):
    (here / "inputs").mkdir()
    (here / "inputs" / "0.png").write_bytes((photos / "1.png").read_bytes())
    for place in ("photos", "inputs", "."):
        done = invoke(f"explain {place} --method edges --out .")
        assert done.exit_code == 2
        assert "inputs is there already, and not from such a run" in done.stderr
    assert not (here / "explanations.csv").exists()
    assert (here / "inputs" / "0.png").read_bytes() == (photos / "1.png").read_bytes()


def test_photos_are_explained_where_they_lie(photos, here):
    for _ in range(2):
        explained("photos --method edges --out photos")
        assert table(photos)["image"].tolist() == [f"photos/{n}.png" for n in "012" for _ in "12"]


def test_a_picture_that_has_changed_is_skipped(photos, here):
    explained("photos --method edges --out out")
    Image.new("RGB", (64, 64), (1, 2, 3)).save(photos / "1.png")
    done = explained("photos --method edges --method saliency --out out")
    assert "skipped photos/1.png: it has changed since it was explained there" in done.stderr
    assert done.stdout.startswith("2 images explained, 1 skipped\n")


def stop_at(monkeypatch, name, error, calls=3):
    """The so-manieth map is not written."""
    made = []

    def save(path, tensors, **metadata):
        made.append(path)
        if len(made) == calls:
            raise error
        save_tensors(path, tensors, **metadata)

    monkeypatch.setattr(f"gan_lib.workbench.written.{name}", save)


def test_a_run_that_ends_early_goes_on(photos, here, monkeypatch):
    monkeypatch.setattr("gan_lib.workbench.explain.BATCH", 1)
    explained("photos --method edges --out whole")
    stop_at(monkeypatch, "save_tensors", KeyboardInterrupt())  # of the second image
    done = invoke("explain photos --method edges --out out")
    assert done.exit_code == 130
    stays = "what is explained so far stays in out; the same command goes on"
    assert done.stderr.splitlines()[-2:] == [stays, "error: interrupted"]
    assert table(here / "out")["name"].tolist() == ["0", "0"], "rows follow their files"
    assert not list((here / "out").rglob("*.tmp"))
    with (here / "out" / "explanations.csv").open("a") as file:
        file.write("photos/1.png,1,ed")  # as a kill within a write leaves it
    monkeypatch.undo()
    os.chdir(here)
    done = explained("photos --method edges --out out")
    assert done.stdout.startswith("2 images explained, 1 there before\n")
    assert table(here / "out").equals(table(here / "whole"))


def test_a_full_disk_leaves_the_table_whole(tmp_path, monkeypatch):
    folder = ExplanationFolder(tmp_path, {}, {"edges": ""})
    folder.begin()
    row = dict.fromkeys(COLUMNS, "x")
    folder.append(pd.DataFrame([row]))
    before = (tmp_path / "explanations.csv").read_bytes()

    class Full(io.FileIO):
        def write(self, text):
            if len(text) <= 9:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(text[:9])

    monkeypatch.setattr(Path, "open", lambda self, mode, buffering: Full(self, mode.replace("b", "")))
    with pytest.raises(OSError, match=r"disk is full: more than 18 bytes are needed, \d+ are free"):
        folder.append(pd.DataFrame([row]))
    monkeypatch.undo()
    assert (tmp_path / "explanations.csv").read_bytes() == before


def test_what_is_made_is_not_explained(photos, here):
    """Not the output folder, nor that of another run, nor what is hidden."""
    for hidden in (".hidden.png", ".ipynb_checkpoints/0-checkpoint.png", "__MACOSX/0.png", "deep/.git/x.png"):
        (photos / hidden).parent.mkdir(parents=True, exist_ok=True)
        (photos / hidden).write_bytes((photos / "0.png").read_bytes())
    explained("photos --method edges --out photos/earlier")
    for _ in range(2):
        explained("photos --method edges --out photos/out")
        assert table(photos / "out")["image"].tolist() == [f"photos/{n}.png" for n in "012" for _ in "12"]
    done = invoke("explain photos/out --method edges --out photos/out")
    assert done.exit_code == 2
    assert "no images in photos/out (hidden files and explanations are left out)" in done.stderr


DARK = """
import torch
class Net(torch.nn.Module):
    '''Of dark images nothing can be said.'''
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 2, 3)
    def forward(self, images):
        scores = self.layer(images).relu().mean((2, 3))
        dark = images.amax((1, 2, 3), keepdim=True)[:, :, 0, 0] < 0.1
        return torch.where(dark & (images.std() > 0), torch.nan, scores)
def make(*_):
    torch.manual_seed(0)
    return Net()
"""


def test_what_is_not_finite_is_skipped_with_the_reason(photos, here):
    (here / "dark.py").write_text(DARK)
    dark = Image.new("RGB", (64, 64))
    dark.putpixel((0, 0), (9, 9, 9))
    dark.save(photos / "dark.png")
    common = "--model dark.py:make --mean 0,0,0 --std 1,1,1 --image-size 64 --method edges"
    done = explained(f"photos {common} --out out")
    assert "skipped photos/dark.png: the CNN's probabilities are not finite" in done.stderr
    assert done.stdout.startswith("3 images explained, 1 skipped\n")
    rows = table(here / "out")
    assert set(rows["name"]) == {"0", "1", "2"}
    assert rows.notna().all(axis=None)
    done = invoke(f"explain photos/dark.png {common} --out other")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1] == "error: nothing was explained, 1 image skipped"
    assert not (here / "other").exists()


def test_a_map_that_is_not_finite_is_left_out(photos, here, monkeypatch):
    monkeypatch.setattr(METHODS, "_things", dict(METHODS._things))

    class Flawed(Explainer):
        def maps(self, images, target):
            return torch.full_like(images[:, :1], torch.nan)

    METHODS.register("flawed", Method(Flawed))
    done = explained("photos/0.png --method flawed --out out")
    assert "skipped photos/0.png, flawed: its map is not finite" in done.stderr
    assert table(here / "out")["method"].tolist() == ["grad_cam"]


def test_columns_of_a_contact_sheet_are_in_the_order_in_which_methods_were_asked_for(photos, here):
    """A second run of the same command once put them in the alphabet's."""
    command = f"explain photos --method saliency --method edges --root {ROOT} --out"
    assert invoke(f"{command} out").exit_code == 0
    once = (here / "out/contact_sheet.png").read_bytes()
    assert invoke(f"{command} out").exit_code == 0
    assert (here / "out/contact_sheet.png").read_bytes() == once
    assert invoke(f"explain photos --method edges --root {ROOT} --out out").exit_code == 0
    assert (here / "out/contact_sheet.png").read_bytes() == once
    with Image.open(here / "out/contact_sheet.png") as sheet:
        cell, right = SIDE + GAP, sheet.width - WORDS
        titles = sheet.convert("L").crop((WORDS, 0, sheet.width, HEAD))
    assert right == 4 * cell  # the image, both methods, and the default one beside them
    inked = [
        titles.crop((k * cell, 0, (k + 1) * cell, HEAD)).point(lambda own: own < 128).getbbox()
        for k in (1, 2)
    ]
    assert inked[0][2] > inked[1][2]  # "saliency" is longer than "edges"


def test_of_very_many_images_the_first_are_drawn(photos, here, monkeypatch):
    monkeypatch.setattr("gan_lib.workbench.contact_sheet.ROWS", 1)
    monkeypatch.setattr("gan_lib.workbench.contact_sheet.PAGES", 2)
    done = invoke(f"explain photos --method edges --root {ROOT} --out out")
    assert "contact_sheet.png to contact_sheet_2.png, the first 2 images" in done.stdout
    assert not (here / "out/contact_sheet_3.png").exists()


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["a.png", "a_overlay.png"], ["a", "a_overlay_png"]),
        (["a_overlay.png", "a.png"], ["a_overlay", "a_png"]),
        (["a.png", "a.jpg", "a_png.png"], ["a", "a_jpg", "a_png"]),
        (["a.jpg", "a.png", "a_png.png"], ["a", "a_png", "a_png_png"]),
        (["a.png", "a.jpg", "a_jpg.png", "a_jpg_png.png"], ["a", "a_jpg", "a_jpg_png", "a_jpg_png_png"]),
        (["a_overlay.png", "a_overlay_overlay.png"], ["a_overlay", "a_overlay_overlay_png"]),
    ],
)
def test_no_map_is_called_as_anothers_overlay(tmp_path, given, names):
    folder = ExplanationFolder(tmp_path / "out", {}, {"edges": ""})
    found = [folder.name_of(Path("/photos", own), Path(own)).as_posix() for own in given]
    assert found == names
    assert [folder.name_of(Path("/photos", own), Path(own)).as_posix() for own in given] == names


def test_contact_sheets_have_pages_of_forty_rows(photos, here):
    for number in range(3, 43):
        Image.new("RGB", (64, 64), (5 * number, 90, 40)).save(photos / f"{number:02}.png")
    done = explained("photos --method edges --out out")
    assert "contact sheet: out/contact_sheet.png to contact_sheet_2.png" in done.stdout
    pages = [Image.open(here / "out" / f"contact_sheet{own}.png") for own in ("", "_2")]
    assert [page.width for page in pages] == [WORDS + 3 * (SIDE + GAP)] * 2
    assert [page.height for page in pages] == [HEAD + rows * (SIDE + GAP) for rows in (40, 3)]
    rows = table(here / "out").drop_duplicates("name")["name"].tolist()
    for row in (0, 39):  # the middle of an image, and of its overlay
        middle = HEAD + row * (SIDE + GAP) + SIDE // 2
        for column, file in enumerate((f"inputs/{rows[row]}.png", f"edges/{rows[row]}_overlay.png")):
            with Image.open(here / "out" / file) as picture:
                shown = picture.convert("RGB").getpixel((32, 32))
            assert pages[0].getpixel((WORDS + column * (SIDE + GAP) + SIDE // 2, middle)) == shown


# -- CNNs of one's own -------------------------------------------------------------------------------


def test_a_factory_from_the_working_directory(photos, here):
    package = here / "own_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "nets.py").write_text((here / "pooled.py").read_text())
    done = explained(
        "photos --model own_package.nets:make --classes red,green,blue --image-size 40x60 --out out"
    )
    assert done.stderr.count("without") == 0, "the default explains any CNN"
    rows = table(here / "out")
    assert set(rows["prediction"]) <= {"red", "green", "blue"}
    assert set(rows["method"]) == {"universal_lsft", "grad_cam"}
    with Image.open(here / "out" / "inputs" / "0.png") as picture:
        assert picture.size == (60, 40)


def test_options_reach_the_cnn(photos, here, monkeypatch):
    got = {}

    def load(name, weights=None, device="cpu", pretrained=None, **options):
        got.update(options, name=name, weights=weights, device=device)
        return load_classifier(ROOT / "data/pretrained/slim_vgg")

    monkeypatch.setattr(api, "load_cnn", load)
    given = "--model net --weights w.pth --classes no,yes --image-size 96x64 --mean 0.1,0.2,0.3 --std 1,2,3"
    explained(f"photos/0.png {given} --output binary --select 1 --device cpu --method edges --out out")
    assert got == {
        "name": "net",
        "weights": "w.pth",
        "device": "cpu",
        "class_names": ("no", "yes"),
        "image_size": (96, 64),
        "mean": (0.1, 0.2, 0.3),
        "std": (1.0, 2.0, 3.0),
        "output": "binary",
        "select": 1,
        "span": None,
    }


def test_real_pictures_are_seen_at_224_pixels(test_data, here):
    weights = test_data / "weights/mobilenet_v2_imagenet.safetensors"
    snake = f"{test_data}/test-images/snake.png --model mobilenet_v2 --weights {weights}"
    own = "--method contrastive_lsft --method contrastive_gsft"
    explained(f"{snake} --out out")
    assert "was trained at" not in explained(f"{snake} {own} --out out").stderr
    rows = table(here / "out")
    assert rows["prediction"].tolist() == ["king snake"] * 4
    assert rows["probability"].tolist() == [pytest.approx(0.51, abs=0.01)] * 4
    for method in ("universal_lsft", "contrastive_lsft", "contrastive_gsft"):
        with Image.open(here / "out" / method / "snake_overlay.png") as picture:
            assert picture.size == (224, 224)
    small = explained(f"{snake} {own} --image-size 160 --out small").stderr
    for method in ("contrastive_lsft", "contrastive_gsft"):
        assert f"{method} was trained at 224x224 pixels and explains at the CNN's 160x160" in small


def test_a_folder_that_is_read_in_parts(tmp_path, monkeypatch):
    """Images, names and methods of three parts of two rows each, and the same table after the next begin."""
    monkeypatch.setattr("gan_lib.workbench.long_table.AT_ONCE", 2)
    own = {"prediction": "a", "probability": 1.0, "target": "a", "target_probability": 1.0, "drop": 1.0}
    rows = [
        {"image": f"{name}.jpg", "name": name, "method": method, "area": 0.5, **own}
        for name, method in [
            ("x", "edges"),
            ("y", "edges"),
            ("z", "edges"),
            ("x", "saliency"),
            ("=w", "edges"),
        ]
    ]
    folder = ExplanationFolder(tmp_path, {}, {"edges": "", "saliency": ""})
    folder.begin()
    folder.append(pd.DataFrame(rows))
    before = (tmp_path / "explanations.csv").read_bytes()
    again = ExplanationFolder(tmp_path, {}, {"random": ""})
    assert (again.images, folder.images) == (4, 4)
    assert again.methods == ("edges", "saliency", "random")
    assert again.missing(Path("x.jpg"), ["edges", "saliency", "random"]) == ("random",)
    assert again.missing(Path("=w.jpg"), ["edges", "saliency"]) == ("saliency",)
    assert again.name_of(Path("elsewhere/y.jpg"), Path("y.jpg")) == Path("y_jpg"), "y is taken"
    again.begin()
    assert (tmp_path / "explanations.csv").read_bytes() == before
    assert again.rows(3)["name"].tolist() == ["x", "y", "z"]
    assert again.rows()["name"].tolist() == ["x", "y", "z", "x", "=w"]
