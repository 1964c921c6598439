"""Concept vectors as pictures: through a decoder of the layer's activations, and by plain ascent.

The supplement of arXiv 2502.03422 descends in the latent space of a GAN that decodes the layer's
activations, so that pictures stay near images. Plain activation maximisation (Erhan et al., 2009) with the
transformations that have become usual (Olah et al., 2017) is the comparison.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_lib.concepts.layers import HiddenLayer
from gan_lib.core.capture import Capture, evaluation_mode
from gan_lib.core.runtime import progress, seeded
from gan_lib.data import ImageSplit
from gan_lib.data.images import batch_rows
from gan_lib.gan.objectives import discriminator_loss, generator_loss


@dataclass(frozen=True)
class DecoderOptions:
    """How a decoder is trained.

    Attributes:
        epochs, batch_size, learning_rate: of Adam, for decoder and discriminator.
        width: channels of the decoder's last stage; each stage before has twice as many, up to 8 times.
        feature_weight: of the difference between the activations of image and decoded image, relative.
        adversarial_weight: of the hinge loss.
        seed: of weights and order.
    """

    epochs: int = 6
    batch_size: int = 32
    learning_rate: float = 1e-3
    width: int = 16
    feature_weight: float = 0.5
    adversarial_weight: float = 0.02
    seed: int = 0


class Decoder(nn.Sequential):
    """Images (B, 3, H, W) in [0, 1] of activations (B, C, h, w): convolutions, and twofold enlargements.

    Args:
        channels: C.
        size: height and width of the activations.
        image_size: height and width of the images, a power of two as large.
        width: see :class:`DecoderOptions`.

    Raises:
        ValueError: the image is not a power of two times the activations.
    """

    def __init__(
        self, channels: int, size: tuple[int, int], image_size: tuple[int, int], width: int = 16
    ) -> None:
        ratios = {image // own for image, own in zip(image_size, size, strict=True)}
        stages = ratios.copy().pop().bit_length() - 1
        if len(ratios) != 1 or any(
            own << stages != image for image, own in zip(image_size, size, strict=True)
        ):
            raise ValueError(f"images of {image_size} are no power of two times activations of {size}")
        wide = [width * min(8, 2 ** (stages - stage)) for stage in range(stages + 1)]
        layers: list[nn.Module] = [nn.Conv2d(channels, wide[0], 3, padding=1), nn.LeakyReLU(0.1)]
        for before, after in itertools.pairwise(wide):
            layers += [nn.Upsample(scale_factor=2.0), nn.Conv2d(before, after, 3, padding=1)]
            layers += [nn.BatchNorm2d(after), nn.LeakyReLU(0.1)]
        super().__init__(*layers, nn.Conv2d(wide[-1], 3, 3, padding=1), nn.Sigmoid())


def train_decoder(
    hidden: HiddenLayer, images: ImageSplit, options: DecoderOptions | None = None
) -> tuple[Decoder, pd.DataFrame]:
    """Train a decoder of a layer's activations: pixels, the CNN's own activations, and a discriminator.

    Args:
        hidden: the layer, whose CNN is left as it is.
        images: training images.
        options: schedule and objective.

    Returns:
        The decoder on the CNN's device, in eval mode, and a row per step: ``step``, ``pixels``,
        ``features``, ``adversarial``, ``discriminator``.
    """
    options = options or DecoderOptions()
    device = next(hidden.cnn.parameters()).device
    with seeded(options.seed):
        decoder = Decoder(hidden.channels, hidden.size, hidden.image_size, options.width).to(device)
        critic = _critic(options.width).to(device)
    optimizers = [
        torch.optim.Adam(net.parameters(), options.learning_rate, (0.5, 0.99)) for net in (decoder, critic)
    ]
    log: list[dict[str, float]] = []
    for epoch in progress(range(options.epochs), "training the decoder"):
        rows_of = batch_rows(len(images), options.batch_size, shuffle_seed=1000 * options.seed + epoch)
        pictures = (images.batch(rows).images.to(device) for rows in rows_of)
        log.extend(_decoder_step(hidden, decoder, critic, optimizers, own, options) for own in pictures)
    return decoder.eval(), pd.DataFrame(log).rename_axis("step").reset_index()


def _critic(width: int) -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in ((3, width), (width, 2 * width), (2 * width, 4 * width)):
        layers += [
            nn.utils.parametrizations.spectral_norm(nn.Conv2d(before, after, 4, 2, 1)),
            nn.LeakyReLU(0.1),
        ]
    return nn.Sequential(*layers, nn.Conv2d(4 * width, 1, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(0))


def _decoder_step(
    hidden: HiddenLayer,
    decoder: Decoder,
    critic: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    pictures: Tensor,
    options: DecoderOptions,
) -> dict[str, float]:
    given = hidden(pictures)
    made = decoder(given)
    again = activations_with_gradient(hidden, made)
    losses = {
        "pixels": F.l1_loss(made, pictures),
        "features": (again - given).square().mean() / given.square().mean(),
        "adversarial": generator_loss(critic(made), "hinge"),
    }
    total = losses["pixels"] + options.feature_weight * losses["features"]
    optimizers[0].zero_grad()
    (total + options.adversarial_weight * losses["adversarial"]).backward()
    optimizers[0].step()
    optimizers[1].zero_grad()
    losses["discriminator"] = discriminator_loss(critic(pictures), critic(made.detach()), "hinge")
    losses["discriminator"].backward()
    optimizers[1].step()
    return {name: loss.item() for name, loss in losses.items()}


def activations_with_gradient(hidden: HiddenLayer, images: Tensor) -> Tensor:
    """Activations (B, C, h, w), part of the graph of the images (B, 3, H, W); never of the CNN's weights."""
    weights = [weight for weight in hidden.cnn.parameters() if weight.requires_grad]
    for weight in weights:
        weight.requires_grad_(False)
    try:
        with evaluation_mode(hidden.cnn), Capture(hidden.cnn, [hidden.layer]) as captured:
            hidden.cnn(images)
        return hidden.non_negative(hidden.grid(captured[hidden.layer]).float())
    finally:
        for weight in weights:
            weight.requires_grad_(True)


def agreement(hidden: HiddenLayer, images: Tensor, vectors: Tensor) -> Tensor:
    """Cosine (V,) between vectors (V, C) and the mean activation of one image each (V, 3, H, W)."""
    return F.cosine_similarity(activations_with_gradient(hidden, images).mean((2, 3)), vectors.to(images))


def decoded_concepts(
    hidden: HiddenLayer,
    decoder: Decoder,
    vectors: Tensor,
    steps: int = 100,
    learning_rate: float = 0.05,
    spread: float = 0.02,
    seed: int = 0,
) -> Tensor:
    """Pictures (V, 3, H, W) of concept vectors (V, C), by descent in the decoder's latent space.

    The latent activations start as the vector at every place, and are moved so that the CNN's mean
    activation for the decoded picture points where the vector points.

    Args:
        hidden: the layer.
        decoder: of its activations.
        vectors: (V, C).
        steps: of Adam.
        learning_rate: relative to the latent activations' size.
        spread: weight of the penalty on latents that are larger than at the start.
        seed: of the small noise at the start.
    """
    device = next(decoder.parameters()).device
    wanted = F.normalize(vectors.to(device).float(), dim=1)
    drawn = torch.Generator().manual_seed(seed)
    noise = torch.rand(len(wanted), hidden.channels, *hidden.size, generator=drawn)
    example = torch.rand(8, 3, *hidden.image_size, generator=drawn).to(device)
    scale = float(hidden(example).flatten(1).std() + 1e-6)
    start = wanted[:, :, None, None] * hidden.channels**0.5 * (0.5 + noise.to(device))  # (V, C, h, w)
    latent = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([latent], learning_rate)
    frozen = [weight for weight in decoder.parameters() if weight.requires_grad]
    for weight in frozen:
        weight.requires_grad_(False)
    try:
        with torch.enable_grad():
            for _ in range(steps):
                made = decoder(latent.relu() * scale)
                excess = (latent.relu() - start).relu().square().mean((1, 2, 3))
                loss = (spread * excess - agreement(hidden, made, wanted)).sum()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    finally:
        for weight in frozen:
            weight.requires_grad_(True)
    with torch.no_grad():
        return cast(Tensor, decoder(latent.relu() * scale)).cpu()


def _transformation(angle: float, right: float, down: float, scale: float, side: int) -> Tensor:
    """An affine transformation (1, 2, 3): degrees, pixels of an image of a side, and a factor."""
    radians = math.radians(angle)
    cosine, sine = math.cos(radians) / scale, math.sin(radians) / scale
    return torch.tensor([[[cosine, -sine, 2 * right / side], [sine, cosine, 2 * down / side]]])


def maximised_activation(
    hidden: HiddenLayer,
    vectors: Tensor,
    steps: int = 100,
    learning_rate: float = 0.05,
    shift: int = 4,
    turn: float = 10.0,
    zoom: float = 0.1,
    seed: int = 0,
) -> Tensor:
    """Pictures (V, 3, H, W) whose activations point where concept vectors (V, C) point, by plain ascent.

    The picture is a sum of waves, long ones weighted more, and is shifted, turned and zoomed at random
    before every step.

    Args:
        hidden: the layer.
        vectors: (V, C).
        steps: of Adam.
        learning_rate: of the waves' amplitudes.
        shift: largest, in pixels.
        turn: largest, in degrees.
        zoom: largest change of size, as a share.
        seed: of start and transformations.
    """
    device = next(hidden.cnn.parameters()).device
    wanted = vectors.to(device).float()
    height, width = hidden.image_size
    drawn = torch.Generator().manual_seed(seed)
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
    falling = 1 / (rows.square() + columns.square()).sqrt().clamp(
        min=1 / max(height, width)
    )  # (H, W // 2 + 1)
    start = 0.01 * torch.randn(len(wanted), 3, *falling.shape, 2, generator=drawn)
    waves = start.to(device).requires_grad_()
    falling = falling.to(device)

    def picture() -> Tensor:
        made = torch.fft.irfft2(torch.view_as_complex(waves) * falling, s=(height, width), norm="ortho")
        return made.sigmoid()

    optimizer = torch.optim.Adam([waves], learning_rate)
    with torch.enable_grad():
        for _ in range(steps):
            draws = (2 * torch.rand(4, generator=drawn) - 1).tolist()
            place = _transformation(
                turn * draws[0], shift * draws[1], shift * draws[2], 1 + zoom * draws[3], width
            )
            grid = F.affine_grid(place.expand(len(wanted), -1, -1), [len(wanted), 3, height, width], False)
            # What comes in from beyond the edge is grey.
            moved = F.grid_sample(picture() - 0.5, grid.to(device), align_corners=False) + 0.5
            loss = -agreement(hidden, moved, wanted).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        return picture().cpu()
