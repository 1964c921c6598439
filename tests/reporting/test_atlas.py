"""Concepts of many classes as pages: what is there is not made again, and memory does not grow with images."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from gan_lib import api
from gan_lib.cli import app
from gan_lib.concepts import ConceptBank, HiddenLayer, PooledActivations
from gan_lib.core.storage import load_tensors
from gan_lib.data import ImageSplit
from gan_lib.data.files import FileRows
from gan_lib.data.reading import UnreadableImageError, read_image
from gan_lib.reporting.atlas import AtlasOptions, atlas_photos, stages, write_atlas, write_predictions
from gan_lib.reporting.atlas.listing import COLUMNS, first_two, read_chunk
from gan_lib.reporting.atlas.sheet import SIDE, THUMB, Sheet, draw_sheet

NAMES = ("red", "green", "<b>blue</b>")
OPTIONS = AtlasOptions(layer="backbone.0", components=2, prototypes=2, images_per_class=6, test=True)


class Colours(nn.Sequential):
    """Three classes, one for each colour; the last layer with places has six channels."""

    def __init__(self):
        super().__init__(nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU()), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.append(nn.Linear(6 * 4, 3))
        drawn = torch.Generator().manual_seed(0)
        with torch.no_grad():
            self[0][0].weight.copy_(torch.cat([torch.eye(3), 1 - torch.eye(3)]).view(6, 3, 1, 1))
            self[0][0].bias.zero_()
            own = torch.zeros(3, 6, 4)
            own[:, :3] = torch.eye(3)[..., None]
            self[-1].weight.copy_(own.flatten(1) + 0.01 * torch.rand(3, 24, generator=drawn))
            self[-1].bias.zero_()


def make_net():
    return Colours()


@pytest.fixture
def cnn():
    torch.manual_seed(0)
    return api.load_cnn(f"{__file__}:make_net", class_names=NAMES, mean=(0, 0, 0), std=(1, 1, 1))


@pytest.fixture
def photos(tmp_path):
    """Twelve images of each colour in its folder, 8 x 8 pixels, one of them called by another; one broken."""
    drawn = torch.Generator().manual_seed(1)
    for label, name in enumerate(("red", "green", "blue")):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for number in range(12):
            pixels = torch.randint(0, 120, (8, 8, 3), generator=drawn, dtype=torch.uint8)
            pixels[..., (label + (number == 11)) % 3] += 120
            Image.fromarray(pixels.numpy()).save(folder / f"{number:02d}.png")
    (tmp_path / "photos/red/05b.png").write_text("no picture")
    return tmp_path / "photos"


def fingerprint(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def made(cnn, photos, out, **given):
    return write_atlas(cnn, atlas_photos([photos], out), (8, 8), out, given.pop("asked", OPTIONS), **given)


# -- the prediction list ------------------------------------------------------------------------------


def test_the_two_highest_probabilities_by_hand():
    two = first_two(torch.tensor([[0.2, 0.7, 0.1], [0.5, 0.1, 0.4]]))
    assert two["prediction"].tolist() == [1, 0]
    assert two["runner-up"].tolist() == [0, 2]
    assert two["probability"].tolist() == pytest.approx([0.7, 0.5])
    assert two["runner-up probability"].tolist() == pytest.approx([0.2, 0.4])


@pytest.mark.parametrize("at_once", [1, 5, 256])
def test_predictions_are_those_of_the_cnn_however_many_are_read_together(
    cnn, photos, tmp_path, monkeypatch, at_once
):
    monkeypatch.setattr("gan_lib.reporting.atlas.listing.CHUNK", at_once)
    told: list[str] = []
    count = write_predictions(cnn, atlas_photos([photos], tmp_path), (8, 8), tmp_path / "p.csv", told.append)
    table = pd.read_csv(tmp_path / "p.csv", keep_default_na=False)
    assert count == len(table) == 36
    assert list(table.columns) == COLUMNS
    (line,) = told
    assert line.startswith("skipped red/05b.png: cannot read ")
    assert "\n" not in line
    files = [photos / own for own in table["file"]]
    chances = cnn(torch.stack([read_image(own, (8, 8)) / 255 for own in files])).softmax(1)
    assert table["prediction"].tolist() == chances.argmax(1).tolist()
    assert table["probability"].tolist() == pytest.approx(chances.amax(1).tolist(), rel=1e-4)
    order = chances.argsort(1, descending=True)
    assert table["runner-up"].tolist() == order[:, 1].tolist()
    assert table["prediction name"].tolist() == [NAMES[own] for own in table["prediction"]]
    labels = {"red": "0", "green": "1", "blue": ""}  # no class is called blue without its brackets
    assert table["label"].astype(str).tolist() == [labels[own.parent.name] for own in files]
    assert (table[table["file"] == "red/11.png"]["prediction name"] == "green").all()


def test_a_table_is_there_whole_or_not_at_all(cnn, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("gan_lib.reporting.atlas.listing.CHUNK", 8)
    calls = iter(range(3))

    def broken(*given):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return read_chunk(*given)

    monkeypatch.setattr("gan_lib.reporting.atlas.listing.read_chunk", broken)
    with pytest.raises(KeyboardInterrupt):
        write_predictions(cnn, atlas_photos([photos], tmp_path), (8, 8), tmp_path / "out/p.csv")
    assert not list((tmp_path / "out").iterdir())


def test_nothing_that_can_be_read(cnn, tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    found = atlas_photos([tmp_path / "a.png"], tmp_path / "out")
    with pytest.raises(ValueError, match="none of 1 images can be read; the first: cannot read"):
        write_predictions(cnn, found, (8, 8), tmp_path / "p.csv")
    with pytest.raises(ValueError, match="none of 1 images can be read; the first: cannot read"):
        write_atlas(cnn, found, (8, 8), tmp_path / "out", OPTIONS)


def test_files_as_rows(photos):
    paths = sorted(photos.glob("*/0*.png"))
    rows = FileRows(paths, (4, 6))
    assert tuple(rows.shape) == (len(paths), 3, 4, 6)
    assert torch.equal(rows[3], read_image(paths[3], (4, 6)))
    assert torch.equal(rows[torch.tensor([2, 0])], torch.stack([rows[2], rows[0]]))
    assert torch.equal(rows[1:3], torch.stack([rows[1], rows[2]]))
    assert tuple(rows[:0].shape) == (0, 3, 4, 6)
    with pytest.raises(IndexError):
        rows[len(paths)]
    broken = next(place for place, path in enumerate(paths) if path.name == "05b.png")
    with pytest.raises(UnreadableImageError, match="05b"):
        rows[broken]


# -- an atlas -----------------------------------------------------------------------------------------


def test_an_atlas_shows_what_was_found(cnn, photos, tmp_path):
    out, told, stages_told = tmp_path / "atlas", [], []
    index = made(cnn, photos, out, tell=told.append, stage=stages_told.append)
    assert index == out / "index.html"
    assert stages_told == ["images", "concepts", "prototypes", "pages", "prediction test"]
    assert len(told) == 1
    basis = load_tensors(out / "basis.safetensors")
    assert sorted(basis) == ["0000", "0001", "0002"]
    assert all(own.shape == (2, 6) for own in basis.values())
    table = pd.read_csv(out / "prototypes.csv", keep_default_na=False)
    assert len(table) == 3 * 2 * 2 * 2
    split = ImageSplit(
        FileRows([photos / own for own in pd.read_csv(out / "predictions.csv")["file"]], (8, 8)),
        torch.zeros(36).long(),
    )
    pooled = PooledActivations(HiddenLayer(cnn, "backbone.0", (8, 8)), split, 2)
    predicted = torch.tensor(pd.read_csv(out / "predictions.csv")["prediction"].to_numpy())
    for label in range(3):
        for among, allowed in (("all images", None), ("not predicted", predicted != label)):
            found = pooled.nearest(basis[f"{label:04d}"], 2, allowed)
            own = table[(table["class"] == label) & (table["among"] == among)]
            assert own["similarity"].tolist() == pytest.approx(found.similarity.flatten().tolist(), abs=1e-5)
            assert own["concept"].tolist() == [1, 1, 2, 2]
            assert own["rank"].tolist() == [1, 2, 1, 2]
            corners = pooled.boxes(found.place.flatten())
            assert own[["left", "top", "right", "bottom"]].to_numpy().tolist() == corners.tolist()
            if allowed is not None:
                assert (own["prediction"] != label).all()
    lost = pd.read_csv(out / "importance.csv")
    assert lost["concept"].tolist() == [1, 2] * 3
    assert lost["lost"].dtype == float
    won = pd.read_csv(out / "prediction_test_classes.csv")
    assert set(won["form"]) == {"4 crops", "4 crops, strict", "6 crops", "6 crops, strict"}, (
        "no form by label: no folder is called like the third class"
    )
    for label in range(3):
        with Image.open(out / f"thumbs/{label:04d}.jpg") as thumb:
            assert thumb.size == (2 * THUMB, THUMB)
    page = index.read_text()
    assert "&lt;b&gt;blue&lt;/b&gt;" in page
    assert "<b>blue" not in page
    assert page.count('loading="lazy"') == 3
    assert "red/05b.png" in page
    assert "http:" not in page.replace("http-equiv", "")
    assert "<script" not in page


def test_an_interrupted_atlas_goes_on_and_ends_the_same(cnn, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "CHUNK", 8)
    monkeypatch.setattr("gan_lib.reporting.atlas.listing.CHUNK", 8)
    monkeypatch.setattr(stages, "LEARNED", 2)
    monkeypatch.setattr(stages, "SEARCHED", 2)
    made(cnn, photos, tmp_path / "whole")
    whole = fingerprint(tmp_path / "whole")
    assert not any(".partial" in name or ".tmp" in name for name in whole)
    step = 0
    real = os.replace

    class Killed(BaseException):
        pass

    def counted(*given, **named):
        nonlocal step
        if step == 0:
            raise Killed
        step -= 1
        return real(*given, **named)

    finished, kills = False, 0
    monkeypatch.setattr(os, "replace", counted)
    while not finished:  # what ends an earlier stage is written again, so that each call must get further
        step = (kills + 1) * (kills + 2) // 2
        try:
            made(cnn, photos, tmp_path / "killed")
            finished = True
        except Killed:
            kills += 1
            assert not (tmp_path / "killed/index.html").exists()
        assert kills < 20
    assert kills > 3
    assert fingerprint(tmp_path / "killed") == whole


def test_what_is_there_is_not_made_again(cnn, photos, tmp_path, monkeypatch):
    made(cnn, photos, tmp_path / "atlas")
    before = fingerprint(tmp_path / "atlas")
    (tmp_path / "atlas/pages/0001.jpg").unlink()

    def never(*_, **__):
        raise AssertionError("made again")

    for name in ("_looked_at", "read_chunk", "_rows"):
        monkeypatch.setattr(stages, name, never)
    monkeypatch.setattr(stages.concepts, "learn_concepts", never)
    monkeypatch.setattr(stages.concepts, "prediction_test", never)
    made(cnn, photos, tmp_path / "atlas")
    assert fingerprint(tmp_path / "atlas") == before


def test_folders_that_hold_something_else(cnn, photos, tmp_path):
    out = tmp_path / "atlas"
    made(cnn, photos, out)
    other = AtlasOptions(layer="backbone.0", components=1, prototypes=2, images_per_class=6)
    with pytest.raises(
        ValueError, match=r"atlas of other settings \(components, test\): take another folder"
    ):
        made(cnn, photos, out, asked=other)
    made(cnn, photos, out, asked=other, overwrite=True)
    assert load_tensors(out / "basis.safetensors")["0000"].shape == (1, 6)
    assert not (out / "prediction_test.csv").exists()
    (tmp_path / "mine/pages").mkdir(parents=True)
    with pytest.raises(ValueError, match="pages is there already, and not from such a run"):
        made(cnn, photos, tmp_path / "mine")


def test_an_atlas_below_the_images_is_not_read(cnn, photos):
    before = atlas_photos([photos], photos / "atlas")
    made(cnn, photos, photos / "atlas")
    assert atlas_photos([photos], photos / "other") == before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"pooling": 9}, "cannot pool 9 x 9 of"),
        ({"relevance": "guess"}, "method is one of"),
        (
            {"components": 13, "images_per_class": 20},
            "no class has concepts: class 0 predicted for 12 images",
        ),
        ({"layer": "backbone.9"}, "backbone.9"),
    ],
)
def test_what_does_not_fit(cnn, photos, tmp_path, change, told):
    asked = AtlasOptions(**{"layer": "backbone.0", "components": 2, **change})
    with pytest.raises((ValueError, KeyError), match=told):
        made(cnn, photos, tmp_path / "atlas", asked=asked)


def test_vectors_that_are_not_of_these_images(cnn, photos):
    split = ImageSplit(FileRows(sorted(photos.glob("red/0[0-4].png")), (8, 8)), torch.zeros(5).long())
    hidden = HiddenLayer(cnn, "backbone.0", (8, 8))
    own = PooledActivations(hidden, split, 2)
    again = PooledActivations(hidden, split, 2, vectors=own.vectors[:])
    wanted = torch.rand(3, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.nearest(wanted, 2).image, own.nearest(wanted, 2).image)
    with pytest.raises(ValueError, match=r"vectors are \(4, 16, 6\), of these images and cells \(5, 16, 6\)"):
        PooledActivations(hidden, split, 2, vectors=own.vectors[:4])


def test_a_sheet_has_every_crop_in_its_place(tmp_path):
    """Two concepts, one crop each, of an image whose left half is red: the crop is of the red half."""
    picture = torch.zeros(3, 8, 8, dtype=torch.uint8)
    picture[0, :, :4] = 255
    row = {"rank": 0, "image": 7, "left": 0.0, "top": 0.0, "right": 4.0, "bottom": 4.0, "said": "ж"}
    rows = [{**row, "concept": k, "among": own} for k in range(2) for own in stages.AMONG]
    sheet = Sheet("title", "told", "", ["a", "b"], pd.DataFrame(rows[:3]), 1)
    draw_sheet(sheet, {7: picture}, tmp_path / "p.jpg", tmp_path / "t.jpg")
    with Image.open(tmp_path / "p.jpg") as opened:
        pixels = torch.frombuffer(bytearray(opened.convert("RGB").tobytes()), dtype=torch.uint8)
        page = pixels.view(opened.height, opened.width, 3).float()
    red = (page[..., 0] > 180) & (page[..., 1:] < 90).all(-1)
    # Of the first concept both crops, and the image's left half; of the second one crop.
    assert int(red.sum()) == pytest.approx(3.5 * SIDE * SIDE, rel=0.05)
    with Image.open(tmp_path / "t.jpg") as thumb:
        assert thumb.size == (2 * THUMB, THUMB)


def test_groups_of_classes():
    assert list(stages.groups([3, 5, 8], 2)) == [("0000", [3, 5]), ("0001", [8])]


def test_a_bank_of_no_class_is_joined_with_others(tmp_path):
    empty = pd.DataFrame({"class": [4], "images": [1], "error": [float("nan")], "skipped": ["too few"]})
    for name in ("0000", "0001"):
        (tmp_path / name).mkdir()
        ConceptBank({}, empty).save(tmp_path / name)
        (tmp_path / name / "importance.csv").write_text("class,concept 0\n")
    (tmp_path / "0002.partial").mkdir()
    found = list(stages.learned(tmp_path))
    assert [bank.classes for bank, _ in found] == [[], []]


# -- the commands -------------------------------------------------------------------------------------


def command(*given):
    return CliRunner().invoke(app, list(map(str, given)))


def asked(photos, out, name="concepts"):
    names = "--classes=red,green,blue"
    return [name, photos, f"--model={__file__}:make_net", names, "--image-size=8", f"--out={out}"]


def test_commands_write_what_the_library_writes(photos, tmp_path):
    table = command(*asked(photos, tmp_path / "p.csv", "predictions"))
    assert table.exit_code == 0, table.output
    assert "36 images predicted, 1 image skipped" in table.output
    assert pd.read_csv(tmp_path / "p.csv")["label"].notna().all()
    few = ["--components=2", "--prototypes=2", "--layer=backbone.0"]
    done = command(*asked(photos, tmp_path / "atlas"), *few, "--note=One of <each>")
    assert done.exit_code == 0, done.output
    assert "One of &lt;each&gt;" in (tmp_path / "atlas/index.html").read_text()
    again = command(*asked(photos, tmp_path / "atlas"), *few)
    assert again.exit_code == 2
    assert "holds an atlas of other settings (note)" in again.output


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("predictions", ["--out=."], "--out . is a folder: give a file"),
        ("predictions", [f"--out={__file__}"], "is there already: take another file, or --overwrite"),
        ("concepts", ["--layer=nowhere"], "nowhere"),
        ("concepts", ["--components=0"], "--components"),
        ("concepts", ["--relevance=guess"], "method is one of"),
        ("concepts", ["--pooling=99"], "cannot pool 99 x 99"),
    ],
)
def test_mistakes_are_told_in_one_line(photos, tmp_path, name, given, told):
    done = command(*asked(photos, tmp_path / "out", name)[:-1], f"--out={tmp_path / 'out'}", *given)
    assert done.exit_code == 2
    (line,) = [own for own in done.stderr.splitlines() if own.startswith("error")]
    assert told in line
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_command_goes_on(photos, tmp_path):
    """Killed for good while it works, called again: the same bytes as an undisturbed run's."""
    tail = ["--components=2", "--prototypes=2", "--layer=backbone.0"]
    whole = command(*asked(photos, tmp_path / "whole"), *tail)
    assert whole.exit_code == 0, whole.output
    given = [*map(str, asked(photos, tmp_path / "killed")), *tail]
    running = subprocess.Popen([sys.executable, "-m", "gan_lib", *given], cwd=Path(__file__).parents[2])
    kept = tmp_path / "killed/kept/images/00000.safetensors"
    for _ in range(1200):
        if kept.is_file() or running.poll() is not None:
            break
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.wait()
    again = command(*given)
    assert again.exit_code == 0, again.output
    killed = fingerprint(tmp_path / "killed")
    assert {name: own for name, own in killed.items() if ".tmp" not in name} == fingerprint(
        tmp_path / "whole"
    )
