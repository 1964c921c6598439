"""What returns in the images of a class: the same look at the same place, or wherever the evidence is.

An object is seen elsewhere, larger, in another light, in every image. A stamp, a frame or a mark is the same
pixels again. So what returns almost exactly in images that a CNN takes for one class, and not in others, is a
candidate for a *shortcut*: whether the CNN hangs on it is for :mod:`gan_lib.shortcuts.exchange` to find out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from gan_lib.core.runtime import progress
from gan_lib.shortcuts.textures import everywhere, shared_band

GRID = 32  # cells along the longer side, in which looks are compared
TOLERANCE = 0.06  # by which every channel may differ in a cell that looks the same
SHARED = 0.8  # of the images that look the same in one cell, in the other cells of a region
FEWEST, LIFT = 3, 0.08  # images, and share of them, that look the same beyond what other classes' do
LARGEST = 0.25  # share of the image that a region may fill: what fills more is no detail of it
CLEAR = 6.0  # standard errors between the means of a class and of the others, in a cell of a stamp
RING = 1 / 16  # width of the border, of the longer side
PATCH = 1 / 8  # side of what is cut out where the evidence is, of the longer side
KINDS = ("place", "stamp", "returning", "border", "tone", "texture")


@dataclass(frozen=True)
class Candidate:
    """Something that images of a class have in common.

    Attributes:
        label: the class, as the CNN predicts it.
        kind: one of :data:`KINDS`: the same pixels at one ``place``; a half-transparent ``stamp`` there; a
            patch ``returning`` where the evidence is; the ``border``; the whole image's ``tone``, its mean
            colour; a ``texture`` that is in every part of it.
        rows: (D,) of the images that have it, the most typical first.
        masks: where, (1, 1, H, W) or one for each image, float in 0..1; ``None`` for the whole image.
        support, elsewhere: share of the class's images, and of others, that have it; NaN where not counted.
        band: frequencies of a texture (:func:`gan_lib.shortcuts.textures.shared_band`).
    """

    label: int
    kind: str
    rows: Tensor
    masks: Tensor | None = None
    support: float = float("nan")
    elsewhere: float = float("nan")
    band: Tensor | None = None

    def mask(self, place: int) -> Tensor | None:
        """Where the image ``rows[place]`` has it, (1, H, W)."""
        return None if self.masks is None else self.masks[place if len(self.masks) > 1 else 0]

    @property
    def box(self) -> tuple[int, int, int, int] | None:
        """Left, top, right and bottom in pixels of where the first image has it."""
        mask = self.mask(0)
        if mask is None:
            return None
        rows, columns = (mask[0] > 0).any(1).nonzero()[:, 0], (mask[0] > 0).any(0).nonzero()[:, 0]
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def candidates(
    images: Tensor,
    predicted: Tensor,
    evidence: Tensor | None = None,
    fewest: int = 8,
    places: int = 4,
    most: int = 80,
    others: int = 200,
    seed: int = 0,
) -> list[Candidate]:
    """Candidates of every class that is predicted for enough images.

        candidates(images, probabilities.argmax(1), maps)

    Args:
        images: (N, 3, H, W) uint8, or float in [0, 1].
        predicted: (N,) classes, as the CNN predicts them.
        evidence: (N, 1, h, w), maps of the predicted classes: what returns where they are high comes first,
            and patches are cut out there.
        fewest: images of a class, under which it is left out.
        places: candidates of one place, per class, at most.
        most, others: images of a class, and of others, that are compared; a seeded choice.

    Raises:
        ValueError: not as many classes or maps as images.
    """
    if len(predicted) != len(images) or (evidence is not None and len(evidence) != len(images)):
        raise ValueError(f"{len(images)} images need as many classes and maps")
    size = (images.shape[-2], images.shape[-1])
    cells, ring = _grid(size), border(size)
    small = torch.cat([F.adaptive_avg_pool2d(_floats(own), cells) for own in images.split(64)])
    tones = small.mean((2, 3))  # (N, 3)
    edges = small.flatten(2)[:, :, F.adaptive_max_pool2d(ring, cells).flatten() > 0]  # (N, 3, cells of it)
    spectra = torch.cat([everywhere(_floats(own)) for own in images.split(64)])
    density = None if evidence is None else _density(evidence, cells)  # (N, gh, gw)
    drawn = torch.Generator().manual_seed(seed)
    found: list[Candidate] = []
    labels, counts = predicted.unique(return_counts=True)
    for label in progress(labels[counts >= fewest].tolist(), "what returns in a class"):
        is_own = predicted == label
        own, rest = (_some(rows, count, drawn) for rows, count in ((is_own, most), (~is_own, others)))
        if len(rest):
            found += _same_place(small, density, label, own, rest, size, places)
            if min(len(own), len(rest)) > 1:
                found += _stamps(small, label, own, rest, size)
        if evidence is not None and len(rest):
            found += _returning(images, evidence, label, own, rest)
        found.append(Candidate(label, "border", own[_typical(edges[own])], ring))
        found.append(Candidate(label, "tone", own[_typical(tones[own])]))
        band = shared_band(spectra[own], spectra[rest]) if len(own) > 1 and len(rest) > 1 else None
        if band is not None:
            strength = (spectra[own] * band).sum((1, 2))  # (A,)
            typical = strength.argsort(descending=True, stable=True)[: max(FEWEST, len(own) // 2)]
            found.append(Candidate(label, "texture", own[typical], band=band))
    return found


def border(size: tuple[int, int]) -> Tensor:
    """The outermost pixels (1, 1, H, W) of an image, a sixteenth of its longer side wide."""
    wide = max(1, round(RING * max(size)))
    ring = torch.ones(1, 1, *size)
    ring[..., wide : size[0] - wide, wide : size[1] - wide] = 0
    return ring


def _typical(features: Tensor) -> Tensor:
    """The half of a class's images whose features (A, ...) are nearest to its median, the nearest first."""
    flat = features.flatten(1)  # (A, D)
    order = (flat - flat.median(0).values).norm(dim=1).argsort(stable=True)
    return order[: max(FEWEST, len(order) // 2)]


def _same_place(
    small: Tensor,
    density: Tensor | None,
    label: int,
    own: Tensor,
    rest: Tensor,
    size: tuple[int, int],
    most: int,
) -> Iterator[Candidate]:
    """Regions that look the same in images of a class, and not in others."""
    ours, theirs = small[own], small[rest]  # (A, 3, gh, gw), (B, 3, gh, gw)
    alike = torch.stack([_alike(one, ours) for one in ours])  # (A, A, gh, gw): template, image
    elsewhere = torch.stack([_alike(one, theirs).float().mean(0) for one in ours])  # (A, gh, gw)
    support = (alike.float().sum(1) - 1) / max(1, len(own) - 1)  # (A, gh, gw), without itself
    lift = support - elsewhere
    score = lift if density is None else lift * density[own].mean(0).clamp(0.1, 3)
    score = torch.where(lift >= max(LIFT, (FEWEST - 1) / max(1, len(own) - 1)), score, 0.0)
    for _ in range(most):
        best = int(score.argmax())
        template, place = divmod(best, score[0].numel())
        if score.flatten()[best] <= 0:
            return
        row, column = divmod(place, score.shape[2])
        there = alike[template, :, row, column]  # (A,) images that look so
        shared = alike[template, there].float().mean(0) >= SHARED  # (gh, gw)
        shared &= lift[template] >= lift[template, row, column] / 2
        region = _connected(shared, row, column)
        covered = float(region.float().mean())
        near = torch.from_numpy(ndimage.binary_dilation(region.numpy(), iterations=1))
        score[:, near] = 0.0  # the next one lies elsewhere
        if covered <= LARGEST:
            order = alike[template][:, region].float().mean(1)[there].argsort(descending=True, stable=True)
            shares = float(support[template, row, column]), float(elsewhere[template, row, column])
            yield Candidate(label, "place", own[there][order], _enlarged(region, size), *shares)


def _stamps(
    small: Tensor, label: int, own: Tensor, rest: Tensor, size: tuple[int, int]
) -> Iterator[Candidate]:
    """Where fine detail differs, in the mean, from other classes': a pattern that shines through.

    Means of what is left of the cells without their surroundings are compared by Welch's *t*. Objects, which
    are at other places in every image, leave no fine detail in a mean.
    """
    fine = small - F.avg_pool2d(F.pad(small, (2, 2, 2, 2), mode="replicate"), 5, 1)  # (N, 3, gh, gw)
    ours, theirs = fine[own], fine[rest]
    error = (ours.var(0) / len(ours) + theirs.var(0) / len(theirs)).sqrt().clamp(min=1e-3)
    apart = ours.mean(0) - theirs.mean(0)  # (3, gh, gw)
    clear = (apart / error).abs().amax(0) >= CLEAR  # (gh, gw)
    grown = ndimage.binary_dilation(clear.numpy(), iterations=1)
    parts, count = ndimage.label(grown, np.ones((3, 3)))
    if not count:
        return
    sizes = ndimage.sum_labels(clear.numpy(), parts, range(1, count + 1))
    region = torch.from_numpy(parts == 1 + int(sizes.argmax()))
    if sizes.max() >= 2 and float(region.float().mean()) <= LARGEST:
        pattern = (apart * region).flatten()
        order = (ours.flatten(1) @ pattern).argsort(descending=True, stable=True)
        half = order[: max(FEWEST, len(order) // 2)]  # not every image need have it
        yield Candidate(label, "stamp", own[half], _enlarged(region, size))


def _returning(
    images: Tensor, evidence: Tensor, label: int, own: Tensor, rest: Tensor
) -> Iterator[Candidate]:
    """A patch that returns where the evidence is highest, wherever that is."""
    size = (images.shape[-2], images.shape[-1])
    side = min(max(4, round(PATCH * max(size))), *size)
    corners = _peaks(evidence[torch.cat([own, rest])], size, side)  # (A + B, 2)
    pictures = images[torch.cat([own, rest])]
    cut = torch.stack(
        [picture[:, y : y + side, x : x + side] for picture, (y, x) in zip(pictures, corners, strict=True)]
    )
    looks = F.adaptive_avg_pool2d(_floats(cut), 4)  # (A + B, 3, 4, 4)
    ours, theirs = looks.split([len(own), len(rest)])
    alike = torch.stack([_alike(one, ours).flatten(1).float().mean(1) >= SHARED for one in ours])  # (A, A)
    elsewhere = torch.stack(
        [(_alike(one, theirs).flatten(1).float().mean(1) >= SHARED).float().mean() for one in ours]
    )
    support = (alike.float().sum(1) - 1) / max(1, len(own) - 1)
    lift = support - elsewhere  # (A,)
    template = int(lift.argmax())
    if lift[template] < max(LIFT, (FEWEST - 1) / max(1, len(own) - 1)):
        return
    there = alike[template].nonzero()[:, 0]
    masks = torch.zeros(len(there), 1, *size)
    for mask, place in zip(masks, there.tolist(), strict=True):
        y, x = corners[place]
        mask[:, y : y + side, x : x + side] = 1
    yield Candidate(
        label, "returning", own[there], masks, float(support[template]), float(elsewhere[template])
    )


def _peaks(evidence: Tensor, size: tuple[int, int], side: int) -> list[tuple[int, int]]:
    """Top and left of the square of a side with most evidence, of every map."""
    corners = []
    for part in evidence.split(64):
        large = F.interpolate(_floats(part), size=size, mode="bilinear", align_corners=False)
        sums = F.avg_pool2d(large, side, 1)[:, 0]  # (B, H - side + 1, W - side + 1)
        best = sums.flatten(1).argmax(1).tolist()
        corners += [divmod(own, sums.shape[2]) for own in best]
    return corners


def _alike(one: Tensor, others: Tensor) -> Tensor:
    """Whether cells of images (B, 3, h, w) look as those of one image (3, h, w): (B, h, w) bool."""
    return (others - one).abs().amax(1) <= TOLERANCE


def _connected(shared: Tensor, row: int, column: int) -> Tensor:
    """The part of cells (h, w) bool that is connected with one of them, corners included."""
    parts, _ = ndimage.label(shared.numpy(), np.ones((3, 3)))
    return torch.from_numpy(parts == parts[row, column])


def _enlarged(region: Tensor, size: tuple[int, int]) -> Tensor:
    """Cells (h, w) as pixels (1, 1, H, W)."""
    return F.interpolate(region[None, None].float(), size=size, mode="nearest")


def _grid(size: tuple[int, int]) -> tuple[int, int]:
    """Cells along height and width, square ones and none smaller than a pixel."""
    cell = max(1.0, max(size) / GRID)
    return max(1, round(size[0] / cell)), max(1, round(size[1] / cell))


def _density(evidence: Tensor, cells: tuple[int, int]) -> Tensor:
    """Maps (N, h, w) in cells, relative to their mean; a map of zeros is 1 everywhere."""
    made = torch.cat([F.adaptive_avg_pool2d(_floats(own), cells)[:, 0] for own in evidence.split(64)])
    mean = made.mean((1, 2), keepdim=True)
    return torch.where(mean > 0, made / mean.clamp(min=1e-12), 1.0)


def _some(chosen: Tensor, most: int, drawn: torch.Generator) -> Tensor:
    """At most so many of the rows where ``chosen`` (N,) is true, in order."""
    rows = chosen.nonzero()[:, 0]
    return rows[torch.randperm(len(rows), generator=drawn)[:most]].sort().values


def _floats(values: Tensor) -> Tensor:
    return values.float() / 255 if values.dtype == torch.uint8 else values.float()
