"""A generator made ready for another CNN: only its adapters learn."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from gan_lib.classifiers import make_classifier
from gan_lib.gan.conditions import FeatureMaker
from gan_lib.gan.generators import (
    DiscriminatorSizes,
    ProjectionDiscriminator,
    load_generator,
    make_generator,
    parameter_count,
    save_generator,
    transplanted,
)
from gan_lib.gan.generators.conditioning import Adapter
from gan_lib.gan.training import ContrastiveOptions, train_contrastive

SIZES = {"width": 8, "condition_channels": 4, "sft_hidden": 4, "stem_stride": 8, "detail": 4, "blocks": 2}
OPTIONS = ContrastiveOptions(batch_size=8, held_out=20, validate_every=100, warmup_steps=1, max_steps=3)


def learned(name: str, before: int) -> bool:
    """Whether a tensor belongs to an adapter of one of the CNN's layers."""
    adapters = [f"condition_network.adapters.{index}." for index in range(before)]
    return name.startswith((*adapters, "output.finest."))


@pytest.fixture(scope="module")
def other(scenes):
    return FeatureMaker(make_classifier("slim_mobilenet", scenes.class_names), scenes.train.image_size, 2)


@pytest.fixture
def generator(scenes):
    torch.manual_seed(0)
    maker = FeatureMaker(make_classifier("slim_vgg", scenes.class_names), scenes.train.image_size, 2)
    return make_generator("lsft", conditions=3, features=maker.channels, **SIZES).eval()


@pytest.mark.parametrize("steps", [1, 3, None])
def test_adapters_alone_learn(scenes, other, generator, tmp_path, steps):
    fresh = transplanted(generator, other.channels)
    assert fresh.sizes.features == other.channels != generator.sizes.features
    critic = ProjectionDiscriminator(10, DiscriminatorSizes(4, 4))
    options = replace(OPTIONS, max_steps=steps, epochs=2)
    log = train_contrastive(fresh, critic, other, scenes.train, tmp_path, options)
    assert len(log) == (steps or 2 * 5)
    assert log["criterion"].notna().tolist() == [False] * (len(log) - 1) + [True]
    kept = generator.state_dict()
    changed = {name for name, value in fresh.state_dict().items() if not torch.equal(value, kept[name])}
    assert all(learned(name, 2) or name.endswith(("mean", "deviation")) for name in changed)
    trainable = [name for name, parameter in fresh.named_parameters() if parameter.requires_grad]
    assert trainable
    assert all(learned(name, 2) for name in trainable)
    assert all(parameter.requires_grad for parameter in generator.parameters()), "left as it was"
    save_generator(fresh, tmp_path)
    again = load_generator(tmp_path)
    pictures = scenes.test.batch(range(4)).images
    given = other(pictures).activations
    with torch.no_grad():
        assert torch.allclose(again(pictures, given), fresh(pictures, given), atol=1e-6)


def test_the_gradient_reaches_every_adapter(scenes, other, generator):
    fresh = transplanted(generator, other.channels)
    pictures = scenes.test.batch(range(4)).images
    given = other(pictures).activations
    fresh.prepare(given)
    fresh(pictures, given).square().mean().backward()
    moved = [parameter.grad.abs().sum() > 0 for parameter in fresh.parameters() if parameter.requires_grad]
    assert len(moved) == 6  # weight and bias: two layers, and the finest once more for the detail
    assert all(moved)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (4, 4)])
def test_adapters_standardise_by_hand(size):
    """``weight (x - mean) / deviation + bias``, at a smaller, the same and a larger size."""
    adapter = Adapter(2, 1)
    with torch.no_grad():
        adapter.weight.copy_(torch.tensor([3.0, -2.0]).view(1, 2, 1, 1))
        adapter.bias.fill_(0.5)
    # Of one channel mean 4 and deviation sqrt(20 / 3); the other says nothing, and is not blown up.
    seen = torch.stack([torch.tensor([[1.0, 3.0], [5.0, 7.0]]), torch.full((2, 2), 9.0)])[None]
    adapter.calibrate(seen)
    assert adapter.mean.tolist() == [4, 9]
    assert adapter.deviation.tolist() == pytest.approx([math.sqrt(20 / 3), 1e-3])
    given = seen.clone()
    given[:, 1] += 1e-3  # one deviation above its mean
    expected = 3 * (given[:, :1] - 4) / math.sqrt(20 / 3) - 2 + 0.5
    if size == (1, 1):
        expected = expected.mean((2, 3), keepdim=True)
    elif size == (4, 4):
        expected = F.interpolate(expected, size=size, mode="bilinear", align_corners=False)
    assert torch.allclose(adapter(given, size), expected, atol=0.01)


def test_what_is_kept_and_what_starts_anew(generator):
    """Evidence of as many channels is the same for every CNN; adapters of layers are not, even of equal width."""
    features = generator.sizes.features
    fresh = transplanted(generator, features)
    old, new = (made.condition_network.adapters for made in (generator, fresh))
    assert torch.equal(new[2].weight, old[2].weight)
    for index in (0, 1):
        assert new[index].weight.shape == old[index].weight.shape
        assert not torch.equal(new[index].weight, old[index].weight)
    assert not torch.equal(fresh.output.finest.weight, generator.output.finest.weight)
    assert torch.equal(fresh.stem.weight, generator.stem.weight)
    assert fresh.stem.weight is not generator.stem.weight


def test_evidence_of_other_channels_starts_anew(generator):
    features = (*generator.sizes.features[:-1], 64)  # a CNN whose evidence is the class's row of weights
    fresh = transplanted(generator, features)
    assert parameter_count(fresh) == sum(4 * channels + 4 for channels in features) + 4 * features[0] + 4


def test_what_cannot_be_transplanted_is_refused(generator):
    with pytest.raises(ValueError, match="3 conditions"):
        transplanted(generator, (8, 8))
    with pytest.raises(ValueError, match="maps"):
        transplanted(make_generator("lsft", conditions=3, width=8), (8, 8, 2))
