"""The second part: for each class the typical, the surest and the most wrong image, shown and hidden."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from gan_lib.concepts.layers import probabilities
from gan_lib.core.masking import blend, filling, top_share
from gan_lib.figures import overlay
from gan_lib.metrics.intervals import same_images
from gan_lib.reporting.case import UNKNOWN, Case
from gan_lib.reporting.parts import Part, Sentence
from gan_lib.workbench.claims import Claim

MOST = 12  # classes
SHOWN = 0.2  # share of the pixels that are shown, or hidden
FILL = "blur"
SIDE = 160  # pixels of a picture


def pictures(pixels: Tensor, longest: int = SIDE) -> Tensor:
    """Images (B, C, H, W) of at most so many pixels a side, those of the report's pictures; small ones stay
    as they are."""
    side = max(pixels.shape[-2:])
    if side <= longest:
        return pixels
    size = [max(1, round(own * longest / side)) for own in pixels.shape[-2:]]
    return torch.nn.functional.interpolate(pixels, size=size, mode="bilinear", antialias=True)


def classes(case: Case) -> Part:
    """Images of every class, with maps, with what maps show and hide, and what the CNN makes of that."""
    part = Part("classes", "Images of each class, explained")
    chosen = case.classes(MOST)
    part.words(
        "For each class that is predicted: the typical image, whose probability is the median of those that "
        f"are right, the surest, and the most wrong one. Shown and hidden are the {SHOWN:.0%} of the pixels "
        f"where the map of {title(case.main)} is highest; the rest is blurred. Below each picture stands the "
        "probability that the CNN gives the class for it."
    )
    picked = [(label, kind, row) for label in chosen for kind, row in _picked(case, label)]
    rows = [row for *_, row in picked]
    images, target = case.images(rows), case.predicted[rows]
    top = top_share(case.maps_of(case.main, rows), SHOWN).float()
    behind = filling(images, FILL)
    shown, hidden = blend(images, behind, top), blend(images, behind, 1 - top)
    numbers = {
        name: _chance(case, own, target)
        for name, own in (("whole", images), ("shown", shown), ("hidden", hidden))
    }
    table = pd.DataFrame(
        {
            "class": [case.names[label] for label, *_ in picked],
            "which": [kind for _, kind, _ in picked],
            "image": [case.file(row) for row in rows],
            "label": [case.names[own] if own != UNKNOWN else "" for own in case.labels[rows].tolist()],
            **{name: own.tolist() for name, own in numbers.items()},
        }
    )
    part.table("shown_and_hidden", table, "The pictures below, in numbers.", shown=pd.DataFrame())
    gap = same_images((numbers["shown"] - numbers["hidden"]).double().numpy()[None])._asdict()
    summary = pd.DataFrame([{"difference": "shown - hidden", **gap}]).drop(columns="p")
    part.table("shown_less_hidden", summary, "Probability of what is shown less that of what is hidden.",
               shown=pd.DataFrame())  # fmt: skip
    part.say(
        Sentence(
            Claim("What the map shows is worth more than what it leaves", "shown_less_hidden", above=0),
            f"For these images, the {SHOWN:.0%} that the map shows keep more of the class's probability than "
            "all the rest: by {value} [{low}, {high}] in the mean.",
            f"For these images, the {SHOWN:.0%} that the map shows keep less of the class's probability than "
            "all the rest: {value} [{low}, {high}] in the mean.",
            f"For these images, whether the {SHOWN:.0%} that the map shows keep more of the class's "
            "probability than all the rest is undecided: the difference is {value} [{low}, {high}].",
        )
    )
    columns: dict[str, Tensor] = {"image": images}
    for method in case.explainers:
        columns[title(method)] = overlay(images, case.maps_of(method, rows))
    columns |= {"shown": shown, "hidden": hidden}
    small = {name: pictures(own) for name, own in columns.items()}
    grown = {"image": numbers["whole"], "shown": numbers["shown"], "hidden": numbers["hidden"]}
    for label in chosen:
        own = [place for place, (other, *_) in enumerate(picked) if other == label]
        lines, titles = [], []
        for place in own:
            cells = []
            for name, pixels in small.items():
                told = f"{float(grown[name][place]):.0%}" if name in grown else ""
                cells.append((pixels[place], told))
            lines.append(cells)
            titles.append(_told(case, picked[place][1], rows[place]))
        part.heading(case.names[label])
        part.gallery(lines, list(small), titles)
    left = len(case.classes()) - len(chosen)
    if left:
        part.words("Less frequent classes are left out here; the table of predicted classes has all of them.")
    return part


def _picked(case: Case, label: int) -> list[tuple[str, int]]:
    """Which images of a class, by name; none twice."""
    rows = (case.predicted == label).nonzero()[:, 0]
    order = rows[case.sure[rows].argsort(descending=True, stable=True)]  # the surest first
    wrong = order[(case.labels[order] != UNKNOWN) & (case.labels[order] != label)]
    known = bool((case.labels != UNKNOWN).any())
    right = order[case.labels[order] == label] if known else order
    middle = right if len(right) else order
    named: list[tuple[str, int]] = [("typical", int(middle[len(middle) // 2])), ("surest", int(order[0]))]
    if len(wrong):
        named.append(("most wrong", int(wrong[0])))
    elif not known:
        named.append(("least sure", int(order[-1])))
    once: dict[int, str] = {}
    for kind, row in named:
        once[row] = f"{once[row]}, {kind}" if row in once else kind
    return [(kind, row) for row, kind in once.items()]


def _told(case: Case, kind: str, row: int) -> str:
    label = int(case.labels[row])
    if label != UNKNOWN and label != int(case.predicted[row]):
        return f"{kind}; it is {case.names[label]}"
    return kind


def _chance(case: Case, images: Tensor, target: Tensor) -> Tensor:
    """Probability (B,) of classes for images."""
    return probabilities(case.cnn, images).gather(1, target[:, None])[:, 0]


def title(method: str) -> str:
    """A method as it is called in sentences."""
    known = {"grad_cam": "Grad-CAM", "universal_lsft": "universal LSFT", "universal_gsft": "universal GSFT"}
    known |= {"contrastive_lsft": "contrastive LSFT", "contrastive_gsft": "contrastive GSFT"}
    return known.get(method, method.replace("_", " "))
