from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from gan_lib.gan.generators import (
    SLOPE,
    ConditionNetwork,
    Discriminator,
    GeneratorSizes,
    SFTLayers,
    generator_recipe,
    make_generator,
    parameter_count,
)

SMALL = {
    "conditions": 3,
    "width": 8,
    "condition_hidden": 8,
    "condition_channels": 4,
    "sft_hidden": 4,
    "blocks": 2,
}


@pytest.mark.parametrize("variant", ["lsft", "gsft"])
@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_maps_are_one_channel_in_unit_range_at_image_size(variant, stride):
    generator = make_generator(variant, **SMALL, stem_stride=stride)
    maps = generator(torch.rand(2, 3, 16, 24), torch.rand(2, 3, 16, 24))
    assert maps.shape == (2, 1, 16, 24)
    assert maps.min() >= 0
    assert maps.max() <= 1
    maps.mean().backward()
    assert all(parameter.grad is not None for parameter in generator.parameters())


def test_defaults_are_the_papers():
    sizes = make_generator("lsft").sizes
    assert sizes == GeneratorSizes(8, 64, 128, 32, 32, 32, 1)
    lsft, gsft = make_generator("lsft"), make_generator("gsft")
    assert (len(lsft.sft_blocks), len(lsft.plain_blocks)) == (8, 7)
    assert len(gsft.sft_blocks) == 32


def test_grouped_transforms_equal_separate_ones():
    """Every layer of the bank is h * (1 + a) + b with two branches of its own."""
    layers = SFTLayers(3, width=8, condition_channels=4, hidden=5)
    conditions = torch.rand(2, 3, 4, 6, 6)
    for index, (scale, shift) in enumerate(layers(conditions.flatten(1, 2))):
        for branch, result in enumerate((scale, shift)):
            number = 2 * index + branch
            hidden, out = slice(5 * number, 5 * number + 5), slice(8 * number, 8 * number + 8)
            first = F.conv2d(
                conditions[:, index], layers.first.weight[hidden], layers.first.bias[hidden], padding=1
            )
            second = layers.second.weight[out], layers.second.bias[out]
            expected = F.conv2d(F.leaky_relu(first, SLOPE), *second, padding=1)
            assert torch.allclose(result, expected, atol=1e-5)


def test_lsft_conditions_enter_in_order_and_images_do_not_mix():
    generator = make_generator("lsft", **SMALL).eval()
    images, conditions = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    maps = generator(images, conditions)
    assert not torch.allclose(maps, generator(images, conditions.flip(1)))
    assert torch.allclose(maps[:1], generator(images[:1], conditions[:1]), atol=1e-6)


def test_condition_network_keeps_the_size():
    for stride in (1, 2, 4, 8):
        assert ConditionNetwork(1, 8, 4, stride)(torch.rand(1, 1, 16, 16)).shape == (
            1,
            4,
            16 // stride,
            16 // stride,
        )


def test_recipe_builds_the_same_generator():
    generator = make_generator("gsft", **SMALL)
    again = make_generator(**generator_recipe(generator))
    assert parameter_count(again) == parameter_count(generator)
    again.load_state_dict(generator.state_dict())


def test_clear_errors():
    generator = make_generator("lsft", **SMALL, stem_stride=4)
    with pytest.raises(ValueError, match="conditions must be"):
        generator(torch.rand(2, 3, 16, 16), torch.rand(2, 4, 16, 16))
    with pytest.raises(ValueError, match="multiple"):
        generator(torch.rand(2, 3, 18, 18), torch.rand(2, 3, 18, 18))
    with pytest.raises(ValueError, match="stem_stride"):
        make_generator("lsft", stem_stride=3)
    with pytest.raises(ValueError, match="at least 1"):
        make_generator("lsft", width=0)
    with pytest.raises(KeyError, match="gsft"):
        make_generator("xsft")


def test_discriminator_sees_both_image_and_map_and_can_learn():
    torch.manual_seed(0)
    discriminator = Discriminator(width=8, stem_stride=2)
    images = torch.rand(16, 3, 17, 17)
    real, fake = torch.zeros(16, 1, 17, 17), torch.ones(16, 1, 17, 17)
    optimizer = torch.optim.Adam(discriminator.parameters(), 1e-2)
    before = discriminator(images, real)
    assert before.shape == (16,)
    assert not torch.allclose(before, discriminator(images.flip(0), real))
    for _ in range(60):
        loss = (
            F.softplus(-discriminator(images, real)).mean() + F.softplus(discriminator(images, fake)).mean()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (discriminator(images, real) > 0).all()
    assert (discriminator(images, fake) < 0).all()
