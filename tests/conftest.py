"""Tiny models and data that every test can afford."""

from __future__ import annotations

import os

# Tests run in two processes: with more threads, also of the commands that tests start, cores would be shared.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from gan_lib.data import ImageData, digits_in_scenes
from gan_lib.explainers import methods_of

SHIPPED = tuple(methods_of("baseline", "control"))  # before any test registers one of its own
torch.set_num_threads(1)  # tiny models gain nothing from more, and tests run in two processes


# Files that take longest come first: one that begins last would be waited for by the other process.
LONGEST = (
    "long_kills",
    "test_notebooks",
    "test_own_cnn",
    "test_outside",
    "test_sweeps",
    "test_browser",
    "test_cluster",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the files that take longest before all others, which stay in their order."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


class TinyNet(nn.Module):
    """Three convolutions with in-place ReLUs, the case in which naive hooks go wrong."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(6, 8, 3, padding=1, stride=2),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.ReLU(inplace=True),
        )
        self.head = nn.Linear(8, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images).mean((2, 3)))


class Colours(nn.Module):
    """Class k where channel k is the brightest; its only layer passes the colours on."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.ReLU()
        self.scale = nn.Parameter(torch.tensor(20.0))

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * self.layer(images).mean((2, 3))


@pytest.fixture
def untrained_methods() -> tuple[str, ...]:
    """Names of the library's own baselines and controls."""
    return SHIPPED


@pytest.fixture
def tiny_net() -> nn.Module:
    torch.manual_seed(0)
    return TinyNet().eval()


@pytest.fixture
def colour_net() -> nn.Module:
    return Colours().eval()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def scenes() -> ImageData:
    return digits_in_scenes(train=60, test=20, size=32, seed=3)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Real images and weights, where ``GAN_LIB_TEST_DATA`` names their folder."""
    folder = os.environ.get("GAN_LIB_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("GAN_LIB_TEST_DATA names no folder of real test data")
    return Path(folder)


# A project in a temporary folder, with data that are there at once.
TINY = """
seeds: [0]
machine: {workers: 1, threads: 1}
data: {train_images: 40, validation_images: 6, test_images: 20, image_size: 32}
cnn: {epochs: 1, batch_size: 8}
gan: {images: 12, test_images: 8, variants: [lsft]}
generator: {conditions: 3, width: 8, condition_hidden: 8, condition_channels: 8, sft_hidden: 8, stem_stride: 8}
discriminator: {width: 8}
supervised: {epochs: 1, warmup_steps: 1}
features: {layers: 2, width: 8, stem_stride: 8, detail: 4}
critic: {width: 4}
contrastive: {epochs: 1, warmup_steps: 1, held_out: 4}
judge: {timing_rounds: 1}
"""


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    from gan_lib.workbench import Places  # imported when needed: it takes seconds

    root = tmp_path_factory.mktemp("project")
    (root / "notebooks/profiles").mkdir(parents=True)
    (root / "notebooks/profiles/tiny.yaml").write_text(TINY)
    drawn = np.random.default_rng(0)
    for split, count in (("train", 9), ("test", 6)):
        for label in range(4):
            folder = root / "data" / "sorted" / split / f"class_{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = drawn.integers(0, 90, (32, 32, 3)).astype(np.uint8)
                pixels[..., label % 3] += 60 + 20 * label
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return Places.of(root)


@pytest.fixture
def bench(places):
    from gan_lib.workbench import Workbench

    return Workbench("test", "tiny", {}, places)


# What the command line is given by mistake.
FACTORIES = {
    "raises.py": "def make(): raise RuntimeError('no licence')",
    "nothing.py": "def make(): return 'a string'",
    "wants.py": "def make(depth, width, height, colour): return None",
    "broken.py": "def make(:",
    "flat.py": "import torch\ndef make(*_): return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1))",
    "pooled.py": """
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 3, 3)
    def forward(self, images):
        return self.layer(images).relu().mean((2, 3))
def make(*_): return Net()
""",
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working directory, in no project: pictures, and files that are not what they are called."""
    Image.new("RGB", (80, 50), (200, 30, 30)).save(tmp_path / "photo.png")
    for name in ("empty", "broken", "project/notebooks/profiles"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "broken" / "x.png").write_bytes(b"no image at all")
    texts = {"text.safetensors": "text", "taken": "", "empty.txt": "\n\n", "twice.txt": "cat\ndog\ncat\n"}
    texts |= {"three.txt": "a\nb\nc\n", "no.yaml": "a: [", "list.yaml": "[1, 2]", **FACTORIES}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\nth\xe9\n")
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GAN_LIB_IMPORT", "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("GAN_LIB_TRACEBACK", raising=False)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def photos(here: Path) -> Path:
    """A folder of three small pictures of one colour each, where commands run."""
    folder = here / "photos"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (64, 64), (60 * number, 200, 40)).save(folder / f"{number}.png")
    return folder
