"""What the generators cost beside the CNN's own Grad-CAMs, and what grouping the transforms saves."""

from __future__ import annotations

import torch
from conftest import median_seconds
from torch import nn
from torch.nn import functional as F

from gan_lib.classifiers import make_classifier
from gan_lib.gan.conditions import ConditionMaker
from gan_lib.gan.generators import GeneratorSizes, conv3x3, make_generator
from gan_lib.gan.generators.layers import SLOPE, SFTLayers

ROUNDS = 15
CPU_SIZES = {
    "width": 16,
    "condition_hidden": 32,
    "condition_channels": 16,
    "sft_hidden": 16,
    "stem_stride": 8,
}


def test_generator_beside_the_conditions(record, benchmark):
    cnn = make_classifier("slim_vgg", [str(i) for i in range(10)]).eval()
    maker = ConditionMaker(cnn, (64, 64))
    images = torch.rand(32, 3, 64, 64)
    cgma = maker(images).cgma
    generators = {name: make_generator(name, **CPU_SIZES).eval() for name in ("lsft", "gsft")}

    def run(name):
        with torch.no_grad():
            return generators[name](images, cgma)

    contestants = {
        "conditions": lambda: maker(images),
        "lsft": lambda: run("lsft"),
        "gsft": lambda: run("gsft"),
    }
    seconds = median_seconds(contestants, ROUNDS)
    for name in generators:
        ratio = seconds[name] / seconds["conditions"]
        record(
            "forward pass, 32 images at 64 px, cpu profile",
            name,
            "its conditions from slim_vgg",
            ratio,
            ROUNDS,
        )
    benchmark.pedantic(run, args=("lsft",), rounds=3)


def test_grouped_transforms(record, benchmark):
    sizes = GeneratorSizes(width=16, condition_channels=16, sft_hidden=16)
    grouped = SFTLayers(8, sizes, shared=False)
    branches = nn.ModuleList(
        nn.ModuleList(nn.Sequential(conv3x3(16, 16), nn.LeakyReLU(SLOPE), conv3x3(16, 16)) for _ in range(2))
        for _ in range(8)
    )
    conditions = torch.rand(16, 8 * 16, 8, 8)

    def together():
        sum(scale.mean() + shift.mean() for scale, shift in grouped(conditions)).backward()

    def apart():
        parts = conditions.chunk(8, 1)
        total = sum(
            branch(part).mean() for pair, part in zip(branches, parts, strict=True) for branch in pair
        )
        F.relu(total).backward()

    seconds = median_seconds({"together": together, "apart": apart}, ROUNDS)
    record(
        "8 SFT layers, forward and backward",
        "grouped convolutions",
        "separate ones",
        seconds["together"] / seconds["apart"],
        ROUNDS,
    )
    benchmark.pedantic(together, rounds=3)
    assert seconds["together"] < seconds["apart"]
