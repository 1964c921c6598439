"""Row numbers: in batches, and chosen fairly."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor


def batch_rows(count: int, size: int, shuffle_seed: int | None = None) -> Iterator[Tensor]:
    """Row numbers 0..count-1 in batches (n,) of at most ``size``, in order or shuffled by a seed."""
    if shuffle_seed is None:
        order = torch.arange(count)
    else:
        order = torch.randperm(count, generator=torch.Generator().manual_seed(shuffle_seed))
    yield from order.split(size)


def stratified_order(labels: Tensor, seed: int, count: int | None = None) -> Tensor:
    """Rows in one random order, of which every beginning holds the classes in proportion.

    Among the first m of N rows, a class of n is found less than once more or less often than its share
    m n / N. So its k-th image, a random one, belongs to one of the places from floor((k - 1) N / n) on and
    before ceil(k N / n); a place goes to the image, of those that may have it, that must come first (Baruah
    et al., "Proportionate progress", Algorithmica 1996: on one machine the earliest deadline succeeds).

    Args:
        labels: (N,) int64.
        seed: decides the order.
        count: how many rows are wanted, which saves time; by default all N.
    """
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(labels))
    own = labels.cpu().numpy()[shuffled]
    counts = np.unique(own, return_counts=True)[1]
    images = np.split(shuffled[np.argsort(own, kind="stable")], counts.cumsum()[:-1])  # by class, shuffled
    sizes, used = counts.tolist(), [0] * len(counts)
    lots = rng.permutation(len(labels)).tolist()  # where two must come equally soon
    waiting = [(0, label) for label in range(len(sizes))]  # the first place that its next image may have
    ready: list[tuple[int, int, int]] = []  # the place before which it must come, a lot, its class
    order: list[int] = []
    for place in range(len(labels) if count is None else min(count, len(labels))):
        while waiting and waiting[0][0] <= place:
            label = heapq.heappop(waiting)[1]
            due = -(-(used[label] + 1) * len(labels) // sizes[label])  # rounded up
            heapq.heappush(ready, (due, lots.pop(), label))
        label = heapq.heappop(ready)[2]
        order.append(images[label][used[label]])
        used[label] += 1
        if used[label] < sizes[label]:
            heapq.heappush(waiting, (used[label] * len(labels) // sizes[label], label))
    return torch.from_numpy(np.array(order, dtype=np.int64))


def chosen_rows(labels: Tensor, count: int | None, seed: int) -> Tensor:
    """The first ``count`` rows (n,), for labels (N,), of :func:`stratified_order`; where there are no
    more, all, as they stand."""
    if count is None or count >= len(labels):
        return torch.arange(len(labels))
    return stratified_order(labels, seed, count)


def spread_rows(labels: Tensor, count: int | None, seed: int) -> Tensor:
    """Rows (n,) that show what classes there are, in the order of the classes.

    The classes in proportion (:func:`stratified_order`); where there are more of them than rows, one image,
    a random one, of classes at even distances, whatever their sizes: those of a proportional draw would be
    the largest.
    """
    classes = labels.unique()  # (K,), sorted
    if count is None or count >= len(classes):
        rows = stratified_order(labels, seed, count)
        return rows[labels[rows].argsort(stable=True)]
    middles = (2 * torch.arange(count) + 1) * len(classes) // (2 * max(count, 1))
    drawn = torch.Generator().manual_seed(seed)
    own = [torch.nonzero(labels == label)[:, 0] for label in classes[middles]]
    return (
        torch.stack([rows[torch.randint(len(rows), (), generator=drawn)] for rows in own]) if own else middles
    )
