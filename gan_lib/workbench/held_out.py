"""The sweep over CNNs and layers of the prediction test, held out (arXiv 2502.03422, tables 1 and 2).

Concepts are learned on training images, and the crops that show them are cut from test images, which no
concept has seen. A setting is a CNN and a layer. Seeds are those of the factorisation: of its random start,
and of the images of every class that it is given. Settings with the same label ``depth`` are summarised
together as well, each class of each CNN as one of all: ``network`` is then ``all``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gan_lib import concepts
from gan_lib.concepts.prediction_test import SOURCES, allowed_images
from gan_lib.core.artifacts import digest
from gan_lib.core.options import options
from gan_lib.figures import map_grid
from gan_lib.metrics.intervals import same_images
from gan_lib.workbench.bench import Workbench
from gan_lib.workbench.concept_scores import hidden_layer, pooled_activations
from gan_lib.workbench.crew import Failed, on_threads, outcomes, raise_first
from gan_lib.workbench.places import Places
from gan_lib.workbench.recipes import ProfileError
from gan_lib.workbench.subject import Subject
from gan_lib.workbench.sweeps import FAILED, SWEEPS, Setting, Sweep, Tables, settings_of

LABELS = ["network", "layer", "depth", "cell", "accuracy"]  # of a setting, in its rows
ALL = "all"


@options
class HeldOutOptions:
    """``options`` of the sweep's file.

    Attributes:
        runs: of the controls.
        shown: a class of every setting of a depth that is drawn, by the label ``network``.
        drawn: that depth.
        published: by form, how many classes won of how many, as the authors report.
        published_as: what their CNN and layer are called.
    """

    runs: int = 3
    shown: dict[str, int] | None = None
    drawn: str = ""
    published: dict[str, list[int] | tuple[int, ...]] | None = None
    published_as: str = "published"

    def __post_init__(self) -> None:
        for form, counts in (self.published or {}).items():
            if len(counts) != 2 or not 0 <= counts[0] <= counts[1] or counts[1] < 2:
                raise ValueError(f"published, {form}: how many won of how many, not {list(counts)}")


@SWEEPS.register("prediction_test")
def run_prediction_test(sweep: Sweep, bench: Workbench) -> Tables:
    """Tables ``results`` (a row per CNN, layer, form, method and measure) and ``classes`` (by class).

    Raises:
        ProfileError: options that do not fit, or a setting without the labels ``network`` and ``depth``.
    """
    try:
        asked = HeldOutOptions(**sweep.options)
    except (TypeError, ValueError) as error:
        raise ProfileError(f"sweep {sweep.name!r}: {error}") from None
    settings, seeds = settings_of(sweep, bench.recipe), sweep.seeds or bench.recipe.seeds
    for own in settings:
        if not {"network", "depth"} <= own.labels.keys():
            raise ProfileError(f"sweep {sweep.name!r}, {own.method}: needs network and depth")
    machine = bench.recipe.machine
    calls = [
        partial(
            on_threads, machine.threads, partial(_of_setting, sweep, own, seeds, asked.runs, bench.places)
        )
        for own in settings
    ]
    keys = [f"{own.method}-{digest([sweep.profile, sweep.changes, own.changes, seeds])}" for own in settings]
    made = outcomes(calls, machine.workers, f"sweep {sweep.name}", keys)
    failed = [
        {**setting.labels, "error": own.told()}
        for setting, own in zip(settings, made, strict=True)
        if isinstance(own, Failed)
    ]
    if len(failed) == len(made):
        raise_first(made)
    for setting, outcome in zip(settings, made, strict=True):
        if not isinstance(outcome, Failed):
            subject = bench.subject(setting.changes)  # notes it for the manifest
            if asked.shown and setting.labels["depth"] == asked.drawn:
                _draw(bench, setting, subject, _pooled(subject), asked.shown, seeds[0])
    classes = pd.concat([own for own in made if not isinstance(own, Failed)], ignore_index=True)
    results = pd.concat([held_out_summary(classes), _published(asked)], ignore_index=True)
    named = {"classes": f"{sweep.title}: mean over seeds and runs, by class"}
    by = [*LABELS, "form", "method", "image"]
    means = classes.drop(columns="seed").groupby(by, sort=False).mean().reset_index()
    tables: Tables = {
        "results": (results, sweep.title),
        "classes": (means.rename(columns={"image": "class"}), named["classes"]),
    }
    if failed:
        tables[FAILED] = (pd.DataFrame(failed), f"{sweep.title}: settings that failed")
    return tables


def _of_setting(
    sweep: Sweep, setting: Setting, seeds: Sequence[int], runs: int, places: Places
) -> pd.DataFrame:
    """Scores of a CNN's layer with all seeds, labelled."""
    subject = Workbench("sweep", sweep.profile, sweep.changes, places).subject(setting.changes)
    pooled = cache(partial(_pooled, subject))  # made where it is needed first, once
    scores = pd.concat([_scores(subject, pooled, seed, runs) for seed in seeds])
    return scores.assign(**_labels(setting, subject))


def _labels(setting: Setting, subject: Subject) -> dict[str, Any]:
    hidden = hidden_layer(subject)
    recipe = subject.recipe.concepts
    rows, columns = (
        round(recipe.pooling * side / places)
        for side, places in zip(subject.image_size, hidden.size, strict=True)
    )
    return {
        "network": setting.labels["network"],
        "layer": hidden.layer,
        "depth": setting.labels["depth"],
        "cell": f"{rows} x {columns} of {subject.image_size[0]} x {subject.image_size[1]}",
        "accuracy": round(100 * subject.accuracy, 1),
    }


def _bank(subject: Subject, seed: int) -> concepts.ConceptBank:
    """Concepts of the recipe's classes, from a random start; of the recipe's split."""
    own, every = subject.recipe.concepts, range(len(subject.names))
    relevance = concepts.LayerRelevance(hidden_layer(subject), own.relevance, own.noise_copies)
    classes = list(every if own.classes is None else own.classes)
    given = (classes, own.components, own.images_per_class, seed, "random")
    split = subject.data[own.split]

    def make(folder: Path) -> None:
        concepts.learn_concepts(relevance, split, subject.predictions(own.split), *given).save(folder)

    names = ("classes", "components", "images", "seed", "start")
    made_from = {"classifier": subject.trained.key, "split": split.fingerprint, **relevance.settings()}
    made_from |= dict(zip(names, given, strict=True))
    return concepts.ConceptBank.load(subject._made("concepts", "gan_lib.concepts", made_from, make))


def _pooled(subject: Subject) -> concepts.PooledActivations:
    return pooled_activations(subject, hidden_layer(subject))


def _scores(
    subject: Subject, pooled: Callable[[], concepts.PooledActivations], seed: int, runs: int
) -> pd.DataFrame:
    """Scores of the classes, of concepts from one seed's start; from the store where they are there."""
    own, bank = subject.recipe.concepts, _bank(subject, seed)
    asked: dict[str, Any] = {"crops": own.crop_counts, "candidates": own.crop_candidates, "runs": runs}

    def make(folder: Path) -> None:
        tests, _ = concepts.prediction_test(
            bank,
            pooled(),
            subject.predictions(),
            own.crop_counts,
            own.crop_candidates,
            runs,
            seed,
            concepts.FORMS,
        )
        concepts.prediction_scores(tests).to_csv(folder / "scores.csv", index=False)

    flat = subject.recipe.flat()
    made_from = {
        "classifier": subject.trained.key,
        "split": subject.data.test.fingerprint,
        "concepts": {name: value for name, value in flat.items() if name.startswith("concepts.")},
        "seed": seed,
        **asked,
    }
    folder = subject._made("prediction_test", "gan_lib.concepts", made_from, make)
    return pd.read_csv(folder / "scores.csv").assign(seed=seed)


def held_out_summary(classes: pd.DataFrame) -> pd.DataFrame:
    """Means with 95 % intervals over seeds and classes: of every CNN and layer, and of all CNNs of a depth.

    Args:
        classes: scores of :func:`gan_lib.concepts.prediction_scores` with a ``seed``, and :data:`LABELS`.
    """
    parts = []
    for key, own in classes.groupby(LABELS, sort=False):
        made = concepts.prediction_summary(own.drop(columns=LABELS))
        labels: Any = dict(zip(LABELS, key, strict=True))
        parts.append(made.assign(**labels))
    for depth, own in classes.groupby("depth", sort=False):
        if own["network"].nunique() > 1:
            image = own["network"] + "/" + own["layer"] + "/" + own["image"].astype(str)
            made = concepts.prediction_summary(own.assign(image=image).drop(columns=LABELS))
            parts.append(made.assign(network=ALL, layer="", depth=depth, cell="", accuracy=np.nan))
    made = pd.concat(parts, ignore_index=True)
    return made[[*LABELS, "form", *(name for name in made if name not in [*LABELS, "form"])]]


def _published(asked: HeldOutOptions) -> pd.DataFrame:
    """What the authors report, with the interval that so many classes give."""
    rows = []
    for form, (won, of) in (asked.published or {}).items():
        made = same_images(np.repeat([[100.0, 0.0]], [won, of - won], axis=1))
        row = {"network": asked.published_as, "form": form, "method": SOURCES[0], "measure": "won"}
        rows.append(row | made._asdict() | {"seeds": 1, "cnns": 1})
    return pd.DataFrame(rows).drop(columns="p", errors="ignore")


def _draw(
    bench: Workbench,
    setting: Setting,
    subject: Subject,
    pooled: concepts.PooledActivations,
    shown: Mapping[str, int],
    seed: int,
) -> None:
    """One class's concepts in the paper's form, and what the CNN is shown of every class and what it says."""
    cnn, bank = str(setting.labels["network"]), _bank(subject, seed)
    names, table, file = subject.names, subject.predictions(), cnn.replace(" ", "_").replace(".", "_")
    label = bank.shown([shown.get(cnn, bank.classes[0])])[0]
    said = [f"called {names[own]}" for own in table["prediction"]]
    others = {
        f"not predicted as {names[label]}": allowed_images([label], table, "strict")[0],
        f"nor labelled {names[label]}": allowed_images([label], table, "strict by label")[0],
    }
    page = concepts.published_page(pooled, bank.basis[label], others, said)
    rows = [f"concept {k + 1}" for k in range(len(bank.basis[label]))]
    caption = f"{cnn}: concepts of {names[label]} learned on training images, prototypes from test images"
    figure = map_grid(**page, row_labels=rows, cell=1.2, colour_bar=False)
    bench.figures.save_figure(figure, f"concepts_{file}", caption)
    counts, forms = subject.recipe.concepts.crop_counts, concepts.FORMS
    tests, montages = concepts.prediction_test(bank, pooled, table, counts, runs=1, seed=seed, forms=forms)
    own = tests[tests["method"] == SOURCES[0]]
    titles: Any = own["prediction"].map(dict(enumerate(names))).groupby(own["form"]).apply(list).to_dict()
    figure = map_grid(montages, [names[one] for one in bank.classes], colour_bar=False, captions=titles)
    caption = f"{cnn}: what it is shown in the held-out prediction test, and what it predicts"
    bench.figures.save_figure(figure, f"montages_{file}", caption)
