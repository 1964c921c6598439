"""A generator made ready for another CNN: only its adapters learn."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gan_lib.classifiers import make_classifier
from gan_lib.gan.conditions import FeatureMaker
from gan_lib.gan.generators import ProjectionDiscriminator, make_generator, parameter_count, transplanted
from gan_lib.gan.training import ContrastiveOptions, load_generator, save_generator, train_contrastive

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
    critic = ProjectionDiscriminator(10, 4, 4)
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


def test_evidence_of_other_channels_starts_anew(generator):
    features = (*generator.sizes.features[:-1], 64)  # a CNN whose evidence is the class's row of weights
    fresh = transplanted(generator, features)
    assert parameter_count(fresh) == sum(4 * channels + 4 for channels in features) + 4 * features[0] + 4


def test_what_cannot_be_transplanted_is_refused(generator):
    with pytest.raises(ValueError, match="3 conditions"):
        transplanted(generator, (8, 8))
    with pytest.raises(ValueError, match="maps"):
        transplanted(make_generator("lsft", conditions=3, width=8), (8, 8, 2))
