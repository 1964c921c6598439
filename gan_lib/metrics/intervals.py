"""Means with 95 % intervals over all that varies: CNNs, generators trained for them, and images.

An interval over images only says what other images would give with *these* networks. Where the next training
gives another CNN, that is far too narrow: with a standard deviation of 2.5 between CNNs, 1 between generators
and 20 between images, it holds the truth in half of all cases. So the networks' means are the sample here,
and intervals are Student's *t*.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

LEVEL = 0.95


class Interval(NamedTuple):
    """A mean with its 95 % interval, ``low <= mean <= high``; ``n`` images count, ``skipped`` others do not.

    ``p`` is the two-sided probability of a mean so far from 0 if it were 0. NaN where nothing counts; without
    width, and with a p of 1, where only one value does.
    """

    mean: float
    low: float
    high: float
    n: int
    skipped: int
    p: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def same_images(scores: np.ndarray) -> Interval:
    """Of scores (S, N) of S networks, all of the same N images; an image without all S scores is skipped.

        same_images(np.array([[0.2, 0.4, 0.9], [0.3, 0.5, 0.7]]))

    With the mean squares of a two-way layout, of networks :math:`MS_S`, of images :math:`MS_N` and of what
    both leave, :math:`MS_E`, the mean has the variance

    .. math:: V = \\frac{MS_S + \\max(MS_N - MS_E, 0)}{S N}

    and the degrees of freedom of Satterthwaite (1946). One network leaves :math:`V = MS_N / N`, with
    :math:`N - 1`; one image the reverse.
    """
    counted = scores[:, ~np.isnan(scores).any(axis=0)].astype(float)
    networks, images = counted.shape
    skipped = scores.shape[1] - images
    if not counted.size:
        return Interval(np.nan, np.nan, np.nan, 0, skipped, np.nan)
    of_network, of_image = counted.mean(1), counted.mean(0)
    parts = []  # mean square over S * N, degrees of freedom
    if networks > 1:
        parts.append((of_network.var(ddof=1) / networks, networks - 1))
    if images > 1:
        parts.append((of_image.var(ddof=1) / images, images - 1))
    if len(parts) == 2:
        left = counted - of_network[:, None] - of_image + counted.mean()  # (S, N)
        freedom = (networks - 1) * (images - 1)
        rest = (left**2).sum() / freedom / counted.size
        # What images alone add; where they add nothing, only the networks count.
        parts = [parts[0], parts[1], (-rest, freedom)] if parts[1][0] > rest else parts[:1]
    return _interval(counted, float(counted.mean()), parts, images, skipped)


def dealt_images(scores: Sequence[np.ndarray]) -> Interval:
    """Of scores (N_s,) of each network, whose images no other network has judged; NaN is skipped.

        dealt_images([np.array([0.2, 0.4]), np.array([0.9, 0.7, 0.8])])

    The networks' means :math:`m_s` are independent, and the spread between them contains that between images:
    the mean of the S means has the variance :math:`V = \\operatorname{var}(m_s) / S`, with S - 1 degrees of
    freedom. A network without any score does not count; one network alone is taken as :func:`same_images`.
    """
    known = [own[~np.isnan(own)].astype(float) for own in scores]
    skipped = sum(map(len, scores)) - sum(map(len, known))
    known = [own for own in known if len(own)]
    if len(known) < 2:
        made = same_images(np.concatenate([*known, []])[None])
        return made._replace(skipped=skipped)
    means = np.array([own.mean() for own in known])
    parts = [(means.var(ddof=1) / len(means), len(means) - 1)]
    every = np.concatenate(known)
    return _interval(every, float(means.mean()), parts, len(every), skipped)


def _interval(
    scores: np.ndarray, mean: float, parts: Sequence[tuple[float, int]], n: int, skipped: int
) -> Interval:
    """Around a mean whose variance is a sum of parts, with degrees of freedom each; within the scores' range,
    which no mean can leave."""
    variance = sum(part for part, _ in parts)
    if not variance > 0:
        certain = bool(parts) and mean != 0  # several values, all the same
        return Interval(mean, mean, mean, n, skipped, 0.0 if certain else 1.0)
    freedom, error = variance**2 / sum(part**2 / own for part, own in parts), variance**0.5
    half = float(student.ppf(0.5 + LEVEL / 2, freedom)) * error
    low, high = max(mean - half, float(scores.min())), min(mean + half, float(scores.max()))
    p = 2 * float(student.sf(abs(mean) / error, freedom))
    return Interval(mean, min(low, mean), max(high, mean), n, skipped, p)  # rounding puts no mean outside
