"""Hyperplanes against scikit-learn; evidence, shifting and insertion with a CNN that sees colours."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from gan_lib.concepts import HiddenLayer, LayerRelevance, PooledActivations
from gan_lib.concepts.contrasting import (
    Evidence,
    contrasting_concepts,
    distance_maps,
    fit_hyperplanes,
    freest,
    gather_evidence,
    held_out_accuracy,
    insertion_round,
    insertion_test,
    paste,
    shifting_test,
)
from gan_lib.data import ImageSplit


def clouds(classes=4, channels=12, spread=1.0, seed=0):
    drawn = torch.Generator().manual_seed(seed)
    centres = 2 * torch.rand(classes, channels, generator=drawn)
    return {
        3 * label: (centre + spread * torch.randn(60 + 20 * label, channels, generator=drawn)).relu()
        for label, centre in enumerate(centres)
    }


@pytest.mark.parametrize("strength", [0.01, 1.0])
@pytest.mark.parametrize("spread", [0.2, 1.0])
def test_every_pair_is_scikit_learns(strength, spread):
    vectors = clouds(spread=spread)
    planes = fit_hyperplanes(vectors, strength, tolerance=1e-6, max_iterations=100)
    for i, (one, own) in enumerate(vectors.items()):
        for j, (other, its) in enumerate(vectors.items()):
            if i >= j:
                continue
            both = torch.cat([own, its]).double().numpy()
            label = np.repeat([1, 0], [len(own), len(its)])
            model = LogisticRegression(C=strength, tol=1e-10, max_iter=10000).fit(both, label)
            made = torch.cat([planes.normal[i, j], planes.offset[i, j, None]]).numpy()
            expected = np.append(model.coef_[0], model.intercept_)
            assert np.abs(made - expected).max() < 2e-3 * np.abs(expected).max()
            assert torch.equal(planes.normal[j, i], -planes.normal[i, j])
            distance = planes.distance(own, one, other)
            theirs = model.decision_function(own.double().numpy()) / np.linalg.norm(model.coef_)
            assert np.allclose(distance.numpy(), theirs, atol=0.02 * np.abs(theirs).max())


def test_directions_point_from_class_to_class():
    vectors = clouds(spread=0.2)
    planes = fit_hyperplanes(vectors)
    direction = planes.direction(0, 3)
    assert direction.norm() == pytest.approx(1, abs=1e-5)
    assert ((vectors[3].mean(0) - vectors[0].mean(0)) @ direction) > 0
    assert (planes.distance(vectors[0], 0, 3) > 0).float().mean() > 0.98
    assert (planes.distance(vectors[3], 0, 3) < 0).float().mean() > 0.98


def test_what_cannot_be_contrasted():
    vectors = clouds()
    with pytest.raises(ValueError, match="two classes"):
        fit_hyperplanes({1: vectors[0]})
    with pytest.raises(ValueError, match="no vectors"):
        fit_hyperplanes({0: vectors[0], 1: torch.zeros(0, 12)})
    planes = fit_hyperplanes(vectors)
    with pytest.raises(ValueError, match="itself"):
        planes.distance(vectors[0], 3, 3)
    with pytest.raises(KeyError, match="class 1"):
        planes.distance(vectors[0], 0, 1)


def test_equal_classes_have_a_defined_plane():
    own = torch.rand(30, 5)
    planes = fit_hyperplanes({0: own, 1: own.clone()})
    assert torch.isfinite(planes.normal).all()
    assert planes.distance(own, 0, 1).isfinite().all()
    constant = fit_hyperplanes({0: torch.ones(3, 4), 1: torch.ones(2, 4)})
    assert constant.normal.isfinite().all()


# -- evidence, shifting, insertion -------------------------------------------------------------------


@pytest.fixture
def colours(colour_net):
    """Three classes of 8 images: a square of the class's colour, at changing places, on dark grey."""
    pictures = torch.full((24, 3, 8, 8), 0.05) + 0.02 * torch.rand(
        24, 3, 8, 8, generator=torch.Generator().manual_seed(0)
    )
    for row in range(24):
        top = 2 * (row % 3)
        pictures[row, row % 3, top : top + 3, 1:5] = 0.9
    split = ImageSplit((255 * pictures).to(torch.uint8), torch.arange(24) % 3)
    cnn = colour_net
    hidden = HiddenLayer(cnn, "layer", (8, 8))
    relevance = LayerRelevance(hidden, "gradient_x_activation", samples=0)
    table = pd.DataFrame({"image": range(24), "prediction": [row % 3 for row in range(24)]})
    evidence = gather_evidence(relevance, split, table, range(4), 6)
    planes = fit_hyperplanes({label: own.vectors for label, own in evidence.items()})
    return SimpleNamespace(**locals())


def test_evidence_is_where_the_relevance_is(colours):
    assert list(colours.evidence) == [0, 1, 2], "class 3 is never predicted"
    for label, own in colours.evidence.items():
        assert len(own.rows) == 6
        assert set((own.rows % 3).tolist()) == {label}
        assert len(own.vectors) == 6 * 12
        assert own.vectors[:, label].min() > 0.8
        assert own.image.bincount().tolist() == [12] * 6
        assert len(own.of_images(torch.tensor([0, 3]))) == 24


def test_held_out_accuracy(colours):
    table = held_out_accuracy(colours.evidence)
    assert len(table) == 6
    assert table["accuracy"].min() == 1
    mixed = {
        label: Evidence(torch.rand(len(own.vectors), 3), own.image, own.rows)
        for label, own in colours.evidence.items()
    }
    assert held_out_accuracy(mixed)["accuracy"].mean() < 0.75


def test_distance_maps_have_two_sides(colours):
    images = colours.split.batch([0, 1]).images
    made = distance_maps(colours.hidden, colours.planes, images, 0, 1)
    assert made.shape == (2, 1, 8, 8)
    assert made[0, 0, 0:3, 1:5].min() > 0 > made[1, 0, 2:5, 1:5].max()


@pytest.mark.parametrize("common", [None, 0.2])
def test_contrasting_concepts_point_to_the_class(colours, common):
    basis = contrasting_concepts(colours.planes, colours.evidence, 0, 2, 1, common=common)
    assert basis.shape == (1, 3)
    assert basis[0].argmax() == 0
    with pytest.raises(ValueError, match="itself"):
        contrasting_concepts(colours.planes, colours.evidence, 1, 1)
    poor = {
        **colours.evidence,
        0: Evidence(colours.evidence[1].vectors, colours.evidence[1].image, colours.evidence[1].rows),
    }
    with pytest.raises(ValueError, match="too few"):
        contrasting_concepts(colours.planes, poor, 0, 1)


def test_shifting(colours):
    made = shifting_test(
        colours.hidden,
        colours.planes,
        colours.evidence,
        colours.split,
        [(0, 1), (2, 0)],
        [0.0, 2.0],
        images_per_class=3,
    )
    assert len(made) == 2 * 3 * 2 * 3
    still = made[made["offset"] == 0]
    assert not still["reached"].any()
    assert still["growth"].abs().max() < 1e-6
    moved = made[made["offset"] == 2].set_index("direction")
    assert moved.loc["normal", "reached"].all()
    assert moved.loc["difference of means", "reached"].all()
    assert moved.loc["normal", "growth"].min() > 0.5
    own = colours.split.batch(colours.evidence[0].rows[:1]).images
    apart = colours.evidence[1].vectors.mean(0) - colours.evidence[0].vectors.mean(0)
    shifted = (own + 2 * apart.norm() * colours.planes.direction(0, 1)[:, None, None]).relu()
    expected = colours.cnn(shifted).softmax(1)[0, 1]
    row = made[(made["class"] == 0) & (made["direction"] == "normal") & (made["offset"] == 2)].iloc[0]
    assert row["probability"] == pytest.approx(float(expected), abs=1e-4)
    drawn = shifting_test(
        colours.hidden,
        colours.planes,
        colours.evidence,
        colours.split,
        [(0, 1)],
        [2.0],
        images_per_class=2,
        draws=3,
    )
    assert drawn.groupby("direction", sort=False)["draw"].nunique().tolist() == [1, 1, 3]
    assert drawn[drawn["direction"] == "random"].groupby("draw")["growth"].first().nunique() == 3
    length = shifting_test(
        colours.hidden,
        colours.planes,
        colours.evidence,
        colours.split,
        [(0, 1)],
        [float(2 * apart.norm())],
        absolute=True,
    )
    assert length.iloc[0]["probability"] == pytest.approx(float(expected), abs=1e-4)


def test_freest_and_paste():
    relevance = torch.ones(2, 1, 8, 8)
    relevance[0, 0, 5:8, 5:8] = 0
    relevance[1, 0, 0:3, 4:7] = 0
    boxes = torch.tensor([[0, 0, 4, 4], [8, 0, 14, 6], [12, 12, 16, 16], [0, 8, 16, 16]])
    chosen = freest(relevance, boxes, (16, 16))
    assert chosen.tolist() == [2, 1]
    large = torch.nn.functional.interpolate(relevance, size=(16, 16), mode="bilinear")
    covered = [
        large[:, 0, top:bottom, left:right].mean((1, 2)) for left, top, right, bottom in boxes.tolist()
    ]
    assert torch.equal(torch.stack(covered, 1).argmin(1), chosen)
    assert freest(torch.zeros(1, 1, 2, 2), boxes, (16, 16)).tolist() == [0], "of equal ones the first"
    for wrong in (boxes[:0], boxes + 1, boxes - 1):
        with pytest.raises(ValueError, match="do not lie"):
            freest(relevance, wrong, (16, 16))
    images, corner = torch.zeros(2, 3, 16, 16), torch.tensor([[12, 12], [0, 8]])
    made = paste(images, torch.ones(2, 3, 4, 4), corner)
    assert made.sum((1, 2, 3)).tolist() == [48, 48]
    assert images.max() == 0
    assert made[0, :, 12:, 12:].min() == 1
    assert made[1, :, :4, 8:12].min() == 1
    with pytest.raises(ValueError, match="does not fit"):
        paste(images, torch.ones(2, 3, 4, 4), corner + 1)


def test_insertion(colours):
    images = colours.split.batch([1, 4, 7]).images
    patch = torch.zeros(3, 3, 6, 6)
    patch[:, 0] = 0.95
    patches = {"evidence": patch, "mean colour": torch.full((3, 3, 6, 6), 0.3)}
    corners = {"evidence": torch.tensor([[0, 0], [2, 1], [1, 2]]), "mean colour": torch.full((3, 2), 2)}
    made, pasted = insertion_test(colours.cnn, images, 0, 1, patches, corners)
    flipped = made.groupby("patch")["flipped"].mean()
    assert flipped["evidence"] == 1
    assert flipped["mean colour"] == 0
    assert torch.equal(pasted["evidence"][1, :, 2:8, 1:7], patch[1])
    assert torch.equal(pasted["evidence"][1, :, :2], images[1, :, :2])
    after = colours.cnn(pasted["evidence"]).softmax(1)
    assert torch.allclose(
        torch.tensor(made["after"].to_numpy()[:3], dtype=torch.float32), after[:, 0], atol=1e-6
    )
    with pytest.raises(ValueError, match="one size"):
        insertion_test(colours.cnn, images, 0, 1, {"evidence": patch[:2]}, corners)
    with pytest.raises(ValueError, match="does not fit"):
        insertion_test(colours.cnn, images, 0, 1, patches, {name: own + 7 for name, own in corners.items()})


def test_insertion_round(colours):
    pooled = PooledActivations(colours.hidden, colours.split, 3, 1)
    insert = partial(
        insertion_round,
        colours.relevance,
        colours.planes,
        colours.evidence,
        pooled,
        colours.split,
        colours.split,
        colours.table,
    )
    made, shown = insert(images_per_class=4)
    assert set(shown) == {(0, 1), (1, 2), (2, 0)}
    assert "image" in shown[0, 1]
    gain = (made["after"] - made["before"]).groupby(made["patch"]).mean()
    assert gain["evidence"] > 0.05
    assert gain["evidence"] > gain["third class"] + 0.05
    assert gain["evidence"] == pytest.approx(gain["mean colour"], abs=1e-3), "this CNN sees mean colours only"
    assert not made.duplicated(["patch", "image"]).any()
    few, _ = insert(images_per_class=40, candidates=100)
    assert len(few) == 3 * 3 * 8, "there are 24 cells only, and 8 images of each class"
