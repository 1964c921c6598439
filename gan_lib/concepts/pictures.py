"""Concept vectors as pictures, through a GAN that decodes the layer's activations.

The supplement of arXiv 2502.03422 moves in the latent space of such a GAN, so that pictures stay near images.
Of a deep layer's activations nobody can tell the pixels again: a loss on pixels makes brown blur of what was
not told. So the decoder is to make what the CNN's own layers take for the image (Dosovitskiy and Brox, NIPS
2016, arXiv 1602.02644).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_lib.concepts.drawing import concept_score
from gan_lib.concepts.layers import HiddenLayer
from gan_lib.core.capture import (
    Capture,
    evaluation_mode,
    frozen,
    has_places,
    module_calls,
    numbered,
    spread,
)
from gan_lib.core.inputs import as_input
from gan_lib.core.options import positive
from gan_lib.core.runtime import progress, seeded
from gan_lib.data import ImageSplit
from gan_lib.gan.objectives import discriminator_loss, generator_loss

WIDTH = 16  # channels of the decoder's last stage; each before has twice as many, up to 8 times
BATCH, RATE, BETAS = 32, 1e-3, (0.5, 0.99)  # of Adam, for the decoder
DISCRIMINATOR_RATE = 5e-4
PERCEPTUAL_LAYERS = 3  # of the CNN, beside the decoded one
PIXEL_WEIGHT, ADVERSARIAL_WEIGHT = 0.5, 0.05  # beside the differences in the CNN's layers
LEARNING_RATE = 0.1  # of Adam, for latent activations
START, NOISE = -2.0, 0.1  # of these, in log-odds of their highest values
DEVIATIONS = 3.0  # above its mean a channel is highest


class Decoder(nn.Sequential):
    """Images (B, 3, H, W) in [0, 1] of activations (B, C, h, w): convolutions, and twofold enlargements.

    Attributes:
        typical, highest: (C,), the mean of each channel over images, and the most it is given in drawing.

    Raises:
        ValueError: ``image_size`` is not a power of two times ``size``, that of the activations.
    """

    typical: Tensor
    highest: Tensor

    def __init__(self, channels: int, size: tuple[int, int], image_size: tuple[int, int]) -> None:
        stages = (image_size[0] // size[0]).bit_length() - 1
        if (size[0] << stages, size[1] << stages) != tuple(image_size):
            raise ValueError(f"images of {image_size} are no power of two times activations of {size}")
        wide = [WIDTH * min(8, 2 ** (stages - stage)) for stage in range(stages + 1)]
        layers: list[nn.Module] = [nn.Conv2d(channels, wide[0], 3, padding=1), nn.LeakyReLU(0.1)]
        for before, after in itertools.pairwise(wide):
            layers += [nn.Upsample(scale_factor=2.0), nn.Conv2d(before, after, 3, padding=1)]
            layers += [nn.BatchNorm2d(after), nn.LeakyReLU(0.1)]
        super().__init__(*layers, nn.Conv2d(wide[-1], 3, 3, padding=1), nn.Sigmoid())
        for name in ("typical", "highest"):
            self.register_buffer(name, torch.zeros(channels))


def _critic() -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise((3, WIDTH, 2 * WIDTH, 4 * WIDTH)):
        convolution = nn.utils.parametrizations.spectral_norm(nn.Conv2d(before, after, 4, 2, 1))
        layers += [convolution, nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers, nn.Conv2d(4 * WIDTH, 1, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(0))


def train_decoder(
    hidden: HiddenLayer, images: ImageSplit, epochs: int = 6, seed: int = 0
) -> tuple[Decoder, pd.DataFrame]:
    """Train a decoder of a layer's activations: what the CNN's layers make of its pictures, a discriminator,
    and a little of the pixels.

    Returns:
        The decoder on the CNN's device, in eval mode, and a row per step: ``step`` and the losses
        ``features`` (relative, the mean over layers), ``pixels``, ``adversarial``, ``discriminator``.

    Raises:
        ValueError: fewer than one epoch, or no image.
    """
    positive(epochs=epochs, images=len(images))
    with seeded(seed):
        decoder = Decoder(hidden.channels, hidden.size, hidden.image_size).to(hidden.device)
        critic = _critic().to(hidden.device)
    layers = perceptual_layers(hidden)
    optimizers = [
        torch.optim.Adam(net.parameters(), rate, BETAS)
        for net, rate in ((decoder, RATE), (critic, DISCRIMINATOR_RATE))
    ]
    log: list[dict[str, float]] = []
    for epoch in progress(range(epochs), "training the decoder"):
        batches = images.batches(BATCH, shuffle_seed=1000 * seed + epoch)
        log.extend(
            _decoder_step(hidden, layers, decoder, critic, optimizers, batch.images) for batch in batches
        )
    decoder.typical, decoder.highest = _channels(hidden, images)
    return decoder.eval(), pd.DataFrame(log).rename_axis("step").reset_index()


def perceptual_layers(hidden: HiddenLayer) -> list[str]:
    """Convolutions before the hidden layer, spread over the depth from the first one on, and the layer."""
    example = torch.zeros(1, 3, *hidden.image_size, device=hidden.device)
    calls = module_calls(hidden.cnn, example)
    ran = [name for name, _, _ in calls]
    names = [numbered(ran, index) for index in range(len(ran))]
    before = [
        name
        for name, (_, module, made) in zip(names[: names.index(hidden.layer)], calls, strict=False)
        if isinstance(module, nn.Conv2d) and has_places(made)
    ]
    count = min(PERCEPTUAL_LAYERS + 1, len(before))  # the last one hardly differs from the layer
    return [*(spread(before, count)[:-1] if before else []), hidden.layer]


def _channels(hidden: HiddenLayer, images: ImageSplit) -> tuple[Tensor, Tensor]:
    """Mean and highest value (C,) of every channel, over images and places."""
    total, squares = torch.zeros(2, hidden.channels, dtype=torch.double, device=hidden.device)
    for batch in images.batches(BATCH):
        made = hidden(batch.images).double()  # (B, C, h, w)
        total += made.sum((0, 2, 3))
        squares += made.square().sum((0, 2, 3))
    count = len(images) * hidden.size[0] * hidden.size[1]
    mean = total / count
    deviation = (squares / count - mean.square()).clamp(min=0).sqrt()
    return mean.float(), (mean + DEVIATIONS * deviation).float()


def _decoder_step(
    hidden: HiddenLayer,
    layers: Sequence[str],
    decoder: Decoder,
    critic: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    pictures: Tensor,
) -> dict[str, float]:
    pictures = pictures.to(hidden.device)
    with torch.no_grad():
        given = _activations(hidden, layers, pictures)
    made = decoder(given[-1])
    with frozen(hidden.cnn):
        again = _activations(hidden, layers, made)
    apart = [
        (own - real).square().mean() / real.square().mean() for own, real in zip(again, given, strict=True)
    ]
    losses = {
        "features": torch.stack(apart).mean(),
        "pixels": F.l1_loss(made, pictures),
        "adversarial": generator_loss(critic(made), "hinge"),
    }
    total = losses["features"] + PIXEL_WEIGHT * losses["pixels"]
    optimizers[0].zero_grad()
    (total + ADVERSARIAL_WEIGHT * losses["adversarial"]).backward()
    optimizers[0].step()
    optimizers[1].zero_grad()
    losses["discriminator"] = discriminator_loss(critic(pictures), critic(made.detach()), "hinge")
    losses["discriminator"].backward()
    optimizers[1].step()
    return {name: loss.item() for name, loss in losses.items()}


def _activations(hidden: HiddenLayer, layers: Sequence[str], images: Tensor) -> list[Tensor]:
    """Of several layers (B, C, h, w), in their order, from one pass; the last is the hidden layer."""
    with evaluation_mode(hidden.cnn), Capture(hidden.cnn, list(layers)) as captured:
        hidden.cnn(images)
    before = [captured[layer] for layer in layers[:-1]]
    return [own.float() for own in (*before, hidden.places.split(captured[layers[-1]]))]


def decoded_concepts(
    hidden: HiddenLayer, decoder: Decoder, vectors: Tensor, steps: int = 80, seed: int = 0
) -> Tensor:
    """Pictures (V, 3, H, W) of concept vectors (V, C), by ascent in the decoder's latent space.

    Latent activations are moved so that the CNN's mean activation for the decoded picture moves along the
    vector (:func:`gan_lib.concepts.concept_score`). No channel may exceed what it reaches in images, for
    of other activations the decoder knows nothing (Nguyen et al., NIPS 2016, arXiv 1605.09304). All pictures
    begin with the same weak activations, drawn from a seed.

    Raises:
        ValueError: vectors of another number of channels.
    """
    if vectors.ndim != 2 or vectors.shape[1] != hidden.channels:
        raise ValueError(f"vectors must be (V, {hidden.channels}), not {tuple(vectors.shape)}")
    wanted = vectors.to(hidden.device).float()
    drawn = torch.Generator().manual_seed(seed)
    begun = START + NOISE * torch.randn(1, hidden.channels, *hidden.size, generator=drawn)
    shares = begun.to(hidden.device).repeat(len(wanted), 1, 1, 1).requires_grad_()  # (V, C, h, w), log-odds
    optimizer = torch.optim.Adam([shares], LEARNING_RATE)

    def picture() -> Tensor:
        made: Tensor = decoder(decoder.highest[:, None, None] * shares.sigmoid())
        return made

    with torch.enable_grad(), frozen(decoder), frozen(hidden.cnn):
        for _ in range(steps):
            activations = hidden.with_gradient(as_input(hidden.cnn, picture()))
            worth = concept_score(activations, wanted, decoder.typical).sum()
            (gradient,) = torch.autograd.grad(worth, shares)
            shares.grad = -gradient
            optimizer.step()
    with torch.no_grad():
        return picture().cpu()
