"""Discriminators: their sizes, their blocks and the projection, by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import remove_parametrizations

from gan_lib.gan.generators import Discriminator, DiscriminatorSizes, ProjectionDiscriminator
from gan_lib.gan.generators.discriminators import DownBlock

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


def test_a_pair_is_an_image_and_its_map():
    """The map's branch is joined behind the image's, and the last layer's one number is the logit."""
    torch.manual_seed(0)
    critic = Discriminator(SMALL).eval()
    images, maps = torch.rand(2, 3, 16, 16), torch.rand(2, 1, 16, 16)
    joined = torch.cat([critic.image_branch(images), critic.map_branch(maps)], dim=1)
    assert joined.shape == (2, 8, 4, 4)
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
