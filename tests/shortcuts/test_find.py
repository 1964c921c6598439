"""What is found with CNNs that see one pixel, or the mean colour; verdicts, order and words by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from toys import Pixel, Tone, coloured

import gan_lib
from gan_lib.classifiers import load_classifier
from gan_lib.concepts.layers import probabilities
from gan_lib.data import ImageSplit, digits_in_scenes
from gan_lib.shortcuts import Candidate, find, find_shortcuts
from gan_lib.shortcuts.find import _density_there, _effects, _ranked, _verdict, where
from gan_lib.shortcuts.looks import border

REFERENCE = Path(__file__).resolve().parents[2] / "data/pretrained/reference"
THREE = [row % 3 for row in range(36)]
TWO = [row % 2 for row in range(30)]


def square(size, left, top, right, bottom):
    mask = torch.zeros(1, 1, *size)
    mask[..., top:bottom, left:right] = 1
    return mask


# -- found, and not --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(8, 8), (9, 15), (13, 6), (30, 20)])
def test_the_pixels_that_decide_are_found(size):
    """Every class has its colour at one place, which the CNN sees; border, tone and the rest do nothing."""
    made = find_shortcuts(Pixel().eval(), coloured(THREE, size))
    found = made.found
    assert set(found["kind"]) == ({"place", "stamp"} if size == (30, 20) else {"place"})
    places = found[found["kind"] == "place"]
    assert sorted(places["class"]) == [0, 1, 2]
    for row in places.to_dict("records"):
        assert row["left"] <= 3 < row["right"]
        assert row["top"] <= 2 < row["bottom"]
        assert row["images"] == 12
        assert (row["support"], row["elsewhere"]) == (1, 0)
        assert (row["pasted_share"], row["pasted_control"], row["pasted"]) == (100, 0, 100)
        assert (row["pasted_low"], row["pasted_high"]) == (100, 100)
        assert row["pasted_n"] == 24 - 8, "a third of the 24 others were for screening"
        assert (row["hidden_share"], row["hidden_control"], row["hidden"]) == (100, 0, 100)
        assert row["hidden_n"] == 12
        assert row["pasted_p_holm"] == 0
        assert (row["verdict"], row["stage"]) == ("found", "tested")
        assert math.isnan(row["evidence"])
    others = made.table.iloc[len(found) :]
    assert set(others["verdict"]) == {"none"}
    assert set(others["stage"]) == {"screened"}
    assert {"border", "tone"} <= set(others["kind"])
    assert others["pasted"].max() == 0
    assert others["pasted_p_holm"].isna().all()
    assert others["hidden_n"].max() == 0


def test_a_look_that_does_not_decide_is_not_found():
    blind = Pixel(scale=0.0).eval()
    made = find_shortcuts(blind, coloured(THREE), predicted=torch.tensor(THREE))
    assert len(made.table[made.table["kind"] == "place"]) == 3
    assert made.found.empty
    assert set(made.table["stage"]) == {"screened"}


def test_the_tone_is_found():
    images = torch.rand(36, 3, 24, 24, generator=torch.Generator().manual_seed(0)) * 0.3 + 0.3
    for row, label in enumerate(THREE):
        images[row, label] += 0.1
    made = find_shortcuts(Tone().eval(), images)
    assert sorted(made.found["class"]) == [0, 1, 2]
    assert set(made.found["kind"]) == {"tone"}
    assert set(made.found["where"]) == {"everywhere"}
    assert made.found[["left", "top", "right", "bottom"]].isna().all(axis=None)


def test_two_classes_only():
    made = find_shortcuts(Pixel().eval(), coloured(TWO))
    assert sorted(made.found["class"]) == [0, 1]
    assert made.found["pasted_control"].max() == 0
    assert set(made.found["pasted_n"]) == {10}
    assert set(made.found["hidden_n"]) == {15}


def test_one_class_only():
    made = find_shortcuts(Pixel().eval(), coloured([0] * 12), torch.ones(12, 1, 8, 8))
    assert made.table["kind"].tolist() == ["border", "tone"]
    assert set(made.table["verdict"]) == {"undecided"}, "nothing was pasted into any image"
    assert set(made.table["stage"]) == {"screened"}
    assert made.table[["pasted", "hidden", "pasted_p_holm"]].isna().all(axis=None)
    assert made.tests.empty
    assert made.found.empty


def test_few_images_of_every_class():
    made = find_shortcuts(Pixel().eval(), coloured([row % 3 for row in range(21)]))
    assert made.table.empty
    assert made.found.empty
    assert made.tests.empty
    assert made.candidates == ()
    made = find_shortcuts(Pixel().eval(), coloured([0] * 13 + [1] * 12), fewest=13)
    assert set(made.table["class"]) == {0}
    assert len(made.found) == 1
    more = find_shortcuts(Pixel().eval(), coloured([0] * 13 + [1] * 12), fewest=12)
    assert set(more.found["class"]) == {0, 1}
    short = find_shortcuts(Pixel().eval(), coloured([0] * 13 + [1] * 11))
    assert set(short.found["class"]) == {0, 1}, "of 11 images 3 are screened on, and 8 left"
    short = find_shortcuts(Pixel().eval(), coloured([0] * 13 + [1] * 10))
    assert short.found.query("`class` == 0").empty, "of 10 images 3 are screened on, and 7 left"


@pytest.mark.parametrize("others", [1, 2, 3])
def test_hardly_any_image_of_another_class(others):
    """Of fewer than three none is left for a test once one is screened."""
    made = find_shortcuts(Pixel().eval(), coloured([0] * 10 + [1] * others))
    assert set(made.table["class"]) == {0}
    if others < 3:
        assert made.found.empty
        assert made.tests.empty
    else:
        place = made.table[made.table["kind"] == "place"].iloc[0]
        assert (place["stage"], place["pasted_n"], place["verdict"]) == ("tested", 2, "undecided")


def test_evidence():
    """A map that is 5 where the CNN looks, in 4 of 64 pixels, and 1 elsewhere: 5 over a mean of 1.25."""
    evidence = torch.ones(36, 1, 8, 8)
    evidence[:, :, 2:4, 3:5] = 5
    made = find_shortcuts(Pixel().eval(), coloured(THREE), evidence)
    places = made.found[made.found["kind"] == "place"]
    assert places["evidence"].tolist() == pytest.approx([4] * 3)
    patches = made.found[made.found["kind"] == "returning"]
    assert patches["evidence"].tolist() == pytest.approx([(4 * 5 + 12) / 16 / 1.25] * 3)
    assert set(made.found["kind"]) == {"place", "returning"}
    tone = made.table[made.table["kind"] == "tone"]
    assert tone["evidence"].isna().all()
    ring = made.table[made.table["kind"] == "border"]
    assert ring["evidence"].tolist() == pytest.approx([1 / 1.25] * 3)


def test_what_is_given_in_other_ways():
    """Whole numbers, a split, predictions: the same table."""
    whole = (255 * coloured(THREE)).round().to(torch.uint8)
    images = whole / 255
    evidence = torch.rand(36, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    made = [
        find_shortcuts(Pixel().eval(), *given)
        for given in (
            (images, evidence),
            (whole, evidence),
            (ImageSplit(whole, torch.zeros(36).long()), evidence),
            (images.requires_grad_(), evidence, torch.tensor(THREE)),
        )
    ]
    for other in made[1:]:
        pd.testing.assert_frame_equal(made[0].table, other.table)
        pd.testing.assert_frame_equal(made[0].tests, other.tests)


def test_predictions_count_and_not_labels():
    """What is found is of the classes that are predicted, or said to be."""
    split = ImageSplit((255 * coloured(THREE)).to(torch.uint8), torch.zeros(36).long())
    assert sorted(find_shortcuts(Pixel().eval(), split).found["class"]) == [0, 1, 2]
    said = find_shortcuts(Pixel().eval(), split, predicted=torch.ones(36).long())
    assert set(said.table["class"]) == {1}


def test_seeds():
    images = torch.rand(90, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    one, two = (find_shortcuts(Pixel().eval(), images, count=5, seed=4) for _ in range(2))
    pd.testing.assert_frame_equal(one.table, two.table)
    pd.testing.assert_frame_equal(one.tests, two.tests)
    other = find_shortcuts(Pixel().eval(), images, count=5, seed=5)
    assert not one.tests["image"].equals(other.tests["image"])


def test_a_seed_decides_which_images_are_compared():
    images = torch.rand(250, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    one, other = (
        find_shortcuts(Pixel().eval(), images, predicted=torch.arange(250) % 2, seed=seed) for seed in (0, 1)
    )
    rows = [
        [own.rows.tolist() for own in made.candidates if (own.kind, own.label) == ("tone", 0)]
        for made in (one, other)
    ]
    assert rows[0] != rows[1]


def test_the_cnn_is_left_as_it_was():
    cnn = Pixel().train()
    cnn.dropout.eval()
    before = {name: own.clone() for name, own in cnn.state_dict().items()}
    made = find_shortcuts(cnn, coloured(THREE))
    assert len(made.found) == 3
    assert (cnn.training, cnn.dropout.training) == (True, False)
    assert all(torch.equal(before[name], own) for name, own in cnn.state_dict().items())
    assert cnn.scale.grad is None
    assert cnn.scale.requires_grad
    assert not cnn._forward_hooks
    assert not cnn.dropout._forward_hooks
    assert torch.is_grad_enabled()
    frozen = Pixel().requires_grad_(False)
    assert len(find_shortcuts(frozen, coloured(THREE)).found) == 3


def test_the_tests_are_of_the_candidates_in_their_order():
    made = find_shortcuts(Pixel().eval(), coloured(THREE))
    table, tests = made.table, made.tests
    assert table["candidate"].tolist() == list(range(len(table)))
    assert tests["candidate"].is_monotonic_increasing
    assert set(tests["candidate"]) == set(range(len(table)))
    assert tests.index.tolist() == list(range(len(tests)))
    for number, own in enumerate(made.candidates):
        row, mine = table.iloc[number], tests[tests["candidate"] == number]
        assert (row["class"], row["kind"], row["images"]) == (own.label, own.kind, len(own.rows))
        one = mine[mine["test"] == "pasted"]
        assert set(one["donor"]) <= set(own.rows.tolist())
        assert len(one) == row["pasted_n"]
        assert row["pasted_share"] == pytest.approx(100 * one["effect"].mean())
        assert row["pasted"] == pytest.approx(100 * (one["effect"] - one["control"]).mean())


def test_classes_have_names():
    assert set(find_shortcuts(Pixel().eval(), coloured(THREE)).table["name"]) == {"0", "1", "2"}
    cnn = Pixel().eval()
    cnn.class_names = ("cat", "dog", "emu")
    table = find_shortcuts(cnn, coloured(THREE)).table
    assert set(zip(table["class"], table["name"], strict=True)) == {(0, "cat"), (1, "dog"), (2, "emu")}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"images": torch.zeros(0, 3, 8, 8)}, "images must be at least 1"),
        ({"count": 0}, "count must be at least 1"),
        ({"fewest": 0}, "fewest must be at least 1"),
        ({"evidence": torch.ones(35, 1, 8, 8)}, "36 images need as many"),
        ({"predicted": torch.zeros(37).long()}, "36 images need as many"),
        ({"images": 2 * coloured(THREE)}, r"outside \[0, 1\]"),
    ],
)
def test_what_cannot_be_searched(change, told):
    with pytest.raises(ValueError, match=told):
        find_shortcuts(**{"cnn": Pixel().eval(), "images": coloured(THREE), **change})


# -- screening, verdicts, order: exchange tests that say what they are told --------------------------------


def rows_of(test, effect, control, count):
    """So many of the first images have an effect, and so many of them one of the control."""
    place = torch.arange(count)
    return pd.DataFrame(
        {
            "test": test, "image": place.numpy(), "donor": 0, "control_donor": 1,
            "effect": (place < effect).float().numpy(), "control": (place < control).float().numpy(),
            "gain": 0.0, "control_gain": 0.0,
        }
    )  # fmt: skip


@pytest.fixture
def told(monkeypatch):
    """A search whose candidates have the effects that they are told: (screened, tested, hidden), each of so
    many with the effect and the control, of so many images."""

    def search(*effects, labels=(0,) * 30 + (1,) * 40, **options):
        calls = []
        looks = [
            Candidate(0, f"kind {number}", torch.arange(5), border((8, 8))) for number in range(len(effects))
        ]

        def exchange(cnn, read, predicted, candidate, count=16, seed=0, skip=0, hide=True):
            screened, tested, hidden = effects[int(candidate.kind.split()[1])]
            calls.append((candidate.kind, count, seed, skip, hide))
            if not hide:
                return rows_of("pasted", *screened)
            return pd.concat([rows_of("pasted", *tested), rows_of("hidden", *hidden)], ignore_index=True)

        monkeypatch.setattr(find, "candidates", lambda *_, **__: looks)
        monkeypatch.setattr(find, "exchange_test", exchange)
        images = torch.zeros(len(labels), 3, 8, 8)
        made = find_shortcuts(Pixel().eval(), images, predicted=torch.tensor(labels), **options)
        return made, calls

    return search


ANY, NOTHING = (1, 0, 12), (0, 0, 12)


def test_what_does_nothing_to_a_few_images_is_not_tested(told):
    """On 12 images, more of which must turn than of the control; those are left out of the second stage."""
    made, calls = told(
        (ANY, (9, 0, 20), (3, 0, 4)),
        ((3, 3, 12), (20, 0, 20), (4, 0, 4)),
        (NOTHING, (20, 0, 20), (4, 0, 4)),
        ((1, 2, 12), (20, 0, 20), (4, 0, 4)),
        count=20,
        seed=9,
    )
    assert calls == [
        ("kind 0", 12, 9, 0, False), ("kind 0", 20, 9, 12, True), ("kind 1", 12, 9, 0, False),
        ("kind 2", 12, 9, 0, False), ("kind 3", 12, 9, 0, False),
    ]  # fmt: skip
    assert made.table["stage"].tolist() == ["tested", "screened", "screened", "screened"]
    assert made.table["pasted_n"].tolist() == [20, 12, 12, 12]
    assert made.table["hidden_n"].tolist() == [4, 0, 0, 0]
    assert made.table["hidden"].tolist()[0] == 75
    assert made.table["verdict"].tolist() == ["found", "none", "none", "none"]
    assert len(made.tests) == 24 + 3 * 12


@pytest.mark.parametrize(("others", "few"), [(40, 12), (36, 12), (35, 11), (4, 1), (3, 1), (2, 0)])
def test_a_third_of_the_other_images_is_for_screening(told, others, few):
    _, calls = told((NOTHING, (0, 0, 1), (0, 0, 1)), labels=(0,) * 30 + (1,) * others)
    assert calls == [("kind 0", few, 0, 0, False)]


def test_holms_correction_is_over_what_was_tested(told):
    """Of four p-values one is of a candidate that was only screened: the smallest is taken three times."""
    none = (0, 0, 4)
    made, _ = told(
        (ANY, (5, 0, 20), none),
        (ANY, (9, 0, 20), none),
        (NOTHING, (0, 0, 20), none),
        (ANY, (4, 0, 20), none),
    )
    table = made.table.set_index("kind")
    p = table["pasted_p"]
    holm = table["pasted_p_holm"]
    assert p["kind 1"] < p["kind 0"] < p["kind 3"] < 0.05
    assert holm["kind 1"] == pytest.approx(3 * p["kind 1"])
    assert holm["kind 0"] == pytest.approx(2 * p["kind 0"])
    assert holm["kind 3"] == pytest.approx(max(p["kind 3"], 2 * p["kind 0"]))
    assert math.isnan(holm["kind 2"])
    assert p["kind 2"] == 1, "of the images that it was screened on"
    assert table["verdict"].to_dict() == {
        "kind 1": "found", "kind 0": "found", "kind 3": "found", "kind 2": "none",
    }  # fmt: skip


def test_verdicts_follow_the_correction(told):
    """Four of 20 turn, p = 0.042: found alone, and undecided beside others of the same kind."""
    one = (ANY, (4, 0, 20), (0, 0, 4))
    alone, _ = told(one)
    assert alone.table["pasted_p"][0] == pytest.approx(0.0421, abs=1e-4)
    assert alone.table["verdict"].tolist() == ["found"]
    both, _ = told(one, one)
    assert both.table["pasted_p_holm"].tolist() == pytest.approx([0.0842] * 2, abs=2e-4)
    assert both.table["verdict"].tolist() == ["undecided"] * 2
    assert both.found.empty


def told_row(p, mean, high, stage="tested", n=8):
    return {"pasted_p_holm": p, "pasted": mean, "pasted_high": high, "pasted_n": n, "stage": stage}


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        (told_row(0.049, 20, 30), "found"),
        (told_row(0.049, 19.9, 30), "undecided"),
        (told_row(0.0, 100, 100, n=7), "undecided"),
        (told_row(0.05, 20, 30), "undecided"),
        (told_row(0.05, 20, 20), "undecided"),
        (told_row(0.001, 10, 19.9), "none"),
        (told_row(0.001, -50, -30), "none"),
        (told_row(0.9, 2, 21), "undecided"),
        (told_row(math.nan, 50, 90, "screened"), "none"),
        (told_row(math.nan, 0, 0, "screened", n=7), "undecided"),
        (told_row(math.nan, math.nan, math.nan, "screened"), "none"),
        (told_row(math.nan, math.nan, math.nan), "none"),
    ],
)
def test_verdicts_by_hand(row, verdict):
    assert _verdict(row) == verdict


def test_effects_by_hand():
    """Differences of 1, 1, 0 and -1 of four images; a single hidden one."""
    made = pd.concat(
        [
            pd.DataFrame({"test": "pasted", "effect": [1.0, 1, 1, 0], "control": [0.0, 0, 1, 1]}),
            pd.DataFrame({"test": "hidden", "effect": [1.0], "control": [1.0]}),
        ]
    )
    row = _effects(made)
    assert (row["pasted_share"], row["pasted_control"], row["pasted"]) == (75, 50, 25)
    half = 3.182446 * math.sqrt(11 / 12) / 2 * 100  # Student's t with 3 degrees of freedom
    assert row["pasted_high"] == 100, "no mean is larger than all values"
    assert row["pasted_low"] == -100
    assert half > 125
    assert (row["pasted_n"], row["hidden_n"]) == (4, 1)
    assert 0.6 < row["pasted_p"] < 0.7
    assert (row["hidden_share"], row["hidden_control"], row["hidden"], row["hidden_p"]) == (100, 100, 0, 1)
    assert list(row)[:3] == ["pasted_share", "pasted_control", "pasted"]
    nothing = _effects(made[made["test"] == "pasted"])
    assert nothing["hidden_n"] == 0
    assert all(math.isnan(nothing[f"hidden{name}"]) for name in ("_share", "_control", "", "_low", "_p"))


def test_the_strongest_come_first():
    table = pd.DataFrame(
        {
            "verdict": ["none", "found", "found", "undecided", "none", "found", "none"],
            "pasted": [math.nan, 30, 50, 90, 90, 50, 90],
            "hidden": [100, 100, 10, math.nan, 0, 20, 0],
        }
    )
    assert _ranked(table) == [5, 2, 1, 4, 6, 3, 0]


def test_candidates_are_ranked(told):
    none = (0, 0, 4)
    made, _ = told(
        (NOTHING, none, none), (ANY, (10, 0, 20), none), (ANY, (15, 0, 20), none), (ANY, (4, 4, 20), none)
    )
    assert made.table["kind"].tolist() == ["kind 2", "kind 1", "kind 3", "kind 0"]
    assert [own.kind for own in made.candidates] == made.table["kind"].tolist()
    assert made.tests.groupby("candidate")["effect"].sum().tolist() == [15, 10, 4, 0]
    assert made.found["kind"].tolist() == ["kind 2", "kind 1"]


# -- where, and how much evidence --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((10, 10, 20, 20), "upper left corner"),
        ((80, 10, 90, 20), "upper right corner"),
        ((10, 80, 20, 90), "lower left corner"),
        ((80, 80, 90, 90), "lower right corner"),
        ((20, 10, 32, 20), "upper left"),  # its middle at 0.26, where a corner ends at 0.25
        ((10, 20, 20, 32), "upper left"),
        ((68, 10, 80, 20), "upper right"),
        ((20, 80, 32, 90), "lower left"),
        ((68, 68, 80, 80), "lower right"),
        ((19, 18, 30, 30), "upper left corner"),
        ((45, 5, 55, 15), "upper"),
        ((45, 85, 55, 95), "lower"),
        ((5, 45, 15, 55), "left"),
        ((85, 45, 95, 55), "right"),
        ((45, 45, 55, 55), "middle"),
        ((28, 28, 38, 38), "upper left"),  # 0.33
        ((29, 29, 39, 39), "middle"),  # 0.34
        ((61, 61, 71, 71), "middle"),  # 0.66
        ((62, 62, 72, 72), "lower right"),  # 0.67
        ((0, 45, 100, 55), "across the image"),
        ((45, 10, 55, 91), "across the image"),
        ((10, 45, 90, 55), "middle"),  # 0.8 of it, no more
        ((0, 0, 81, 20), "across the image"),
        ((0, 0, 80, 20), "upper"),
    ],
)
def test_places_in_words(box, words):
    assert where(Candidate(0, "place", torch.arange(1), square((100, 100), *box))) == words
    assert where(Candidate(0, "stamp", torch.arange(1), square((100, 100), *box))) == words


def test_places_in_words_of_images_that_are_not_square():
    assert where(Candidate(0, "place", torch.arange(1), square((20, 100), 5, 9, 15, 11))) == "left"
    assert where(Candidate(0, "place", torch.arange(1), square((100, 20), 9, 85, 11, 95))) == "lower"
    assert where(Candidate(0, "place", torch.arange(1), square((100, 20), 1, 45, 19, 55))) == (
        "across the image"
    )


def test_other_places_in_words():
    rows = torch.arange(1)
    assert where(Candidate(0, "border", rows, border((8, 8)))) == "along the border"
    assert where(Candidate(0, "returning", rows, square((8, 8), 0, 0, 2, 2))) == "where the evidence is"
    assert where(Candidate(0, "tone", rows)) == "everywhere"
    assert where(Candidate(0, "texture", rows, band=torch.ones(4, 3).bool())) == "everywhere"


def test_evidence_at_a_place_by_hand():
    """Of maps of 16 and 2 where the mask is, in one of four cells: 18 over the sum of means, 7 and 2."""
    maps = torch.full((3, 1, 2, 2), 4.0)
    maps[2, 0, 0, 1], maps[0] = 16.0, 2.0
    own = Candidate(0, "place", torch.tensor([2, 0]), square((8, 8), 4, 0, 8, 4))
    assert _density_there(own, maps) == pytest.approx(18 / (7 + 2))
    assert _density_there(own, (10 * maps).to(torch.uint8)) == pytest.approx(2)
    # Half of a cell counts for a half: 16 and 0.5 of 4, over one and a half cells.
    wider = Candidate(0, "place", torch.tensor([2]), square((8, 8), 2, 0, 8, 4))
    assert _density_there(wider, maps) == pytest.approx((16 + 0.5 * 4) / 1.5 / 7)
    each = Candidate(0, "returning", torch.tensor([2, 0]), torch.cat([square((8, 8), 0, 0, 4, 4), own.masks]))
    assert _density_there(each, maps) == pytest.approx((4 + 2) / 9)
    wide = torch.ones(1, 1, 2, 4)
    wide[..., 1, 3] = 9.0
    corner = Candidate(0, "place", torch.tensor([0]), square((4, 8), 6, 2, 8, 4))
    assert _density_there(corner, wide) == pytest.approx(9 / 2), "maps that are not square"
    assert math.isnan(_density_there(own, None))
    assert math.isnan(_density_there(Candidate(0, "tone", torch.tensor([0])), maps))
    assert _density_there(own, torch.zeros(3, 1, 2, 2)) == 0


# -- CNNs that were trained ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def marked():
    """150 images: with the mark of the class, of another class, and none of them seen in training."""
    data = digits_in_scenes(train=10, test=100, confounded=True)
    right = digits_in_scenes(train=50, test=10, confounded=True, seed=77).train
    parts = [data.test.subset(range(50)), data["conflict"].subset(range(50, 100)), right]
    return ImageSplit(
        torch.cat([own.images for own in parts]),
        torch.cat([own.labels for own in parts]),
        marks=torch.cat([own.marks for own in parts]),
    )


def search_of(kind, split):
    cnn = load_classifier(REFERENCE / kind / "slim_resnet/0", architecture="slim_resnet").eval()
    explainer = gan_lib.explainer("grad_cam", cnn)
    maps = torch.cat([explainer.attribute(own.images) for own in split.batches(64)])
    return cnn, find_shortcuts(cnn, split, maps)


def test_a_cnn_that_cheats(marked):
    """The first candidates lie at the marks that it was trained with; what is pasted turns most images."""
    cnn, made = search_of("confounded_digits", marked)
    assert len(made.found) >= 10
    assert set(made.found["kind"][:5]) == {"place"}
    for number in range(3):
        own, row = made.candidates[number], made.table.iloc[number]
        mark = marked.marks[int(own.rows[0]), 0] > 0
        assert mark[own.mask(0)[0] > 0].float().mean() > 0.5
        assert row["where"].endswith("corner")
        assert row["pasted"] > 60
        assert row["hidden"] > 60
        assert row["evidence"] > 2
        pasted_into = made.tests[(made.tests["candidate"] == number) & (made.tests["test"] == "pasted")]
        before = probabilities(cnn, marked.batch(pasted_into["image"].tolist()).images).argmax(1)
        assert (before != own.label).all()


def test_an_honest_cnn_on_the_same_images(marked):
    _, made = search_of("digits_in_scenes", marked)
    assert len(made.table) > 30
    assert made.found.empty
