"""The third part: can these maps be trusted? Faithfulness with controls, and the sanity checks."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from gan_lib.classifiers import lent_weights
from gan_lib.core.inputs import at_once
from gan_lib.core.runtime import release_memory
from gan_lib.explainers import Explainer, make_explainer
from gan_lib.metrics import judge, sanity_scores, stated, summarise
from gan_lib.metrics.base import summary
from gan_lib.metrics.intervals import Interval
from gan_lib.metrics.pairs import differences
from gan_lib.metrics.similarity import rank_correlation
from gan_lib.reporting.case import Case
from gan_lib.reporting.classes import pictures, title
from gan_lib.reporting.parts import Part, Sentence, safe, short
from gan_lib.shortcuts.exchange import balanced
from gan_lib.workbench.claims import Claim

JUDGED, STEPS, CHECKED = 48, 10, 12  # images, steps of a curve, and images of the sanity checks
LARGE, OF_LARGE = 128 * 128, (32, 5)  # pixels, above which fewer images and steps must do, without ROAD
CONTROLS = ("random", "edges")
COMPARED = 64  # pixels a side, at which methods are compared with each other
# Rank correlations, below which a map has changed.
BOUNDS = {"all layers drawn anew": 0.5, "another class": 0.9}
MEASURES = {
    "insertion - deletion": "insertion - deletion",
    "road": "ROAD",
    "drop_blur@10": "drop at 10 %, blur [%]",
}


def trust(case: Case) -> Part:
    """Whether the maps are better than controls, change with the CNN, and with the class."""
    part = Part("trust", "Can these maps be trusted?")
    part.words(
        "A map is worth something if it orders the pixels better than a map of noise (random) and one of the "
        "image's edges, neither of which looks at the CNN; if it changes when the CNN's layers are drawn "
        "anew; and if it changes when another class is asked for."
    )
    drawn = torch.Generator().manual_seed(case.seed)
    height, width = case.split.image_size
    together = at_once(case.cnn, (height, width))
    is_large = height * width > LARGE
    judged, steps = OF_LARGE if is_large else (JUDGED, STEPS)
    rows = balanced(torch.arange(len(case)), case.predicted, judged, drawn).sort().values
    images, target = case.images(rows), case.predicted[rows]
    maps: dict[tuple[str, int], Tensor] = {(own, 0): case.maps_of(own, rows) for own in case.explainers}
    for name in CONTROLS:
        maps[name, 0] = make_explainer(name, case.cnn).attribute(images, target, batch_size=together)
    options: Any = {"areas": [0.1], "fills": ["blur"], "steps": steps, "batch_size": together}
    options["road"] = () if is_large else (0.3, 0.7)
    scores = judge(case.cnn, images, maps, target, **options).scores
    results = summarise(scores)
    results["method"] = results["method"].map(title)
    there = {name: head for name, head in MEASURES.items() if name in scores}
    shown = stated(results, there).reset_index(names="method")
    part.table("faithfulness", results, f"Means over {len(rows)} images with 95 % intervals.", shown)
    against = [own for own in (*CONTROLS, "grad_cam") if own != case.main and (own, 0) in maps]
    compared = differences(scores, "insertion - deletion", [case.main], against)
    compared[["method", "against"]] = compared[["method", "against"]].map(title)
    caption = "Insertion - deletion, differences on the same images; p by Holm."
    part.table("compared", compared, caption, _readable(compared))
    main = safe(title(case.main))
    for other in against:
        part.say(_beats(title(case.main), title(other)))
    controls = compared[compared["against"].isin([title(own) for own in CONTROLS])].to_dict("records")
    reading = [_row(f"insertion - deletion above {own['against']}", own) for own in controls]
    release_memory()
    reading += _sanity(case, part, rows)
    table = pd.DataFrame(reading)
    part.table(
        "reading", table, "What a map must show to be read as evidence; above 0 it does.", _readable(table)
    )
    part.say(
        Sentence(
            Claim("The maps may be read as evidence for the class", "reading", above=0),
            f"On this CNN the maps of {main} may be read as showing where evidence for the predicted class "
            "lies: every check is passed.",
            f"On this CNN the maps of {main} may not be read as evidence for the predicted class: at least "
            "one check fails.",
            f"On this CNN it is undecided whether the maps of {main} may be read as evidence for the "
            "predicted class: no check fails, and not all are passed.",
        )
    )
    _agreement(case, part)
    return part


def _beats(main: str, other: str) -> Sentence:
    claim = Claim(f"{main} orders pixels better than {other}", "compared", {"against": other}, above=0)
    told = "(insertion - deletion: {value} [{low}, {high}])."
    main, other = safe(main), safe(other)
    return Sentence(
        claim,
        f"The maps of {main} order the pixels better than {other} {told}",
        f"The maps of {main} order the pixels worse than {other} {told}",
        f"Whether the maps of {main} order the pixels better than {other} is undecided {told}",
    )


def _sanity(case: Case, part: Part, rows: Tensor) -> list[dict[str, Any]]:
    """The sanity checks, said and as criteria; what a CNN cannot be asked has no value."""
    own, drawn = case.explainers[case.main], torch.Generator().manual_seed(case.seed)
    few = balanced(rows, case.predicted, CHECKED, drawn)
    main, count = title(case.main), case.probabilities.shape[1]
    if count < 2:
        part.words("A CNN of one class has no other class to be asked for: no sanity check.")
        return [_criterion(check, summary(torch.empty(0))) for check in BOUNDS]
    try:
        forgetting, other = sanity_scores(
            {main: lambda net, x, y: _on(own, net, x, y)},
            case.cnn,
            case.images(few),
            case.predicted[few],
            2,
            count,
        )
    except ValueError as error:
        part.words(f"Sanity checks could not be made: {error}")
        return [_criterion(check, summary(torch.empty(0))) for check in BOUNDS]
    last = forgetting[forgetting["share"] == forgetting["share"].max()]
    kinds = dict(zip(BOUNDS, (last, other), strict=True))
    made = {check: summary(torch.tensor(table["rank"].to_numpy())) for check, table in kinds.items()}
    table = pd.DataFrame([{"check": check, **found._asdict()} for check, found in made.items()])
    caption = "Rank correlation with the first map; near 1 nothing has changed."
    part.table("sanity", table.drop(columns="p"), caption, _readable(table.drop(columns="p")))
    for check, when in zip(
        BOUNDS, ("the CNN's layers are drawn anew", "another class is asked for"), strict=True
    ):
        part.say(_changes(main, check, when))
    return [_criterion(check, found) for check, found in made.items()]


def _changes(main: str, check: str, when: str) -> Sentence:
    told, main = "(rank correlation {value} [{low}, {high}]).", safe(main)
    return Sentence(
        Claim(f"The map changes: {check}", "sanity", {"check": check}, below=BOUNDS[check]),
        f"The maps of {main} change when {when} {told}",
        f"The maps of {main} hardly change when {when} {told}",
        f"Whether the maps of {main} change enough when {when} is undecided {told}",
    )


def _on(explainer: Explainer, net: nn.Module, images: Tensor, target: Tensor) -> Tensor:
    """Maps of an explainer whose CNN has another's weights for the while."""
    together = at_once(explainer.cnn, (images.shape[-2], images.shape[-1]))
    with lent_weights(net, explainer.cnn):
        return explainer.attribute(images, target, batch_size=together)


def _agreement(case: Case, part: Part) -> None:
    """How much the methods agree with each other."""
    methods = list(case.explainers)
    rows = []
    for place, one in enumerate(methods):
        for other in methods[place + 1 :]:
            chosen = range(0, len(case), max(1, len(case) // 100))
            maps = (pictures(case.maps_of(own, chosen), COMPARED) for own in (one, other))
            found = summary(rank_correlation(*maps))
            rows.append({"method": title(one), "other": title(other), **found._asdict()})
    if rows:
        table = pd.DataFrame(rows).drop(columns="p")
        part.table("agreement", table, "Rank correlation of two methods' maps.", _readable(table))


def _row(name: str, found: Any) -> dict[str, Any]:
    return {"check": name, **{own: found[own] for own in ("mean", "low", "high", "n")}}


def _criterion(check: str, found: Interval) -> dict[str, Any]:
    """A sanity check as a row: how far its correlation lies below the bound, with the interval."""
    bound = BOUNDS[check]
    below = {"mean": bound - found.mean, "low": bound - found.high, "high": bound - found.low, "n": found.n}
    return _row(f"{check}: correlation under {bound:g}", below)


def _readable(table: pd.DataFrame) -> pd.DataFrame:
    """Numbers of a table with intervals as ``mean [low, high]``, empty where nothing was measured."""
    mean, low, high = (table[name].map("{:.2f}".format) for name in ("mean", "low", "high"))
    cells = (mean + " [" + low + ", " + high + "]").where(table["mean"].notna(), "")
    words = table.select_dtypes(exclude="number")
    own = words.assign(**{"mean [95 % interval]": cells, "images": table["n"]})
    return own.assign(p=table["p_holm"].map(short)) if "p_holm" in table else own
