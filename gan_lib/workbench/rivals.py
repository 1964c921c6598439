"""The sweep that sets one CNN's contrastive explainers beside every other method, on the same images.

All seeds' explainers explain all images, so that an interval tells how trainings differ from how images do.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import field, replace
from functools import partial
from typing import Any

import pandas as pd
import torch
from pydantic import PositiveInt, TypeAdapter, ValidationError
from torch import Tensor, nn

from gan_lib.classifiers import Classifier
from gan_lib.core.options import options
from gan_lib.core.runtime import median_seconds
from gan_lib.core.storage import tensor_bytes
from gan_lib.explainers import METHODS, ContrastiveExplainer, Explainer, make_explainer
from gan_lib.gan.conditions import READERS
from gan_lib.metrics import differences, judge, summarise
from gan_lib.workbench.bench import Workbench
from gan_lib.workbench.cohort import side_by_side
from gan_lib.workbench.jobs import Run, TrainedGenerator, reader
from gan_lib.workbench.parts import Generators, kept_table, keys_of, redrawn
from gan_lib.workbench.recipes import ProfileError, Recipe
from gan_lib.workbench.sections import Counts, Methods
from gan_lib.workbench.subject import Subject, subject_again
from gan_lib.workbench.sweeps import SWEEPS, Sweep, Tables

AT_ONCE = 32  # images
FORWARD = "forward pass"
CHECKED = ("grad_cam", "evidence_projection")  # beside the explainers, after redrawing


@options
class RivalOptions:
    """``options`` of the sweep's file. The recipe's section ``judge`` has the ``methods`` that contrastive
    explainers are compared with, their ``settings``, and ``images``, ``fills``, ``areas``, ``curve_steps``,
    ``sanity_images``, ``sanity_stages`` and ``timing_rounds``.

    Attributes:
        few: methods, further ones or some of these, that are compared on the first ``few_images`` only, as
            costly ones.
        trained: how the recipe under which explainers are trained differs from that under which they are
            judged, by dotted name, as in the images' size.
        measures: reported ones; tested: those of them in which differences are tested.
        batches: of images, for which the time of an explanation is measured.
    """

    few: Methods = ()
    few_images: PositiveInt = 100
    trained: dict[str, Any] = field(default_factory=dict)
    measures: tuple[str, ...] = ("insertion - deletion", "insertion", "deletion", "drop_black@20", "area")
    tested: tuple[str, ...] = ("insertion - deletion", "drop_black@20")
    batches: Counts = (1, 32)


_OPTIONS = TypeAdapter(RivalOptions)


@SWEEPS.register("rivals")
def run_rivals(sweep: Sweep, bench: Workbench) -> Tables:
    """A CNN's contrastive explainers, of all variants and seeds, beside other methods.

    Returns:
        ``results``; ``tests``, paired differences from every other method with Holm's correction over all of
        them; ``sanity``, the rank correlation of maps with those after the last layers are drawn anew;
        ``cost``, the time of an explanation over that of one forward pass.

    Raises:
        ProfileError: options that do not fit.
    """
    recipe, own = bench.recipe, bench.recipe.judge
    asked, seeds = options_of(sweep, recipe), list(sweep.seeds or recipe.seeds)
    methods = [name for name in own.methods if name not in asked.few]
    subject = bench.subject()
    known = _known(subject)
    if unknown := [name for name in (*asked.measures, *asked.tested) if name not in known]:
        told = f"nothing measures {unknown[0]}; there are {', '.join(known)}"
        raise ProfileError(f"sweep {sweep.name!r}: {told}")
    generators = {
        (f"contrastive_{variant}", seed): TrainedGenerator(one.generator, one.log, one.key)
        for (variant, seed), one in trained_on(sweep, asked, subject, bench).contrastive(seeds=seeds).items()
    }
    count = min(own.images, len(subject.data["test"]))
    calls: list[Callable[[], pd.DataFrame]] = []
    for first in range(0, count, AT_ONCE):
        size = min(AT_ONCE, count - first)
        few = max(0, min(size, asked.few_images - first)) if asked.few else 0
        calls.append(partial(_scores, subject, generators, methods, seeds[0], (count, first, size)))
        calls += [partial(_scores, subject, {}, asked.few, seeds[0], (count, first, few))] if few else []
    checked = [name for name in methods if name in CHECKED]
    calls.append(partial(_redrawn, subject, generators, checked, seeds[0]))
    *tables, sanity = side_by_side(recipe.machine, calls)
    scores = pd.concat(tables, ignore_index=True).assign(cnn=subject.trained.key)
    ours = list(dict.fromkeys(name for name, _ in generators))
    tests = differences(scores, asked.tested, ours, [*methods, *asked.few])
    title = f"{sweep.title}, {subject.recipe.cnn.architecture}"
    timed = {run: one for run, one in generators.items() if run[1] == seeds[0]}
    return {
        "results": (summarise(scores[["method", "seed", "cnn", "image", *asked.measures]]), title),
        "tests": (tests, f"{title}: paired differences from other methods"),
        "sanity": (sanity, "Rank correlation of maps with those after the last layers are drawn anew"),
        "cost": (
            _cost(asked, subject, timed, methods, seeds[0]),
            "Time of an explanation, over a forward pass",
        ),
    }


def options_of(sweep: Sweep, recipe: Recipe) -> RivalOptions:
    """The options of a sweep with a recipe.

    Raises:
        ProfileError: they, or the recipe's methods, do not fit.
    """
    try:
        asked = _OPTIONS.validate_json(json.dumps(sweep.options))
    except ValidationError as error:
        raise ProfileError(f"sweep {sweep.name!r}: {error}") from None
    recipe.changed(asked.trained, f"sweep {sweep.name!r}, trained")
    if trained := [name for name in (*recipe.judge.methods, *asked.few) if METHODS[name].kind == "trained"]:
        told = f"{trained[0]} is no rival: the recipe's own variants are judged"
        raise ProfileError(f"sweep {sweep.name!r}: {told}")
    return asked


def trained_on(sweep: Sweep, asked: RivalOptions, subject: Subject, bench: Workbench) -> Subject:
    """What a subject's explainers are trained on: itself, or its CNN as ``trained`` has it.

    Raises:
        ProfileError: that is another CNN, or other conditions are read of it.
    """
    if not asked.trained:
        return subject
    where = f"sweep {sweep.name!r}: trained"
    recipe = bench.recipe.changed(asked.trained, where)
    # Not the bench's own: beside the tables the manifest names the data that were judged.
    own = subject_again(recipe, bench.profile.name, bench.places, bench.store.root)
    if _identity(own.cnn) != _identity(subject.cnn):
        raise ProfileError(f"{where} makes another CNN than the one that is judged")
    makers = [reader(one.recipe, one.cnn, one.image_size)[1] for one in (own, subject)]
    if makers[0].settings() != makers[1].settings() or makers[0].reads != makers[1].reads:
        raise ProfileError(f"{where} reads other conditions of the CNN than where it is judged")
    return own


def _identity(cnn: Classifier) -> tuple[Any, str]:
    """What tells a CNN from others, whatever images it was made with."""
    tensors = [tensor_bytes(own) for own in (*cnn.state_dict().values(), *cnn.buffers())]
    card = replace(cnn.card, image_size=None)
    return card, hashlib.sha256(b"".join(tensors)).hexdigest()


def explainers_of(
    subject: Subject, generators: Generators, methods: Sequence[str], seed: int = 0
) -> dict[Run, Explainer]:
    """Methods under a seed, with the recipe's settings, and explainers of generators, by method and seed."""
    settings, made = subject.recipe.judge.settings, dict[Run, Explainer]()
    for name in methods:
        made[name, seed] = make_explainer(name, subject.cnn, **settings.get(name, {}))
    if generators:
        layers = len(next(iter(generators.values())).generator.sizes.features) - 1  # and the evidence
        maker = READERS[subject.recipe.gan.reads](subject.cnn, subject.image_size, layers)
        made |= {run: ContrastiveExplainer(maker, own.generator) for run, own in generators.items()}
    return {run: own.to(subject.device) for run, own in made.items()}


def _settings(subject: Subject) -> dict[str, Any]:
    """Arguments of :func:`gan_lib.metrics.judge`, as the recipe says."""
    judged = subject.recipe.judge
    return {"fills": judged.fills, "areas": judged.areas, "steps": judged.curve_steps}


def _known(subject: Subject) -> list[str]:
    """Names of all measures, from those of one image."""
    one = subject.draw(1)
    maps = {("random", 0): make_explainer("random", subject.cnn).attribute(one.images, one.explained)}
    scores, _ = judge(subject.cnn, one.images, maps, one.explained, evidence=one.masks, **_settings(subject))
    return [name for name in scores.columns if name not in ("method", "seed", "image")]


def _scores(
    subject: Subject, generators: Generators, methods: Sequence[str], seed: int, part: tuple[int, int, int]
) -> pd.DataFrame:
    """All measures of maps of a part of so many images: of its first one, and how many; from the store where
    they are there. Methods are under a seed."""
    count, first, size = part
    own, settings = subject.draw(count)[first : first + size], _settings(subject)

    def make() -> pd.DataFrame:
        maps = {
            run: one.attribute(own.images, target=own.explained, batch_size=AT_ONCE)
            for run, one in explainers_of(subject, generators, methods, seed).items()
        }
        return judge(subject.cnn, own.images, maps, own.explained, evidence=own.masks, **settings)[0]

    made_from = {
        "images": own.split.fingerprint,
        "generators": keys_of(generators),
        "methods": {name: subject.recipe.judge.settings.get(name, {}) for name in methods},
        "seed": seed,
        **settings,
    }
    made = kept_table(subject, __name__, made_from, make)
    return made.assign(image=made["image"] + first)


def _redrawn(subject: Subject, generators: Generators, methods: Sequence[str], seed: int) -> pd.DataFrame:
    """``rank`` by ``method`` and ``share`` of the layers; of the recipe's images and stages."""
    own = subject.recipe.judge
    sample, tables = subject.draw(own.sanity_images), []
    for place in sorted({seed, *(other for _, other in generators)}):
        few = {run: one for run, one in generators.items() if run[1] == place}
        beside = methods if place == seed else []
        explainers = explainers_of(subject, few, beside, seed)
        made_from = {
            "images": sample.split.fingerprint,
            "generators": keys_of(few),
            "methods": {name: own.settings.get(name, {}) for name in beside},
            "stages": own.sanity_stages,
        }
        given = (subject, explainers, sample, own.sanity_stages, own.settings)
        tables.append(kept_table(subject, __name__, made_from, partial(redrawn, *given)))
    kept = pd.concat(tables, ignore_index=True).assign(cnn=subject.trained.key)
    kept = kept[["method", "seed", "cnn", "image", "share", "rank"]]
    shares = [summarise(one.drop(columns="share")).assign(share=of) for of, one in kept.groupby("share")]
    return pd.concat(shares, ignore_index=True)


def _cost(
    asked: RivalOptions, subject: Subject, generators: Generators, methods: Sequence[str], seed: int
) -> pd.DataFrame:
    """Milliseconds an image of every method, and how many forward passes of the CNN take as long; all in
    turn, methods on few images at the smallest batch only."""
    rows, rounds = [], subject.recipe.judge.timing_rounds
    explainers = explainers_of(subject, generators, [*methods, *asked.few], seed)
    for batch in asked.batches:
        sample = subject.draw(batch)
        contestants: dict[str, Callable[[], object]] = {
            FORWARD: partial(_forward, subject.cnn, sample.images)
        }
        for (name, _), own in explainers.items():
            if name not in asked.few or batch == min(asked.batches):
                contestants[name] = partial(own.attribute, sample.images, sample.explained)
        seconds = median_seconds(contestants, rounds)
        for name, took in seconds.items():
            row = {"method": name, "images": len(sample), "ms per image": 1000 * took / len(sample)}
            rows.append({**row, "forward passes": took / seconds[FORWARD]})
    return pd.DataFrame(rows)


@torch.no_grad()
def _forward(cnn: nn.Module, images: Tensor) -> Tensor:
    made: Tensor = cnn(images)
    return made
