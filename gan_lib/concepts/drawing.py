"""Pictures of what a CNN looks for, as sharp as its images: only the phases of the waves are sought.

A picture that is free to be anything becomes noise that a CNN takes for its class and nobody else does.
MACO (Fel et al., "Unlocking Feature Visualization for Deep Neural Networks with MAgnitude Constrained
Optimization", NeurIPS 2023, arXiv 2306.06805) holds the magnitude of every wave at what natural images have
in the mean and seeks the phases, which say where something is. Here the magnitudes are those of the
data's own images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from gan_lib.classifiers import folded
from gan_lib.classifiers.copies import FOLDING_ERROR
from gan_lib.concepts.layers import HiddenLayer
from gan_lib.core.capture import evaluation_mode, frozen
from gan_lib.core.inputs import as_input, at_once
from gan_lib.core.options import positive
from gan_lib.core.runtime import progress
from gan_lib.data import ImageSplit

Score = Callable[[Tensor, Tensor], Tensor]  # of pictures (B, 3, H, W), of whichever of the things drawn (B,)

MARGIN = 0.02  # black and white are so far from 0 and 1 that their log-odds are finite
LEARNING_RATE = 0.3  # of NAdam, radians
SIDES = (0.5, 1.0)  # of the crops, share of the picture's
NOISE = 0.05  # standard deviation of what is added to a crop
LEAST_COSINE = 0.1  # a score that is 0 has no gradient
READ_AT_ONCE = 128  # images of whose waves the magnitude is taken


class Spectrum(NamedTuple):
    """What all pictures of a data set have in common: how strong every wave is, and the colours.

        spectrum = Spectrum.of(images)
        spectrum.picture(torch.rand(4, *spectrum.magnitude.shape) * 6.28)  # (4, 3, H, W) in [0, 1]

    Images are taken in log-odds, so that whatever the phases are, a picture lies in [0, 1]; and in three
    colours that vary independently.

    Attributes:
        magnitude: (3, H, W // 2 + 1), the root of the mean square over images; 0 for the mean.
        colours: (3, 3), orthogonal, from the independent colours to red, green and blue.
        mean: (3,), of red, green and blue, in log-odds.
        size: height and width of the pictures.
    """

    magnitude: Tensor
    colours: Tensor
    mean: Tensor
    size: tuple[int, int]

    @classmethod
    def of(cls, images: Tensor | ImageSplit) -> Spectrum:
        """That of images (N, 3, H, W) in [0, 1], which are read twice, a few at a time.

        Raises:
            ValueError: no image, images outside [0, 1], or all of them of one colour.
        """
        split = ImageSplit.of(images)
        positive(images=len(split))
        total, products = torch.zeros(3, dtype=torch.double), torch.zeros(3, 3, dtype=torch.double)
        pixels = len(split) * math.prod(split.image_size)
        for batch in split.batches(READ_AT_ONCE):
            colours = _log_odds(batch.images).permute(1, 0, 2, 3).flatten(1).double()  # (3, B * H * W)
            total += colours.sum(1)
            products += colours @ colours.mT
        mean = total / pixels
        variances, directions = torch.linalg.eigh(products / pixels - torch.outer(mean, mean))
        if variances.max() <= 0:
            raise ValueError("the images are of one colour throughout: there is no wave in them")
        colours_of = directions.float()  # (3, 3)
        power = torch.zeros(3, split.image_size[0], split.image_size[1] // 2 + 1, dtype=torch.double)
        for batch in split.batches(READ_AT_ONCE):
            power += _waves(batch.images, colours_of, mean.float()).abs().double().square().sum(0)
        power[:, 0, 0] = 0
        return cls((power / len(split)).sqrt().float(), colours_of, mean.float(), split.image_size)

    def to(self, device: torch.device) -> Spectrum:
        """The same on a device."""
        return Spectrum(self.magnitude.to(device), self.colours.to(device), self.mean.to(device), self.size)

    def picture(self, phases: Tensor) -> Tensor:
        """Pictures (V, 3, H, W) in [0, 1] whose waves have these phases (V, 3, H, W // 2 + 1), in radians."""
        waves = torch.polar(self.magnitude.to(phases).expand_as(phases), phases)
        independent = torch.fft.irfft2(waves, s=self.size, norm="ortho")  # (V, 3, H, W)
        coloured = torch.einsum("ij,vjhw->vihw", self.colours.to(phases), independent)
        odds = (coloured + self.mean.to(phases)[:, None, None]).sigmoid()
        return ((odds - MARGIN) / (1 - 2 * MARGIN)).clamp(0, 1)


def _log_odds(images: Tensor) -> Tensor:
    return (MARGIN + (1 - 2 * MARGIN) * images).logit()


def _waves(images: Tensor, colours: Tensor, mean: Tensor) -> Tensor:
    """Waves (B, 3, H, W // 2 + 1), complex, of images (B, 3, H, W) in independent colours, without borders.

    A Fourier transform goes on from the right edge at the left one: the step there would make crosses of
    fine lines in every picture. The smooth image that has the same steps is taken off (Moisan, "Periodic plus
    Smooth Image Decomposition", 2011, equations 8 to 11).
    """
    centred = _log_odds(images) - mean[:, None, None]
    independent = torch.einsum("ij,bjhw->bihw", colours.mT, centred)  # (B, 3, H, W)
    steps = torch.zeros_like(independent)
    down, right = independent[..., -1, :] - independent[..., 0, :], independent[..., -1] - independent[..., 0]
    steps[..., 0, :] += down
    steps[..., -1, :] -= down
    steps[..., 0] += right
    steps[..., -1] -= right
    height, width = images.shape[-2:]
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
    laplacian = 2 * (2 * math.pi * rows).cos() + 2 * (2 * math.pi * columns).cos() - 4  # (H, W // 2 + 1)
    laplacian[0, 0] = math.inf  # the mean stays
    return torch.fft.rfft2(independent, norm="ortho") - torch.fft.rfft2(steps, norm="ortho") / laplacian


class Drawn(NamedTuple):
    """Pictures, and which parts of them the CNN asked for.

    Attributes:
        pictures: (V, 3, H, W) in [0, 1].
        asked: (V, 1, H, W) in [0, 1], the gradients at every pixel summed over all steps.
    """

    pictures: Tensor
    asked: Tensor


def draw(
    score: Score, count: int, spectrum: Spectrum, steps: int = 256, crops: int = 6, seed: int = 0
) -> Drawn:
    """Pictures that a score grows for, by ascent on the phases of their waves.

        classes = torch.tensor([3, 8])
        draw(lambda pictures, which: cnn(pictures).gather(1, classes[which][:, None])[:, 0], 2, spectrum)

    Before every step some crops of each picture, half of its side or more, are enlarged to its size, and a
    little noise is added to them: what shows only in one place and at one size is not worth drawing. All
    pictures start from the same phases and are cropped alike, so that each is the same drawn alone.

    Args:
        score: of pictures (B, 3, H, W) in the graph, and of whichever of the ``count`` things each is of
            (B,); differentiable, (B,).
        count: how many things V are drawn.
        spectrum: of the data's images; says the size and the device.
        steps: of NAdam.
        crops: of each picture, a step.
        seed: of the first phases, the crops and the noise.

    Raises:
        ValueError: no picture or no crop.
    """
    positive(pictures=count, crops=crops)
    drawn = torch.Generator().manual_seed(seed)
    device = spectrum.magnitude.device
    start = 2 * math.pi * torch.rand(spectrum.magnitude.shape, generator=drawn)  # (3, H, W // 2 + 1)
    phases = start.to(device).repeat(count, 1, 1, 1).requires_grad_()
    optimizer = torch.optim.NAdam([phases], LEARNING_RATE)
    asked = torch.zeros(count, 1, *spectrum.size, device=device)
    which = torch.arange(count, device=device).repeat_interleave(crops)  # (V * n,)
    with torch.enable_grad():
        for _ in range(steps):
            pictures = spectrum.picture(phases)
            cropped = _crops(pictures, crops, drawn)  # (V * n, 3, H, W)
            worth = score(cropped, which).sum() / crops
            gradient, to_pictures = torch.autograd.grad(worth, (phases, pictures))
            phases.grad = -gradient
            optimizer.step()
            asked += to_pictures.abs().sum(1, keepdim=True)
    return Drawn(spectrum.picture(phases.detach()), _shares(asked))


def _crops(pictures: Tensor, count: int, drawn: torch.Generator) -> Tensor:
    """Crops (V * n, 3, H, W) of pictures (V, 3, H, W), at the same places of each, with noise."""
    size = pictures.shape[-2:]
    sides = SIDES[0] + (SIDES[1] - SIDES[0]) * torch.rand(count, generator=drawn)  # share of the picture's
    free = (1 - sides)[:, None]
    centres = free * (2 * torch.rand(count, 2, generator=drawn) - 1)  # -1 .. 1 from edge to edge
    boxes = torch.zeros(count, 2, 3)
    boxes[:, 0, 0], boxes[:, 1, 1], boxes[:, :, 2] = sides, sides, centres
    noise = NOISE * torch.randn(count, 3, *size, generator=drawn)
    grid = F.affine_grid(boxes, [count, 3, *size], align_corners=False).to(pictures)  # (n, H, W, 2)
    each = pictures.repeat_interleave(count, 0)
    seen = F.grid_sample(each, grid.repeat(len(pictures), 1, 1, 1), "bilinear", "border", False)
    return seen + noise.to(pictures).repeat(len(pictures), 1, 1, 1)


def _shares(asked: Tensor) -> Tensor:
    """Sums (V, 1, H, W) as shares of their 99th percentile in the picture, at most 1."""
    high = asked.flatten(1).quantile(0.99, 1)[:, None, None, None]
    return (asked / high.clamp(min=torch.finfo(asked.dtype).tiny)).clamp(0, 1)


class FeatureVisualisation:
    """Draws what a hidden layer's directions, or whole classes, stand for, in the manner of given images.

        drawing = FeatureVisualisation(hidden, images)
        drawn = drawing.concepts(bank.basis[3])   # of a class's concepts, (k, 3, H, W)
        drawn = drawing.classes([3, 8])           # of what the CNN would like to see

    Args:
        hidden: the layer, of a CNN that is left as it is.
        images: (N, 3, H, W) in [0, 1], of the layer's image size: the strength of their waves and their
            colours are those of every picture.
        steps, crops, seed: of :func:`draw`.

    Raises:
        ValueError: no image, images of another size, of one colour throughout, or outside [0, 1].
    """

    def __init__(
        self,
        hidden: HiddenLayer,
        images: Tensor | ImageSplit,
        steps: int = 256,
        crops: int = 6,
        seed: int = 0,
    ) -> None:
        split = ImageSplit.of(images)
        positive(images=len(split), crops=crops)
        if split.image_size != tuple(hidden.image_size):
            raise ValueError(f"the layer takes images of {hidden.image_size}, these are {split.image_size}")
        if steps < 0:
            raise ValueError(f"steps must be at least 0, not {steps}")
        self.hidden = _quick(hidden)
        self.steps, self.crops, self.seed = steps, crops, seed
        self.spectrum = Spectrum.of(split).to(hidden.device)
        total = torch.zeros(hidden.channels, device=hidden.device)
        for batch in split.batches(at_once(hidden.cnn, split.image_size)):
            total += hidden(batch.images).mean((2, 3)).sum(0)
        self.typical = total / len(split)  # (C,), the layer's mean activation

    def concepts(self, vectors: Tensor) -> Drawn:
        """Pictures of directions (V, C) of the layer; see :func:`concept_score`.

        Raises:
            ValueError: no direction, or of another number of channels.
        """
        positive(vectors=len(vectors))
        if vectors.ndim != 2 or vectors.shape[1] != self.hidden.channels:
            raise ValueError(f"vectors must be (V, {self.hidden.channels}), not {tuple(vectors.shape)}")
        wanted = vectors.to(self.hidden.device).float()

        def score(pictures: Tensor, which: Tensor) -> Tensor:
            activations = self.hidden.with_gradient(as_input(self.hidden.cnn, pictures))
            return concept_score(activations, wanted[which], self.typical)

        return self._drawn(score, len(wanted))

    def classes(self, labels: Sequence[int]) -> Drawn:
        """Pictures for which the CNN's logits of classes are as high as they get.

        Raises:
            ValueError: no class, or one that the CNN does not have.
        """
        if not labels:
            raise ValueError("no class is named")
        with torch.no_grad():
            count = self._logits(torch.zeros(1, 3, *self.hidden.image_size)).shape[1]
        if wrong := [label for label in labels if not 0 <= label < count]:
            raise ValueError(f"classes are numbers from 0 to {count - 1}, not {wrong}")
        asked = torch.tensor(labels, device=self.hidden.device)

        def score(pictures: Tensor, which: Tensor) -> Tensor:
            return self._logits(pictures).gather(1, asked[which][:, None])[:, 0]

        return self._drawn(score, len(asked))

    def _logits(self, pictures: Tensor) -> Tensor:
        with evaluation_mode(self.hidden.cnn):
            logits: Tensor = self.hidden.cnn(as_input(self.hidden.cnn, pictures))
        return logits.float()

    def _drawn(self, score: Score, count: int) -> Drawn:
        """A few at a time, as many as go through the CNN together with all of their crops."""
        few = max(1, at_once(self.hidden.cnn, self.hidden.image_size) // self.crops)
        made = []
        with frozen(self.hidden.cnn):
            for first in progress(range(0, count, few), "drawing"):
                offset = partial(_offset, score, first)
                made.append(
                    draw(offset, min(few, count - first), self.spectrum, self.steps, self.crops, self.seed)
                )
        return Drawn(*(torch.cat(parts).cpu() for parts in zip(*made, strict=True)))


def _quick(hidden: HiddenLayer) -> HiddenLayer:
    """The same layer of the CNN with its normalisation folded in, which takes less time.

    The layer itself where no such copy has it (blocks are no layers there) or holds something else in it (a
    convolution whose normalisation comes behind).
    """
    copied = folded(hidden.cnn)
    noise = torch.rand(2, 3, *hidden.image_size, generator=torch.Generator().manual_seed(0))
    with suppress(KeyError):
        if copied is not None:
            quick = HiddenLayer(copied, hidden.layer, hidden.image_size, hidden.places.signed)
            made, own = quick(noise), hidden(noise)
            if made.shape == own.shape and (made - own).abs().max() <= FOLDING_ERROR * own.max():
                return quick
    return hidden


def _offset(score: Score, first: int, pictures: Tensor, which: Tensor) -> Tensor:
    return score(pictures, which + first)


def concept_score(activations: Tensor, vectors: Tensor, typical: Tensor) -> Tensor:
    """How far activations (B, C, h, w) move from typical ones (C,) along vectors (B, C), and how straight.

    The mean activation over places, less the typical one, is multiplied with the vector, and with the squared
    cosine between the two (Carter et al., "Activation Atlas", Distill 2019): without the cosine other
    directions grow alongside. Without the typical activation, which has a cosine above 0 with every vector
    whose numbers are not below 0, all pictures look like the mean of the images.
    """
    moved = activations.mean((2, 3)) - typical  # (B, C)
    straight = F.cosine_similarity(moved, vectors).clamp(min=LEAST_COSINE)
    return (moved * vectors).sum(1) * straight.square()
