"""Pictures that are asked for: what is asked twice comes once, those of one picture together."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from PIL import Image

from gan_lib.workbench import asked_pictures
from gan_lib.workbench.asked import each_question_once


def test_each_question_once_by_hand():
    """Pictures a b a a, asked for 1 1 2 1: a for 1 and 2, then b for 1; the last was asked before."""
    a, b = torch.zeros(3, 2, 2), torch.ones(3, 2, 2)
    assert each_question_once(torch.stack([a, b, a, a]), [1, 1, 2, 1]) == [0, 2, 1]


def test_the_same_picture_in_two_files(tmp_path):
    for name, colour in (("one", "red"), ("same", "red"), ("other", "blue")):
        Image.new("RGB", (8, 8), colour).save(tmp_path / f"{name}.png")
    asked = [(f"{name}.png", kind) for name in ("one", "same", "other") for kind in ("cat", "dog")]
    subject = SimpleNamespace(
        recipe=SimpleNamespace(asked=asked),
        places=SimpleNamespace(base=lambda name: tmp_path),
        image_size=(8, 8),
        cnn=SimpleNamespace(class_names=("cat", "dog")),
        device="cpu",
        names=("cat", "dog"),
    )
    pictures, classes, titles = asked_pictures(subject, None)
    assert titles == [f"{name}, asked: {kind}" for name in ("one", "other") for kind in ("cat", "dog")]
    assert classes.tolist() == [0, 1, 0, 1]
    assert pictures[:, 0, 0, 0].tolist() == [1, 1, 0, 0]
