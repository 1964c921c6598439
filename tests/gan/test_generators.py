"""Generators: sizes, order of the conditions, formulas by hand, and ones from outside."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gan_lib.core.runtime import make_fabric
from gan_lib.explainers import GANExplainer
from gan_lib.gan.conditions import ConditionMaker, compute_conditions
from gan_lib.gan.generators import (
    GENERATORS,
    Discriminator,
    DiscriminatorSizes,
    Generator,
    GeneratorSizes,
    LSFTGenerator,
    conv3x3,
    generator_recipe,
    load_generator,
    make_generator,
    parameter_count,
    save_generator,
)
from gan_lib.gan.generators.conditioning import Adapter, FeatureConditions, MapConditions
from gan_lib.gan.generators.layers import SLOPE, PlainBlock, SFTBlock, SFTLayers, quieten
from gan_lib.gan.generators.variants import Contrast, DetailBranch
from gan_lib.gan.training import TrainingOptions, train_supervised

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


@pytest.mark.parametrize(("variant", "published"), [("lsft", 2_160_419), ("gsft", 3_156_195)])
def test_parameters_are_the_papers(variant, published):
    """The published generators draw three channels; ours, one, with two rows of weights less."""
    generator = make_generator(variant)
    ours = parameter_count(generator)
    generator.output = nn.Conv2d(64, 3, 3, padding=1)
    assert parameter_count(generator) == published
    assert published - ours == 2 * (64 * 9 + 1)


def test_grouped_transforms_equal_separate_ones():
    """Every layer of the bank is h * (1 + a) + b with two branches of its own."""
    layers = SFTLayers(3, GeneratorSizes(width=8, condition_channels=4, sft_hidden=5), shared=False)
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


def test_conditions_become_as_small_as_the_features():
    for stride in (1, 2, 4, 8):
        sizes = GeneratorSizes(conditions=2, condition_hidden=8, condition_channels=4, stem_stride=stride)
        made = MapConditions(sizes, shared=False)(torch.rand(1, 2, 16, 16), torch.rand(1, 3, 16, 16))
        assert made.shape == (1, 8, 16 // stride, 16 // stride)


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
    with pytest.raises(ValueError, match="width"):
        make_generator("lsft", width=0)
    with pytest.raises(ValueError, match="detail"):
        make_generator("lsft", detail=-1)
    with pytest.raises(ValueError, match="conditions"):
        make_generator("lsft", conditions=True)
    with pytest.raises(ValueError, match="3 conditions, but features of 2"):
        GeneratorSizes(conditions=3, features=(4, 5))
    with pytest.raises(KeyError, match="gsft"):
        make_generator("xsft")


def test_discriminator_sees_both_image_and_map_and_can_learn():
    torch.manual_seed(0)
    discriminator = Discriminator(DiscriminatorSizes(8, 2))
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


# -- generators from outside ---------------------------------------------------------------------


@pytest.fixture
def registered(monkeypatch):
    """What a test registers is forgotten afterwards."""
    monkeypatch.setattr(GENERATORS, "_things", dict(GENERATORS._things))


@pytest.fixture
def stored(tiny_net, scenes, tmp_path):
    return compute_conditions(ConditionMaker(tiny_net, (32, 32), 2), scenes.train, tmp_path / "conditions")


def two_steps(generator, scenes, stored, folder, steps=2):
    options = TrainingOptions(max_steps=steps, batch_size=8, checkpoint_every=1, ema_decay=0.5)
    critic = Discriminator(DiscriminatorSizes(4, 4))
    return train_supervised(generator, critic, scenes.train, stored, folder, options, make_fabric("cpu"))


def kept_and_read(generator, net, images, folder):
    """An explainer's maps, and those of what is read from its folder."""
    explainer = GANExplainer(ConditionMaker(net, (32, 32), 2), generator)
    explainer.save(folder)
    again = GANExplainer.from_pretrained(folder, net)
    assert type(again.generator) is type(generator)
    return explainer.attribute(images), again.attribute(images)


def test_a_generator_from_outside_is_trained_and_kept(registered, tiny_net, scenes, stored, tmp_path):
    @GENERATORS.register("adding")
    class AddingGenerator(Generator):
        shared = True

        def __init__(self, sizes=None):
            super().__init__(sizes)
            self.mix = conv3x3(self.sizes.condition_channels, self.sizes.width)

        def body(self, features, conditions):
            return features + self.mix(conditions)

    generator = make_generator("adding", **SMALL | {"conditions": 2}, stem_stride=4)
    before = generator.mix.weight.clone()
    log = two_steps(generator, scenes, stored, tmp_path / "run")
    assert len(log) == 2
    assert not torch.equal(generator.mix.weight, before)
    assert generator_recipe(generator)["variant"] == "adding"
    save_generator(generator, tmp_path / "generator")
    images, given = torch.rand(2, 3, 32, 32), torch.rand(2, 2, 32, 32)
    read = load_generator(tmp_path / "generator")
    assert torch.allclose(read(images, given), generator(images, given), atol=1e-6)
    made, again = kept_and_read(generator, tiny_net, images, tmp_path / "explainer")
    assert torch.equal(made, again)
    with pytest.raises(ValueError, match="another generator"):
        GENERATORS.register("adding", LSFTGenerator)


def test_a_subclass_that_nobody_registered_stays_itself(tiny_net, scenes, stored, tmp_path):
    """Neither an end of iteration nor the maps of the class it was made from."""

    class BackwardsGenerator(LSFTGenerator):
        def body(self, features, conditions):
            count = self.sizes.conditions
            return super().body(features, conditions.unflatten(1, (count, -1)).flip(1).flatten(1, 2))

    sizes = GeneratorSizes(**SMALL | {"conditions": 2}, stem_stride=4)
    torch.manual_seed(0)
    generator = BackwardsGenerator(sizes)
    two_steps(generator, scenes, stored, tmp_path / "run", steps=1)
    torch.manual_seed(0)
    resumed = BackwardsGenerator(sizes)
    with pytest.raises(ValueError, match="another generator"):
        two_steps(LSFTGenerator(sizes), scenes, stored, tmp_path / "run", steps=1)
    assert len(two_steps(resumed, scenes, stored, tmp_path / "run", steps=1)) == 1
    for parameter in resumed.parameters():  # far from zero: the order of the conditions makes a difference
        nn.init.normal_(parameter, std=0.3)
    images = torch.rand(2, 3, 32, 32)
    made, again = kept_and_read(resumed, tiny_net, images, tmp_path / "explainer")
    assert torch.equal(made, again)
    parent = LSFTGenerator(sizes)
    parent.load_state_dict(resumed.state_dict())
    own = GANExplainer(ConditionMaker(tiny_net, (32, 32), 2), parent.eval()).attribute(images)
    assert not torch.allclose(own, again, atol=1e-5)


# -- by hand -------------------------------------------------------------------------------------


class Noting(nn.Module):
    """A block that notes its name and what it was given."""

    def __init__(self, name, notes):
        super().__init__()
        self.name, self.notes = name, notes

    def forward(self, features, *modulation):
        self.notes.append((self.name, *(float(own.mean()) for own in modulation)))
        return features


def test_lsft_takes_condition_k_in_block_k_with_plain_blocks_between():
    generator, notes = make_generator("lsft", **SMALL), []
    generator.sft_blocks = nn.ModuleList(Noting(f"sft {i}", notes) for i in range(3))
    generator.plain_blocks = nn.ModuleList(Noting(f"plain {i}", notes) for i in range(2))
    pairs = [
        (torch.full((1, 8, 2, 2), 10.0 * i + 1), torch.full((1, 8, 2, 2), 10.0 * i + 2)) for i in range(3)
    ]
    del generator._modules["transforms"]
    generator.__dict__["transforms"] = lambda _: pairs
    generator.body(torch.rand(1, 8, 2, 2), torch.rand(1, 12, 2, 2))
    assert notes == [
        ("sft 0", 1, 2), ("plain 0",), ("sft 1", 11, 12), ("plain 1",), ("sft 2", 21, 22)
    ]  # fmt: skip


def test_gsft_closes_with_its_last_transform():
    """Two blocks that do nothing, then ``h * (1 + a) + b`` with a = 2, b = 3: 5 becomes 18."""
    generator, notes = make_generator("gsft", **SMALL), []
    generator.sft_blocks = nn.ModuleList(Noting(f"sft {i}", notes) for i in range(2))
    pairs = [(torch.full((1, 8, 2, 2), float(a)), torch.full((1, 8, 2, 2), a + 1.0)) for a in (0, 1, 2)]
    del generator._modules["transforms"]
    generator.__dict__["transforms"] = lambda _: pairs
    made = generator.body(torch.full((1, 8, 2, 2), 5.0), torch.rand(1, 4, 2, 2))
    assert notes == [("sft 0", 0, 1), ("sft 1", 1, 2)]
    assert torch.equal(made, torch.full((1, 8, 2, 2), 18.0))


def constant(conv, value):
    """A convolution that multiplies the sum of its input channels at the place itself by a value."""
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    with torch.no_grad():
        conv.weight[:, :, conv.weight.shape[2] // 2, conv.weight.shape[3] // 2] = value


def test_blocks_by_hand():
    block = SFTBlock(1)
    constant(block.conv, 2.0)
    one = torch.ones(1, 1, 1, 1)
    assert block(3 * one, 0.5 * one, -1 * one).item() == pytest.approx(3 + 2 * (3 * 1.5 - 1))
    assert block(3 * one, -1 * one, -1 * one).item() == pytest.approx(3), "2 * (0 - 1) is rectified"
    plain = PlainBlock(1)
    for conv in plain.convs[::2]:
        constant(conv, -1.0)
    # -2 -> leaky -0.2 -> twice 0.2, leaky keeps it -> -(0.2 + 0.2)
    assert plain(2 * one).item() == pytest.approx(2 - 0.4)


def test_quieten_divides_by_the_root_of_the_number_of_blocks():
    blocks = [PlainBlock(2) for _ in range(4)]
    before = [block.convs[-1].weight.clone() for block in blocks]
    first = blocks[0].convs[0].weight.clone()
    quieten(blocks)
    for block, own in zip(blocks, before, strict=True):
        assert torch.allclose(block.convs[-1].weight, own / 2)
        assert not block.convs[-1].bias.any()
    assert torch.equal(blocks[0].convs[0].weight, first)


def test_logits_are_stem_plus_body_through_the_output():
    """Stem 1, closed body 3 * 1: features 4, output 2 * 4 = 8; with a negative sum LeakyReLU's slope."""
    generator = make_generator("lsft", conditions=1, width=1, condition_hidden=1, condition_channels=1)
    generator.body = lambda features, conditions: features
    constant(generator.stem, 1 / 3)
    constant(generator.output, 2.0)
    images, given = torch.ones(1, 3, 4, 4), torch.rand(1, 1, 4, 4)
    for closing, expected in ((3.0, 8.0), (-3.0, 2 * SLOPE * -2)):
        constant(generator.closing, closing)
        assert generator.logits(images, given).flatten().tolist() == pytest.approx([expected] * 16)
    assert torch.allclose(generator(images, given), generator.logits(images, given).sigmoid())


def test_contrast_by_hand():
    """Of 0, 0, 0, 4: mean 1, deviation 2; every image by itself."""
    logits = torch.tensor([[0.0, 0, 0, 4], [7, 7, 7, 7]]).view(2, 1, 2, 2)
    made = Contrast(scale=3.0, shift=-3.0)(logits).flatten(1)
    assert made[0].tolist() == pytest.approx([-4.5, -4.5, -4.5, 1.5], abs=3e-3)
    assert made[1].tolist() == pytest.approx([-3.0] * 4)


def test_an_adapter_standardises_and_resizes():
    adapter = Adapter(2, 1)
    # Channels 1, 3 and 10, 30: means 2 and 20, deviations sqrt(2) and 10 sqrt(2).
    adapter.calibrate(torch.tensor([[[[1.0]], [[10.0]]], [[[3.0]], [[30.0]]]]))
    assert adapter.mean.tolist() == [2, 20]
    assert adapter.deviation.tolist() == pytest.approx([2**0.5, 10 * 2**0.5])
    with torch.no_grad():
        adapter.weight.copy_(torch.tensor([1.0, 10.0]).view(1, 2, 1, 1))
        adapter.bias.fill_(0.5)
    activation = torch.tensor([3.0, 30.0]).view(1, 2, 1, 1)
    expected = 0.5 + (1 + 10) / 2**0.5
    assert adapter(activation, (1, 1)).item() == pytest.approx(expected, rel=1e-5)
    for side in (2, 4):  # smaller than what is given: mean; larger: the same value everywhere
        large = activation.expand(1, 2, side, side).clone()
        assert adapter(large, (1, 1)).item() == pytest.approx(expected, rel=1e-5)
        assert adapter(activation, (side, side)).flatten().tolist() == pytest.approx([expected] * side**2)


def test_an_adapter_of_one_value_or_none():
    """A class's row of weights for one image has a mean, but no deviation."""
    adapter = Adapter(2, 1)
    adapter.calibrate(torch.tensor([1.0, 10.0]).view(1, 2, 1, 1))
    assert adapter.deviation.tolist() == [1, 1]
    assert adapter(torch.rand(3, 2, 1, 1), (2, 2)).isfinite().all()
    with pytest.raises(ValueError, match="at least one image"):
        adapter.calibrate(torch.rand(0, 2, 1, 1))


def test_details_by_hand():
    """Fine 1 plus finest 2 plus coarse 3 * 4 is 15; joint and output pass it on; rectified: -9 becomes -0.09."""
    sizes = GeneratorSizes(
        conditions=1, width=1, detail=1, features=(1,), condition_channels=1, stem_stride=2
    )
    branch = DetailBranch(sizes)
    for conv, value in ((branch.fine, 0.0), (branch.finest, 1.0), (branch.joint, 1.0), (branch.output, 1.0)):
        constant(conv, value)
    nn.init.ones_(branch.fine.bias)
    images, features, given = (
        torch.rand(1, 3, 4, 4),
        torch.full((1, 1, 2, 2), 3.0),
        torch.full((1, 1, 1, 1), 2.0),
    )
    for coarse, expected in ((4.0, 15.0), (-4.0, -9 * SLOPE**2)):
        constant(branch.coarse, coarse)
        made = branch(images, features, [given])
        assert made.flatten().tolist() == pytest.approx([expected] * 16)


def test_activations_enter_in_their_order():
    """Adapters that pass on 1 and -2: LSFT gets 1, then LeakyReLU's -0.2; GSFT their joint, here 10 times the sum."""
    sizes = GeneratorSizes(conditions=2, width=1, features=(1, 1), condition_channels=1)
    given, images = [torch.full((1, 1, 4, 4), 1.0), torch.full((1, 1, 4, 4), -2.0)], torch.rand(1, 3, 4, 4)
    for shared, expected in ((False, [1.0, -0.2]), (True, [8.0])):
        network = FeatureConditions(sizes, shared)
        for adapter in network.adapters:
            constant(adapter, 1.0)
        if shared:
            constant(network.joint, 10.0)
        assert network(given, images)[0, :, 2, 2].tolist() == pytest.approx(expected)
    with pytest.raises(ValueError, match="the generator takes"):
        network([given[0]], images)


def test_maps_are_processed_one_by_one_in_their_order():
    sizes = GeneratorSizes(**SMALL)
    network = MapConditions(sizes, shared=False)
    given, images = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    made = network(given, images)
    for index in range(3):
        own = network.network(given[:, index : index + 1])
        assert torch.allclose(made[:, 4 * index : 4 * index + 4], own, atol=1e-6)


@pytest.mark.parametrize("variant", ["lsft", "gsft"])
def test_no_image_and_one_condition(variant):
    generator = make_generator(variant, **SMALL | {"conditions": 1, "blocks": 1})
    assert generator(torch.rand(0, 3, 8, 8), torch.rand(0, 1, 8, 8)).shape == (0, 1, 8, 8)
    assert generator(torch.rand(1, 3, 8, 8), torch.rand(1, 1, 8, 8)).isfinite().all()
    with pytest.raises(ValueError, match="maps, not on activations"):
        generator.prepare([torch.rand(1, 2, 4, 4)])


def test_a_class_that_is_called_like_a_variant_is_itself():
    class LSFT(LSFTGenerator):
        pass

    assert type(make_generator("LSFT", blocks=1, width=8)) is LSFT
    assert type(make_generator("lsft", blocks=1, width=8)) is LSFTGenerator


def test_maps_begin_as_large_as_they_are_asked_to():
    """Standardised logits times 2, less 0.4: their mean and deviation, whatever the weights are."""
    torch.manual_seed(0)
    sizes = {"conditions": 1, "features": (2,), "stem_stride": 4, "width": 8, "contrast": [2.0, -0.4]}
    generator = make_generator("lsft", **sizes)
    logits = generator.logits(torch.rand(2, 3, 16, 16), [torch.rand(2, 2, 4, 4)])
    assert generator.sizes.contrast == (2.0, -0.4)
    torch.testing.assert_close(logits.mean((1, 2, 3)), torch.full((2,), -0.4), atol=1e-3, rtol=0)
    torch.testing.assert_close(logits.std((1, 2, 3)), torch.full((2,), 2.0), atol=0.1, rtol=0)
