"""The first and the last part: what was explained, and how the report was made."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch

from gan_lib.classifiers import Classifier, classifier_names
from gan_lib.classifiers.published import is_torchvisions
from gan_lib.core.outputs import EXCLUSIVE, meaning_of
from gan_lib.core.runtime import versions
from gan_lib.metrics.intervals import same_images
from gan_lib.reporting.case import UNKNOWN, Case
from gan_lib.reporting.parts import Part, Sentence
from gan_lib.workbench.claims import Claim

MEANINGS = {
    "logits": "one logit per class, one class is right (softmax)",
    "probabilities": "one probability per class, one class is right",
    "multi_label": "one logit per label, any number is right (sigmoid)",
    "multi_label_probabilities": "one probability per label, any number is right",
    "binary": "one logit, of no and yes",
    "binary_probability": "one probability, of no and yes",
    "regression": "a value, as its place in a span",
}


def explained(case: Case, said: bool) -> Part:
    """What was explained: the CNN, the images, and how well it does on them.

    Args:
        said: whether somebody has said what the CNN's outputs mean, or it was found out from them.
    """
    part = Part("explained", "What was explained")
    card = _card(case, said)
    part.table("cnn", card, "The CNN.")
    part.table("images", _images(case), "The images, one line each.", shown=pd.DataFrame())
    part.table("classes", _by_class(case), "Predicted classes.", _by_class(case).round(3), most=20)
    if len(case.skipped):
        skipped = pd.DataFrame(case.skipped, columns=["image", "reason"])
        part.table("skipped", skipped, "Images that were left out.", most=20)
    known = case.labels != UNKNOWN
    if known.any():
        right = 100.0 * (case.predicted == case.labels)[known].numpy()
        own = same_images(right.astype(float)[None])
        table = pd.DataFrame([{"of": "images of known class", **own._asdict()}]).drop(columns="p")
        part.table("right", table, "Share of right predictions [%], for images whose folder names a class.")
        part.say(
            Sentence(
                Claim("The CNN is right for most images", "right", above=50),
                "The CNN is right for {value} % [{low}, {high}] of the images whose class is known.",
                "The CNN is wrong for most images whose class is known: right are {value} % [{low}, {high}].",
                "The CNN is right for {value} % [{low}, {high}] of the images whose class is known, "
                "which may be less than half.",
            )
        )
    else:
        part.words("No folder is named after a class: which predictions are right is not known.")
    return part


def _card(case: Case, said: bool) -> pd.DataFrame:
    cnn = case.cnn
    layers = sum(1 for own in cnn.modules() if isinstance(own, torch.nn.Conv2d | torch.nn.Linear))
    meaning = meaning_of(cnn)
    how = (
        "it was said, or is known of this architecture"
        if said
        else "assumed from its outputs for a few images"
    )
    if meaning in EXCLUSIVE and not said:
        how += "; that classes exclude each other cannot be told from them"
    height, width = case.split.image_size
    rows = {
        "architecture": cnn.card.architecture,
        "convolutions and linear layers": layers,
        "parameters": f"{sum(own.numel() for own in cnn.parameters()):,}",
        "image size": f"{height} x {width} pixels",
        "classes": len(case.names),
        "outputs": MEANINGS[meaning],
        "how surely that is known": how,
        "normalisation": f"mean {tuple(cnn.card.mean)}, deviation {tuple(cnn.card.std)}",
        "images": f"{len(case)} explained, {len(case.skipped)} left out",
        "explained by": ", ".join(case.explainers),
    }
    return pd.DataFrame({"what": list(rows), "value": [str(own) for own in rows.values()]})


def _images(case: Case) -> pd.DataFrame:
    names = case.names
    labels = [names[label] if label != UNKNOWN else "" for label in case.labels.tolist()]
    return pd.DataFrame(
        {
            "image": [case.file(row) for row in range(len(case))],
            "prediction": [names[label] for label in case.predicted.tolist()],
            "probability": case.sure.tolist(),
            "label": labels,
        }
    )


def _by_class(case: Case) -> pd.DataFrame:
    rows = []
    for label in case.classes():
        own = case.predicted == label
        known = own & (case.labels != UNKNOWN)
        row = {"class": case.names[label], "images": int(own.sum())}
        row["mean probability"] = float(case.sure[own].mean())
        row["right"] = float((case.labels == label)[known].double().mean()) if known.any() else float("nan")
        rows.append(row)
    return pd.DataFrame(rows)


def made(settings: Mapping[str, Any], command: str, seconds: Mapping[str, float]) -> Part:
    """How the report was made: the command that makes it again, settings, versions, times."""
    part = Part("made", "How it was made")
    part.words(f"Made again by: {command}" if command else "Made by gan_lib.report(...) in Python.")
    flat = {name: own if isinstance(own, str) else json.dumps(own) for name, own in settings.items()}
    part.table("settings", pd.DataFrame({"setting": list(flat), "value": list(flat.values())}), "Settings.")
    kept = {"python": platform.python_version(), **versions()}
    part.table("versions", pd.DataFrame({"package": list(kept), "version": list(kept.values())}), "Versions.")
    times = pd.DataFrame({"part": list(seconds), "seconds": [round(own, 1) for own in seconds.values()]})
    part.table("seconds", times, "Time that each part took.")
    part.words(
        "Numbers are means with 95 % intervals over the images of this report and speak of this one CNN: of "
        "another training of the same network others may hold. Every sentence with a badge is a claim that a "
        "table decides; the table is named below it and lies beside this page as CSV, and report.json holds "
        "all of them for machines."
    )
    return part


def is_said(cnn: Classifier, output: str | None) -> bool:
    """Whether it is known what a CNN's outputs mean: somebody said so, or it is a known CNN."""
    known = is_torchvisions(cnn.card.architecture) or cnn.card.architecture in classifier_names()
    return output is not None or cnn.card.output != "logits" or known
