"""Discriminators: their sizes, their blocks and the projection, by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import remove_parametrizations

from gan_lib.gan.generators import (
    DISCRIMINATORS,
    Discriminator,
    DiscriminatorSizes,
    PairDiscriminator,
    ProjectionDiscriminator,
    PublishedDiscriminator,
    parameter_count,
)
from gan_lib.gan.generators.discriminators import DownBlock, ResidualStage
from gan_lib.gan.objectives import discriminator_loss

SMALL = DiscriminatorSizes(4, 2)


def test_projection_by_hand():
    """``linear(phi) + <embedding(y), phi>``: another class, another logit."""
    torch.manual_seed(0)
    critic = ProjectionDiscriminator(3, SMALL).eval()
    images, classes = torch.rand(4, 3, 16, 16), torch.tensor([0, 2, 1, 2])
    features, logits = critic.features(images), critic(images, classes)  # (4, 8), (4,)
    assert features.shape == (4, 8)
    for feature, label, logit in zip(features, classes, logits, strict=True):
        expected = feature @ critic.linear.weight[0] + feature @ critic.embedding.weight[label]
        assert logit.item() == pytest.approx((expected + critic.linear.bias).item(), rel=1e-4)


@pytest.mark.parametrize("side", [8, 7])
def test_a_block_halves_the_size_around_its_shortcut(side):
    """With convolutions of zero what is left is the mean of four pixels, through the shortcut and LeakyReLU."""
    block = DownBlock(1, 1)
    for layer in (block.convs[0], block.convs[2], block.shortcut):
        remove_parametrizations(layer, "weight")
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    nn.init.constant_(block.shortcut.weight, -2.0)
    features = torch.rand(1, 1, side, side)
    pooled = F.avg_pool2d(features, 2, ceil_mode=True)
    assert pooled.shape[-1] == 4
    assert torch.allclose(block(features), F.leaky_relu(-2 * pooled, 0.1))
    nn.init.ones_(block.convs[2].bias)
    assert torch.allclose(block(features), F.leaky_relu(1 - 2 * pooled, 0.1))


@pytest.mark.parametrize("kind", DISCRIMINATORS)
def test_a_pair_is_an_image_and_its_map(kind):
    """The map's branch is joined behind the image's, and the last layer's one number is the logit."""
    torch.manual_seed(0)
    critic = DISCRIMINATORS[kind](SMALL).eval()
    images, maps = torch.rand(2, 3, 16, 16), torch.rand(2, 1, 16, 16)
    joined = torch.cat([critic.image_branch(images), critic.map_branch(maps)], dim=1)
    assert joined.shape == (2, 8, 4, 4)
    assert critic(images, maps).shape == (2,)
    assert torch.equal(critic(images, maps), critic.dense(critic.joint(joined)).flatten())


def test_spectral_normalisation_of_every_weight():
    """A normalised weight's largest singular value is 1, as far as the power iteration has come."""
    torch.manual_seed(0)
    for critic in (Discriminator(SMALL), ProjectionDiscriminator(5, SMALL)):
        given = torch.zeros(2, 1, 16, 16) if isinstance(critic, Discriminator) else torch.tensor([0, 1])
        for _ in range(20):
            critic(torch.rand(2, 3, 16, 16), given)
        layers = [
            module for module in critic.modules() if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding)
        ]
        norms = torch.stack([torch.linalg.matrix_norm(layer.weight.flatten(1), 2) for layer in layers])
        assert torch.allclose(norms, torch.ones(()), atol=0.05)


def test_sizes():
    assert Discriminator(DiscriminatorSizes(8, 4)).image_branch[0].weight.shape == (8, 3, 8, 8)
    assert ProjectionDiscriminator(5, DiscriminatorSizes(8, 1)).features[0][0].weight.shape == (8, 3, 3, 3)
    with pytest.raises(ValueError, match=r"width\n.*greater than 0"):
        DiscriminatorSizes(width=0)
    with pytest.raises(ValueError, match="stem_stride"):
        DiscriminatorSizes(stem_stride=2.5)


# -- the published one -------------------------------------------------------------------------------


def conv(channels_in, channels_out, side=3):
    """Weights and biases of a convolution."""
    return channels_in * channels_out * side**2 + channels_out


def stage(channels_in, channels):
    return conv(channels_in, channels) + 8 * conv(channels, channels)


def test_published_parameters():
    """Counted layer by layer in the public code: 64 px, maps of three channels, three times max-pooled."""
    branches = 2 * stage(3, 64)
    joint = stage(128, 64) + stage(64, 32)
    dense = conv(8 * 8 * 32, 32, 1) + conv(32, 16, 1) + conv(16, 1, 1)
    assert branches + joint + dense == 1_122_209
    assert parameter_count(PublishedDiscriminator(map_channels=3)) == 1_122_209
    assert parameter_count(PublishedDiscriminator()) == 1_122_209 - 2 * 64 * 9


def test_a_stage_by_hand():
    """Nine convolutions of one channel that only scale: 2 in the first group, 3 in the second, -1 in the third.

    x becomes 2 x, then 2 x + 6 x = 8 x; the third group's ReLU leaves 0 of -8 x, so that the largest of four
    remains.
    """
    made = ResidualStage(1, 1)
    scales = {"first": 2.0, "second": 3.0, "third": -1.0}
    for name, group in made.named_children():
        for index in (0, 2, 4):
            nn.init.zeros_(group[index].weight)
            nn.init.zeros_(group[index].bias)
            group[index].weight.data[0, 0, 1, 1] = scales[name] if index == 0 else 1.0
    features = torch.tensor([[1.0, 2.0, 0.0], [4.0, 3.0, 5.0], [0.0, 1.0, -7.0]])[None, None]
    assert made(features).tolist() == [[[[32.0, 40.0], [8.0, 0.0]]]]
    made.third[0].weight.data[0, 0, 1, 1] = 0.5  # each is pooled on its own: 8 x + 4 x, of the largest x
    assert made(features).tolist() == [[[[48.0, 60.0], [12.0, 0.0]]]]
    # Two maxima at different places: those of features and of residual, not that of their sum.
    made.third[0].weight.data[0, 0, 1, 1] = 0.0
    made.third[0].weight.data[0, 0, 1, 0] = 1.0  # the pixel to the left
    assert made(features)[0, 0, 0].tolist() == [32.0 + 32.0, 40.0 + 24.0]


def test_every_group_is_three_convolutions_with_relus():
    made = ResidualStage(2, 4)
    for name, group in made.named_children():
        kinds = [type(own) for own in group]
        assert kinds == [nn.Conv2d, nn.ReLU] * 3
        assert [own.in_channels for own in group[::2]] == [2 if name == "first" else 4, 4, 4]


@pytest.mark.parametrize(("side", "stride"), [(64, 1), (48, 1), (17, 1), (64, 4), (8, 8)])
def test_the_weights_do_not_depend_on_the_size(side, stride):
    critic = PublishedDiscriminator(DiscriminatorSizes(4, stride))
    assert critic.dense[0].weight.shape == (32, 2 * 8 * 8)
    assert critic(torch.rand(2, 3, side, side), torch.rand(2, 1, side, side)).shape == (2,)


def test_64_pixels_are_flattened_as_they_are():
    critic = PublishedDiscriminator(DiscriminatorSizes(4, 1))
    features = torch.rand(2, 8, 32, 32)
    assert torch.equal(critic.joint(features), critic.joint[1](critic.joint[0](features)).flatten(1))


def test_published_weights_begin_as_keras_draws_them():
    """Glorot's uniform distribution, biases of zero."""
    critic = PublishedDiscriminator()
    for module in critic.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fans = sum(module.weight.shape[:2]) * module.weight[0, 0].numel()
            bound = (6 / fans) ** 0.5
            assert module.weight.abs().max() <= bound
            assert not module.bias.any()
    second = critic.joint[0].second[0].weight
    assert second.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)


@pytest.mark.parametrize("kind", DISCRIMINATORS)
def test_it_learns_what_can_be_told_apart(kind):
    """A real map is where its image is bright, a fake one where it is dark: the map alone tells nothing.

    A softmax over one unit would answer 1 to all of them, before and after.
    """
    torch.manual_seed(0)
    critic = DISCRIMINATORS[kind](DiscriminatorSizes(8, 2))
    assert isinstance(critic, PairDiscriminator)
    images = (torch.rand(32, 1, 4, 4) > 0.5).float().repeat(1, 3, 1, 1)
    images = F.interpolate(images, size=16)
    real, fake = images[:, :1], 1 - images[:, :1]
    optimizer = torch.optim.Adam(critic.parameters(), 2e-3)
    losses = []
    for _ in range(120):
        told = critic(images, real), critic(images, fake)
        loss = discriminator_loss(*told)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.5
    assert losses[-1] < 0.1
    assert (told[0] > 0).all()
    assert (told[1] < 0).all()


def test_by_name():
    assert list(DISCRIMINATORS) == ["spectral", "published"]
    with pytest.raises(KeyError, match="did you mean published"):
        DISCRIMINATORS["publisched"]
