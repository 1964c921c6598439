"""Concepts drawn as pictures."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

from gan_lib.concepts import pictures
from gan_lib.concepts.pictures import (
    Decoder,
    agreement,
    decoded_concepts,
    maximised_activation,
    train_decoder,
)
from gan_lib.data import ImageSplit


def test_concepts_are_drawn(net, hidden, monkeypatch):
    coarse = torch.rand(80, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    smooth = F.interpolate(coarse, size=(16, 16), mode="bilinear")
    split = ImageSplit((255 * smooth).to(torch.uint8), torch.zeros(80).long())
    weights = [weight.clone() for weight in net.state_dict().values()]
    monkeypatch.setattr(pictures, "BATCH", 10)
    monkeypatch.setattr(pictures, "WIDTH", 4)
    monkeypatch.setattr(pictures, "RATE", 5e-3)
    decoder, log = train_decoder(hidden, split, epochs=10)
    assert log["step"].tolist() == list(range(80))
    assert log["features"].tail(8).mean() < log["features"].head(8).mean()
    assert decoder(hidden(split.batch(range(2)).images)).shape == (2, 3, 16, 16)
    assert all(torch.equal(a, b) for a, b in zip(weights, net.state_dict().values(), strict=True))
    vectors = F.normalize(hidden(split.batch(range(3)).images).mean((2, 3)) ** 4, dim=1)
    for draw in (
        lambda steps: decoded_concepts(hidden, decoder, vectors, steps),
        lambda steps: maximised_activation(hidden, vectors, steps),
    ):
        begun, made = draw(0), draw(60)
        assert made.shape == (3, 3, 16, 16)
        assert made.min() >= 0
        assert made.max() <= 1
        assert agreement(hidden, made, vectors).mean() > agreement(hidden, begun, vectors).mean() + 0.005


def test_a_step_of_the_decoder_by_hand(net, hidden, split, monkeypatch):
    """Losses as formulas, and Adam's first step: every weight moves by the learning rate, down its gradient."""
    monkeypatch.setattr(pictures, "WIDTH", 4)
    torch.manual_seed(0)
    decoder, critic = Decoder(10, (8, 8), (16, 16)).train(), pictures._critic()
    images = split.batch(range(6)).images
    own_decoder, own_critic = copy.deepcopy(decoder), copy.deepcopy(critic)
    optimizers = [torch.optim.Adam(part.parameters(), 1e-3, pictures.BETAS) for part in (decoder, critic)]
    losses = pictures._decoder_step(hidden, decoder, critic, optimizers, images)

    made = own_decoder(net.features(images))
    features = (net.features(made) - net.features(images)).square().sum() / net.features(
        images
    ).square().sum()
    pixels = (made - images).abs().mean()
    adversarial = -own_critic(made).mean()
    (pixels + 0.5 * features + 0.02 * adversarial).backward()
    gradients = [weight.grad.clone() for weight in own_decoder.parameters()]
    own_critic.zero_grad()
    real, fake = own_critic(images), own_critic(made.detach())
    discriminator = ((1 - real).relu() + (1 + fake).relu()).mean() / 2
    expected = {
        "pixels": pixels,
        "features": features,
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


def test_a_decoder_needs_a_power_of_two():
    with pytest.raises(ValueError, match="power of two"):
        Decoder(4, (7, 7), (64, 64))
