"""Hyperplanes by hand and against scikit-learn; evidence, shifting and insertion with a CNN that sees colours."""

from __future__ import annotations

import itertools
import math
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
    Hyperplanes,
    carried_marks,
    contrasting_concepts,
    distance_maps,
    gather_evidence,
    held_out_accuracy,
    inserted_page,
    insertion_round,
    insertion_scores,
    mark_reliance,
    marks_found,
    reached_scores,
    shifting_curves,
    shifting_scores,
    shifting_test,
)
from gan_lib.concepts.contrasting import evidence as evidence_module
from gan_lib.concepts.contrasting.insertion import freest, insertion_test, paste
from gan_lib.data import ImageSplit
from gan_lib.metrics import summarise


def clouds(classes=4, channels=12, spread=1.0, seed=0):
    drawn = torch.Generator().manual_seed(seed)
    centres = 2 * torch.rand(classes, channels, generator=drawn)
    return {
        3 * label: (centre + spread * torch.randn(60 + 20 * label, channels, generator=drawn)).relu()
        for label, centre in enumerate(centres)
    }


def test_a_plane_solved_by_hand():
    """Of one vector each, 2 apart, w = 2 C / (1 + exp(w)): for C = (1 + e) / 2 the normal has length 1."""
    planes = Hyperplanes({0: torch.tensor([[0.0, 5.0]]), 1: torch.tensor([[2.0, 5.0]])}, (1 + math.e) / 2)
    normal, offset = planes.plane(1, 0)
    assert normal.tolist() == pytest.approx([1, 0], abs=1e-4)
    assert offset.item() == pytest.approx(-1, abs=1e-4)
    assert planes.distance(torch.tensor([4.0, 7.0]), 1, 0).item() == pytest.approx(3, abs=1e-3)
    assert planes.distance(torch.tensor([4.0, 7.0]), 0, 1).item() == pytest.approx(-3, abs=1e-3)
    assert planes.direction(0, 1).tolist() == pytest.approx([1, 0], abs=1e-4)
    assert planes.direction(1, 0).tolist() == pytest.approx([-1, 0], abs=1e-4)
    assert planes.speaking(1, 0).tolist() == [pytest.approx([2, 5], abs=1e-3)]
    # Half as strong with every vector twice: the same; distances are from the plane, of any normal's length.
    twice = {label: own.repeat(2, 1) for label, own in planes.vectors.items()}
    again = Hyperplanes(twice, (1 + math.e) / 4).plane(1, 0)
    assert again[0].tolist() == pytest.approx([1, 0], abs=1e-4)
    weak = Hyperplanes(planes.vectors, 0.1)
    assert weak.plane(1, 0)[0].norm() < 0.2
    assert weak.distance(torch.tensor([4.0, 7.0]), 1, 0).item() == pytest.approx(3, abs=1e-2)


@pytest.mark.parametrize("strength", [0.01, 1.0])
@pytest.mark.parametrize("spread", [0.2, 1.0])
def test_every_pair_is_the_exact_regression(strength, spread):
    vectors = clouds(spread=spread)
    planes = Hyperplanes(vectors, strength)
    for one, other in itertools.combinations(vectors, 2):
        both = torch.cat([vectors[one], vectors[other]]).double().numpy()
        label = np.repeat([1, 0], [len(vectors[one]), len(vectors[other])])
        model = LogisticRegression(C=strength, tol=1e-10, max_iter=10000).fit(both, label)
        normal, offset = planes.plane(one, other)
        made, expected = np.append(normal, offset), np.append(model.coef_[0], model.intercept_)
        assert np.abs(made - expected).max() < 2e-3 * np.abs(expected).max()
        assert all(
            torch.equal(a, -b) for a, b in zip(planes.plane(other, one), (normal, offset), strict=True)
        )
        distance = planes.distance(vectors[one], one, other)
        theirs = model.decision_function(both[: len(distance)]) / np.linalg.norm(model.coef_)
        assert np.allclose(distance.numpy(), theirs, atol=0.005 * np.abs(theirs).max())


def test_planes_are_fitted_when_they_are_asked_for(monkeypatch):
    fitted = []
    fit = Hyperplanes._fit
    monkeypatch.setattr(Hyperplanes, "_fit", lambda *own: fitted.append(own[1:]) or fit(*own))
    planes = Hyperplanes(clouds())
    for one, other in ((3, 0), (0, 3), (3, 0), (9, 6)):
        planes.direction(one, other)
    assert fitted == [(0, 3), (6, 9)]


def test_directions_point_from_class_to_class():
    vectors = clouds(spread=0.2)
    planes = Hyperplanes(vectors)
    direction = planes.direction(0, 3)
    assert direction.norm() == pytest.approx(1, abs=1e-5)
    assert ((vectors[3].mean(0) - vectors[0].mean(0)) @ direction) > 0
    assert (planes.distance(vectors[0], 0, 3) > 0).float().mean() > 0.98
    assert (planes.distance(vectors[3], 0, 3) < 0).float().mean() > 0.98


def test_what_cannot_be_contrasted():
    vectors = clouds()
    with pytest.raises(ValueError, match="two classes"):
        Hyperplanes({1: vectors[0]})
    with pytest.raises(ValueError, match="no vectors"):
        Hyperplanes({0: vectors[0], 1: torch.zeros(0, 12)})
    planes = Hyperplanes(vectors)
    with pytest.raises(ValueError, match="itself"):
        planes.distance(vectors[0], 3, 3)
    with pytest.raises(KeyError, match="class 1"):
        planes.distance(vectors[0], 0, 1)


def test_equal_classes_have_a_defined_plane():
    own = torch.rand(30, 5)
    assert Hyperplanes({0: own, 1: own.clone()}).distance(own, 0, 1).isfinite().all()
    constant = Hyperplanes({0: torch.ones(3, 4), 1: torch.ones(2, 4)})
    assert constant.plane(0, 1)[0].isfinite().all()
    assert constant.distance(torch.ones(4), 0, 1).isfinite()


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
    planes = Hyperplanes({label: own.vectors for label, own in evidence.items()})
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


def test_evidence_threshold_by_hand(colours):
    """A place counts above a quarter of its own image's largest relevance, here 1, 0.2 and 0.5, 0.2."""
    relevance = torch.zeros(2, 1, 8, 8)
    relevance[0, 0, 0, :2], relevance[1, 0, 0, :2] = torch.tensor([1.0, 0.2]), torch.tensor([0.5, 0.2])

    def given(images, label):
        return relevance[: len(images)]

    given.hidden = colours.hidden
    table = pd.DataFrame({"image": [3, 6], "prediction": [0, 0]})
    own = gather_evidence(given, colours.split, table, [0])[0]
    assert own.rows.tolist() == [3, 6]
    assert own.image.tolist() == [0, 1, 1]
    pixels = colours.split.batch([3, 6]).images
    assert torch.allclose(
        own.vectors, torch.stack([pixels[0, :, 0, 0], pixels[1, :, 0, 0], pixels[1, :, 0, 1]])
    )


def test_evidence_of_images_in_batches(colours, monkeypatch):
    monkeypatch.setattr(evidence_module, "at_once", lambda *_: 4)
    made = gather_evidence(colours.relevance, colours.split, colours.table, [2, 0], 6)
    assert list(made) == [2, 0]
    for label, own in made.items():
        assert torch.equal(own.rows, colours.evidence[label].rows)
        assert torch.equal(own.image, colours.evidence[label].image)
        assert torch.allclose(own.vectors, colours.evidence[label].vectors)
    with pytest.raises(ValueError, match="must be at least 1, not 0"):
        gather_evidence(colours.relevance, colours.split, colours.table, [0], 0)


def test_held_out_accuracy(colours):
    table = held_out_accuracy(colours.evidence)
    assert len(table) == 6
    assert table["accuracy"].min() == 1
    mixed = {
        label: Evidence(torch.rand(len(own.vectors), 3), own.image, own.rows)
        for label, own in colours.evidence.items()
    }
    assert held_out_accuracy(mixed)["accuracy"].mean() < 0.75


def test_held_out_accuracy_by_hand():
    """Of eight images two are held out: of class 0 one on the wrong side, all others are right."""
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    values = torch.full((8, 1), -1.0)
    values[order[0]] = 9.0
    rows, few = torch.arange(8), torch.arange(1)
    evidence = {
        0: Evidence(values, rows, rows),
        1: Evidence(torch.ones(8, 1), rows, rows),
        2: Evidence(torch.ones(1, 1), few, few),
    }
    table = held_out_accuracy(evidence)
    assert table[["class", "other"]].to_numpy().tolist() == [[0, 1], [1, 0]], "class 2 has a single image"
    assert table["accuracy"].tolist() == [0.75, 0.75], "the mean of 1/2 and 1"
    assert table["training_accuracy"].tolist() == [1, 1]
    with pytest.raises(ValueError, match="two classes"):
        held_out_accuracy({0: evidence[0], 2: evidence[2]})


def test_distance_maps_have_two_sides(colours):
    images = colours.split.batch([0, 1]).images
    made = distance_maps(colours.hidden, colours.planes, images, 0, 1)
    assert made.shape == (2, 1, 8, 8)
    assert made[0, 0, 0:3, 1:5].min() > 0 > made[1, 0, 2:5, 1:5].max()


def test_contrasting_concepts_point_to_the_class(colours):
    basis = contrasting_concepts(colours.planes, 0, 2, 1)
    assert basis.shape == (1, 3)
    assert basis[0].argmax() == 0
    vectors = colours.evidence[0].vectors
    weights = colours.planes.distance(vectors, 0, 2)
    expected = vectors[weights > 0] * weights[weights > 0, None]
    assert torch.equal(colours.planes.speaking(0, 2), expected)
    with pytest.raises(ValueError, match="itself"):
        contrasting_concepts(colours.planes, 1, 1)
    with pytest.raises(ValueError, match="speak for class 0 rather than 1, too few for 4"):
        contrasting_concepts(nothing_speaks(colours), 0, 1)


def nothing_speaks(colours):
    """Planes on which nothing of class 0 is on its side."""
    planes = Hyperplanes(colours.planes.vectors)
    planes.plane(0, 1), planes.plane(0, 2)
    planes.vectors[0] = planes.vectors[1]
    return planes


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
    expected = colours.cnn(shifted).softmax(1)[0, 1].detach()
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
    images, places = torch.zeros(2, 3, 16, 16), torch.tensor([[12, 10, 16, 14], [8, 0, 12, 4]])
    made = paste(images, torch.ones(2, 3, 4, 4), places)
    assert made.sum((1, 2, 3)).tolist() == [48, 48]
    assert images.max() == 0
    assert made[0, :, 10:14, 12:].min() == 1, "left, top, right, bottom"
    assert made[1, :, :4, 8:12].min() == 1


def test_insertion(colours):
    images = colours.split.batch([1, 4, 7]).images
    red = torch.zeros(3, 3, 6, 6)
    red[:, 0] = 0.95
    pasted = {"evidence": paste(images, red, torch.tensor([[0, 0, 6, 6], [1, 2, 7, 8], [2, 1, 8, 7]]))}
    pasted["nothing"] = images
    made = insertion_test(colours.cnn, images, pasted, 0, 1).set_index("patch")
    assert made.loc["evidence", "flipped"].all()
    assert not made.loc["nothing", "flipped"].any()
    before, after = (colours.cnn(own).softmax(1) for own in (images, pasted["evidence"]))
    own = made.loc["evidence"]
    for column, expected in {
        "before": before[:, 0],
        "after": after[:, 0],
        "own_before": before[:, 1],
        "own_after": after[:, 1],
    }.items():
        assert own[column].tolist() == pytest.approx(expected.tolist(), abs=1e-6), column
    assert made.loc["nothing", "after"].tolist() == made.loc["nothing", "before"].tolist()
    assert not insertion_test(colours.cnn, images, pasted, 1, 0)["flipped"].any(), (
        "they are of class 1 already"
    )


def test_insertion_round(colours):
    pooled = PooledActivations(colours.hidden, colours.split, 3, 1)
    insert = partial(
        insertion_round,
        colours.relevance,
        colours.planes,
        pooled,
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


def test_a_pasted_cell_keeps_its_place(colours):
    """What is pasted is what another image has at that place; the mean colour goes there too."""
    pooled = PooledActivations(colours.hidden, colours.split, 3, 1)
    given = colours.relevance, colours.planes, pooled, colours.split, colours.table
    _, shown = insertion_round(*given, images_per_class=4)
    everything = colours.split.batch(range(24)).images
    for pictures in shown.values():
        for picture, pasted, plain in zip(
            *(pictures[own] for own in pictures if own != "third class"), strict=True
        ):
            rows, columns = (picture != pasted).any(0).nonzero(as_tuple=True)
            place = (
                ...,
                slice(int(rows.min()), int(rows.max()) + 1),
                slice(int(columns.min()), int(columns.max()) + 1),
            )
            assert (everything[place] - pasted[place]).abs().amax((1, 2, 3)).min() < 1e-5
            assert torch.allclose(
                plain[place], pasted[place].mean((1, 2), keepdim=True).expand_as(plain[place]), atol=0.2
            )
            outside = (picture != plain).any(0)
            outside[place[1:]] = False
            assert outside.sum() <= 6, "a row and a column that the cell leaves as they were"


def test_insertion_where_there_are_two_classes_and_where_there_is_nothing(colours):
    pooled = PooledActivations(colours.hidden, colours.split, 3, 1)
    two = Hyperplanes({label: colours.planes.vectors[label] for label in (0, 1)})
    insert = partial(insertion_round, colours.relevance, images_per_class=2, candidates=4)
    made, shown = insert(two, pooled, colours.split, colours.table)
    assert set(shown) == {(0, 1), (1, 0)}
    assert set(made["patch"]) == {"evidence", "mean colour"}, "there is no third class"
    made, shown = insert(nothing_speaks(colours), pooled, colours.split, colours.table)
    assert set(shown) == {(1, 2), (2, 0)}, "nothing speaks for class 0"
    nobody = colours.table.assign(prediction=3)
    with pytest.raises(ValueError, match=r"of the classes \[0, 1, 2\] there are no images"):
        insert(colours.planes, pooled, colours.split, nobody)
    for counts in ({"images_per_class": 0}, {"candidates": 0}):
        with pytest.raises(ValueError, match="must be at least 1, not 0"):
            insert(colours.planes, pooled, colours.split, colours.table, **counts)


def test_insertion_summary_by_hand(colours):
    """Two images, of which one flips: gains of 0.6 and 0.2, losses of 0.5 and -0.1."""
    rows = [("0/1/0", 0.1, 0.7, 0.8, 0.3, True), ("0/1/1", 0.2, 0.4, 0.6, 0.7, False)]
    columns = ["image", "before", "after", "own_before", "own_after", "flipped"]
    made = insertion_scores(pd.DataFrame(rows, columns=columns).assign(patch="evidence", other=1))
    made = summarise(made).set_index("measure")
    assert made["mean"].to_dict() == pytest.approx({"flipped": 50, "gain": 0.4, "loss": 0.2})
    assert (made["low"] <= made["mean"]).all()
    assert (made["mean"] <= made["high"]).all()
    assert set(made["n"]) == {2}
    one = summarise(insertion_scores(pd.DataFrame(rows[:1], columns=columns).assign(patch="evidence")))
    assert one[["low", "mean", "high"]].nunique(axis=1).eq(1).all()


def test_a_page_of_inserted_patches(colours):
    red, green, blue = torch.eye(3)[:, None, :, None, None].expand(3, 2, 3, 8, 8)
    shown = {
        (0, 1): {"image": green, "evidence": red, "third class": blue},
        (1, 2): {"image": blue, "evidence": green},
    }
    page = inserted_page(colours.cnn, shown, ["red", "green", "blue"])
    assert list(page["columns"]) == ["image", "evidence"], "what both pairs have"
    assert page["row_labels"] == ["red into green", "green into blue"]
    assert page["captions"] == {"image": ["green", "blue"], "evidence": ["red", "green"]}
    assert torch.equal(page["columns"]["evidence"], torch.stack([red[0], green[0]]))


def test_shifting_summary_and_curves_by_hand():
    """Image 4 is reached at one of two offsets, image 5 at none, in both draws alike."""
    rows = [
        {"class": 0, "other": 1, "image": image, "direction": "random", "draw": draw, "offset": offset}
        | {"reached": image == 4 and offset == 2.0, "probability": 0.5, "growth": offset * (image - 3)}
        for draw in (0, 1)
        for image in (4, 5)
        for offset in (0.0, 2.0)
    ]
    shifted = pd.DataFrame(rows)
    row = summarise(reached_scores(shifted)).iloc[0]
    assert (row["method"], row["mean"], row["n"]) == ("random", 50, 2), "draws are averaged"
    curves = shifting_curves(shifting_scores(shifted)).set_index("offset")
    assert curves.loc[0.0, ["reached", "growth"]].tolist() == [0, 0]
    assert curves.loc[2.0, ["reached", "growth"]].tolist() == [50, 3]
    # Of two images: a standard error of 50, and t with one degree of freedom is 12.7, so up to what there is.
    assert curves.loc[2.0, ["reached_low", "reached_high"]].tolist() == [0, 100]
    assert curves.loc[2.0, ["growth_low", "growth_high"]].tolist() == [2, 4]
    one_draw = shifted[shifted["draw"] == 1].assign(reached=False)
    half = pd.concat([shifted[shifted["draw"] == 0], one_draw])
    assert summarise(reached_scores(half)).iloc[0]["mean"] == 25
    assert shifted["reached"].dtype == bool, "as it was"


@pytest.mark.parametrize("together", [1, 2, 5])
def test_shifting_a_few_images_at_a_time(colours, monkeypatch, together):
    """Moves and images keep their order, however many pass the CNN together."""
    shift = partial(shifting_test, colours.hidden, colours.planes, colours.evidence, colours.split)
    whole = shift([(0, 1)], [0.0, 0.5, 2.0], images_per_class=3)
    assert whole["probability"].nunique() > 6, "or nothing could be out of order"
    monkeypatch.setattr("gan_lib.concepts.contrasting.shifting.at_once", lambda *_: together)
    pd.testing.assert_frame_equal(shift([(0, 1)], [0.0, 0.5, 2.0], images_per_class=3), whole, atol=1e-6)


def test_what_shifting_refuses(colours):
    shift = partial(shifting_test, colours.hidden, colours.planes, colours.evidence, colours.split)
    for given in ([], [0.0]), ([(0, 1)], []):
        with pytest.raises(ValueError, match="must be at least 1, not 0"):
            shift(*given)
    for counts in ({"images_per_class": 0}, {"draws": 0}):
        with pytest.raises(ValueError, match="must be at least 1, not 0"):
            shift([(0, 1)], [0.0], **counts)


# -- marks ---------------------------------------------------------------------------------------------


@pytest.fixture
def marked(colours):
    """The same images, the square being the mark."""
    masks = (colours.split.images > 128).any(1, keepdim=True)
    return ImageSplit(colours.split.images, colours.split.labels, masks, masks)


def test_the_mark_that_an_image_carries(marked):
    known = marked.subset(range(12))
    other = ImageSplit(marked.images[12:], (marked.labels[12:] + 1) % 3, marks=marked.marks[12:])
    assert carried_marks(known, other).tolist() == [row % 3 for row in range(12, 24)]
    # Classes 0 and 2 alone: what is found is a class's number, not its place.
    some = known.subset([row for row in range(12) if row % 3 != 1])
    carried = carried_marks(some, other)
    assert carried[marked.labels[12:] == 2].unique().tolist() == [2]
    for without in (ImageSplit(known.images, known.labels), _unmarked(known)):
        with pytest.raises(ValueError, match="without a mark"):
            carried_marks(known, without)


def _unmarked(split):
    marks = split.marks.clone()
    marks[3] = False
    return ImageSplit(split.images, split.labels, marks=marks)


def test_mark_reliance_by_hand():
    """Class 0: 3 of 4 with its mark, 1 of 4 without: 50 points. Class 1: 1 of 2, 1 of 4. Class 2 has no mark."""
    without = pd.DataFrame({"prediction": [0, 1, 2, 2]})
    conflicting = pd.DataFrame({"prediction": [0, 0, 0, 1, 1, 2]})
    made = mark_reliance(without, conflicting, torch.tensor([0, 0, 0, 0, 1, 1]), 3)
    assert made["with its mark"].tolist()[:2] == [75, 50]
    assert made["without a mark"].tolist() == [25, 25, 50]
    assert made["relied on"].tolist() == [True, False, False]
    assert made["with its mark"].isna().tolist() == [False, False, True]


def test_contrasting_finds_the_marks(colours, marked):
    pooled = PooledActivations(colours.hidden, marked, 3, 1)
    made = marks_found(colours.planes, pooled, 1, 8, top=5)
    assert len(made) == 2 * 6
    assert made["with_mark"].tolist() == [5] * 12
    basis = contrasting_concepts(colours.planes, 2, 0, 1)
    found = pooled.nearest(basis, 8)[:, :5]
    assert pooled.contains(found, marked.marks).sum() == 5
    nowhere = ImageSplit(marked.images, marked.labels, marks=torch.zeros_like(marked.marks))
    assert (
        marks_found(colours.planes, PooledActivations(colours.hidden, nowhere, 3, 1), 1, 8)["with_mark"]
        .eq(0)
        .all()
    )
    left = marks_found(nothing_speaks(colours), pooled, 1, 8)
    assert len(left) == 2 * 5, "nothing speaks for 0 rather than 1"
    with pytest.raises(ValueError, match="no marks"):
        marks_found(colours.planes, PooledActivations(colours.hidden, colours.split, 3, 1), 1)
    with pytest.raises(ValueError, match="top must be at least 1"):
        marks_found(colours.planes, pooled, 1, top=0)
