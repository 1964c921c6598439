"""Prototypes: the crops of a data set whose activations point where a concept points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align

from gan_lib.concepts.layers import HiddenLayer
from gan_lib.core.inputs import at_once
from gan_lib.core.options import positive
from gan_lib.core.runtime import progress
from gan_lib.core.storage import Rows
from gan_lib.data import ImageSplit
from gan_lib.data.rows import batch_rows


@dataclass(frozen=True)
class Places:
    """Crops (V, T), per vector the nearest first; where there were fewer, image and place are -1.

    Attributes: rows of the split, numbers of the places row by row, and cosines with the vector.
    """

    image: Tensor
    place: Tensor
    similarity: Tensor

    def __getitem__(self, index: Any) -> Places:
        """Some of the vectors, and of their crops."""
        return Places(self.image[index], self.place[index], self.similarity[index])


def pooled_vectors(activations: Tensor, pool: int, stride: int) -> Tensor:
    """Activations (B, C, h, w), averaged over cells, each of length 1: (B, places, C) float16, on the CPU."""
    made = F.avg_pool2d(activations, pool, stride)  # (B, C, gh, gw)
    return F.normalize(made.flatten(2).mT, dim=2).half().cpu()


class PooledActivations:
    """Pooled activations of a whole split, to be searched.

        pooled = PooledActivations(hidden, data.test)
        found = pooled.nearest(concepts, top=4)  # Places (V, 4)
        crops = pooled.crops(found)              # (V, 4, 3, h, w)

    Every place of the average-pooled activations stands for a crop of the image, its cell: the part of
    the image over the activations that were pooled.

    Args:
        hidden: the layer.
        split: images.
        pool: side of the pooling (2 as published).
        stride: of the pooling; by default its side, as published. A smaller one gives overlapping cells.
        vectors: those of :func:`pooled_vectors` for all images, where they are there already; on disk, for
            instance (:class:`gan_lib.core.storage.ShardedRows`).

    Raises:
        ValueError: the pooling does not fit the layer's places, or the vectors the images.
    """

    BLOCK = 512  # images at a time in a search

    def __init__(
        self,
        hidden: HiddenLayer,
        split: ImageSplit,
        pool: int = 2,
        stride: int | None = None,
        vectors: Rows | None = None,
    ) -> None:
        if not 1 <= pool <= min(hidden.size):
            raise ValueError(f"cannot pool {pool} x {pool} of {hidden.size} places")
        positive(stride=stride)
        self.hidden, self.split, self.pool, self.stride = hidden, split, pool, stride or pool
        rows, columns = ((side - pool) // self.stride + 1 for side in hidden.size)
        self.grid = (rows, columns)
        self._at_once = at_once(hidden.cnn, split.image_size)
        shape = (len(split), rows * columns, hidden.channels)
        if vectors is not None and tuple(vectors.shape) != shape:
            raise ValueError(f"vectors are {tuple(vectors.shape)}, of these images and cells {shape}")
        self.vectors: Rows = self._pooled(shape) if vectors is None else vectors
        self._alone = torch.empty(0, hidden.channels)  # of crops by themselves, as far as they were asked for
        self._alone_row = torch.full((len(split) * rows * columns,), -1)

    def _pooled(self, shape: tuple[int, int, int]) -> Tensor:
        made, count = torch.empty(shape, dtype=torch.float16), -(-shape[0] // self._at_once)
        for part in progress(batch_rows(shape[0], self._at_once), "pooling activations", count):
            activations = self.hidden(self.split.batch(part).images)
            made[part] = pooled_vectors(activations, self.pool, self.stride)
        return made

    def __len__(self) -> int:
        return len(self.vectors)

    def nearest(self, vectors: Tensor, top: int = 1, allowed: Tensor | None = None) -> Places:
        """The ``top`` crops of highest cosine with vectors (V, C), at most one of an image each.

        ``allowed``, (V, N) or (N,) bool, are the images that a vector may take crops from. Vectors of another
        number of channels, and ``top`` below 1, raise a ValueError.
        """
        positive(top=top)
        if vectors.shape[1] != self.vectors.shape[2]:
            raise ValueError(f"vectors have {vectors.shape[1]} channels, the layer {self.vectors.shape[2]}")
        wanted = F.normalize(vectors.float(), dim=1).T  # (C, V)
        count, places = vectors.shape[0], self.vectors.shape[1]
        best, where = torch.full((count, top), -torch.inf), torch.full((count, top), -1)
        for start in range(0, len(self), self.BLOCK):
            similar = self.vectors[start : start + self.BLOCK].to(wanted) @ wanted  # (n, P, V)
            similar, place = (part.T.cpu() for part in similar.max(1))  # (V, n)
            rows = torch.arange(start, start + similar.shape[1])
            if allowed is not None:
                similar = similar.masked_fill(~allowed.cpu()[..., rows], -torch.inf)
            best, order = torch.cat([best, similar], 1).topk(top, dim=1)
            where = torch.cat([where, rows * places + place], 1).gather(1, order)
        missing = best.isinf()
        image, place = ((part.masked_fill(missing, -1)) for part in (where // places, where % places))
        return Places(image, place, best.masked_fill(missing, torch.nan))

    def best(self, vectors: Tensor, candidates: int, allowed: Tensor | None = None) -> Places:
        """The :meth:`nearest` crops (V, candidates), put in order :meth:`by_themselves`."""
        return self.by_themselves(self.nearest(vectors, candidates, allowed), vectors)

    def by_themselves(self, found: Places, vectors: Tensor) -> Places:
        """Crops (V, T) in another order: by what the CNN makes of each crop alone.

        A place's activations see more of the image than its cell. Here copies of a crop, at its own size,
        fill an image, and the cosine with the vector (V, C) is that of its mean activation.
        """
        number = torch.where(found.image < 0, 0, found.image * self.vectors.shape[1] + found.place)  # (V, T)
        self._look_at(number.unique())
        seen = self._alone[self._alone_row[number]]  # (V, T, C)
        similar = torch.einsum("vtc,vc->vt", seen, F.normalize(vectors.cpu().float(), dim=1))
        similar, order = similar.masked_fill(found.image < 0, -torch.inf).sort(dim=1, descending=True)
        image, place = found.image.gather(1, order), found.place.gather(1, order)
        return Places(image, place, similar.masked_fill(image < 0, torch.nan))

    def _look_at(self, number: Tensor) -> None:
        """Keep the mean activations of crops by themselves; vectors that are alike ask for the same crops."""
        height, width = self.split.image_size
        copies = (1, 1, -(-height // self.cell[0]), -(-width // self.cell[1]))
        made, missing = [self._alone], number[self._alone_row[number] < 0]
        for part in missing.split(self._at_once) if len(missing) else ():  # not every CNN takes no picture
            image, place = part // self.vectors.shape[1], part % self.vectors.shape[1]  # (b,)
            crops = self.crops(Places(image[None], place[None], torch.zeros(1, len(part))))[0]
            full = crops.repeat(copies)[..., :height, :width]  # (b, 3, H, W)
            made.append(F.normalize(self.hidden(full).mean((2, 3)), dim=1).cpu())  # (b, C)
        self._alone_row[missing] = len(self._alone) + torch.arange(len(missing))
        self._alone = torch.cat(made)

    def random(self, count: int, top: int, seed: int = 0, allowed: Tensor | None = None) -> Places:
        """Crops at random: ``top`` for each of ``count`` vectors, of different images that are allowed."""
        positive(count=count, top=top)
        drawn = torch.Generator().manual_seed(seed)
        chances = torch.ones(count, len(self)) if allowed is None else allowed.float().cpu()
        # What is not allowed is drawn when nothing else is left, and counts as missing.
        images = torch.multinomial(chances.clamp(min=1e-30), min(top, len(self)), generator=drawn)
        images = images.masked_fill(chances.gather(1, images) == 0, -1)
        images = F.pad(images, (0, top - images.shape[1]), value=-1)  # (V, T)
        places = torch.randint(self.vectors.shape[1], images.shape, generator=drawn)
        return Places(images, places.masked_fill(images < 0, -1), torch.full(images.shape, torch.nan))

    def boxes(self, place: Tensor) -> Tensor:
        """The cells (..., 4) of places (...), in pixels: left, top, right, bottom."""
        (height, width), (rows, columns) = self.split.image_size, self.hidden.size
        step = torch.tensor([width / columns, height / rows])
        corner = torch.stack([place % self.grid[1], place // self.grid[1]], -1) * self.stride * step
        return torch.cat([corner, corner + self.pool * step], -1)

    @property
    def cell(self) -> tuple[int, int]:
        """Height and width of a cell in pixels, rounded."""
        left, top, right, bottom = self.boxes(torch.zeros(1, dtype=torch.long))[0].tolist()
        return round(bottom - top), round(right - left)

    def contains(self, found: Places, masks: Tensor) -> Tensor:
        """Whether cells (V, T) contain part of their images' masks (N, 1, H, W) bool: (V, T) bool."""
        boxes = self.boxes(found.place.clamp(min=0)).round().long().flatten(0, 1).tolist()
        hits = [
            image >= 0 and bool(masks[image, 0, top:bottom, left:right].any())
            for image, (left, top, right, bottom) in zip(found.image.flatten().tolist(), boxes, strict=True)
        ]
        return torch.tensor(hits).view_as(found.image)

    def crops(self, found: Places) -> Tensor:
        """Crops (V, T, 3, h, w) in [0, 1], of a cell's size; black where there are none."""
        boxes, images = self.boxes(found.place.clamp(min=0)).flatten(0, 1), found.image.flatten()
        made = torch.zeros(len(images), 3, *self.cell)
        for part in torch.arange(len(images)).split(256):
            part = part[images[part] >= 0]
            pictures = self.split.batch(images[part]).images
            numbers = torch.arange(len(part), dtype=torch.float32)[:, None]
            made[part] = roi_align(pictures, torch.cat([numbers, boxes[part]], 1), self.cell, aligned=True)
        return made.unflatten(0, found.image.shape)


def montage(crops: Tensor, size: tuple[int, int]) -> Tensor:
    """Crops (V, T, 3, h, w), T at least 1, as one image each: (V, 3, H, W), two rows where T is even."""
    positive(crops=crops.shape[1])
    rows = 2 if crops.shape[1] % 2 == 0 else 1
    lines = [torch.cat(list(line.unbind(1)), -1) for line in crops.chunk(rows, dim=1)]
    whole = torch.cat(lines, -2)  # (V, 3, rows * h, T / rows * w)
    return F.interpolate(whole, size=size, mode="bilinear", antialias=True, align_corners=False)


def prototype_page(
    pooled: PooledActivations,
    basis: Tensor,
    others: Tensor,
    titles: Sequence[str],
    name: str,
    candidates: int,
) -> dict[str, Any]:
    """What a class's concepts look like, as arguments of :func:`gan_lib.figures.map_grid`.

    A row per concept: the nearest cell, and of the nearest cells the one that shows it best by itself; the
    same among other classes' images; and the image that the last one was cut from, framed.

    Args:
        pooled: activations of N images.
        basis: (k, C).
        others: (N,) bool, the images that are not predicted as the class.
        titles: N words, what the images are predicted as.
        name: of the class.
        candidates: nearest cells to choose from.
    """
    columns = {}
    for form, allowed in (("", None), (f"not {name}: ", others)):
        nearest = pooled.nearest(basis, candidates, allowed)
        best = pooled.by_themselves(nearest, basis)
        columns[f"{form}nearest cell"] = pooled.crops(nearest[:, :1])[:, 0]
        columns[f"{form}best crop"] = pooled.crops(best[:, :1])[:, 0]
    first = best.image[:, 0]  # (k,) -1 where there is no other class's image
    columns["cut from"] = pooled.split.batch(first.clamp(min=0)).images * (first >= 0)[:, None, None, None]
    return {
        "columns": columns,
        "captions": {"cut from": [titles[row] if row >= 0 else "none" for row in first.tolist()]},
        "frames": {"cut from": pooled.boxes(best.place[:, 0].clamp(min=0))},
    }


def published_page(
    pooled: PooledActivations, basis: Tensor, others: Mapping[str, Tensor], titles: Sequence[str]
) -> dict[str, Any]:
    """A class's concepts as arXiv 2502.03422 shows them (figure 1), as arguments of
    :func:`gan_lib.figures.map_grid`.

    A row per concept. Left its prototype, the nearest cell of all images; then, for each group of images, the
    nearest cell among them, and the whole image that it was cut from, framed.

    Args:
        pooled: activations of N images.
        basis: (k, C).
        others: groups of images by heading, (N,) bool each: those that are not predicted as the class.
        titles: N words, what the images are called.
    """
    columns = {"prototype": pooled.crops(pooled.nearest(basis))[:, 0]}
    captions, frames = {}, {}
    for heading, allowed in others.items():
        found = pooled.nearest(basis, 1, allowed)
        image, whole = found.image[:, 0], f"{heading}: cut from"
        columns[heading] = pooled.crops(found)[:, 0]
        columns[whole] = pooled.split.batch(image.clamp(min=0)).images * (image >= 0)[:, None, None, None]
        captions[whole] = [titles[row] if row >= 0 else "none" for row in image.tolist()]
        frames[whole] = pooled.boxes(found.place[:, 0].clamp(min=0))
    return {"columns": columns, "captions": captions, "frames": frames}
