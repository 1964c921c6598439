"""What an explainer finds: one frozen object, shown, saved, in parts."""

from __future__ import annotations

import dataclasses

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from torchvision.io import decode_image

from gan_lib.classifiers import Classifier
from gan_lib.classifiers.wrap import ModelCard
from gan_lib.core.storage import load_tensors
from gan_lib.explainers import Edges, Explanation, GradCAM, make_explainer
from gan_lib.figures import overlay


@pytest.fixture
def cnn(colour_net):
    card = ModelCard("colours", ("red", "green", "blue"), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    return Classifier(colour_net, card).eval()


@pytest.fixture
def pictures():
    """Images that are a little redder, greener, bluer than grey: the logits are 20 times the mean colours."""
    return 0.4 + 0.1 * torch.eye(3)[:, :, None, None].expand(3, 3, 8, 8) * torch.rand(3, 1, 8, 8).round()


def test_what_is_explained(cnn, pictures):
    found = make_explainer("Grad-CAM", cnn, layer="backbone.layer").explain(pictures)
    assert (len(found), found.method, found.titles) == (3, "grad_cam", ["red", "green", "blue"])
    means = 20 * pictures.mean((2, 3))
    assert torch.allclose(found.probabilities, means.softmax(1).diagonal())
    asked = make_explainer("edges", cnn).explain(pictures, targets=[2, 0, 1], batch_size=2)
    assert asked.titles == ["blue", "red", "green"]
    assert torch.allclose(asked.probabilities, means.softmax(1)[[0, 1, 2], [2, 0, 1]])
    torch.testing.assert_close(asked.maps, Edges(cnn).attribute(pictures))  # in batches of another size
    one = GradCAM(cnn, "backbone.layer").explain(pictures[1], targets=1)
    assert (one.images.shape, one.maps.shape, one.method) == ((1, 3, 8, 8), (1, 1, 8, 8), "GradCAM")
    assert torch.equal(one.maps[0], found.maps[1])
    assert not len(Edges(cnn).explain(pictures[:0]))


def test_a_cnn_without_names(tiny_net, images):
    assert Edges(tiny_net).explain(images, 2).class_names == ("class 0", "class 1", "class 2", "class 3")
    with pytest.raises(IndexError, match="outside"):
        Edges(tiny_net).explain(images, 4)
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
        Edges(tiny_net).explain(images[0, 0])


@pytest.fixture
def found():
    maps = torch.zeros(3, 1, 4, 4)
    maps[1, 0, 0], maps[2] = 1.0, 0.5
    return Explanation(
        torch.rand(3, 3, 4, 4),
        maps,
        torch.tensor([1, 0, 1]),
        torch.tensor([0.9, 0.25, 0.5]),
        ("cat", "dog"),
        "mine",
    )


def test_it_is_frozen_and_can_be_taken_apart(found):
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.method = "other"
    for rows in (slice(1, 3), [1, 2], torch.tensor([False, True, True])):
        part = found[rows]
        assert part.probabilities.tolist() == [0.25, 0.5]
        assert part.titles == ["cat", "dog"]
        assert torch.equal(part.maps, found.maps[1:])
    assert found[-1].probabilities.tolist() == [0.5]
    assert len(found[0:0]) == 0
    with pytest.raises(IndexError):
        found[3]
    with pytest.raises(ValueError, match="equally many"):
        dataclasses.replace(found, targets=torch.tensor([1, 0]))


def test_its_table(found):
    table = found.table()
    assert table["target"].tolist() == ["dog", "cat", "dog"]
    assert table["class"].tolist() == [1, 0, 1]
    assert table["area"].tolist() == [0.0, 0.25, 0.5]
    assert table["probability"].tolist() == pytest.approx([0.9, 0.25, 0.5])
    assert set(table["method"]) == {"mine"}


def test_it_shows_itself(found):
    figure = found.show()
    shown = [axis for axis in figure.axes if axis.images]
    assert [axis.get_title() for axis in shown[:2]] == ["image", "overlay"]
    assert [axis.get_ylabel() for axis in shown[::2]] == ["dog 90 %", "cat 25 %", "dog 50 %"]
    assert sum(bool(axis.images) for axis in found[:2].show(columns=["map"]).axes) == 2
    for wrong in (lambda: found.show(["picture"]), lambda: found[:0].show(), lambda: found.show([])):
        with pytest.raises(ValueError, match="choose from"):
            wrong()
    plt.close("all")


def test_it_saves_itself(found, tmp_path):
    folder = found.save(tmp_path / "out")
    assert sorted(path.name for path in folder.iterdir()) == [
        "0000_overlay.png",
        "0001_overlay.png",
        "0002_overlay.png",
        "explanations.csv",
        "maps.safetensors",
    ]
    assert torch.equal(load_tensors(folder / "maps.safetensors")["maps"], found.maps)
    pixels = decode_image(str(folder / "0001_overlay.png")).float() / 255
    assert torch.allclose(pixels, overlay(found.images, found.maps)[1], atol=0.51 / 255)
    table = pd.read_csv(found[:2].save(tmp_path / "named", ["a", "b"]) / "explanations.csv")
    assert table["name"].tolist() == ["a", "b"]
    assert table["area"].tolist() == [0.0, 0.25]
    for names in (["a"], ["a", "a", "b"]):
        with pytest.raises(ValueError, match="different names"):
            found.save(tmp_path, names)
