"""``gan-lib explain`` under load: four at once, thousands of images, huge ones, signals, no permission."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from drill.damages import contents
from drill.stage import ROOT, Command, leftovers
from PIL import Image

EXPLAIN = ("explain", "photos", "--method", "saliency", "--root", str(ROOT))
IMAGES = 24
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever started the tests may have it ignored
MORE = (
    150  # MB, by which a command may grow for huge pictures; torch and its libraries are what most of it is
)


def photos(folder: Path, count: int) -> None:
    drawn = np.random.default_rng(0)
    (folder / "photos").mkdir(parents=True)
    for number in range(count):
        pixels = drawn.integers(0, 255, (8, 8, 3)).astype(np.uint8)
        large = Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC)
        large.save(folder / "photos" / f"{number:05d}.png", compress_level=1)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    photos(folder, IMAGES)
    start = time.monotonic()
    command = Command(folder, *EXPLAIN, "--out", "out")
    assert command.ended() == 0, command.told()
    return folder, contents(folder / "out"), time.monotonic() - start


@pytest.fixture
def folder(tmp_path, undisturbed):
    shutil.copytree(undisturbed[0] / "photos", tmp_path / "photos")
    return tmp_path


@pytest.mark.parametrize("places", [1, 4])
@pytest.mark.timeout(900)
def test_four_at_once(folder, undisturbed, places):
    names = [f"out{number % places}" for number in range(4)]
    crew = [Command(folder, *EXPLAIN, "--out", name) for name in names]
    assert [own.ended() for own in crew] == [0] * 4, [own.told() for own in crew]
    for name in set(names):
        assert contents(folder / name) == undisturbed[1]
    assert leftovers(folder) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
@pytest.mark.timeout(900)
def test_signals(folder, undisturbed, number):
    drawn = random.Random(int(number))
    for _ in range(3):
        command = Command(folder, *EXPLAIN, "--out", "out")
        try:
            command.ended(drawn.uniform(0.3, 1.0) * undisturbed[2])
        except subprocess.TimeoutExpired:
            command.kill(number)
            assert command.left(10) == []
        assert "Traceback" not in command.told()
    assert Command(folder, *EXPLAIN, "--out", "out").ended() == 0
    assert contents(folder / "out") == undisturbed[1]
    assert leftovers(folder) == []


@pytest.fixture
def open_folder(undisturbed, monkeypatch):
    """Photographs where another user may write, which pytest's own folders do not let happen."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(undisturbed[0] / "photos", folder / "photos")
        (folder / "system").mkdir()
        for own in (folder, folder / "system"):
            os.chmod(own, 0o777)
        monkeypatch.setenv("MPLCONFIGDIR", str(folder / "system"))
        yield folder


@pytest.mark.timeout(900)
def test_without_permission_to_read(open_folder):
    if os.getuid():
        pytest.skip("another user is needed")
    try:
        subprocess.run([sys.executable, "-c", "import gan_lib"], user=65534, cwd=ROOT, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"another user cannot run this Python: {error}")
    folder = open_folder
    os.chmod(folder / "photos/00003.png", 0)
    command = Command(folder, *EXPLAIN, "--out", "out", user=65534)
    assert command.ended() == 0, command.told()
    assert "skipped photos/00003.png: cannot read photos/00003.png as an image" in command.told()
    assert "Permission denied" in command.told()
    assert f"{IMAGES - 1} images explained, 1 skipped" in command.told()
    os.chmod(folder / "out", 0o555)
    again = Command(folder, *EXPLAIN, "--out", "out", user=65534)
    assert again.ended() == 2
    assert "Permission denied" in again.told()
    assert "Traceback" not in again.told()


def peak(command: Command) -> float:
    """Most memory of a command, in MB, without the files of libraries that are mapped into it."""
    most, own = 0.0, psutil.Process(command.process.pid)
    while command.process.poll() is None:
        try:
            about = own.memory_info()
        except psutil.Error:
            break
        most = max(most, (about.rss - about.shared) / 1e6)
        time.sleep(0.01)
    return most


@pytest.mark.timeout(900)
def test_pictures_of_thirteen_thousand_pixels_a_side(tmp_path):
    (tmp_path / "photos").mkdir()
    whole = Image.new("RGB", (13_000, 13_000), (200, 40, 90))
    whole.save(tmp_path / "photos/0.png", compress_level=9)
    whole.save(tmp_path / "photos/1.jpg", quality=50)
    whole.convert("P").save(tmp_path / "photos/2.png")
    Image.fromarray(np.zeros((64, 64, 3), dtype=np.uint8)).save(tmp_path / "photos/3.png")
    whole.save(tmp_path / "photos/4.jpg", progressive=True, quality=20)
    del whole
    command = Command(tmp_path, *EXPLAIN, "--out", "out")
    most = peak(command)
    assert command.ended() == 0, command.told()
    assert "4 images explained, 1 skipped" in command.told()
    assert "progressive JPEG" in command.told()
    assert "bomb" not in command.told()
    photos(tmp_path / "small", IMAGES)
    usual = peak(Command(tmp_path / "small", *EXPLAIN, "--out", "out"))
    print(f"peak {most:.0f} MB, of small pictures {usual:.0f} MB")
    rows = pd.read_csv(tmp_path / "out/explanations.csv").drop_duplicates("name")
    assert rows["probability"].iloc[:3].max() - rows["probability"].iloc[:3].min() < 0.05
    assert most < usual + MORE


@pytest.mark.timeout(3600)
def test_five_thousand_images(tmp_path):
    photos(tmp_path, 5000)
    command = Command(tmp_path, *EXPLAIN[:2], "--method", "edges", *EXPLAIN[4:], "--out", "out")
    most = peak(command)
    assert command.ended() == 0, command.told()[-2000:]
    assert "5000 images explained" in command.told()
    table = pd.read_csv(tmp_path / "out/explanations.csv")
    assert len(table) == 10_000
    assert table["name"].nunique() == 5000
    print(f"peak {most:.0f} MB")
