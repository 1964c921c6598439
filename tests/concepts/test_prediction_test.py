"""Prototypes put together, and predicted."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from gan_lib.concepts import (
    ConceptBank,
    HiddenLayer,
    PooledActivations,
    prediction_scores,
    prediction_summary,
    prediction_test,
)
from gan_lib.concepts.prediction_test import FORMS, SOURCES, allowed_images, chosen_crops
from gan_lib.concepts.prototypes import montage
from gan_lib.data import ImageSplit


@pytest.fixture
def coloured(colour_net):
    """30 images, each with a large part of one colour and a small part of another; a concept per colour."""
    pictures = torch.zeros(30, 3, 8, 8, dtype=torch.uint8)
    for row in range(30):
        pictures[row, row % 3] = 200
        pictures[row, :, :2, :2] = 0
        pictures[row, (row + 1) % 3, :2, :2] = 200
    split = ImageSplit(pictures, torch.zeros(30).long())
    pooled = PooledActivations(HiddenLayer(colour_net, "layer", (8, 8)), split, 2)
    bank = ConceptBank({label: torch.eye(3)[[label]] for label in range(3)}, pd.DataFrame())
    predicted = colour_net(split.batch(range(30)).images).argmax(1).tolist()
    return bank, pooled, pd.DataFrame({"image": range(30), "prediction": predicted})


@pytest.mark.parametrize("strict", [False, True])
def test_prediction_test_of_a_cnn_that_sees_colours(coloured, strict):
    bank, pooled, table = coloured
    tests, pictures = prediction_test(bank, pooled, table, [4], [1, 8], runs=1)
    form = "4 crops, strict" if strict else "4 crops"
    assert pictures[form].shape == (3, 3, 8, 8)
    own = tests[tests["form"] == form].set_index("method")
    assert own.loc["prototypes", "won"].all()
    assert own.loc["prototypes", "probability"].min() > 0.9
    assert not own.loc[SOURCES[2], "won"].any()
    assert own.loc["prototypes, best of 8", "won"].all()
    least = own.loc["prototypes", "probability"].min()
    assert own.loc["prototypes, best of 8", "probability"].min() >= least - 1e-4
    chances = pooled.hidden.cnn(pictures[form]).softmax(1)
    shown = own.loc["prototypes"]
    assert shown["prediction"].tolist() == chances.argmax(1).tolist()
    assert shown["probability"].tolist() == pytest.approx(chances.diagonal().tolist(), abs=1e-6)
    predicted, labels = torch.tensor(table["prediction"].to_numpy()), torch.arange(3)[:, None]
    found = chosen_crops(bank, pooled, table, 4, FORMS[strict])
    assert (predicted[found.image] == labels).any() != strict
    drawn = chosen_crops(bank, pooled, table, 4, FORMS[strict], SOURCES[1])
    assert not strict or not (predicted[drawn.image] == labels).any()


def test_what_the_prediction_test_refuses(coloured):
    bank, pooled, table = coloured
    for counts in ({"crop_counts": [0]}, {"candidates": [0]}, {"candidates": []}, {"runs": 0}):
        with pytest.raises(ValueError, match="must be at least 1, not 0"):
            prediction_test(bank, pooled, table, **counts)
    with pytest.raises(ValueError, match=r"a form of the prediction test is one of .*, not 'loose'"):
        prediction_test(bank, pooled, table, forms=["loose"])
    with pytest.raises(ValueError, match="forms must be at least 1, not 0"):
        prediction_test(bank, pooled, table, forms=[])
    with pytest.raises(ValueError, match="needs labels: predictions have no column 'label'"):
        prediction_test(bank, pooled, table, forms=FORMS)
    with pytest.raises(ValueError, match="no class has concepts"):
        prediction_test(ConceptBank({}, pd.DataFrame()), pooled, table)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("plain", [[True, True, True, True], [True, True, True, True]]),
        ("strict", [[False, True, False, True], [True, False, True, True]]),
        ("strict by label", [[False, False, False, True], [True, False, False, True]]),
    ],
)
def test_images_that_crops_may_come_from(form, expected):
    table = pd.DataFrame({"prediction": [3, 5, 3, 7], "label": [3, 3, 5, 7]})
    assert allowed_images([3, 5], table, form).tolist() == expected


def test_strict_by_label_takes_no_image_of_the_class_that_was_got_wrong(coloured):
    """Every image is labelled as its small patch's colour: what is strict alone cuts out that very patch."""
    bank, pooled, table = coloured
    labelled = table.assign(label=(table["image"] + 1) % 3)
    chosen = {form: chosen_crops(bank, pooled, labelled, 2, form) for form in FORMS}
    rows = {form: found.image % 3 for form, found in chosen.items()}
    own = torch.arange(3)[:, None]
    assert (rows["strict"] == (own + 2) % 3).all(), "the class's colour is in the small patch of these"
    assert (rows["strict by label"] == (own + 1) % 3).all(), "neither is left of the others"
    assert (chosen["strict by label"].similarity < chosen["strict"].similarity).all()
    tests, pictures = prediction_test(bank, pooled, labelled, [2], runs=1, forms=FORMS)
    won = tests[tests["method"] == "prototypes"].groupby("form")["won"].mean()
    assert won.to_dict() == {"2 crops": 1.0, "2 crops, strict": 1.0, "2 crops, strict by label": 0.0}
    assert list(pictures) == ["2 crops", "2 crops, strict", "2 crops, strict by label"]


def test_crops_are_of_the_first_concepts_in_turn(coloured):
    _, pooled, table = coloured
    bank = ConceptBank({0: torch.eye(3)[:2], 1: torch.eye(3)[1:]}, pd.DataFrame())
    found = chosen_crops(bank, pooled, table, 3)
    best = pooled.nearest(torch.eye(3), 2)
    assert found.image.tolist() == [
        [best.image[0, 0], best.image[1, 0], best.image[0, 1]],
        [best.image[1, 0], best.image[2, 0], best.image[1, 1]],
    ]


@pytest.mark.parametrize("seed", range(5))
def test_another_classs_prototypes_are_no_classs_own(coloured, seed):
    bank, pooled, table = coloured
    own = chosen_crops(bank, pooled, table, 1)
    other = chosen_crops(bank, pooled, table, 1, source=SOURCES[2], seed=seed)
    crops = [
        (image, place)
        for image, place in zip(own.image[:, 0].tolist(), own.place[:, 0].tolist(), strict=True)
    ]
    taken = [
        crops.index(pair) for pair in zip(other.image[:, 0].tolist(), other.place[:, 0].tolist(), strict=True)
    ]
    assert sorted(taken) == [0, 1, 2]
    assert all(place != label for label, place in enumerate(taken))


def test_a_class_that_all_images_are_predicted_as_has_no_strict_crops(coloured):
    bank, pooled, _ = coloured
    table = pd.DataFrame({"image": range(30), "prediction": 0})
    for source in SOURCES:
        found = chosen_crops(bank, pooled, table, 4, "strict", source)
        assert (found.image[0] == -1).all(), source
        assert pooled.crops(found)[0].max() == 0, source
        assert (found.image[1:] >= 0).all(), source


def test_every_form_is_tested_and_the_summary_has_the_mean(coloured):
    bank, pooled, table = coloured
    tests, pictures = prediction_test(bank, pooled, table, [1, 4], [1, 5], runs=2, seed=7)
    forms = ["1 crops", "1 crops, strict", "4 crops", "4 crops, strict"]
    methods = ["prototypes", SOURCES[1], SOURCES[2], "prototypes, best of 5", f"{SOURCES[2]}, best of 5"]
    assert sorted(tests["form"].unique()) == forms
    per_method = tests.groupby(["form", "method"], sort=False).size().unstack()
    assert per_method[methods].to_numpy().tolist() == [[3, 6, 6, 3, 6]] * 4, "3 classes, controls twice"
    assert len(pictures) == 8
    found = chosen_crops(bank, pooled, table, 4, "strict", candidates=5)
    expected = montage(pooled.crops(found), (8, 8))
    assert torch.equal(pictures["4 crops, strict, best of 5"], expected)
    drawn = montage(pooled.crops(chosen_crops(bank, pooled, table, 4, "plain", SOURCES[1], seed=8)), (8, 8))
    own = tests[(tests["form"] == "4 crops") & (tests["method"] == SOURCES[1]) & (tests["seed"] == 1)]
    chances = pooled.hidden.cnn(drawn).softmax(1).diagonal()
    assert own["probability"].tolist() == pytest.approx(chances.tolist()), "the second run's seed is 7 + 1"
    scores = prediction_scores(tests)
    summary = prediction_summary(scores).set_index(["form", "method", "measure"]).sort_index()
    row = summary.loc["4 crops", SOURCES[1]]
    both = tests[(tests["form"] == "4 crops") & (tests["method"] == SOURCES[1])]
    assert row.loc["won", "mean"] == pytest.approx(100 * both["won"].mean())
    assert row.loc["probability", "mean"] == pytest.approx(both["probability"].mean())
    assert row.loc["over 0.2", "mean"] == pytest.approx(100 * (both["probability"] > 0.2).mean())
    assert (row["n"].tolist(), row["seeds"].tolist()) == ([3] * 5, [1] * 5), "classes; runs are averaged"
    cnns = pd.concat([scores.assign(seed=seed, cnn=seed) for seed in (0, 1)])
    assert prediction_summary(cnns)["cnns"].unique().tolist() == [2]
    assert (summary["low"] <= summary["mean"]).all()
    assert (summary["mean"] <= summary["high"]).all()
    single = ConceptBank({0: torch.eye(3)[[0]]}, pd.DataFrame())
    tests, _ = prediction_test(single, pooled, table)
    assert set(tests["method"]) == {"prototypes", "random crops"}, "there is no other class"


def test_one_search_serves_several_counts_of_crops(coloured, monkeypatch):
    bank, pooled, table = coloured
    bank = ConceptBank({0: torch.eye(3)[:2], 1: torch.eye(3)[1:]}, pd.DataFrame())
    apart = [prediction_test(bank, pooled, table, [crops], runs=1)[0] for crops in (1, 2, 4)]
    searches, real = [], pooled.nearest
    monkeypatch.setattr(pooled, "nearest", lambda *given: searches.append(given[1]) or real(*given))
    together, _ = prediction_test(bank, pooled, table, [1, 2, 4], runs=1)
    # One and two crops take one prototype of each concept, four take two: of two forms and two sources.
    assert sorted(searches) == [1, 1, 1, 1, 2, 2, 2, 2]
    pd.testing.assert_frame_equal(together, pd.concat(apart, ignore_index=True))
