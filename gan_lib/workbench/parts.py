"""Parts of a sweep's judgement: tables that the store keeps, and a check that goes seed by seed.

A sweep of hours goes on where it stopped: what was judged is found again, all but times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from gan_lib.explainers import Explainer
from gan_lib.workbench import checks
from gan_lib.workbench.jobs import Run, TrainedGenerator
from gan_lib.workbench.outside import outside_code
from gan_lib.workbench.samples import Sample
from gan_lib.workbench.subject import Subject

Generators = Mapping[Run, TrainedGenerator]  # by method, or variant, and seed


def kept_table(
    subject: Subject, module: str, made_from: Mapping[str, Any], make: Callable[[], pd.DataFrame]
) -> pd.DataFrame:
    """A table about a subject's CNN, from the store where it is there.

    Args:
        module: whose code makes it.
        made_from: all that decides it but the CNN and what is registered from outside, as JSON values.
    """

    def write(folder: Path) -> None:
        make().to_csv(folder / "table.csv", index=False)

    whole = {"classifier": subject.trained.key, **made_from}
    if code := outside_code():  # a measure, a method, ...
        whole["outside"] = code
    folder = subject.jobs_store.get("judged", module, whole, write)
    return pd.read_csv(folder / "table.csv", float_precision="round_trip")


def keys_of(generators: Generators) -> dict[str, str]:
    """What tells generators from others, by name and seed."""
    return {f"{name}/{seed}": own.key for (name, seed), own in generators.items()}


def redrawn(
    subject: Subject,
    explainers: Mapping[Run, Explainer],
    sample: Sample,
    stages: int,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> pd.DataFrame:
    """``rank`` by ``method``, ``seed``, ``share`` of the layers and ``image``: the rank correlation of maps
    with those of the CNN whose last layers are drawn anew, in so many stages; methods take ``options``
    (:func:`gan_lib.workbench.checks.sanity`)."""
    parts = []
    for seed in sorted({seed for _, seed in explainers}):
        own = {run: explainer for run, explainer in explainers.items() if run[1] == seed}
        given = (subject.cnn, sample, own, len(subject.names), stages)
        parts.append(checks.sanity(*given, options=options).assign(seed=seed))
    made = pd.concat(parts, ignore_index=True)
    return made[made["check"] == "randomised"].drop(columns="check")
