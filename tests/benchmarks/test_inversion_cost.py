"""Guided feature inversion next to the way its public code goes about it."""

from __future__ import annotations

import pytest
import torch
from slow_inversion import Flaws, SlowInversion
from torch import nn

from gan_lib.classifiers import folded, make_classifier
from gan_lib.core.runtime import median_seconds
from gan_lib.inversion import PUBLISHED_STEP_2, GuidedInversion

ROUNDS = 3


@pytest.mark.parametrize("mixed", [False, True], ids=["float32", "bfloat16"])
def test_step_1_of_vgg19(record, mixed):
    """Random weights, 224 px, the published layers, ten iterations."""
    cnn = make_classifier("vgg19").eval()
    slow = SlowInversion(cnn.backbone, 35, 36, Flaws(other_blur=False), cnn.mean, cnn.std)
    coarse = torch.rand(8, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    images = nn.functional.interpolate(coarse, size=(224, 224), mode="bilinear")
    quick = folded(cnn.requires_grad_(False))
    inversion = GuidedInversion(quick)

    def ours(count):
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            return inversion.saliency(inversion.base(images[:count]))

    def theirs():
        with_gradients = cnn.backbone.requires_grad_(True)  # as torchvision hands it out
        made = slow.run(images[:1])
        with_gradients.requires_grad_(False)
        return made

    seconds = median_seconds({"one": lambda: ours(1), "eight": lambda: ours(8), "slow": theirs}, ROUNDS)
    kind = "bfloat16" if mixed else "float32"
    what = f"guided feature inversion, step 1, VGG19, 224 px, {kind}"
    record(what, "ours, one image", "the public code's way", seconds["one"] / seconds["slow"], ROUNDS)
    record(
        what,
        "ours, an image of eight",
        "the public code's way",
        seconds["eight"] / 8 / seconds["slow"],
        ROUNDS,
    )


def test_both_steps_of_vgg19_as_published(record):
    """Random weights, one picture of 224 px, 10 + 70 iterations, in passes: 10 of one image, 70 of two."""
    cnn = make_classifier("vgg19").eval().requires_grad_(False)
    image = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    inversion = GuidedInversion(folded(cnn) or cnn)

    def both():
        base = inversion.base(image)
        return inversion.discriminate(base, inversion.saliency(base), 0, PUBLISHED_STEP_2)

    def one_pass():
        own = image.clone().requires_grad_()
        return torch.autograd.grad(cnn(own)[0, 0], own)

    seconds = median_seconds({"both": both, "pass": one_pass}, rounds=1)
    what = "guided feature inversion, 10 + 70 iterations, VGG19, 224 px"
    record(what, "both steps", "a forward and backward pass", seconds["both"] / seconds["pass"], 1)
