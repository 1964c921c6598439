"""README's section on a CNN of one's own, run as it is written, in an empty folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parent.parent
SECTION = (ROOT / "README.md").read_text().partition("## Explain your own CNN")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", SECTION, re.DOTALL)
NETS = """
from torch import nn


class Colour(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, stride=2), nn.ReLU(),
            nn.Conv2d(8, 16, 3, padding=1, stride=2), nn.ReLU(),
        )
        self.head = nn.Linear(16, classes)

    def forward(self, images):
        return self.head(self.features(images).mean((2, 3)))


def make_net(num_classes):
    return Colour(num_classes)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What a user has: a module, weights as ``torch.save`` writes them, photographs of two classes."""
    here = tmp_path_factory.mktemp("own")
    (here / "my_nets.py").write_text(NETS)
    namespace = {}
    exec(NETS, namespace)
    torch.manual_seed(0)
    torch.save(namespace["make_net"](2).state_dict(), here / "my_net.pth")
    rng = np.random.default_rng(0)
    for label, name in enumerate(("cat", "dog")):
        (here / "photos" / name).mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(0, 255, (72, 90, 3)).astype(np.uint8)
            pixels[20:50, 20:50, label] = 255
            Image.fromarray(pixels).save(here / "photos" / name / f"{number}.png")
    return here


def run(command: str, here: Path) -> str:
    """A command of README in a shell of its own, with ``gan-lib`` of this checkout."""
    folders = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": folders, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, shell=True, cwd=here, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def test_the_commands_that_explain(folder):
    first, second = (line for line in BLOCKS[0][1].splitlines() if line)
    assert not BLOCKS[0][0]
    assert "40 images explained" in run(first, folder)
    table = pd.read_csv(folder / "maps" / "explanations.csv")
    assert table["method"].value_counts().to_dict() == {"universal_lsft": 40, "grad_cam": 40}
    assert set(table["prediction"]) <= {"cat", "dog"}
    assert table["probability"].between(0.5, 1).all()
    assert (folder / "maps" / "contact_sheet.png").is_file()
    run(f"{first} --method occlusion", folder)
    table = pd.read_csv(folder / "maps" / "explanations.csv")
    assert table["method"].value_counts().to_dict() == {"universal_lsft": 40, "grad_cam": 40, "occlusion": 40}
    assert (folder / "maps" / "occlusion" / "cat" / "0_overlay.png").is_file()
    assert f"report: {Path('report/report.html')}" in run(second, folder)
    assert json.loads((folder / "report" / "report.json").read_text())["failed"] == {}


def test_the_lines_of_python(folder):
    kind, lines = BLOCKS[1]
    assert kind == "python"
    (folder / "try.py").write_text(lines)
    run(f"{sys.executable} try.py", folder)
    table = pd.read_csv(folder / "out" / "explanations.csv")
    assert table["target"].tolist() == ["cat"] * 40


def test_the_notebooks_about_that_cnn(folder):
    kind, profile = BLOCKS[2]
    assert kind == "yaml"
    (folder / "my.yaml").write_text(profile)
    init, start = re.findall(r"`(gan-lib (?:init|run) [^`]*)`", SECTION)
    shutil.rmtree(folder / "work", ignore_errors=True)
    run(init, folder)
    told = run(start, folder)
    assert "01_feature_extraction" in told
    accuracy = pd.read_csv(folder / "work" / "figures" / "my" / "01_feature_extraction" / "accuracy.csv")
    assert accuracy["n"].tolist() == [8]  # a fifth of each class is held out
