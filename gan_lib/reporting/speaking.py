"""The fourth and the sixth part: concepts of the CNN, and what of them the explainer ever shows."""

from __future__ import annotations

import itertools
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from gan_lib.concepts import (
    ConceptBank,
    HiddenLayer,
    LayerRelevance,
    PooledActivations,
    concept_maps,
    importance,
    learn_concepts,
    nmf,
    predicted_images,
)
from gan_lib.concepts.contrasting import (
    Hyperplanes,
    contrasting_concepts,
    gather_evidence,
    reached_scores,
    shifting_test,
)
from gan_lib.core.inputs import at_once
from gan_lib.core.outputs import probabilities
from gan_lib.metrics.base import summary
from gan_lib.reporting.case import UNKNOWN, Case
from gan_lib.reporting.classes import pictures, title
from gan_lib.reporting.parts import Part, Sentence, safe
from gan_lib.workbench.claims import Claim

CLASSES, COMPONENTS, LEARNED, CROPS = 6, 3, 30, 4  # classes, concepts of each, images, crops of each concept
SHIFTED, OFFSETS = 12, (0.0, 1.0, 2.0, 4.0)
KINDS, SEEN, HIGH = 6, 120, 0.5  # of evidence that is shown, in so many images, where maps are so high
CELLS = 4  # a side, of the layer's places: a crop is what lies over one


class Learned:
    """A hidden layer of the CNN with concepts of its most frequent classes; made once for both parts."""

    def __init__(self, case: Case, hidden: HiddenLayer) -> None:
        self.case, self.hidden = case, hidden
        self.relevance = LayerRelevance(self.hidden, "gradient_x_activation", samples=0)
        self.labels = sorted(case.classes(CLASSES, COMPONENTS))
        chosen = case.predictions(), self.labels, COMPONENTS, LEARNED, case.seed
        self.bank: ConceptBank = learn_concepts(self.relevance, case.split, *chosen)
        side = max(1, min(self.hidden.size) // CELLS)
        self.pooled = PooledActivations(self.hidden, case.split, side, max(1, side // 2))

    def crops(self, vectors: Tensor, allowed: Tensor | None = None) -> Tensor:
        """The nearest crops (V, T, 3, h, w)."""
        return self.pooled.crops(self.pooled.nearest(vectors, CROPS, allowed))


def concepts(case: Case, learned: Learned) -> Part:
    """Concepts of the classes, their importance, and what speaks for one of two confused classes."""
    part = Part("concepts", "What speaks for a class: concepts")
    part.words(
        f"Activations of the layer {learned.hidden.layer}, weighted by how much each place matters for the "
        "class, are factorised: each factor is a concept, shown by the crops that are nearest to it. Its "
        "importance is the share of the class's probability that is lost when it is taken out."
    )
    if learned.hidden.places.signed:
        part.words(
            "The layer's activations have both signs: what is positive and what is negative in a channel are "
            "factorised as two channels."
        )
    if learned.hidden.places.layout.extra:
        caption = (
            "Predictions that stay when all places of the layer are emptied [%]: those that other tokens, "
            "such as the class token, hold by then. Concepts of the places matter the less for them."
        )
        part.table("stays", _stays(case, learned), caption)
    rows, lines, titles = [], [], []
    for label, basis in learned.bank.basis.items():
        images = case.images(predicted_images(case.predictions(), label, LEARNED, case.seed))
        lost = importance(learned.hidden, images, label, basis).double()  # (B, k)
        crops = learned.crops(basis, case.predicted == label)
        for concept, own in enumerate(lost.unbind(1)):
            found = summary(own)._asdict()
            rows.append({"class": case.names[label], "concept": concept + 1, **found})
            lines.append([(crop, "") for crop in pictures(crops[concept])])
            titles.append(f"{case.names[label]}, concept {concept + 1}: {found['mean']:.0%}")
    if not rows:
        why = learned.bank.report["skipped"].tolist()
        part.words(f"No class has concepts: {why[0] if why else 'no class is predicted for enough images'}.")
        return part
    table = pd.DataFrame(rows).drop(columns="p")
    part.table(
        "importance", table, "Share of the class's probability lost without a concept.", pd.DataFrame()
    )
    part.gallery(lines, titles=titles, caption="The crops nearest to each concept, and its importance.")
    _confused(case, learned, part)
    return part


def _stays(case: Case, learned: Learned) -> pd.DataFrame:
    """How many predictions [%] stay without the places of the layer, a row with its interval."""
    same = []
    for rows in case.split.sample(SEEN, case.seed).split(at_once(case.cnn, case.split.image_size)):
        emptied = learned.hidden.logits(case.images(rows), torch.zeros_like)  # (B, K)
        same.append(probabilities(case.cnn, emptied).argmax(1).cpu() == case.predicted[rows])
    found = summary(100.0 * torch.cat(same).double())
    return pd.DataFrame([{"layer": learned.hidden.layer, **found._asdict()}]).drop(columns="p")


def most_confused(case: Case) -> tuple[int, int, pd.DataFrame] | None:
    """Two classes that the CNN mixes up most, with a row that says how much: by mistakes where labels are
    known, else by the probability of the other class; ``None`` where there is only one class."""
    there = case.classes(fewest=COMPONENTS)
    pairs = list(itertools.combinations(sorted(there), 2))
    if not pairs:
        return None
    known = bool((case.labels != UNKNOWN).any())

    def mistaken(pair: tuple[int, int]) -> int:
        ways = (pair, pair[::-1])
        return sum(int(((case.predicted == own) & (case.labels == its)).sum()) for own, its in ways)

    def shared(pair: tuple[int, int]) -> float:
        ways = (pair, pair[::-1])
        return sum(float(case.probabilities[case.predicted == own, its].mean()) for own, its in ways) / 2

    one, other = max(pairs, key=lambda pair: (mistaken(pair), shared(pair)))
    row: dict[str, Any] = {"class": case.names[one], "other": case.names[other]}
    row["mistaken"] = mistaken((one, other)) if known else float("nan")
    row["probability"] = shared((one, other))
    return one, other, pd.DataFrame([row])


def _confused(case: Case, learned: Learned, part: Part) -> None:
    pair = most_confused(case)
    part.heading("The two classes that are confused most")
    if pair is None:
        part.words("The images are of one class: there is nothing to contrast.")
        return
    one, other, table = pair
    caption = (
        "Images of one that are taken for the other, where it is known what they show, and the mean "
        "probability of the other class. Below: what speaks for one rather than the other in the same layer."
    )
    part.table("confused", table, caption)
    own = case.predictions(), (one, other), LEARNED, case.seed
    evidence = gather_evidence(learned.relevance, case.split, *own)
    if len(evidence) < 2:
        part.words("Nothing is relevant for one of them.")
        return
    planes = Hyperplanes({label: found.vectors for label, found in evidence.items()})
    lines, titles = [], []
    for label, its in ((one, other), (other, one)):
        count = min(COMPONENTS, len(planes.speaking(label, its)))
        if not count:
            continue
        basis = contrasting_concepts(planes, label, its, count, case.seed)
        for crops in learned.crops(basis, case.predicted == label):
            lines.append([(crop, "") for crop in pictures(crops)])
            titles.append(f"{case.names[label]} rather than {case.names[its]}")
    part.gallery(lines, titles=titles)
    options: dict[str, Any] = {"offsets": OFFSETS, "images_per_class": SHIFTED, "seed": case.seed}
    given = learned.hidden, planes, evidence, case.split
    moved = shifting_test(*given, [(one, other), (other, one)], **options)
    rows = []
    for (direction, offset), group in moved.groupby(["direction", "offset"], sort=False):
        found = summary(torch.tensor(100.0 * group["reached"].to_numpy(float)))
        rows.append({"direction": direction, "offset": offset, **found._asdict()})
    table = pd.DataFrame(rows).drop(columns="p")
    caption = (
        "Images of either class, their activations moved towards the other by so many times the distance of "
        "the classes' means: share that becomes the other class [%]."
    )
    part.table("moved", table, caption, _wide(table))
    best = [
        {"direction": name, **summary(torch.tensor(own["reached"].to_numpy(float)))._asdict()}
        for name, own in reached_scores(moved).groupby("method", sort=False)
    ]
    caption = "The same at some of these distances [%]."
    part.table("reached", pd.DataFrame(best).drop(columns="p"), caption, pd.DataFrame())
    told = "{value} % [{low}, {high}]"
    part.say(
        Sentence(
            Claim(
                "Moving along the contrast turns the prediction", "reached", {"direction": "normal"}, above=50
            ),
            f"Moving along what contrasts the two classes turns most predictions into the other: {told}.",
            f"Moving along what contrasts the two classes turns few predictions: {told}.",
            f"Moving along what contrasts the two classes turns {told} of the predictions, which may be "
            "less than half.",
        )
    )


def _wide(table: pd.DataFrame) -> pd.DataFrame:
    cell = table.apply(lambda row: f"{row['mean']:.0f} [{row['low']:.0f}, {row['high']:.0f}]", axis=1)
    wide = table.assign(cell=cell).pivot(index="direction", columns="offset", values="cell")
    return wide.loc[table["direction"].unique()].reset_index().rename(columns=lambda own: str(own))


def shown_concepts(case: Case, learned: Learned) -> Part:
    """Which kinds of evidence the explainer shows, and which concepts of the CNN it never shows."""
    main = title(case.main)
    part = Part("shown", f"What {main} ever shows")
    part.words(
        f"The layer's activations, weighted by the maps of {main} over all images, are factorised: kinds of "
        "evidence that the maps highlight, each by its nearest crops and the classes it comes with."
    )
    rows = case.split.sample(SEEN, case.seed)
    size = learned.hidden.size
    weighted, classes = [], []
    for part_rows in rows.split(at_once(case.cnn, case.split.image_size)):
        own = F.adaptive_avg_pool2d(case.maps_of(case.main, part_rows), size)  # (B, 1, h, w)
        is_high = own[:, 0] >= HIGH * own.amax((2, 3))[..., None].clamp(min=1e-6)  # (B, h, w)
        seen = learned.hidden(case.images(part_rows)).cpu() * own  # (B, C, h, w)
        weighted.append(seen.permute(0, 2, 3, 1)[is_high])  # (M, C)
        classes.append(case.predicted[part_rows][:, None, None].expand_as(is_high)[is_high])
    data, place_classes = torch.cat(weighted), torch.cat(classes)
    weighted.clear()
    count = min(KINDS, *data.shape)
    if not data.any():
        part.words("The maps highlight nothing that this layer sees.")
        return part
    found = nmf(data.div_(data.max())[None], count, seed=case.seed)
    crops, lines, titles, kinds = learned.crops(found.basis[0]), [], [], []
    for kind in range(count):
        use = torch.zeros(len(case.names)).index_add_(0, place_classes, found.weights[0, :, kind])
        share = use / use.sum().clamp(min=1e-12)
        most = share.argsort(descending=True, stable=True)[:2].tolist()
        words = ", ".join(
            f"{case.names[label]} {float(share[label]):.0%}" for label in most if share[label] > 0
        )
        kinds.append({"kind": kind + 1, "share": float(use.sum() / found.weights[0].sum()), "classes": words})
        lines.append([(crop, "") for crop in pictures(crops[kind])])
        titles.append(f"kind {kind + 1}: {words}")
    part.gallery(lines, titles=titles, caption="Kinds of evidence that the maps highlight.")
    part.table("kinds", pd.DataFrame(kinds), "Share of all that is highlighted.", pd.DataFrame())
    _coverage(case, learned, part)
    return part


def _coverage(case: Case, learned: Learned, part: Part) -> None:
    """How much of each concept of the CNN lies where the explainer looks."""
    rows = []
    for label, basis in learned.bank.basis.items():
        chosen = predicted_images(case.predictions(), label, LEARNED, case.seed)
        there = concept_maps(learned.hidden, case.images(chosen), basis).cpu()  # (B, k, h, w)
        maps = F.adaptive_avg_pool2d(case.maps_of(case.main, chosen), learned.hidden.size)  # (B, 1, h, w)
        inside = (there * maps).sum((2, 3)) / there.sum((2, 3))  # (B, k), NaN without the concept
        for concept, own in enumerate((inside / maps.mean((2, 3))).unbind(1)):
            finite = torch.where(own.isfinite(), own, torch.nan)
            rows.append({"class": case.names[label], "concept": concept + 1, **summary(finite)._asdict()})
    if not rows:
        return
    table = pd.DataFrame(rows).drop(columns="p").sort_values("mean", kind="stable").reset_index(drop=True)
    mean, low, high = (table[name].map("{:.2f}".format) for name in ("mean", "low", "high"))
    readable = table[["class", "concept"]].assign(shown=mean + " [" + low + ", " + high + "]")
    caption = (
        "How much brighter the map is where a concept of the CNN is than in its mean: under 1 it is shown "
        "less than by chance."
    )
    part.table("coverage", table, caption, readable)
    measured = table[table["mean"].notna()]
    for place in sorted({0, len(measured) - 1}) if len(measured) else ():
        row = measured.iloc[place]
        told = f"oncept {row['concept']} of {safe(row['class'])}"
        where: dict[str, Any] = {"class": row["class"], "concept": int(row["concept"])}
        part.say(
            Sentence(
                Claim(f"Concept {row['concept']} of {row['class']} is shown", "coverage", where, above=1),
                f"C{told} is shown more than chance would: {{value}} times [{{low}}, {{high}}].",
                f"C{told} is shown less than chance would: {{value}} times [{{low}}, {{high}}].",
                f"Whether c{told} is shown more than by chance is undecided: {{value}} times "
                "[{low}, {high}].",
            )
        )
