"""One bad image, or one bad place, costs one image: the run goes on, and says what it left out and why."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from gan_lib.cli import app
from gan_lib.workbench import explain as work
from gan_lib.workbench import written

ROOT = Path(__file__).parents[2]
ASKED = ("--method", "edges", "--root", str(ROOT))


def explained(*arguments):
    return CliRunner().invoke(app, ["explain", *map(str, arguments), *ASKED])


def save(path: bytes | Path, shade: int) -> None:
    with open(path, "wb") as file:
        Image.new("RGB", (64, 64), (shade, shade, 90)).save(file, format="PNG")


def table(out):
    return pd.read_csv(out / "explanations.csv", dtype=str, keep_default_na=False)


def test_strange_names(photos, here):
    long, too_long = "x" * 231 + ".png", "y" * 247 + ".png"
    save(os.fsencode(photos) + b"/caf\xe9.png", 10)
    for shade, name in enumerate((long, too_long, "=cmd.png", "a\nb.png", "<b>.png", "-1.png"), 20):
        save(photos / name, shade)
    save(here / "...png", 30)
    done = explained("photos", "...png", "--out", "out")
    assert done.exit_code == 0, done.output
    assert "9 images explained, 2 skipped" in done.stdout
    assert "caf?.png: its name is no UTF-8 text" in done.stderr
    assert f"{too_long}: its name is too long" in done.stderr
    names = table(here / "out")["name"].unique().tolist()
    assert {"___png", "x" * 231, "'=cmd", "a\nb", "<b>", "-1"} <= set(names)
    for name in ("___png", "x" * 231, "=cmd", "a\nb", "<b>"):
        assert (here / "out/edges" / f"{name}.safetensors").is_file()
    assert not list(here.rglob("*.tmp"))
    again = explained("photos", "...png", "--out", "out")
    assert "0 images explained, 9 there before, 2 skipped" in again.stdout, again.output


def test_a_file_that_cannot_be_replaced(photos, here, monkeypatch):
    (here / "out/edges/1.png").mkdir(parents=True)
    (here / "out/edges/1.png/inside").touch()
    done = explained("photos", "--out", "out", "--overwrite")
    assert done.exit_code == 1
    assert "2 images explained, 1 skipped" in done.stdout, done.output
    assert "skipped photos/1.png: " in done.stderr
    assert "error: 1 image could not be written; the same command tries again" in done.stderr
    assert table(here / "out")["name"].tolist() == ["0", "0", "2", "2"]
    assert not list((here / "out").rglob("1.safetensors")), "of that image no half is left"
    (here / "out/edges/1.png/inside").unlink()
    (here / "out/edges/1.png").rmdir()
    again = explained("photos", "--out", "out")
    assert again.exit_code == 0, again.output
    assert "1 image explained, 2 there before" in again.stdout


def test_where_nothing_can_be_written_the_run_ends(photos, here, monkeypatch):
    def full(path, pixels):
        raise OSError(errno.ENOSPC, "the disk is full: more than 9 bytes are needed, 0 are free", str(path))

    monkeypatch.setattr(written, "_save", full)
    monkeypatch.setattr(work, "HOPELESS", 2)
    done = explained("photos", "--out", "out")
    assert done.exit_code == 1
    assert done.stderr.count("skipped") == 2
    assert "error: " in done.stderr.splitlines()[-1]
    assert "disk is full: more than 9 bytes are needed, 0 are free" in done.stderr.splitlines()[-1]
    monkeypatch.undo()
    os.chdir(here)
    assert explained("photos", "--out", "out").exit_code == 0


def test_a_disk_that_is_really_full(photos, here):
    place = here / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        for number in range(3, 12):
            save(photos / f"{number:02d}.png", 20 * number)
        done = explained("photos", "--out", "disk/out")
        assert done.exit_code == 1
        assert "the disk is full: more than" in done.stderr
        assert "bytes are needed" in done.stderr
        out = place / "out"
        rows = table(out)
        assert 0 < rows["name"].nunique() < 12
        for row in rows.itertuples():
            for ending in (".png", "_overlay.png"):
                with Image.open(out / row.method / f"{row.name}{ending}") as picture:
                    picture.load()
        assert not list(out.rglob("*.tmp"))
        before = {name: (out / "edges" / f"{name}.safetensors").read_bytes() for name in rows["name"]}
        subprocess.run(["mount", "-o", "remount,size=8m", str(place)], check=True)
        again = explained("photos", "--out", "disk/out")
        assert again.exit_code == 0, again.output
        assert table(out)["name"].nunique() == 12
        assert {name: (out / "edges" / f"{name}.safetensors").read_bytes() for name in before} == before
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_map_that_was_emptied_is_told(photos, here):
    assert explained("photos", "--out", "out").exit_code == 0
    (here / "out/edges/1.safetensors").write_bytes(b"")
    (here / "out/inputs/2.png").write_bytes(b"no picture")
    done = explained("photos", "--out", "out")
    assert "0 images explained, 1 there before, 2 skipped" in done.stdout
    assert "out/edges/1.safetensors, made of it before, is damaged; take another folder" in done.stderr
    assert "the picture kept of it, out/inputs/2.png, is damaged" in done.stderr


def test_cells_are_none_that_a_spreadsheet_runs(photos, here):
    save(photos / "=1+1.png", 90)
    save(photos / "@a.png", 95)
    explained("photos", "--out", "out", "--classes", "=a,+b,-c,@d,e,f,g,h,i,j")
    cells = table(here / "out").astype(str).to_numpy().ravel()
    risky = [cell for cell in cells if cell.startswith(("=", "+", "@", "-"))]
    assert all(cell.lstrip("+-").replace(".", "").isdigit() for cell in risky), risky
    from gan_lib import api

    cnn = api.load_cnn("slim_vgg")
    found = api.explainer("edges", cnn).explain(api.read_images("photos", cnn))
    found.save(here / "saved", names=["=1", *map(str, range(len(found) - 1))])
    assert pd.read_csv(here / "saved/explanations.csv")["name"][0] == "'=1"
