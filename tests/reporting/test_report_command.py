"""``gan-lib report``: a page, or one line that says what is wrong; interrupted, doubled, repeated."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reporting.reader import Page, problems, read_csv
from typer.testing import CliRunner

from gan_lib.cli import app
from gan_lib.reporting import case, run

NETS = Path(__file__).with_name("nets.py")
CNN = "--model nets.py:colours --classes red,green,blue --image-size 32 --mean 0,0,0 --std 1,1,1"
FLAT = "--model nets.py:flat --classes a,b,c --image-size 32"
SECONDS = re.compile(r'<figure class="table[^>]*id="table-seconds".*?</figure>', re.DOTALL)
RECIPE = """
gan: {images: 12, test_images: 8, variants: [lsft]}
generator: {conditions: 3, width: 8, condition_hidden: 8, condition_channels: 8, sft_hidden: 8, stem_stride: 8}
discriminator: {width: 8}
features: {layers: 2, width: 8, stem_stride: 8, detail: 4}
critic: {width: 4}
contrastive: {epochs: 1, warmup_steps: 1, held_out: 4}
"""


@pytest.fixture
def photos(here):
    """Photographs of three classes in folders named after them, and the CNN that tells them apart."""
    shutil.copy(NETS, here / "nets.py")
    drawn = np.random.default_rng(0)
    for label, name in enumerate(("red", "green", "blue")):
        (here / "photos" / name).mkdir(parents=True)
        for number in range(4):
            values = drawn.integers(0, 90, (36, 40, 3)).astype(np.uint8)
            values[6:20, 6 + number : 22 + number, label] = 250
            Image.fromarray(values).save(here / "photos" / name / f"{number}.png")
    return here / "photos"


def invoke(arguments):
    return CliRunner().invoke(app, shlex.split(f"report {arguments}"))


def reported(arguments, out="report"):
    done = invoke(arguments)
    assert done.exit_code == 0, done.output
    assert problems(Path(out)) == []
    return done


def settings(out):
    return json.loads((Path(out) / "report.json").read_text())["settings"]


def timeless(folder):
    return SECONDS.sub("", (folder / "report.html").read_text())


def test_a_page_of_whatever_lies_in_a_folder(photos, here, monkeypatch):
    first = Image.open(photos / "red/0.png")
    for name, mode in (("grey.png", "L"), ("alpha.png", "RGBA"), ("palette.gif", "P")):
        first.convert(mode).save(photos / "red" / name)
    deep = np.random.default_rng(0).integers(0, 65535, (40, 40)).astype(np.uint16)
    Image.fromarray(deep).save(photos / "red/sixteen.png")
    strange = photos / "other <b>&'\""
    strange.mkdir()
    (strange / "empty.png").write_bytes(b"")
    (strange / "text.png").write_text("hello")
    first.save(strange / "whole.jpg")
    (strange / "half.jpg").write_bytes((strange / "whole.jpg").read_bytes()[:500])
    shutil.copy(photos / "green/0.png", os.fsencode(strange) + b"/\xff{x} 100 %.png")
    command = ["gan-lib", "report", "photos", *shlex.split(CNN)]
    monkeypatch.setattr(sys, "argv", command)
    done = reported(f"photos {CNN}")
    assert done.stdout.splitlines()[-1] == "report: report/report.html"
    assert done.stdout.startswith("- ")
    skipped = [own for own in done.stderr.splitlines() if own.startswith("skipped ")]
    assert [Path(own.partition(":")[0]).name for own in skipped] == ["empty.png", "half.jpg", "text.png"]
    images = read_csv(here / "report/tables/images.csv").set_index("image")
    assert len(images) == 18
    assert images["label"].value_counts().to_dict() == {"red": 8, "green": 4, "blue": 4, "": 2}
    assert images.loc["other <b>&'\"/?{x} 100 %.png", "prediction"] == "green"
    page = Page((here / "report/report.html").read_text())
    assert f"Made again by: {shlex.join(command)}" in page.text
    before = timeless(here / "report")
    again = reported(f"photos {CNN}")
    assert again.stdout == done.stdout
    assert timeless(here / "report") == before


BEFORE = [
    ("nowhere", "nowhere is neither an image nor a folder"),
    ("broken", "none of 1 images can be read; the first: cannot read broken/x.png as an image"),
    ("empty", "no images in empty"),
    (f"photos {CNN} --out taken", "--out taken is a file: give a folder"),
    (f"photos {CNN} --out taken/below", "Not a directory"),
    (f"photos {CNN} --out /proc/report", "/proc/report: No such file"),
    (f"photos {CNN} --seed -1", "Invalid value for '--seed'"),
    (f"photos {CNN} --seed 99999999999999999999", "a seed is a number"),
    (f"photos {CNN} --method nonsense", "unknown method 'nonsense'; there are"),
    (f"photos {CNN} --method contrastive-lsft", "no contrastive_lsft is trained for this CNN"),
    (f"photos {CNN} --device cuda", "device 'cuda' is asked for"),
    (f"photos {CNN} --device abacus", "not 'abacus'"),
    (f"photos {CNN} --train --recipe none", "profiles/none.yaml; known:"),
    (f"photos {CNN} --train --recipe no.yaml", "no.yaml"),
    (f"photos/red/0.png {CNN} --train --recipe tiny.yaml", "1 images, 4 held out, leave too few"),
    (
        f"photos {FLAT}",
        "grad_cam: no layer of Classifier has places that its scores depend on; name another method",
    ),
    (f"photos {CNN.replace('colours', 'broken')}", "the CNN's probabilities are not finite"),
    ("photos --model nets.py:one --classes a --image-size 32", "needs two class names or more"),
    (
        "photos --model nets.py:one --image-size 32 --output regression",
        "a regression, and nothing else, has span",
    ),
    (
        "photos --model nets.py:one --image-size 32 --output binary --span 0,1",
        "a regression, and nothing else",
    ),
    ("photos --model nets.py:colours --classes a,b,a --image-size 32", "names appear twice: a"),
]


@pytest.mark.parametrize(("arguments", "told"), BEFORE)
def test_what_can_be_mended_is_told_in_one_line_and_nothing_is_written(photos, here, arguments, told):
    (here / "tiny.yaml").write_text(RECIPE)
    before = sorted(here.rglob("*"))
    done = invoke(arguments)
    assert done.exit_code == 2, done.output
    errors = [own for own in done.stderr.splitlines() if own.startswith("error:")]
    assert len(errors) == 1
    assert done.stderr.rstrip().endswith(errors[0]), "it is the last thing that is said"
    assert told in errors[0]
    assert "Traceback" not in done.output
    assert sorted(own for own in here.rglob("*") if "__pycache__" not in own.parts) == before


def test_a_part_that_fails_is_told_in_one_line_and_the_page_is_written(photos, here, monkeypatch):
    def fail(_):
        raise RuntimeError("no\nmemory")

    monkeypatch.setattr(run, "trust", fail)
    done = invoke(f"photos {CNN}")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1] == "error: not made: trust; the page says why"
    assert "Can these maps be trusted? could not be made: RuntimeError: no memory" in done.stderr.splitlines()
    assert done.stdout.splitlines()[-1] == "report: report/report.html"
    assert problems(here / "report") == []


@pytest.mark.usefixtures("only_classes")
def test_what_fails_in_running_has_another_exit_code(photos, monkeypatch):
    def fail(*_):
        raise RuntimeError("no\nmemory")

    monkeypatch.setattr(case, "_maps", fail)
    done = invoke(f"photos {CNN}")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].startswith("error: RuntimeError: no memory")


@pytest.mark.usefixtures("only_classes")
def test_ctrl_c_says_that_the_same_command_goes_on(photos, here, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "relies", interrupt)
        done = invoke(f"photos {CNN}")
    assert done.exit_code == 130
    assert done.stderr.splitlines()[-2:] == [
        "what is made so far stays in report; the same command goes on",
        "error: interrupted",
    ]
    done = reported(f"photos {CNN} --overwrite")  # nothing is to be overwritten: it goes on as well
    told = [own.partition(" ")[0] for own in done.stderr.splitlines() if own[1:3] == "/7"]
    assert told == ["5/7", "6/7"]


@pytest.mark.usefixtures("only_classes")
def test_a_report_among_the_photos_is_no_photo(photos, here):
    for out in ("photos/report", "photos", "photos/red/another"):
        reported(f"photos {CNN} --out {out}", out)
        reported(f"photos {CNN} --out {out}", out)
        assert settings(out)["images"].startswith("12, ")
    assert invoke(f"photos/report {CNN} --out other").exit_code == 2
    assert not (here / "other").exists()


@pytest.mark.usefixtures("only_classes")
def test_other_settings_are_refused_or_overwrite(photos, here):
    reported(f"photos {CNN}")
    (here / "report/mine.txt").write_text("mine")
    before = {path: path.read_bytes() for path in (here / "report").rglob("*") if path.is_file()}
    for other, told in (
        ("--seed 1", "(seed)"),
        ("--method edges", "(explainers, method)"),
        ("--output logits", ""),
    ):
        done = invoke(f"photos {CNN} {other}")
        assert done.exit_code == 2
        assert f"error: report holds a report of other settings {told}" in done.stderr
    assert {path: path.read_bytes() for path in (here / "report").rglob("*") if path.is_file()} == before
    reported(f"photos {CNN} --seed 1 --overwrite")
    assert settings("report")["seed"] == 1
    assert (here / "report/mine.txt").read_text() == "mine"


@pytest.mark.usefixtures("only_classes")
def test_methods_in_the_order_asked_for(photos):
    for method, told in (("edges", "edges"), ("grad-cam", "Grad-CAM"), ("occlusion", "occlusion")):
        reported(f"photos {CNN} --method {method} --out {method}", method)
        assert settings(method)["method"] == method.replace("-", "_")
        assert f"the map of {told} is highest" in (Path(method) / "report.html").read_text()


@pytest.mark.usefixtures("only_classes")
def test_training(photos, here):
    (here / "tiny.yaml").write_text(RECIPE)
    train = f"photos {CNN} --train --recipe tiny.yaml"
    done = reported(train)
    assert "training a generator for this CNN on 12 images" in done.stderr
    assert settings("report")["method"] == "contrastive_lsft"
    before = timeless(here / "report")
    reported(train)
    assert timeless(here / "report") == before
    reported(f"photos {CNN} --out plain", "plain")
    for arguments in (f"{train} --out plain", f"{train} --seed 1"):
        done = invoke(arguments)
        assert done.exit_code == 2
        assert "holds a report of other settings" in done.stderr
        assert "training a generator" not in done.stderr, "it is refused before the work, not after it"
    (here / "tiny.yaml").write_text(RECIPE.replace("held_out: 4", "held_out: 5"))
    reported(f"{train} --overwrite")
    assert timeless(here / "report") != before


@pytest.mark.usefixtures("only_classes")
def test_what_was_trained_is_not_what_is_shipped(photos, here):
    (here / "tiny.yaml").write_text(RECIPE)
    slim = "photos --model slim_vgg --method contrastive-lsft"
    reported(f"{slim} --out shipped", "shipped")
    reported(f"{slim} --train --recipe tiny.yaml --out trained", "trained")
    versions = [settings(out)["explainers"]["contrastive_lsft"] for out in ("shipped", "trained")]
    assert versions[0] != versions[1]


def test_two_at_once_one_of_them_killed(photos, here):
    program = "import gc; gc.collect = lambda: 0; from gan_lib.cli import app; app()"
    command = [sys.executable, "-c", program, *shlex.split(f"report photos {CNN}")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(NETS.parents[2])}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
    runs = [subprocess.Popen(command, cwd=here, **options) for _ in range(2)]
    try:
        until = time.monotonic() + 120
        while not (here / "report/parts/classes/part.json").is_file() and time.monotonic() < until:
            time.sleep(0.01)
        runs[0].send_signal(signal.SIGKILL)
        told, errors = runs[1].communicate(timeout=120)
    finally:
        for own in runs:
            own.kill()
            own.communicate()
    assert runs[0].returncode == -signal.SIGKILL
    assert runs[1].returncode == 0, errors
    assert told.splitlines()[-1] == "report: report/report.html"
    assert problems(here / "report") == []
    done = reported(f"photos {CNN}")
    assert "/7 " not in done.stderr, "all parts are there"
