"""Checks of a CNN's explainers, on explainers of which it is known what they show."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from gan_lib.workbench import Sample
from gan_lib.workbench.checks import asked_halves, boxes, halves, sanity


def showing(maps):
    """An explainer by a function from images and classes to maps."""
    return SimpleNamespace(attribute=lambda images, target=None, batch_size=None: maps(images, target))


@pytest.fixture
def sample(scenes):
    rows = torch.arange(8)
    explained = torch.tensor([0, 1] * 4)
    return Sample(scenes.test.subset(rows), rows, explained, scenes.class_names, torch.device("cpu"))


def left(images, target):
    maps = torch.zeros(len(images), 1, *images.shape[2:])
    maps[..., : images.shape[-1] // 2] = 1
    return maps


def test_mass_on_the_half_that_is_asked_for(sample):
    """One always shows the left half: all of its mass where that is asked for, none where the right is."""
    table = asked_halves(
        None, sample, {("left", 0): showing(left), ("right", 0): showing(lambda x, y: 1 - left(x, y))}
    )
    inside = table.assign(half=table["image"].str.extract("([a-z]+)")[0]).groupby(["method", "half"])[
        "inside"
    ]
    means = inside.mean()
    assert means["left", "left"] == means["right", "right"] == 1
    assert means["left", "right"] == means["right", "left"] == 0
    assert not table.duplicated(["method", "image"]).any()


def test_every_half_is_asked_for_its_own_class(sample):
    pictures, parts = halves(sample, "beside", 0)
    for name, (asked, region, rows) in parts.items():
        assert torch.equal(asked, sample.explained[rows])
        half = pictures.shape[-1] // 2
        assert bool(region[..., :half].all()) == (name == "left")
        assert bool(region[..., half:].any()) == (name == "right")
    assert (parts["left"][0] != parts["right"][0]).all(), "two classes"


def test_boxes_of_the_evidence_itself(tiny_net, sample):
    exact = showing(lambda images, target: sample.masks.float())
    table = boxes(tiny_net, sample, {("exact", 0): exact})
    best = table.groupby("alpha")["iou"].mean().max()
    assert best > 0.9
    assert table["pointing"].eq(1).all()
    assert table["evidence_dice"].eq(1).all()
    assert table["mass"].eq(1).all()


def test_sanity_of_a_control(tiny_net, sample):
    table = sanity(tiny_net, sample, {("edges", 0): showing(left)}, classes=4, stages=2)
    assert set(table["check"]) == {"randomised", "another class"}
    assert table["share"].max() == 100, "in per cent"
    assert table["rank"].dropna().to_numpy() == pytest.approx(1), "edges do not look at the CNN"
