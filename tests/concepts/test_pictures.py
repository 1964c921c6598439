"""Concepts drawn through a decoder of the layer's activations."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gan_lib.concepts import HiddenLayer, concept_score, pictures
from gan_lib.concepts.pictures import Decoder, decoded_concepts, perceptual_layers, train_decoder
from gan_lib.data import ImageSplit


@pytest.fixture
def smooth():
    coarse = torch.rand(80, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    large = F.interpolate(coarse, size=(16, 16), mode="bilinear")
    return ImageSplit((255 * large).to(torch.uint8), torch.zeros(80).long())


def test_concepts_are_drawn(net, hidden, smooth, monkeypatch):
    weights = [weight.clone() for weight in net.state_dict().values()]
    monkeypatch.setattr(pictures, "BATCH", 10)
    monkeypatch.setattr(pictures, "WIDTH", 4)
    monkeypatch.setattr(pictures, "RATE", 5e-3)
    decoder, log = train_decoder(hidden, smooth, epochs=10)
    assert log["step"].tolist() == list(range(80))
    assert log["features"].tail(8).mean() < log["features"].head(8).mean()
    given = hidden(smooth.batch(range(80)).images)
    assert decoder(given[:2]).shape == (2, 3, 16, 16)
    vectors = F.normalize(given[:3].mean((2, 3)) ** 4, dim=1)
    begun, made = (decoded_concepts(hidden, decoder, vectors, steps) for steps in (0, 60))
    assert made.shape == (3, 3, 16, 16)
    assert 0 <= made.min() <= made.max() <= 1
    worth = [concept_score(hidden(own), vectors, decoder.typical) for own in (begun, made)]
    assert (worth[1] > worth[0]).all()
    assert torch.equal(begun[0], begun[1])  # all begin alike
    # After few steps: later ones enlarge how a batch of another length is rounded.
    together, alone = (decoded_concepts(hidden, decoder, own, 10) for own in (vectors, vectors[1:2]))
    assert (together[1:2] - begun[1:2]).abs().max() > 0.05
    assert torch.allclose(together[1:2], alone, atol=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(weights, net.state_dict().values(), strict=True))
    assert not decoder.training


def test_a_channels_mean_and_highest_value(hidden, smooth):
    """Over images and places at once, three deviations above the mean."""
    typical, highest = pictures._channels(hidden, smooth)
    given = hidden(smooth.batch(range(80)).images).permute(1, 0, 2, 3).flatten(1).double()
    assert torch.allclose(typical.double(), given.mean(1), atol=1e-5)
    assert torch.allclose(highest.double(), given.mean(1) + 3 * given.std(1, correction=0), atol=1e-5)


def test_layers_that_pictures_are_compared_in(hidden):
    """Of three convolutions the last hardly differs from the layer behind it."""
    assert perceptual_layers(hidden) == ["features.0", "features.3", "features.6"]
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)).eval()
    plain(torch.zeros(1, 3, 16, 16))
    assert perceptual_layers(HiddenLayer(plain, "1", (16, 16))) == ["1"]


def test_a_step_of_the_decoder_by_hand(net, hidden, split, monkeypatch):
    """Losses as formulas, and Adam's first step: every weight moves by the learning rate, down its gradient."""
    monkeypatch.setattr(pictures, "WIDTH", 4)
    torch.manual_seed(0)
    decoder, critic = Decoder(10, (8, 8), (16, 16)).train(), pictures._critic()
    images = split.batch(range(6)).images
    own_decoder, own_critic = copy.deepcopy(decoder), copy.deepcopy(critic)
    optimizers = [torch.optim.Adam(part.parameters(), 1e-3, pictures.BETAS) for part in (decoder, critic)]
    layers = ["features.0", "features.6"]
    losses = pictures._decoder_step(hidden, layers, decoder, critic, optimizers, images)

    made = own_decoder(net.features(images))
    first = (net.features[0](made) - net.features[0](images)).square().sum()
    last = (net.features(made) - net.features(images)).square().sum()
    first = first / net.features[0](images).square().sum()
    features = (first + last / net.features(images).square().sum()) / 2
    pixels = (made - images).abs().mean()
    adversarial = -own_critic(made).mean()
    (features + 0.5 * pixels + 0.05 * adversarial).backward()
    gradients = [weight.grad.clone() for weight in own_decoder.parameters()]
    own_critic.zero_grad()
    real, fake = own_critic(images), own_critic(made.detach())
    discriminator = ((1 - real).relu() + (1 + fake).relu()).mean() / 2
    expected = {
        "features": features,
        "pixels": pixels,
        "adversarial": adversarial,
        "discriminator": discriminator,
    }
    assert losses == pytest.approx({name: loss.item() for name, loss in expected.items()}, rel=1e-3)
    discriminator.backward()
    gradients += [weight.grad for weight in own_critic.parameters()]
    now = [*decoder.parameters(), *critic.parameters()]
    before = [*own_decoder.parameters(), *own_critic.parameters()]
    for weight, old, gradient in zip(now, before, gradients, strict=True):
        clear = gradient.abs() > 1e-4
        assert torch.allclose((weight - old)[clear], -1e-3 * gradient.sign()[clear], atol=1e-5)


def test_zero_epochs_and_no_image_are_refused(hidden, split):
    for images, epochs in ((split, 0), (split.subset(torch.arange(0)), 1)):
        with pytest.raises(ValueError, match="must be at least 1"):
            train_decoder(hidden, images, epochs)
    with pytest.raises(ValueError, match=r"vectors must be \(V, 10\)"):
        decoded_concepts(hidden, Decoder(10, (8, 8), (16, 16)), torch.rand(2, 9))


def test_a_decoder_needs_a_power_of_two():
    with pytest.raises(ValueError, match="power of two"):
        Decoder(4, (7, 7), (64, 64))
