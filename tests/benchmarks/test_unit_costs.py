"""What one image costs at every stage, in seconds of one core and in operations of matrix products and
convolutions: ``notebooks/guide/scaling.md`` rests on it.

Processor time of one thread, so that others on the machine do not count. Operations are counted by PyTorch, a
multiplication and an addition as two, in another run. Run alone it prints the page's table:

    pytest tests/benchmarks/test_unit_costs.py --override-ini addopts= -s
"""

from __future__ import annotations

import io
import shutil
import time
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import mobilenet_v2

from gan_lib import wrap
from gan_lib.core.runtime import make_fabric, threads
from gan_lib.data import ImageSplit
from gan_lib.data.reading import one_picture
from gan_lib.explainers import GANExplainer
from gan_lib.gan.conditions import ConditionMaker, FeatureMaker, StoredConditions, compute_conditions
from gan_lib.gan.generators import DISCRIMINATORS, ProjectionDiscriminator, make_generator
from gan_lib.gan.training import train_contrastive, train_supervised
from gan_lib.workbench import Places, Profile

IMAGES, SIZE = 16, 224


def cost(call, count):
    """Processor time of a call, and billions of operations of another, an image."""
    start = time.process_time()
    call()
    spent = (time.process_time() - start) / count
    with FlopCounterMode(display=False) as counter:
        call()
    return spent, counter.get_total_flops() / count / 1e9


@pytest.mark.timeout(36000)
def test_units(tmp_path):
    """Sizes of networks are those of the profile ``gpu``; times do not depend on weights or on what is seen."""
    recipe = Profile.load("gpu", Places.find().profiles).recipe
    drawn, units, device = np.random.default_rng(0), {}, make_fabric("cpu", "32-true")
    smooth = Image.fromarray(drawn.integers(0, 255, (12, 16, 3), dtype=np.uint8)).resize((500, 375))
    smooth.save(file := io.BytesIO(), "JPEG", quality=90)

    def fresh(name):
        shutil.rmtree(tmp_path / name, ignore_errors=True)
        return tmp_path / name

    with threads(1):

        def read():
            for _ in range(IMAGES):
                one_picture(Image.open(io.BytesIO(file.getvalue())), (SIZE, SIZE), "here")

        units["reading a JPEG of 500 x 375, cropping"] = cost(read, IMAGES)
        cnn = wrap(
            mobilenet_v2().eval(), mean=[0.5] * 3, std=[0.5] * 3, class_names=[str(k) for k in range(1000)]
        )
        cnn.requires_grad_(False)
        split = ImageSplit(
            torch.from_numpy(drawn.integers(0, 255, (IMAGES, 3, SIZE, SIZE), dtype=np.uint8)),
            torch.zeros(IMAGES, dtype=torch.long),
        )
        images = split.batch(slice(None)).images
        with torch.no_grad():
            cnn(images)
            units["prediction"] = cost(lambda: cnn(images), IMAGES)
        layer = ConditionMaker(cnn, (SIZE, SIZE), recipe.generator.conditions)
        units["conditions and target"] = cost(lambda: compute_conditions(layer, split, fresh("c"), 8), IMAGES)
        stored = StoredConditions(tmp_path / "c")
        sizes = vars(recipe.generator) | {"conditions": stored.count}
        generator, critic = (
            make_generator("lsft", **sizes),
            DISCRIMINATORS[recipe.discriminator.kind](recipe.discriminator),
        )
        few = torch.arange(2)
        usual = replace(recipe.supervised, batch_size=2, max_steps=1, epochs=1)
        units["supervised training, an epoch"] = cost(
            lambda: train_supervised(
                generator, critic, split.subset(few), stored.subset(few), fresh("s"), usual, device
            ),
            2,
        )
        explainer = GANExplainer(layer, generator)
        units["a map of LSFT"] = cost(lambda: explainer.attribute(images[:2], target=[0, 0]), 2)
        own = asdict(recipe.features)
        maker = FeatureMaker(cnn, (SIZE, SIZE), own.pop("layers"))
        one = make_generator("lsft", **own, conditions=len(maker.channels), features=maker.channels)
        by_contrast = replace(recipe.contrastive, batch_size=2, max_steps=1, epochs=1, held_out=2, mosaics=())
        units["contrastive training, an epoch"] = cost(
            lambda: train_contrastive(
                one,
                ProjectionDiscriminator(1000, recipe.critic),
                maker,
                split.subset(torch.arange(4)),
                fresh("k"),
                by_contrast,
                device,
            ),
            2,
        )
    size = sum(path.stat().st_size for path in (tmp_path / "c").iterdir()) / IMAGES
    for name, (spent, operations) in units.items():
        print(f"| {name} | {spent:.3g} | {operations:.3g} |")
    print(f"conditions: {size:.0f} bytes an image")
    assert all(spent > 0 for spent, _ in units.values())
