"""Insertion by hand into a subject's images: the confused classes, by hand, and the whole way on a tiny set."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from gan_lib.concepts.contrasting import STATES, most_confused
from gan_lib.workbench import Places, Workbench
from gan_lib.workbench.by_hand import insertion_by_hand
from gan_lib.workbench.concept_scores import (
    ALL,
    RANDOM,
    TYPICAL,
    contrast_parts,
    density_scores,
    pooled_activations,
)

RECIPE = """
seeds: [0]
machine: {workers: 1, threads: 1}
data: {name: marked, image_size: 32, validation_images: 0}
cnn: {architecture: "nets.py:colours", epochs: 0, mean: [0, 0, 0], std: [1, 1, 1]}
concepts: {images_per_class: 4, pooling: 8, pooling_stride: 4, layer: backbone.second, relevance: gradient_x_activation}
contrasting: {components: 1, cell_candidates: 4, by_hand_images: 3}
"""
NETS = '''
import torch
from torch import nn

class Colours(nn.Module):
    """Class k where channel k is the brightest."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1, bias=False)
        self.second = nn.ReLU()
        self.first.weight.data = torch.eye(3)[:, :, None, None]

    def forward(self, images):
        return 30 * self.second(self.first(images)).mean((2, 3))

def colours(classes=3):
    return Colours()
'''


def test_the_most_confused_by_hand():
    """Of classes 1, 4 and 6: images of 4 get (0.3 + 0.1) / 2 for 6, those of 6 get 0.15 for 1."""
    given = torch.zeros(4, 8)
    given[0, [1, 4, 2]] = torch.tensor([0.5, 0.1, 0.4])  # class 2 is not looked at
    given[1, [4, 6]] = torch.tensor([0.7, 0.3])
    given[2, [4, 6]] = torch.tensor([0.9, 0.1])
    given[3, [6, 1]] = torch.tensor([0.85, 0.15])
    assert most_confused(given, torch.tensor([1, 4, 4, 6])) == (6, 4, pytest.approx(0.2))
    assert most_confused(torch.eye(2), torch.tensor([0, 1])) == (1, 0, 0), "certain of both: the first pair"
    with pytest.raises(ValueError, match=r"two classes or more can be confused, not \[3\]"):
        most_confused(given, torch.tensor([3, 3, 3, 3]))


@pytest.fixture
def marked(tmp_path):
    """Three classes of photographs with a square of their colour; green ones have a little blue, blue ones some green."""
    profiles = tmp_path / "notebooks/profiles"
    profiles.mkdir(parents=True)
    (profiles / "marked.yaml").write_text(RECIPE)
    (tmp_path / "nets.py").write_text(NETS)
    for split, count in (("train", 6), ("test", 5)):
        for label, name in enumerate(("0_red", "1_green", "2_blue")):
            folder = tmp_path / "data/marked" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = np.zeros((32, 32, 3), dtype=np.uint8)
                pixels[: 16 if label else 20, :16, label] = 200 + 5 * number
                if label:
                    pixels[24:, 24:, 3 - label] = (60, 255)[label - 1]
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return Workbench("test", "marked", {}, Places.of(tmp_path))


def test_evidence_for_the_confused_class_is_pasted_into_the_others(marked):
    subject = marked.subject()
    made = insertion_by_hand(subject)
    assert (made.one, made.other) == (1, 2), "blue images have some green"
    assert 0 < made.confused < 0.5
    assert made.crop.shape == (3, 8, 8)
    assert made.crop[1].min() > 0.7, "green, from the training images of green"
    assert made.crop[[0, 2]].max() == 0
    assert len(made.images) == 3
    blue = subject.data.test.batch([10, 11, 12, 13, 14]).images
    assert all(any(torch.equal(image, own) for own in blue) for image in made.images)
    table = made.table().set_index(["class", "what"])
    assert set(made.table()["class"]) == {subject.names[1], subject.names[2]}
    assert table.loc[(subject.names[1], "pasted - control"), "mean"] > 0
    assert table.loc[(subject.names[2], "pasted - control"), "mean"] < 0
    assert set(table["n"]) == {3}
    page = made.page(2)
    assert [len(own) for own in page["columns"].values()] == [2, 2, 2]
    assert [*page["frames"]] == [*page["columns"]][1:]
    left, top, right, bottom = page["frames"]["control"][0].tolist()
    assert not page["columns"]["control"][0, :, top:bottom, left:right].any()
    assert (right - left, bottom - top) == (8, 8)
    first = made.inserted.rows.iloc[0]
    given = [f"{first[f'{which}_{state}']:.2f}" for which in ("one", "other") for state in STATES]
    assert page["row_labels"][0].replace(";", "").split()[1:4] == given[:3]
    assert page["row_labels"][0].split()[-3:] == given[3:]


def test_contrasting_keeps_to_the_classes_of_the_recipe(marked):
    few = marked.subject({"concepts.classes": [0, 2]})
    assert set(contrast_parts(few)[1]) == {0, 2}
    assert set(contrast_parts(marked.subject())[1]) == {0, 1, 2}


def test_concepts_of_typical_places(marked):
    """Of three classes the pairs (0, 1), (1, 2), (2, 0), each with all places, typical ones, as many at random."""
    subject = marked.subject({"contrasting.typical_share": 0.5})
    relevance, evidence, planes = contrast_parts(subject)
    pooled = pooled_activations(subject, relevance.hidden)
    tables = density_scores(subject, relevance, evidence, planes, pooled)
    typical = tables["typical"].set_index(["method", "image"])
    assert [*typical.index.unique("image")] == ["0/1", "1/2", "2/0"]
    assert [*typical.index.unique("method")] == [ALL, TYPICAL, RANDOM]
    assert (typical.loc[ALL, "kept"] == 100).all()
    assert (typical.loc[ALL, "agreement"] == 1).all()
    assert typical.loc[TYPICAL, "kept"].between(30, 70).all()
    assert typical.loc[TYPICAL, "agreement"].between(0.5, 1.0001).all()
    assert typical["stability"].dropna().between(0.5, 1.0001).all()
    inserted = tables["typical_insertion"]
    assert set(inserted["method"]) == {ALL, TYPICAL, RANDOM}, "no controls are pasted"
    assert {row.rpartition("/")[0] for row in inserted["image"]} == {"0/1", "1/2", "2/0"}
    two = density_scores(
        marked.subject({"contrasting.mixture_classes": 2}), relevance, evidence, planes, pooled
    )
    assert set(two["typical"]["image"]) == {"0/1", "1/0"}


def test_where_nothing_is_predicted_as_the_other_class(marked, monkeypatch):
    subject = marked.subject()
    table = subject.predictions
    changed = lambda split="test": table(split).assign(prediction=0) if split == "test" else table(split)  # noqa: E731
    monkeypatch.setattr(subject, "predictions", changed)
    with pytest.raises(ValueError, match="no test image is predicted as"):
        insertion_by_hand(subject)
