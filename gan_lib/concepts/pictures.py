"""Concept vectors as pictures: through a decoder of the layer's activations, and by plain ascent.

The supplement of arXiv 2502.03422 descends in the latent space of a GAN that decodes the layer's
activations, so that pictures stay near images. Plain activation maximisation (Erhan et al., 2009) with the
transformations that have become usual (Olah et al., 2017) is the comparison.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_lib.concepts.layers import HiddenLayer
from gan_lib.core.capture import frozen
from gan_lib.core.options import positive
from gan_lib.core.runtime import progress, seeded
from gan_lib.data import ImageSplit
from gan_lib.gan.objectives import discriminator_loss, generator_loss

WIDTH = 16  # channels of the decoder's last stage; each before has twice as many, up to 8 times
BATCH, RATE, BETAS = 32, 1e-3, (0.5, 0.99)  # of Adam, for decoder and discriminator
FEATURE_WEIGHT, ADVERSARIAL_WEIGHT = 0.5, 0.02  # beside the difference of the pixels
LEARNING_RATE = 0.05  # of Adam, for latent activations and for waves
EXCESS = 0.02  # weight of the penalty on latent activations that are larger than at the start
SHIFT, TURN, ZOOM = 4, 10.0, 0.1  # at most, before a step of plain ascent: pixels, degrees, share of the size


class Decoder(nn.Sequential):
    """Images (B, 3, H, W) in [0, 1] of activations (B, C, h, w): convolutions, and twofold enlargements.

    Raises:
        ValueError: ``image_size`` is not a power of two times ``size``, that of the activations.
    """

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


def _critic() -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise((3, WIDTH, 2 * WIDTH, 4 * WIDTH)):
        convolution = nn.utils.parametrizations.spectral_norm(nn.Conv2d(before, after, 4, 2, 1))
        layers += [convolution, nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers, nn.Conv2d(4 * WIDTH, 1, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(0))


def train_decoder(
    hidden: HiddenLayer, images: ImageSplit, epochs: int = 6, seed: int = 0
) -> tuple[Decoder, pd.DataFrame]:
    """Train a decoder of a layer's activations: pixels, the CNN's own activations, and a discriminator.

    Returns:
        The decoder on the CNN's device, in eval mode, and a row per step: ``step`` and the losses
        ``pixels``, ``features`` (relative), ``adversarial``, ``discriminator``.

    Raises:
        ValueError: fewer than one epoch, or no image.
    """
    positive(epochs=epochs, images=len(images))
    with seeded(seed):
        decoder = Decoder(hidden.channels, hidden.size, hidden.image_size).to(hidden.device)
        critic = _critic().to(hidden.device)
    optimizers = [torch.optim.Adam(net.parameters(), RATE, BETAS) for net in (decoder, critic)]
    log: list[dict[str, float]] = []
    for epoch in progress(range(epochs), "training the decoder"):
        batches = images.batches(BATCH, shuffle_seed=1000 * seed + epoch)
        log.extend(_decoder_step(hidden, decoder, critic, optimizers, batch.images) for batch in batches)
    return decoder.eval(), pd.DataFrame(log).rename_axis("step").reset_index()


def _decoder_step(
    hidden: HiddenLayer,
    decoder: Decoder,
    critic: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    pictures: Tensor,
) -> dict[str, float]:
    pictures = pictures.to(hidden.device)
    given = hidden(pictures)
    made = decoder(given)
    with frozen(hidden.cnn):
        again = hidden.with_gradient(made)
    losses = {
        "pixels": F.l1_loss(made, pictures),
        "features": (again - given).square().mean() / given.square().mean(),
        "adversarial": generator_loss(critic(made), "hinge"),
    }
    total = losses["pixels"] + FEATURE_WEIGHT * losses["features"]
    optimizers[0].zero_grad()
    (total + ADVERSARIAL_WEIGHT * losses["adversarial"]).backward()
    optimizers[0].step()
    optimizers[1].zero_grad()
    losses["discriminator"] = discriminator_loss(critic(pictures), critic(made.detach()), "hinge")
    losses["discriminator"].backward()
    optimizers[1].step()
    return {name: loss.item() for name, loss in losses.items()}


def agreement(hidden: HiddenLayer, images: Tensor, vectors: Tensor) -> Tensor:
    """Cosine (V,) between vectors (V, C) and the mean activation of one image each (V, 3, H, W)."""
    with frozen(hidden.cnn):
        means = hidden.with_gradient(images.to(hidden.device)).mean((2, 3))  # (V, C)
    return F.cosine_similarity(means, vectors.to(means))


def _descend(start: Tensor, loss: Callable[[Tensor], Tensor], steps: int, learning_rate: float) -> Tensor:
    """What is left of a tensor after steps of Adam down the sum of its losses (V,)."""
    moved = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([moved], learning_rate)
    with torch.enable_grad():
        for _ in range(steps):
            optimizer.zero_grad()
            loss(moved).sum().backward()
            optimizer.step()
    return moved.detach()


def decoded_concepts(
    hidden: HiddenLayer, decoder: Decoder, vectors: Tensor, steps: int = 100, seed: int = 0
) -> Tensor:
    """Pictures (V, 3, H, W) of concept vectors (V, C), by descent in the decoder's latent space.

    The latent activations start as the vector at every place, with a little noise from a seed, and are moved
    so that the CNN's mean activation for the decoded picture points where the vector points.
    """
    wanted = F.normalize(vectors.to(hidden.device).float(), dim=1)
    drawn = torch.Generator().manual_seed(seed)
    noise = torch.rand(len(wanted), hidden.channels, *hidden.size, generator=drawn).to(hidden.device)
    scale = float(hidden(torch.rand(8, 3, *hidden.image_size, generator=drawn)).flatten(1).std() + 1e-6)
    start = wanted[:, :, None, None] * hidden.channels**0.5 * (0.5 + noise)  # (V, C, h, w)

    def loss(latent: Tensor) -> Tensor:
        excess = (latent.relu() - start).relu().square().mean((1, 2, 3))  # larger than at the start
        return EXCESS * excess - agreement(hidden, decoder(latent.relu() * scale), wanted)

    with frozen(decoder):
        latent = _descend(start, loss, steps, LEARNING_RATE)
    with torch.no_grad():
        pictures: Tensor = decoder(latent.relu() * scale)
    return pictures.cpu()


def maximised_activation(hidden: HiddenLayer, vectors: Tensor, steps: int = 100, seed: int = 0) -> Tensor:
    """Pictures (V, 3, H, W) whose activations point where concept vectors (V, C) point, by plain ascent.

    The picture is a sum of waves, long ones weighted more, and is shifted, turned and zoomed at random
    before every step.
    """
    (height, width), count = hidden.image_size, len(vectors)
    drawn = torch.Generator().manual_seed(seed)
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
    length = (rows.square() + columns.square()).sqrt()  # (H, W // 2 + 1)
    falling = (1 / length.clamp(min=1 / max(height, width))).to(hidden.device)
    start = 0.01 * torch.randn(count, 3, *falling.shape, 2, generator=drawn)

    def picture(waves: Tensor) -> Tensor:
        made = torch.fft.irfft2(torch.view_as_complex(waves) * falling, s=(height, width), norm="ortho")
        return made.sigmoid()

    def loss(waves: Tensor) -> Tensor:
        draws = (2 * torch.rand(4, generator=drawn) - 1).tolist()
        angle, scale = math.radians(TURN * draws[0]), 1 + ZOOM * draws[3]
        cosine, sine = math.cos(angle) / scale, math.sin(angle) / scale
        right, down = (2 * SHIFT * draw / width for draw in draws[1:3])
        place = torch.tensor([[cosine, -sine, right], [sine, cosine, down]])  # (2, 3)
        grid = F.affine_grid(place.expand(count, 2, 3), [count, 3, height, width], False).to(hidden.device)
        # What comes in from beyond the edge is grey.
        moved = F.grid_sample(picture(waves) - 0.5, grid, align_corners=False) + 0.5
        return -agreement(hidden, moved, vectors)

    return picture(_descend(start.to(hidden.device), loss, steps, LEARNING_RATE)).cpu()
