"""Peak memory does not follow the number of images: predictions, prototypes and ``gan-lib explain``.

GAN_LIB_MANY=2000,100000 pytest tests/benchmarks/test_memory_of_many.py --override-ini addopts= -s
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_lib.workbench.places import comes_with

FEW, MANY = (int(own) for own in os.environ.get("GAN_LIB_MANY", "2000,20000").split(","))
LARGER = 1.15  # at most, by which the peak of many is that of few

STEPS = """
import sys
from pathlib import Path
import torch
from gan_lib.concepts import HiddenLayer
from gan_lib.workbench import Places, Workbench
from gan_lib.workbench.streamed import pooled_on_disk

if __name__ == "__main__":
    step, root = sys.argv[1], Path(sys.argv[2])
    changes = {"data.name": "pictures", "cnn.source": "train", "cnn.epochs": 0, "data.train_images": 200,
               "data.test_images": None, "machine.threads": 1}
    subject = Workbench("memory", "cpu", changes, Places.of(root)).subject()
    if step == "predictions":
        print(len(subject.predictions()))
    else:
        layer = HiddenLayer(subject.cnn, subject.target_layer, subject.image_size)
        pooled = pooled_on_disk(layer, subject.data.test, root / "data" / "vectors", pool=1)
        found = pooled.nearest(torch.eye(layer.channels)[:6], top=4)
        print(tuple(pooled.crops(found).shape))
"""
CALL = "import json,resource,subprocess,sys; subprocess.run(sys.argv[1:], check=True); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"


def folder(root: Path, count: int) -> Path:
    """A project with pictures in class folders, 200 for training and so many for the rest."""
    (root / "notebooks").mkdir(parents=True)
    (root / "notebooks/profiles").symlink_to(comes_with() / "notebooks/profiles")
    drawn = np.random.default_rng(0)
    for split, many in (("train", 200), ("test", count)):
        for number in range(many):
            path = root / f"data/pictures/{split}/class_{number % 4}/{number:06d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            small = drawn.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(small).resize((64, 64)).save(path, quality=85)
    return root


def peak(*command: str) -> float:
    """The largest resident size of a command, in MiB, mapped files included."""
    code = [sys.executable, "-c", CALL, *command]
    done = subprocess.run(
        code, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, capture_output=True, text=True
    )
    return int(done.stdout.splitlines()[-1]) / 1024


@pytest.mark.timeout(36000)
def test_many_need_no_more_than_few(tmp_path):
    found: dict[str, list[float]] = {}
    (tmp_path / "steps.py").write_text(STEPS)
    for count in (FEW, MANY):
        root = folder(tmp_path / str(count), count)
        for step in ("predictions", "prototypes"):
            found.setdefault(step, []).append(
                peak(sys.executable, str(tmp_path / "steps.py"), step, str(root))
            )
        pictures = str(root / "data/pictures/test")
        explain = [sys.executable, "-m", "gan_lib", "explain", pictures, "--model", "slim_vgg"]
        command = [*explain, "--method", "saliency", "--out", str(root / "out")]
        found.setdefault("explain", []).append(peak(*command))
    print(json.dumps({"images": [FEW, MANY], **found}, indent=1))
    for step, (few, many) in found.items():
        assert many < LARGER * few, step
