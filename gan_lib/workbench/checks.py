"""Checks of a CNN's explainers on its images, one score per image: for :meth:`Cohort.scored`.

Each takes a CNN, a sample of its images and its explainers by method and seed, and gives a table with
``method``, ``image`` and scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from gan_lib.data import DATA_SETS
from gan_lib.data.counterfactuals import without_digit
from gan_lib.data.mosaics import mosaic, overlaid, quarters, unlike_groups, unlike_pairs
from gan_lib.data.scenes import Layers, scene_layers
from gan_lib.explainers import (
    ContrastiveExplainer,
    EvidenceProjection,
    Explainer,
    GeneratorExplainer,
    make_explainer,
)
from gan_lib.figures import overlay
from gan_lib.gan.relevance import all_relevances, stand_ins
from gan_lib.metrics import (
    box_scores,
    efficient_sanity_scores,
    judge,
    masked_images,
    region_scores,
    sanity_scores,
    similarity_scores,
    smooth_sanity_scores,
)
from gan_lib.metrics.sanity import Explain
from gan_lib.metrics.sanity_forms import COPIES, NOISE
from gan_lib.workbench.samples import Sample
from gan_lib.workbench.subject import Subject

Explainers = Mapping[tuple[str, int], Explainer]
AT_ONCE = 32  # images
LOCALISED = ["pointing", "evidence_dice", "mass"]
QUARTERS = ("upper left", "upper right", "lower left", "lower right")


def halves(sample: Sample, kind: str, seed: int, count: int | None = None) -> tuple[Tensor, dict[str, Any]]:
    """Mosaics (M, 3, H, W) of two images of different predicted classes each, at most ``count``; and by half,
    ``left`` and ``right``, the class (M,) that it is asked for, its region and its images' rows."""
    left, right = (rows[:count] for rows in unlike_pairs(sample.explained, seed))
    pictures, on_left = mosaic(sample.images[left], sample.images[right], kind)
    parts = (("left", left, on_left), ("right", right, ~on_left))
    return pictures, {name: (sample.explained[rows], region, rows) for name, rows, region in parts}


class Part(NamedTuple):
    """One of the images in mosaics (M, 3, H, W)."""

    asked: Tensor  # (M,) the class that it is asked for
    region: Tensor | None  # (1, 1, H, W) bool, where it is; ``None`` where that is everywhere
    rows: Tensor  # (M,) of the sample


def mosaic_parts(
    sample: Sample, kind: str, seed: int, count: int | None = None
) -> tuple[Tensor, dict[str, Part]]:
    """Mosaics (M, 3, H, W) of images of different predicted classes each, at most ``count``, and their parts
    by name: two :func:`halves`, four with the kind ``quarters``, or the two that are ``overlaid``."""
    if kind == "quarters":
        rows = unlike_groups(sample.explained, 4, seed)[:count]  # (M, 4)
        pictures, regions = quarters(sample.images[rows])
        own = zip(rows.unbind(1), regions, strict=True)
        parts = [Part(sample.explained[numbers], region, numbers) for numbers, region in own]
        return pictures, dict(zip(QUARTERS, parts, strict=True))
    if kind == "overlaid":
        pairs = [rows[:count] for rows in unlike_pairs(sample.explained, seed)]
        parts = [Part(sample.explained[rows], None, rows) for rows in pairs]
        return overlaid(*(sample.images[rows] for rows in pairs)), dict(
            zip(("one", "other"), parts, strict=True)
        )
    pictures, found = halves(sample, kind, seed, count)
    return pictures, {name: Part(*own) for name, own in found.items()}


def asked_halves(
    cnn: nn.Module, sample: Sample, explainers: Explainers, kind: str = "beside", seed: int = 0
) -> pd.DataFrame:
    """Share of a map's mass ``inside`` the part of a mosaic that it is asked for, each part in turn.

    Raises:
        ValueError: overlaid images, whose parts are nowhere in particular.
    """
    pictures, parts = mosaic_parts(sample, kind, seed)
    tables = []
    for name, (asked, region, _) in parts.items():
        if region is None:
            raise ValueError(f"{kind} images have no parts to be asked for: name another kind of mosaic")
        made = {run: own.attribute(pictures, asked, AT_ONCE) for run, own in explainers.items()}
        inside = region_scores(made, region)
        tables.append(inside.assign(image=name + inside["image"].astype(str)))
    return pd.concat(tables, ignore_index=True)


def halves_page(
    sample: Sample, explainers: Explainers, kind: str = "beside", seed: int = 0, count: int = 4
) -> tuple[dict[str, Tensor], list[str]]:
    """A few mosaics with every explainer's maps of each part, and titles: for
    ``figures.map_grid``, (n, 3 or 1, H, W) each."""
    pictures, parts = mosaic_parts(sample, kind, seed, count)
    page = {"mosaic": pictures}
    for (method, _), own in explainers.items():
        for name, part in parts.items():
            page[f"{method},\nasked: {name}"] = overlay(pictures, own.attribute(pictures, part.asked))
    rows = (sample[part.rows].titles for part in parts.values())
    return page, [" | ".join(titles) for titles in zip(*rows, strict=True)]


def wrong_cnn(
    cnn: nn.Module,
    sample: Sample,
    explainers: Explainers,
    others: Mapping[int, nn.Module],
    kind: str | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    count: int | None = None,
    **settings: Any,
) -> pd.DataFrame:
    """What is lost when an explainer looks at another CNN than the one that its maps are judged by.

        scores = wrong_cnn(cnn, sample, explainers, {0: other}, kind="quarters")
        for method, own in scores.groupby("method"):
            differences(own.assign(method=own["cnn_of_map"]), "drop_black@10", ["own"], ["other"])

    Images, classes and the CNN that measures are the same for both maps: where they score alike, the map says
    nothing of *this* CNN.

    Args:
        others: by seed of the explainers, another CNN with the same classes and, for generators, the same
            layers. A generator reads it; a baseline, with its ``options``, is made anew for it.
        kind: by default the sample's own images; else a kind of :func:`mosaic_parts`, at most ``count``
            mosaics drawn by ``seed``, each asked for the class of every part in turn.
        settings: of :func:`gan_lib.metrics.judge`, by default curves of 20 steps and drops at 10 %.

    Returns:
        A row per ``method``, ``seed``, ``image`` and ``cnn_of_map``, ``own`` or ``other``, with all measures;
        the evidence is the digit in plain images, and in mosaics the part that is asked for.

    Raises:
        KeyError: no other CNN for an explainer's seed.
    """
    if lacking := sorted({run[1] for run in explainers} - others.keys()):
        raise KeyError(f"no other CNN for the explainers of seed {', '.join(map(str, lacking))}")
    judged = {"areas": (0.1,), "steps": 20, **settings}
    pictures, parts = sample.images, {"": Part(sample.explained, sample.masks, torch.arange(len(sample)))}
    if kind is not None:
        pictures, parts = mosaic_parts(sample, kind, seed, count)
    looking = {
        "own": explainers,
        "other": {run: on_cnn(own, run[0], others[run[1]], options) for run, own in explainers.items()},
    }
    tables = []
    for name, (asked, region, _) in parts.items():
        evidence = None if region is None else region.expand(len(pictures), -1, -1, -1)
        for whose, by_run in looking.items():
            maps = {run: own.attribute(pictures, asked, AT_ONCE) for run, own in by_run.items()}
            scores = judge(cnn, pictures, maps, asked, evidence=evidence, **judged).scores
            image = name + scores["image"].astype(str) if name else scores["image"]
            tables.append(scores.assign(image=image, cnn_of_map=whose))
    return pd.concat(tables, ignore_index=True)


def layers_of(subject: Subject, split: str = "test") -> Layers:
    """Of what the images of a subject's split are drawn, to be drawn again with one thing changed.

    Raises:
        ValueError: a data set that is not drawn by this package; KeyError: a split that it does not have.
    """
    own = subject.recipe.data
    kinds = {"digits_in_scenes": False, "confounded_digits": True}
    name = DATA_SETS.name(own.name) if own.name in DATA_SETS else own.name
    if name not in kinds:
        raise ValueError(f"{own.name} cannot be drawn again: only {' and '.join(kinds)} can")
    counts = {"train": own.train_images, "test": own.test_images, "validation": own.validation_images}
    given: Any = {split: count for split, count in counts.items() if count is not None}
    given |= {"size": own.image_size, "seed": subject.recipe.seed, "confounded": kinds[name]}
    found = next((layers for other, layers in scene_layers(**given) if other == split), None)
    if found is None:
        raise KeyError(f"{own.name} has no split {split!r} to be drawn again")
    return found


def counterfactuals(
    cnn: nn.Module,
    sample: Sample,
    explainers: Explainers,
    layers: Layers,
    change: Callable[[Layers], Layers] = without_digit,
    **settings: Any,
) -> pd.DataFrame:
    """Maps against the same images drawn again with one thing changed, by all measures.

        layers = checks.layers_of(cohort.first)
        scores = cohort.scored(checks.counterfactuals, samples, explainers, layers=layers, areas=(0.1,))

    Args:
        layers: of the sample's split (:func:`layers_of`).
        change: one of :mod:`gan_lib.data.counterfactuals`, by default the digit goes.
        settings: of :func:`gan_lib.metrics.judge`, by default curves of 20 steps.

    Raises:
        ValueError: layers of other images than the sample's.
    """
    own = layers[sample.rows]
    if not torch.equal(own.rendered(), torch.as_tensor(sample.split.images[:])):
        raise ValueError(
            "these layers are of other images: those of the sample's data set and split are needed"
        )
    others = (change(own).rendered().float() / 255).to(sample.images)
    maps = {run: own.attribute(sample.images, sample.explained, AT_ONCE) for run, own in explainers.items()}
    judged = {"steps": 20, "evidence": sample.masks, **settings}
    return judge(cnn, sample.images, maps, sample.explained, counterfactuals=others, **judged).scores


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

    methods = _on_any_cnn(explainers, options)
    made = sanity_scores(methods, cnn, sample.images, sample.explained, stages, classes, seed)
    named = zip(made, ("randomised", "another class"), strict=True)
    table = pd.concat([own.assign(check=check) for own, check in named], ignore_index=True)
    return table.assign(share=(100 * table["share"]).round(1))


def smooth_sanity(
    cnn: nn.Module,
    sample: Sample,
    explainers: Explainers,
    stages: int,
    copies: int = COPIES,
    noise: float = NOISE,
    bottom_up: bool = True,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """The first part of :func:`sanity` for maps averaged over noisy copies of the image
    (:func:`gan_lib.metrics.smooth_sanity_scores`), ``share`` in per cent of the layers."""
    given = (cnn, sample.images, sample.explained, stages, copies, noise, bottom_up, seed)
    table = smooth_sanity_scores(_on_any_cnn(explainers, options), *given)
    return table.assign(share=(100 * table["share"]).round(1))


def efficient_sanity(
    cnn: nn.Module,
    sample: Sample,
    explainers: Explainers,
    bins: int = 100,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """By how much maps become more complex when all of the CNN's layers are drawn anew
    (:func:`gan_lib.metrics.efficient_sanity_scores`); CNNs and ``options`` as for :func:`sanity`."""
    methods = _on_any_cnn(explainers, options)
    return efficient_sanity_scores(methods, cnn, sample.images, sample.explained, bins, seed)


def on_cnn(
    own: Explainer, name: str, cnn: nn.Module, options: Mapping[str, Mapping[str, Any]] | None
) -> Explainer:
    """The same explainer of another CNN: what reads evidence or is trained reads this one's, another baseline
    is made anew."""
    if isinstance(own, GeneratorExplainer | EvidenceProjection):
        return own.on(cnn)
    return make_explainer(name, cnn, **(options or {}).get(name, {}))


def _on_any_cnn(
    explainers: Explainers, options: Mapping[str, Mapping[str, Any]] | None
) -> dict[str, Explain]:
    """By method, from a CNN, images and classes to maps."""

    def maps_by(name: str, own: Explainer) -> Explain:
        at_once = AT_ONCE if isinstance(own, GeneratorExplainer) else None
        return lambda net, pictures, target: on_cnn(own, name, net, options).attribute(
            pictures, target, at_once
        )

    return {run[0]: maps_by(run[0], own) for run, own in explainers.items()}


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
    """The same when other things stand in place of a condition (:func:`gan_lib.gan.relevance.stand_ins`):
    (B, n) each."""
    made = {}
    for run, own in explainers.items():
        assert isinstance(own, GeneratorExplainer)
        given = own.conditions(sample.images, sample.explained)
        made[run] = stand_ins(own.generator, sample.images, given)
    return made
