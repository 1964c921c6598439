"""What the search finds that is told nothing, on CNNs trained on shortcuts that somebody else has planted."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pandas as pd
import pytest
import torch
from reporting.planted_cnns import planted_cnn, planted_data

from gan_lib.api import explainer
from gan_lib.classifiers import load_classifier
from gan_lib.core.inputs import at_once
from gan_lib.data import ImageSplit, digits_in_scenes
from gan_lib.shortcuts import Shortcuts, find_shortcuts
from gan_lib.workbench.reference import CHEATING, HONEST, SEEDS

ROOT = Path(__file__).parent.parent.parent
CNNS, SHIPPED = ROOT / "data/planted", ROOT / "data/pretrained/reference"
REFERENCES = [(name, seed) for name, count in SEEDS.items() for seed in range(count)]
# What each is found as, where it is; a tone that is spread over all classes turns too few predictions.
SHOULD = {"watermark": "stamp", "frame": "border", "texture": "texture", "offset": None}
IMAGES = 100  # without the shortcut, with that of their class, and with another's


def shipped(data: str, architecture: str, seed: int) -> torch.nn.Module:
    return load_classifier(SHIPPED / data / architecture / str(seed), architecture=architecture).eval()


def searched(splits: list[ImageSplit], cnn: torch.nn.Module) -> Shortcuts:
    parts = [own.subset(own.sample(IMAGES, 0)) for own in splits]
    split = ImageSplit(torch.cat([own.images[:] for own in parts]), torch.cat([own.labels for own in parts]))
    maps = explainer("universal_lsft", cnn).attribute(
        split.batch(range(len(split))).images, batch_size=at_once(cnn, split.image_size)
    )
    return find_shortcuts(cnn, split, maps, count=32)


def planted_splits(kind: str) -> list[ImageSplit]:
    data = planted_data(kind).data
    return [data[name] for name in ("test", "right", "conflict")]


@cache
def marked_splits() -> list[ImageSplit]:
    """Without a mark, with that of another class, and, from other scenes, with that of their own."""
    data = digits_in_scenes(train=1000, test=1000, confounded=True)
    return [data.test, data["conflict"], digits_in_scenes(1000, 10, seed=77, confounded=True).train]


@pytest.mark.parametrize(("architecture", "seed"), REFERENCES)
def test_reference_cnns_that_cheat_are_named_with_the_mark(architecture, seed):
    first = searched(marked_splits(), shipped(CHEATING, architecture, seed)).table.iloc[0]
    assert first["verdict"] == "found"
    box = tuple(first[["left", "top", "right", "bottom"]])
    assert box in {(x, y, x + 8, y + 8) for x in (2, 54) for y in (2, 54)}, "a mark, to the pixel"


@pytest.mark.parametrize(("architecture", "seed"), REFERENCES)
def test_honest_reference_cnns_give_no_alarm(architecture, seed):
    assert not len(searched(marked_splits(), shipped(HONEST, architecture, seed)).found)


@pytest.mark.parametrize("architecture", ["slim_vgg", "slim_resnet"])
@pytest.mark.parametrize("kind", list(SHOULD))
def test_planted_shortcut(kind, architecture):
    table = searched(planted_splits(kind), planted_cnn(kind, architecture, CNNS).eval()).table
    first: pd.Series = table.iloc[0]
    if SHOULD[kind] is None:
        assert first["kind"] == "tone"
        assert first["verdict"] == "undecided"
    else:
        assert first["verdict"] == "found"
        assert SHOULD[kind] in set(table.loc[table["verdict"] == "found", "kind"].head(3))
        assert first["pasted"] > 50


@pytest.mark.parametrize("architecture", ["slim_vgg", "slim_resnet", "slim_mobilenet"])
@pytest.mark.parametrize("kind", list(SHOULD))
def test_honest_cnns_give_no_alarm(kind, architecture):
    assert not len(searched(planted_splits(kind), shipped(HONEST, architecture, 0)).found)
