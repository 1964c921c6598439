"""Prototypes: the crops of a data set whose activations point where a concept points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align

from gan_lib.concepts.layers import HiddenLayer
from gan_lib.core.runtime import progress
from gan_lib.data import ImageSplit


@dataclass(frozen=True)
class Places:
    """Crops, per vector the nearest first.

    Attributes:
        image: (V, T) rows of the split; -1 where there were fewer crops than asked for.
        place: (V, T) number of the place, row by row.
        similarity: (V, T) cosine with the vector.
    """

    image: Tensor
    place: Tensor
    similarity: Tensor

    def __getitem__(self, index: Any) -> Places:
        """Some of the vectors, and of their crops."""
        return Places(self.image[index], self.place[index], self.similarity[index])


class PooledActivations:
    """Pooled activations of a whole split, to be searched.

        pooled = PooledActivations(hidden, data.test)
        found = pooled.nearest(concepts, top=4)        # Places (V, 4)
        crops = pooled.crops(data.test, found, size=32)  # (V, 4, 3, 32, 32)

    Every place of the average-pooled activations stands for a crop of the image, its cell: the part of
    the image over the activations that were pooled.

    Args:
        hidden: the layer.
        split: images.
        pool: side of the pooling (2 as published).
        stride: of the pooling; by default its side, as published. A smaller one gives overlapping cells.
        batch_size: images at a time.

    Raises:
        ValueError: the pooling does not fit the layer's places.
    """

    def __init__(
        self,
        hidden: HiddenLayer,
        split: ImageSplit,
        pool: int = 2,
        stride: int | None = None,
        batch_size: int = 128,
    ) -> None:
        if not 1 <= pool <= min(hidden.size):
            raise ValueError(f"cannot pool {pool} x {pool} of {hidden.size} places")
        self.hidden, self.pool, self.stride = hidden, pool, stride or pool
        self.size, self.image_size = hidden.size, split.image_size
        rows, columns = ((side - pool) // self.stride + 1 for side in hidden.size)
        self.grid = (rows, columns)
        self.vectors = torch.empty(
            len(split), self.grid[0] * self.grid[1], hidden.channels, dtype=torch.float16
        )
        device = next(hidden.cnn.parameters()).device
        self._alone = torch.empty(0, hidden.channels)  # of crops by themselves, as far as they were asked for
        self._alone_row = torch.full((len(split) * rows * columns,), -1)
        starts = range(0, len(split), batch_size)
        for start in progress(starts, "pooling activations", len(starts)):
            part = torch.arange(start, min(start + batch_size, len(split)))
            activations = hidden(split.batch(part).images.to(device))
            made = F.avg_pool2d(activations, pool, self.stride)  # (B, C, gh, gw)
            self.vectors[part] = F.normalize(made.flatten(2).mT, dim=2).half().cpu()

    def __len__(self) -> int:
        return len(self.vectors)

    def nearest(
        self,
        vectors: Tensor,
        top: int = 1,
        allowed: Tensor | None = None,
        distinct: bool = True,
        block: int = 512,
    ) -> Places:
        """The crops with the highest cosine similarity to vectors (V, C).

        Args:
            vectors: (V, C), of any length.
            top: crops per vector.
            allowed: (V, N) or (N,) bool, the images that a vector may take crops from.
            distinct: at most one crop of an image for a vector.
            block: images at a time.

        Raises:
            ValueError: vectors of another number of channels, or no place for ``top`` crops.
        """
        if vectors.shape[1] != self.vectors.shape[2]:
            raise ValueError(f"vectors have {vectors.shape[1]} channels, the layer {self.vectors.shape[2]}")
        wanted = F.normalize(vectors.float(), dim=1).T  # (C, V)
        count, places = vectors.shape[0], self.vectors.shape[1]
        best = torch.full((count, top), -torch.inf)
        where = torch.full((count, top), -1)
        for start in range(0, len(self), block):
            similar = self.vectors[start : start + block].to(wanted) @ wanted  # (n, P, V)
            rows = torch.arange(start, start + len(similar))
            number = (rows[:, None] * places + torch.arange(places)).to(similar.device)  # (n, P)
            if allowed is not None:
                own = allowed.to(similar.device)[..., rows]  # (V, n) or (n,)
                own = own.T[:, None] if own.ndim == 2 else own[:, None, None]  # (n, 1, V) or (n, 1, 1)
                similar = similar.masked_fill(~own, -torch.inf)
            if distinct:
                similar, first = similar.max(1)  # (n, V)
                number = number.gather(1, first)
            else:
                similar, number = similar.flatten(0, 1), number.flatten()[:, None].expand(-1, count)
            similar = torch.cat([best, similar.T.cpu()], 1)
            number = torch.cat([where, number.T.cpu()], 1)
            best, order = similar.topk(top, dim=1)
            where = number.gather(1, order)
        missing = best.isinf()
        return Places(
            (where // places).masked_fill(missing, -1),
            (where % places).masked_fill(missing, -1),
            best.masked_fill(missing, torch.nan),
        )

    def by_themselves(
        self, split: ImageSplit, found: Places, vectors: Tensor, batch_size: int = 128
    ) -> Places:
        """The same crops in another order: by what the CNN makes of each crop alone.

        A place's activations see more of the image than its cell. Here copies of a crop, at its own size,
        fill an image, and the cosine is that of its mean activation.

        Args:
            split: the images that were pooled.
            found: crops (V, T), for instance the nearest ones.
            vectors: (V, C).
            batch_size: images at a time.
        """
        number = torch.where(found.image < 0, 0, found.image * self.vectors.shape[1] + found.place)  # (V, T)
        self._look_at(split, number.unique(), batch_size)
        seen = self._alone[self._alone_row[number]]  # (V, T, C)
        similar = torch.einsum("vtc,vc->vt", seen, F.normalize(vectors.cpu().float(), dim=1))
        similar = similar.masked_fill(found.image < 0, -torch.inf)
        order = similar.argsort(dim=1, descending=True)
        image, place = found.image.gather(1, order), found.place.gather(1, order)
        return Places(image, place, similar.gather(1, order).masked_fill(image < 0, torch.nan))

    def _look_at(self, split: ImageSplit, number: Tensor, batch_size: int) -> None:
        """Keep the mean activations of crops by themselves; vectors that are alike ask for the same crops."""
        device = next(self.hidden.cnn.parameters()).device
        (height, width), cell = split.image_size, self.cell
        copies = (1, 1, -(-height // cell[0]), -(-width // cell[1]))
        made, missing = [self._alone], number[self._alone_row[number] < 0]
        for part in missing.split(batch_size):
            image = part.div(self.vectors.shape[1], rounding_mode="floor")  # (b,)
            one = Places(image[None], part[None] % self.vectors.shape[1], torch.zeros(1, len(part)))
            full = self.crops(split, one, cell)[0].repeat(copies)[..., :height, :width]  # (b, 3, H, W)
            made.append(F.normalize(self.hidden(full.to(device)).mean((2, 3)), dim=1).cpu())  # (b, C)
        self._alone_row[missing] = len(self._alone) + torch.arange(len(missing))
        self._alone = torch.cat(made)

    def random(self, count: int, top: int, seed: int = 0, allowed: Tensor | None = None) -> Places:
        """Crops at random, for comparison: ``top`` for each of ``count`` vectors, of images allowed to it.

        Args:
            count: number V of vectors.
            top: crops per vector.
            seed: of the choice.
            allowed: (V, N) bool.
        """
        drawn = torch.Generator().manual_seed(seed)
        chances = torch.ones(count, len(self)) if allowed is None else allowed.float().cpu()
        images = torch.multinomial(chances, top, generator=drawn)  # (V, T)
        places = torch.randint(self.vectors.shape[1], images.shape, generator=drawn)
        return Places(images, places, torch.full(images.shape, torch.nan))

    def boxes(self, place: Tensor) -> Tensor:
        """The cells (..., 4) of places (...), in pixels: left, top, right, bottom."""
        step = torch.tensor([self.image_size[1] / self.size[1], self.image_size[0] / self.size[0]])
        corner = torch.stack([place % self.grid[1], place // self.grid[1]], -1) * self.stride * step
        return torch.cat([corner, corner + self.pool * step], -1)

    @property
    def cell(self) -> tuple[int, int]:
        """Height and width of a cell in pixels, rounded."""
        left, top, right, bottom = self.boxes(torch.zeros(1, dtype=torch.long))[0].tolist()
        return round(bottom - top), round(right - left)

    def contains(self, found: Places, masks: Tensor) -> Tensor:
        """Whether cells (V, T) contain part of a mask: (V, T) bool.

        Args:
            found: the places.
            masks: (N, 1, H, W) bool, one per image of the split.
        """
        boxes = self.boxes(found.place.clamp(min=0)).round().long().flatten(0, 1).tolist()
        hits = [
            image >= 0 and bool(masks[image, 0, top:bottom, left:right].any())
            for image, (left, top, right, bottom) in zip(found.image.flatten().tolist(), boxes, strict=True)
        ]
        return torch.tensor(hits).view_as(found.image)

    def crops(self, split: ImageSplit, found: Places, size: int | tuple[int, int]) -> Tensor:
        """Crops (V, T, 3, size, size) of the split in [0, 1]; black where there are none."""
        wanted = (size, size) if isinstance(size, int) else size
        boxes, images = self.boxes(found.place.clamp(min=0)).flatten(0, 1), found.image.flatten()
        made = torch.zeros(len(images), 3, *wanted)
        for part in torch.arange(len(images)).split(256):
            part = part[images[part] >= 0]
            pictures = split.batch(images[part]).images
            numbers = torch.arange(len(part), dtype=torch.float32)[:, None]
            made[part] = roi_align(pictures, torch.cat([numbers, boxes[part]], 1), wanted, aligned=True)
        return made.unflatten(0, found.image.shape)


def montage(crops: Tensor, size: tuple[int, int]) -> Tensor:
    """Crops (V, T, 3, h, w) put together as one image each: (V, 3, H, W), two rows where T is even.

    Raises:
        ValueError: no crop.
    """
    count = crops.shape[1]
    if not count:
        raise ValueError("there is no crop to put together")
    rows = 2 if count % 2 == 0 else 1
    lines = [torch.cat(list(line.unbind(1)), -1) for line in crops.chunk(rows, dim=1)]
    whole = torch.cat(lines, -2)  # (V, 3, rows * h, T / rows * w)
    return F.interpolate(whole, size=size, mode="bilinear", antialias=True, align_corners=False)
