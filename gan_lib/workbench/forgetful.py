"""What an explainer makes of a CNN that has forgotten its last layers: nothing, the same, or the contrary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from torch import nn

from gan_lib.classifiers import randomised
from gan_lib.metrics.similarity import rank_correlation
from gan_lib.workbench.checks import AT_ONCE, Explainers, on_cnn
from gan_lib.workbench.samples import Sample

SAME, OWN = "same class", "its own prediction"


def turned(
    cnn: nn.Module,
    sample: Sample,
    explainers: Explainers,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    stages: int = 4,
    draws: int = 3,
) -> pd.DataFrame:
    """Rank correlation of maps with those of forgetful CNNs, of which one part in ``stages`` of the layers,
    the last, is drawn anew.

    A mean near 0 over several draws hides maps that are turned inside out, which is why the absolute value
    is given as well, and why a forgetful CNN is also asked for the class that it predicts itself.

    Args:
        options: of the baselines among the explainers.
        draws: of new weights, by the seeds 0, 1, ...

    Returns:
        By ``method``, ``draw`` and ``asked`` the mean ``rank`` over the images, -1..1 (a constant map has
        none), and its ``absolute`` value.
    """
    rows = []
    for (method, _), own in explainers.items():
        first = own.attribute(sample.images, sample.explained, AT_ONCE)
        for draw in range(draws):
            _, net = next(randomised(cnn, sample.images[:1], stages, draw))
            other = on_cnn(own, method, net.requires_grad_(False), options)
            for asked, classes in {SAME: sample.explained, OWN: None}.items():
                again = other.attribute(sample.images, classes, AT_ONCE)
                rank = float(rank_correlation(first, again).nanmean())
                rows.append({"method": method, "draw": draw, "asked": asked, "rank": rank})
    made = pd.DataFrame(rows)
    return made.assign(absolute=made["rank"].abs())
