"""Cells of CNNs and data sets: joined conditions, what is unseen, plain digits, wins."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from gan_lib.core.artifacts import ArtifactStore
from gan_lib.data import ImageSplit, digits_in_scenes, load_data
from gan_lib.data.plain_digits import plain_digits
from gan_lib.gan.conditions import ConditionMaker, compute_conditions
from gan_lib.metrics import wins_against
from gan_lib.workbench.cells import (
    Cell,
    JoinedConditions,
    cell_scores,
    joined_images,
    matrix,
    seen_before,
)


def cell(architecture, data_set):
    return Cell(architecture, data_set, None, None)


def test_joined_conditions_are_their_parts(tiny_net, scenes, tmp_path):
    maker = ConditionMaker(tiny_net, (32, 32), 2)
    parts = [scenes.train.subset(range(7)), scenes.train.subset(range(20, 25))]
    stored = [compute_conditions(maker, part, tmp_path / str(i)) for i, part in enumerate(parts)]
    joined, images = JoinedConditions(stored), joined_images(parts)
    assert len(joined) == len(images) == 12
    assert joined.count == 2
    rows = torch.tensor([8, 0, 6, 7, 11, 3])
    expected = maker(images.batch(rows).images)
    made = joined[rows]
    assert torch.allclose(made.cgma, expected.cgma, atol=1e-3)
    assert torch.allclose(made.target, expected.target, atol=1e-3)
    assert torch.equal(made.explained, expected.explained)
    assert torch.equal(joined[torch.tensor([9])].cgma, stored[1][torch.tensor([2])].cgma)
    assert joined.fingerprint != JoinedConditions(stored[::-1]).fingerprint
    assert torch.equal(images.images[torch.tensor([8])], parts[1].images[torch.tensor([1])])


def test_joining_what_does_not_fit(tiny_net, scenes, tmp_path):
    part = scenes.train.subset(range(2))
    stored = [
        compute_conditions(ConditionMaker(tiny_net, (32, 32), n), part, tmp_path / str(n)) for n in (1, 2)
    ]
    with pytest.raises(ValueError, match="same number"):
        JoinedConditions(stored)
    with pytest.raises(ValueError, match="same number"):
        JoinedConditions([])


def test_what_a_generator_knows_of_a_cell():
    learned = [cell("a", "x"), cell("b", "y")]
    assert seen_before(cell("a", "x"), learned) == "seen"
    assert seen_before(cell("a", "y"), learned) == "unseen pair"
    assert seen_before(cell("c", "y"), learned) == "unseen CNN"
    assert seen_before(cell("a", "z"), learned) == "unseen data"
    assert seen_before(cell("c", "z"), learned) == "unseen CNN and data"


def test_matrix():
    cells = {own.name: own for own in (cell("a", "x"), cell("b", "x"), cell("a", "y"))}
    results = pd.DataFrame({"cell": list(cells), "measure": "dice", "mean": [1.0, 2.0, 3.0]})
    table = matrix(results, "dice", cells)
    assert table.loc["b", "x"] == 2
    assert table.loc["a", "y"] == 3
    assert np.isnan(table.loc["b", "y"])


def test_plain_digits_hold_out_the_same_digits(tmp_path):
    data = plain_digits(size=32)
    assert len(data.train) + len(data.test) == 1797
    assert data.train.images.shape[1:] == (3, 32, 32)
    assert set(data.test.labels.tolist()) == set(range(10))
    assert isinstance(data.test, ImageSplit)
    inside = data.test.batch(range(20))
    assert (inside.images.mean(1, keepdim=True)[inside.masks] > 0.45).all()
    assert len(plain_digits(train=50, test=20, size=16).train) == 50
    stored = load_data("plain_digits", ArtifactStore(tmp_path), train=50, test=20, size=16)
    made = plain_digits(train=50, test=20, size=16)
    assert torch.equal(stored.test.batch(range(20)).images, made.test.batch(range(20)).images)
    # The digits drawn into scenes are the same samples: training digits are training digits.
    scene = digits_in_scenes(train=60, test=20, size=32, seed=0)
    assert scene.class_names == data.class_names


def test_cell_scores(tiny_net, scenes):
    """One side shows everything and never loses; the other shows nothing."""
    own = Cell("tiny", "scenes", SimpleNamespace(cnn=tiny_net), scenes)
    batch = scenes.test.batch(range(6))
    asked = tiny_net(batch.images).argmax(1)

    def showing(value):
        return SimpleNamespace(attribute=lambda images, **_: torch.full_like(images[:, :1], value))

    table = cell_scores(own, {("Grad-CAM", 0): showing(0.0), ("all", 0): showing(1.0)}, batch, asked)
    assert set(table["cell"]) == {"tiny x scenes"}
    assert table["image"].iloc[0] == "tiny x scenes/0"
    means = table.groupby("method")[["drop_black", "won", "lost", "won@10", "lost@10"]].mean()
    assert means.loc["all", "drop_black"] == pytest.approx(0, abs=1e-4)
    hurt = (table["drop_black"].iloc[:6] > 0).mean()  # by showing nothing
    assert hurt > 0
    assert means.loc["all", "won"] == pytest.approx(100 * hurt)
    assert means.loc["Grad-CAM", ["won", "lost"]].tolist() == [0, 0]
    assert means.loc["all", ["won@10", "lost@10"]].tolist() == [0, 0], "both are flat: the same pixels"


def test_wins_against():
    table = pd.DataFrame(
        [
            {"method": method, "seed": seed, "image": image, "drop_black": drop}
            for method, seed, drops in (("Grad-CAM", 0, [5, 5, 5]), ("ours", 0, [1, 5, 9]), ("ours", 1, [1, 1, np.nan]))
            for image, drop in enumerate(drops)
        ]
    )  # fmt: skip
    made = wins_against(table, "drop_black", "Grad-CAM")
    assert made["won"].tolist()[:8] == [0, 0, 0, 100, 0, 0, 100, 100]
    assert made["lost"].tolist()[:8] == [0, 0, 0, 0, 0, 100, 0, 0]
    assert np.isnan(made["won"].tolist()[8])
    higher = wins_against(table, "drop_black", "Grad-CAM", lower_is_better=False)
    assert higher["won"].tolist()[3:6] == [0, 0, 100]


def test_data_sets_that_are_not_at_hand(monkeypatch):
    from gan_lib.workbench import Workbench

    def data(name, *sizes):
        if name == "mnist":
            raise FileNotFoundError("mnist could not be downloaded (no network): put its files here")
        return SimpleNamespace(name=name)

    bench = object.__new__(Workbench)
    monkeypatch.setattr(bench, "data", data)
    present, missing = bench.available(["plain_digits", "mnist"], 64)
    assert list(present) == ["plain_digits"]
    assert missing["data set"].tolist() == ["mnist"]
    assert "no network" in missing["why"][0]
