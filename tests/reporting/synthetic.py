"""Reports of random pictures and made-up numbers, for tests of the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch

from gan_lib.reporting.page import write_page
from gan_lib.reporting.parts import Part, Sentence, load_part
from gan_lib.workbench.claims import Claim

ENDLESS = "n02123045_" + "tabby" * 198  # 1,000 characters without a space
HTML = (
    """<script>alert("1")</script><img src='http://x.example/a.png' onerror="alert(1)"> & "double" 'single'"""
)
CLASSES = (
    "tench",
    "English springer",
    "cassette player",
    "chain saw",
    "church",
    "French horn",
    "garbage truck",
)
METHODS = ("contrastive LSFT", "Grad-CAM", "integrated gradients", "occlusion", "edges (control)")
EXPLAINED = (
    "Each map is held against two that do not look at the CNN at all: edges of the image, and a map drawn from "
    "noise. Where the pixels that a map calls important are covered, the CNN's probability for its class should "
    "fall, and fall more than with these controls."
)
VALUES = [
    (-0.21, -0.28, -0.15),
    (-0.17, -0.24, -0.11),
    (-0.05, -0.12, 0.02),
    (0.16, 0.07, 0.25),
    (0.0, -0.1, 0.1),
]
CASES = {"holds": 0, "does not hold": 3, "undecided": 2}  # the row of VALUES that gives the verdict


def pictures(columns: int, captions: list[str], size: int = 64, seed: int = 0) -> list[Any]:
    """A row of smooth random pictures (3, size, size), the last of them left out."""
    drawn = torch.rand(columns, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    large = torch.nn.functional.interpolate(drawn, size=(size, size), mode="bicubic").clamp(0, 1)
    row = [(pixels, captions[number % len(captions)]) for number, pixels in enumerate(large)]
    return [*row[:-1], None] if seed % 3 == 2 else row


def trust(name: str, title: str, classes: tuple[str, ...], word: str = "") -> Part:
    """A part with every kind of block; ``word`` stands in all its texts."""
    part = Part(name, title)
    part.words(EXPLAINED + word)
    frame = pd.DataFrame(
        [
            (f"{method}{word}", "drop_black@10", *own, 200)
            for method, own in zip(METHODS, VALUES, strict=True)
        ],
        columns=["method", "measure", "mean", "low", "high", "n"],
    )
    shown = frame.assign(interval=[f"[{own[1]}, {own[2]}]" for own in VALUES]).drop(columns=["low", "high"])
    part.table(
        f"{name}_faithfulness", frame, f"Change of the probability, means with 95 % intervals. {word}", shown
    )
    for verdict, row in CASES.items():
        where: dict[str, Any] = {"method": frame["method"][row], "measure": "drop_black@10"}
        claim = Claim(f"{name}: {verdict}{word}", f"{name}_faithfulness", where, below=0)
        told = f" what the CNN uses, more than chance does ({{value}} [{{low}}, {{high}}]).{word}"
        forms = (f"{METHODS[row]} {verb}{told}" for verb in ("finds", "does not find", "may find"))
        assert part.say(Sentence(claim, *forms)) == verdict
    part.heading(f"Where the maps look{word}")
    rows = [pictures(6, [f"{own[:60]} {97 - number} %"], seed=number) for number, own in enumerate(classes)]
    heads = ["image", *(f"{method}{word}" for method in METHODS)]
    part.gallery(rows, heads, [*classes], f"Red: speaks for the class. Blue: against it. {word}")
    own = pictures(11, ["0.91", f"chain saw{word}", ""], size=12, seed=1)
    part.gallery([own, own], titles=[f"most{word}", ""], smooth=False)
    part.heading("Each class")
    wide = pd.DataFrame(
        {"class": list(classes), "taken for": [*classes[1:], classes[0]]}
        | {
            f"measure_{number}{word}": [number / (row + 3) for row in range(len(classes))]
            for number in range(10)
        }
    )
    part.table(f"{name}_classes", wide, "Twelve columns.", most=5)
    part.table(f"{name}_kept", frame, "Kept, not shown.", shown=pd.DataFrame())
    hidden = Claim(f"{name}: kept{word}", f"{name}_kept", below=1)
    part.say(Sentence(hidden, f"No map adds to the probability.{word}", "Some add.", "Undecided."))
    return part


def write_report(folder: Path, nasty: bool = False) -> Path:
    """A report of two parts, one that could not be made and one that is missing; the path of its page.

    Args:
        nasty: whether classes have names of 1,000 characters, and every text holds HTML.
    """
    classes = (ENDLESS, HTML, f"{ENDLESS[:300]} {HTML}", *CLASSES[:2]) if nasty else CLASSES
    word = f" {HTML} {ENDLESS}" if nasty else ""
    for part in (
        trust("trust", f"Can these maps be trusted?{word}", classes, word),
        trust("reliance", f"What does it rely on, class by class?{word}", classes[:3], word),
    ):
        part.save(folder / "parts" / part.name)
        for file in (folder / "parts" / part.name / "tables").iterdir():
            (folder / "tables").mkdir(exist_ok=True)
            (folder / "tables" / file.name).write_bytes(file.read_bytes())
    made = [load_part(folder / "parts" / name) for name in ("trust", "reliance")]
    failed = f"ValueError: the CNN has no layer of the name 'layer9', but layer1, layer2, layer3{word}"
    parts: list[Any] = [
        made[0],
        {"name": "concepts", "title": "Which concepts does it use?", "error": failed},
        made[1],
        {"name": "doubles", "title": f"Which images are alike to it?{word}", "error": None},
    ]
    assert made[0] is not None
    assert made[1] is not None
    lead = [*made[0]["findings"][:3], *made[1]["findings"][3:]]
    about = {"CNN": f"resnet18, 11.7 million weights{word}", "images": {"shown": 7, "measured": 200}}
    about |= {"layers": ["layer1", "layer4"], "made with": "gan-lib report photos --cnn resnet18"}
    return write_page(folder, f"What resnet18 relies on{word}", lead, parts, about)
