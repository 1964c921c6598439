"""The concept bank: what is learned, what it is worth, how many there are."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from gan_lib.concepts import (
    ConceptBank,
    Concepts,
    HiddenLayer,
    LayerRelevance,
    PooledActivations,
    concept_maps,
    first_there,
    how_many,
    importance,
    importance_table,
    learn_concepts,
    nmf,
    weighted_activations,
)
from gan_lib.concepts import bank as bank_module
from gan_lib.concepts.bank import matched_similarity


def test_concepts_are_learned_and_stored(hidden, split, table, tmp_path, monkeypatch):
    relevance = LayerRelevance(hidden, "gradient_x_activation", samples=0)
    monkeypatch.setattr(bank_module, "CLASSES_AT_ONCE", 2)
    bank = learn_concepts(relevance, split, table, range(5), 3, 20)
    counts = table["prediction"].value_counts()
    expected = [label for label in range(5) if counts.get(label, 0) >= 3]
    assert bank.classes == expected
    assert all(basis.shape == (3, 10) for basis in bank.basis.values())
    report = bank.report.set_index("class")
    assert "predicted for 0 images" in report.loc[4, "skipped"]
    assert report.loc[expected, "error"].between(0, 1).all()
    assert report["images"].tolist() == [min(20, counts.get(label, 0)) for label in range(5)]
    bank.save(tmp_path)
    again = ConceptBank.load(tmp_path)
    assert again.classes == expected
    assert all(torch.equal(again.basis[label], bank.basis[label]) for label in expected)
    assert again.report.equals(bank.report)


def test_a_class_is_factorised_as_if_alone(hidden, split, table):
    """Its images, activations times relevance, on one scale: not another class's."""
    relevance = LayerRelevance(hidden, "gradient_x_activation", samples=0)
    label = int(table["prediction"].mode()[0])
    rows = torch.tensor(table.loc[table["prediction"] == label, "image"].to_numpy())
    data = weighted_activations(relevance, split, rows, label, batch_size=7)
    images = split.batch(rows).images
    expected = (relevance(images, label) * hidden(images)).permute(0, 2, 3, 1).reshape(-1, 10)
    assert torch.allclose(data, expected, atol=1e-6)
    made = nmf(data[None] / data.max(), 3)
    bank = learn_concepts(relevance, split, table, [label], 3, 100)
    assert torch.allclose(bank.basis[label], made.basis[0], atol=1e-4)
    assert bank.report["error"].item() == pytest.approx(float(made.error), rel=1e-3)


def test_classes_that_nothing_speaks_for_are_reported(net, hidden, split, tmp_path):
    net.head.weight.data[0] = 0
    table = pd.DataFrame({"image": range(40), "prediction": 0})
    bank = learn_concepts(LayerRelevance(hidden, "grad_cam", samples=0), split, table, [0], 2)
    assert bank.classes == []
    assert "no place" in bank.report["skipped"].item()
    bank.save(tmp_path)
    for own in (bank, ConceptBank.load(tmp_path)):
        with pytest.raises(ValueError, match="no class has concepts: class 0 no place of the layer"):
            own.vectors()
    for counts in ({"components": 0}, {"images_per_class": 0}):
        with pytest.raises(ValueError, match="must be at least 1, not 0"):
            learn_concepts(LayerRelevance(hidden), split, table, [0], **counts)


def test_the_wanted_classes_come_first():
    bank = ConceptBank({label: torch.eye(2) for label in (1, 4, 6)}, pd.DataFrame())
    assert bank.shown([6, 5]) == [6, 1]
    assert bank.shown([4]) == [4]
    assert bank.shown([0, 1, 2, 3, 4]) == [1, 4, 6]
    assert first_there([9, 3], {3: "c", 1: "a"}) == [3, 1]


def test_importance_of_a_few_images_at_a_time(hidden, split, monkeypatch):
    images = split.batch(range(7)).images
    basis = torch.rand(2, hidden.channels, generator=torch.Generator().manual_seed(0))
    whole = importance(hidden, images, 1, basis), concept_maps(hidden, images, basis)
    assert len(whole[0][:, 0].unique()) == 7, "or nothing could be out of order"
    monkeypatch.setattr("gan_lib.concepts.bank.at_once", lambda *_: 3)
    parts = importance(hidden, images, 1, basis), concept_maps(hidden, images, basis)
    for own, expected in zip(parts, whole, strict=True):
        torch.testing.assert_close(own, expected, atol=1e-5, rtol=1e-4)


def test_concept_maps_and_importance(net, hidden, split):
    images = split.batch(range(6)).images
    basis = torch.eye(10)[:4]
    maps = concept_maps(hidden, images, basis)
    assert torch.allclose(maps, hidden(images)[:, :4], atol=1e-4)
    lost = importance(hidden, images, 2, basis)
    before = net(images).softmax(1)[:, 2]
    for k in range(4):
        rest = net.features(images).clone()
        rest[:, k] = 0
        after = net.head(rest.mean((2, 3))).softmax(1)[:, 2]
        assert torch.allclose(lost[:, k], 1 - after / before, atol=1e-3)
    table = pd.DataFrame({"image": range(40), "prediction": [2, 2, 2, 1] * 10})
    bank = ConceptBank({2: basis, 1: torch.eye(10)[4:8]}, pd.DataFrame())
    means = importance_table(hidden, split, table, bank, images_per_class=30).set_index("class")
    assert list(means.columns) == [f"concept {k}" for k in range(4)]
    rows = [row for row in range(40) if row % 4 < 3]
    expected = importance(hidden, split.batch(rows).images, 2, basis).mean(0)
    assert means.loc[2].tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    assert means.loc[1].tolist() != means.loc[2].tolist()


def test_how_many(hidden, split):
    relevance = LayerRelevance(hidden, "gradient_x_activation", samples=0)
    data = weighted_activations(relevance, split, torch.arange(10), 1)
    assert data.shape == (10 * 64, 10)
    table = how_many(data, [1, 3], seeds=(0, 1))
    assert len(table) == 4
    error = table.groupby("components")["error"].mean()
    assert error[3] < error[1]
    assert table.loc[table["components"] == 1, "stability"].min() > 0.99
    assert table["stability"].between(0, 1.001).all()
    bases = [nmf(data[None], 3, "random", seed).basis[0] for seed in (0, 1, 2)]
    pairs = [[matched_similarity(own, other) for other in bases] for own in bases]
    three = how_many(data, [3])["stability"]
    assert three.tolist() == pytest.approx([(sum(own) - own[i]) / 2 for i, own in enumerate(pairs)])
    assert how_many(data, [2], seeds=[0])["stability"].isna().all()
    with pytest.raises(ValueError, match="counts"):
        how_many(data, [])


# -- the front door ------------------------------------------------------------------------------------


def test_concepts_in_three_lines(net, split, table):
    images = split.batch(range(40)).images
    concepts = Concepts(net, "features.6", 2, "gradient_x_activation", 0, cell=2).fit(images)
    classes = sorted(label for label, count in table["prediction"].value_counts().items() if count >= 2)
    assert concepts.bank.classes == classes
    hidden = HiddenLayer(net, "features.6", (16, 16))
    relevance = LayerRelevance(hidden, "gradient_x_activation", samples=0)
    bank = learn_concepts(relevance, split, table, sorted(set(table["prediction"])), 2)
    pooled = PooledActivations(hidden, split, 2, 1)
    for label in classes:
        assert torch.equal(concepts.bank.basis[label], bank.basis[label])
        expected = pooled.crops(pooled.nearest(bank.basis[label], 3))
        assert torch.equal(concepts.prototypes[label], expected)  # (2, 3, 3, 4, 4)
    one, other = classes[:2]
    maps = concepts.transform(images[:4], [one, other, one, other])
    assert maps.shape == (4, 2, 8, 8)
    for start, label in enumerate((one, other)):
        expected = concept_maps(hidden, images[start:4:2], bank.basis[label])
        assert torch.allclose(maps[start::2], expected, atol=1e-5)
    own = table["prediction"].isin(classes).to_numpy().nonzero()[0][:3]
    targets = table["prediction"].to_numpy()[own].tolist()
    assert torch.equal(concepts.transform(images[own]), concepts.transform(images[own], targets))
    axes = concepts.show([other]).axes
    assert len(axes) == 2 * 3
    assert axes[3].get_ylabel().replace("\n", " ") == f"class {other}, concept 1"
    assert len(concepts.show().axes) == 2 * 3 * len(classes)


def test_what_concepts_refuse(net, split):
    images = split.batch(range(40)).images
    concepts = Concepts(net, "features.6", 2, "gradient_x_activation", 0)
    for use in (concepts.show, lambda: concepts.transform(images)):
        with pytest.raises(RuntimeError, match="fit"):
            use()
    with pytest.raises(ValueError, match=r"no class has concepts: class \d predicted for 1 images"):
        concepts.fit(images[:1])
    with pytest.raises(ValueError, match="images must be at least 1"):
        concepts.fit(images[:0])
    with pytest.raises(ValueError, match=r"outside \[0, 1\]"):
        concepts.fit(2 * images)
    with pytest.raises(ValueError, match="components"):
        Concepts(net, components=0)
    concepts.fit(images)
    without = next(label for label in range(5) if label not in concepts.bank.classes)
    with pytest.raises(ValueError, match="have no concepts"):
        concepts.show([without])
