"""Checks of a CNN's explainers on its images, one score per image: for :meth:`Cohort.scored`.

Each takes a CNN, a sample of its images and its explainers by method and seed, and gives a table with
``method``, ``image`` and scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from torch import Tensor, nn

from gan_lib.data.mosaics import mosaic, unlike_pairs
from gan_lib.explainers import ContrastiveExplainer, Explainer, GeneratorExplainer, make_explainer
from gan_lib.figures import overlay
from gan_lib.gan.relevance import all_relevances, stand_ins
from gan_lib.metrics import (
    box_scores,
    judge,
    masked_images,
    region_scores,
    sanity_scores,
    similarity_scores,
)
from gan_lib.workbench.samples import Sample

Explainers = Mapping[tuple[str, int], Explainer]
AT_ONCE = 32  # images
LOCALISED = ["pointing", "evidence_dice", "mass"]


def halves(sample: Sample, kind: str, seed: int, count: int | None = None) -> tuple[Tensor, dict[str, Any]]:
    """Mosaics (M, 3, H, W) of two images of different predicted classes each, at most ``count``; and by half,
    ``left`` and ``right``, the class (M,) that it is asked for, its region and its images' rows."""
    left, right = (rows[:count] for rows in unlike_pairs(sample.explained, seed))
    pictures, on_left = mosaic(sample.images[left], sample.images[right], kind)
    parts = (("left", left, on_left), ("right", right, ~on_left))
    return pictures, {name: (sample.explained[rows], region, rows) for name, rows, region in parts}


def asked_halves(
    cnn: nn.Module, sample: Sample, explainers: Explainers, kind: str = "beside", seed: int = 0
) -> pd.DataFrame:
    """Share of a map's mass ``inside`` the half of a mosaic that it is asked for, either half in turn."""
    pictures, parts = halves(sample, kind, seed)
    tables = []
    for name, (asked, region, _) in parts.items():
        made = {run: own.attribute(pictures, asked, AT_ONCE) for run, own in explainers.items()}
        inside = region_scores(made, region)
        tables.append(inside.assign(image=name + inside["image"].astype(str)))
    return pd.concat(tables, ignore_index=True)


def halves_page(
    sample: Sample, explainers: Explainers, kind: str = "beside", seed: int = 0, count: int = 4
) -> tuple[dict[str, Tensor], list[str]]:
    """A few mosaics with every explainer's maps of either half, and titles: for ``figures.map_grid``."""
    pictures, parts = halves(sample, kind, seed, count)
    page = {"mosaic": pictures}
    for (method, _), own in explainers.items():
        for name, (asked, _, _) in parts.items():
            page[f"{method},\nasked: {name}"] = overlay(pictures, own.attribute(pictures, asked))
    rows = (sample[own].titles for _, _, own in parts.values())
    return page, [f"{one} | {other}" for one, other in zip(*rows, strict=True)]


def boxes(cnn: nn.Module, sample: Sample, explainers: Explainers) -> pd.DataFrame:
    """How well maps localise the evidence: boxes at all thresholds (:func:`gan_lib.metrics.box_scores`), and
    in every row of an image what needs none, ``pointing``, ``evidence_dice`` and ``mass``; nothing without
    evidence."""
    if sample.masks is None:
        return pd.DataFrame(columns=["method", "seed", "image", "alpha", "iou", "error", *LOCALISED])
    maps = {run: own.attribute(sample.images, sample.explained, AT_ONCE) for run, own in explainers.items()}
    table = box_scores(maps, sample.masks)
    given = (cnn, sample.images, maps, sample.explained)
    pixels = judge(*given, evidence=sample.masks, fills=()).scores
    keys = ["method", "seed", "image"]
    return table.merge(pixels[[*keys, *LOCALISED]], on=keys)


def likeness(cnn: nn.Module, sample: Sample, explainers: Explainers, classes: int) -> pd.DataFrame:
    """Cosine similarity of embeddings within and between predicted classes: of the originals, of what the one
    contrastive explainer's maps show of them, and of the complements."""
    (own,) = explainers.values()
    assert isinstance(own, ContrastiveExplainer)
    maps = own.attribute(sample.images, sample.explained, AT_ONCE)
    seen = {"originals": sample.images}
    for name, part in (("explained images", maps), ("complements", 1 - maps)):
        seen[name] = masked_images(sample.images, part, "blur")
    embeddings = {name: own.maker.embeddings(pictures) for name, pictures in seen.items()}
    return similarity_scores(embeddings, sample.explained.cpu(), classes)


def sanity(
    cnn: nn.Module,
    sample: Sample,
    explainers: Explainers,
    classes: int,
    stages: int,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """How alike maps stay while the CNN's layers are drawn anew, and for a random other class
    (:func:`gan_lib.metrics.sanity_scores`): ``check`` is ``randomised``, with ``share`` in per cent of the
    layers, or ``another class``.

    A generator reads the forgetful CNN; a baseline, with its ``options``, is made anew for it.
    """

    def on(name: str, own: Explainer) -> Any:
        if isinstance(own, GeneratorExplainer):
            return lambda net, pictures, target: own.on(net).attribute(pictures, target, AT_ONCE)
        given = (options or {}).get(name, {})
        return lambda net, pictures, target: make_explainer(name, net, **given).attribute(pictures, target)

    methods = {run[0]: on(run[0], own) for run, own in explainers.items()}
    made = sanity_scores(methods, cnn, sample.images, sample.explained, stages, classes, seed)
    named = zip(made, ("randomised", "another class"), strict=True)
    table = pd.concat([own.assign(check=check) for own, check in named], ignore_index=True)
    return table.assign(share=(100 * table["share"]).round(1))


def relevances(
    cnn: nn.Module, sample: Sample, explainers: Explainers, batch_size: int
) -> dict[tuple[str, int], dict[str, Tensor]]:
    """All relevances (N, n) of each generator's conditions (:func:`gan_lib.gan.relevance.all_relevances`)."""
    made = {}
    for run, own in explainers.items():
        assert isinstance(own, GeneratorExplainer)
        given = own.conditions(sample.images, sample.explained)
        made[run] = all_relevances(own.generator, sample.images, given, batch_size)
    return made


def other_stand_ins(
    cnn: nn.Module, sample: Sample, explainers: Explainers
) -> dict[tuple[str, int], dict[str, dict[str, Tensor]]]:
    """The same when other things stand in place of a condition (:func:`gan_lib.gan.relevance.stand_ins`)."""
    made = {}
    for run, own in explainers.items():
        assert isinstance(own, GeneratorExplainer)
        given = own.conditions(sample.images, sample.explained)
        made[run] = stand_ins(own.generator, sample.images, given)
    return made
