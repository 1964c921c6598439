"""What relevances say: over depth, first against last, whether measures agree.

Tables are made of relevances (N, n) by generator and seed, then by measure: of every seed's CNN on images of
its own. An image on which no condition matters does not count, but for :func:`first_ranked`; where no image
counts, the answer is NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations

import pandas as pd
import torch
from torch import Tensor

from gan_lib.gan.generators import Generator
from gan_lib.gan.relevance.conditions import (
    ConditionedGenerator,
    Conditions,
    mean_conditions,
    zero_conditions,
)
from gan_lib.gan.relevance.measures import relevance
from gan_lib.metrics.base import intervals_by
from gan_lib.metrics.similarity import centred_ranks

Key = tuple[str, int]
Relevances = Mapping[Key, Mapping[str, Tensor]]


def shares(relevance: Tensor) -> Tensor:
    """Relevances (N, n), not below 0, as shares of each image's sum; NaN where all are 0."""
    total = relevance.sum(1, keepdim=True)
    return torch.where(total > 0, relevance / total.clamp(min=1e-20), torch.nan)


def share_scores(relevances: Relevances) -> pd.DataFrame:
    """Shares of all conditions, image by image: ``generator``, ``seed``, ``measure``, ``condition`` from 1,
    ``image`` and ``share``. Every seed has images, and a CNN, of its own."""
    parts = []
    for (name, seed), by_measure in relevances.items():
        for measure, own in by_measure.items():
            made = shares(own)  # (N, n)
            rows, places = (
                grid.flatten().tolist()
                for grid in torch.meshgrid(*map(torch.arange, made.shape), indexing="ij")
            )
            columns = {
                "condition": [place + 1 for place in places],
                "image": [f"{seed}/{row}" for row in rows],
            }
            table = pd.DataFrame({**columns, "share": made.flatten().tolist()})
            parts.append(table.assign(generator=name, seed=seed, cnn=seed, measure=measure))
    return pd.concat(parts, ignore_index=True)


def over_depth(relevances: Relevances) -> pd.DataFrame:
    """Mean share of every condition with its 95 % interval over CNNs, generators and images.

    Returns:
        One row per generator, measure and ``condition``, from 1: ``share``, ``low``, ``high`` and counts.
    """
    return intervals_by(share_scores(relevances), ["generator", "measure", "condition"], "share", "share")


def first_against_last(relevances: Relevances) -> pd.DataFrame:
    """Do the first and the last condition matter equally (as arXiv 2301.08067 reports)?

    Returns:
        One row per generator and measure: ``difference`` of the shares, last minus first, with its 95 %
        interval (``low``, ``high``) and counts, and the paired effect size ``d``, mean over deviation of a
        CNN's images, mean over the CNNs; a CNN with a single image has none.
    """
    parts = []
    for (name, seed), by_measure in relevances.items():
        for measure, own in by_measure.items():
            made = (shares(own)[:, -1] - shares(own)[:, 0]).double()  # (N,)
            known = made[~made.isnan()]
            d = float(known.mean() / known.std().clamp(min=1e-12)) if len(known) > 1 else float("nan")
            labels = {"generator": name, "seed": seed, "cnn": seed, "measure": measure, "d": d}
            image = [f"{seed}/{row}" for row in range(len(made))]
            parts.append(pd.DataFrame({**labels, "image": image, "difference": made.tolist()}))
    scores, by = pd.concat(parts, ignore_index=True), ["generator", "measure"]
    effects = scores.drop_duplicates([*by, "seed"]).groupby(by, sort=False)["d"].mean().reset_index()
    return intervals_by(scores, by, "difference", "difference").merge(effects, on=by)


def rank_agreement(relevances: Relevances) -> pd.DataFrame:
    """Spearman's correlation of the order of the conditions by every two measures, with intervals.

    Returns:
        A row per generator, ``measure`` and ``other``, either way round: ``mean``, ``low``, ``high`` and
        counts. An image on which a measure makes no difference does not count.
    """
    parts = []
    for (name, seed), own in relevances.items():
        ranks = {measure: centred_ranks(values).float() for measure, values in own.items()}  # (N, n) each
        for (first, a), (second, b) in permutations(ranks.items(), 2):
            norms = a.norm(dim=1) * b.norm(dim=1)
            value = torch.where(norms > 0, (a * b).sum(1) / norms.clamp(min=1e-12), torch.nan)
            labels = {"generator": name, "seed": seed, "cnn": seed, "measure": first, "other": second}
            image = [f"{seed}/{row}" for row in range(len(value))]
            parts.append(pd.DataFrame({**labels, "image": image, "value": value.tolist()}))
    return intervals_by(pd.concat(parts, ignore_index=True), ["generator", "measure", "other"], "value")


def stand_ins(generator: Generator, images: Tensor, given: Conditions) -> dict[str, dict[str, Tensor]]:
    """Relevances (N, n) by both ablations when other things stand in place of an absent condition: by what
    stands there, then by measure, for :func:`share_scores`. Images are (N, 3, H, W), at least two."""
    absent = {"mean": mean_conditions(given), "zero": zero_conditions(given), "another image's": None}
    measures = ("leave_one_out", "leave_one_in")
    return {
        name: {
            measure: relevance(ConditionedGenerator(generator, own), images, given, measure)
            for measure in measures
        }
        for name, own in absent.items()
    }


def first_ranked(relevance: Tensor, index: int) -> Tensor:
    """On which images (N,) the condition at an index matters more than any other: 1, else 0."""
    others = relevance.clone()
    others[:, index] = -torch.inf
    return (relevance[:, index] > others.amax(1)).double()
