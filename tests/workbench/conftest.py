"""A project in a temporary folder, with data that are there at once."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from gan_lib.workbench import Places, Workbench

TINY = """
seeds: [0]
machine: {workers: 1}
data: {train_images: 40, test_images: 20, image_size: 32}
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
    return Workbench("test", "tiny", {}, places)
