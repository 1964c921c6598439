"""Checks of a CNN's explainers, on explainers of which it is known what they show."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from gan_lib.core.maps import min_max
from gan_lib.data import DATA_SETS
from gan_lib.data.counterfactuals import with_second_digit, without_digit, without_mark
from gan_lib.data.scenes import scene_layers
from gan_lib.explainers import METHODS, Explainer, GeneratorExplainer
from gan_lib.explainers.registry import Method
from gan_lib.metrics import differences, judge, smooth_sanity_scores
from gan_lib.workbench import Sample
from gan_lib.workbench.checks import (
    QUARTERS,
    asked_halves,
    boxes,
    counterfactuals,
    efficient_sanity,
    halves,
    halves_page,
    layers_of,
    mosaic_parts,
    sanity,
    smooth_sanity,
    wrong_cnn,
)


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


# -- mosaics of four, and overlaid images ------------------------------------------------------------


@pytest.fixture
def four_classes(sample):
    return Sample(sample.split, sample.rows, torch.tensor([0, 1, 2, 3] * 2), sample.names, sample.device)


def test_every_quarter_is_asked_for_its_own_class(four_classes):
    pictures, parts = mosaic_parts(four_classes, "quarters", 0)
    assert tuple(parts) == QUARTERS
    side = four_classes.images.shape[-1]
    for place, part in enumerate(parts.values()):
        assert torch.equal(part.asked, four_classes.explained[part.rows])
        rows, columns = (slice(own * side, (own + 1) * side) for own in divmod(place, 2))
        assert torch.equal(pictures[..., rows, columns], four_classes.images[part.rows])
        assert part.region[..., rows, columns].all()
        assert part.region.sum() == side**2
    asked = torch.stack([part.asked for part in parts.values()])
    assert asked.sort(0).values.T.tolist() == [[0, 1, 2, 3]] * len(pictures)
    assert len(mosaic_parts(four_classes, "quarters", 0, count=1)[0]) == 1


def test_mass_on_the_quarter_that_is_asked_for(four_classes):
    corner = showing(lambda x, y: left(x, y) * left(x.mT, y).mT)
    table = asked_halves(None, four_classes, {("corner", 0): corner}, "quarters")
    part = table["image"].str.extract("([a-z ]+)")[0]
    assert table.groupby(part)["inside"].mean().to_dict() == {
        name: float(name == QUARTERS[0]) for name in QUARTERS
    }
    page, titles = halves_page(four_classes, {("corner", 0): corner}, "quarters", count=1)
    assert list(page) == ["mosaic", *(f"corner,\nasked: {name}" for name in QUARTERS)]
    assert len(titles) == 1
    assert sorted(titles[0].split(" | ")) == ["0", "1", "2", "3"]


def test_overlaid_images_have_no_parts_to_be_asked_for(sample):
    pictures, parts = mosaic_parts(sample, "overlaid", 0)
    one, other = parts.values()
    assert torch.equal(pictures, (sample.images[one.rows] + sample.images[other.rows]) / 2)
    assert torch.equal(other.asked, sample.explained[other.rows])
    assert (one.asked != other.asked).all()
    with pytest.raises(ValueError, match="overlaid images have no parts"):
        asked_halves(None, sample, {("left", 0): showing(left)}, "overlaid")


# -- the wrong CNN -----------------------------------------------------------------------------------


class OfTheCNN(Explainer):
    """One shows where the image is bright, or where it is dark: the CNN decides."""

    def maps(self, images, target):
        sign = self.cnn.scale.detach().sign()
        return min_max(sign * images.mean(1, keepdim=True))


class Generated(OfTheCNN, GeneratorExplainer):
    """As one that is trained: read by another CNN, and not made anew."""

    def __init__(self, cnn):
        Explainer.__init__(self, cnn)

    def on(self, cnn):
        return type(self)(cnn)


@pytest.fixture
def two_cnns(colour_net, monkeypatch):
    monkeypatch.setattr(METHODS, "_things", dict(METHODS._things))
    METHODS.register("of_the_cnn", Method(OfTheCNN))
    other = type(colour_net)().eval()
    other.scale.data.neg_()
    return colour_net, other


@pytest.fixture
def coloured(sample):
    return Sample(
        sample.split, sample.rows, torch.tensor([0, 1, 2, 0, 1, 2, 0, 1]), sample.names, sample.device
    )


def test_only_the_cnn_that_the_explainer_looks_at_differs(two_cnns, coloured):
    cnn, other = two_cnns
    explainers = {
        ("of_the_cnn", 0): OfTheCNN(cnn),
        ("generated", 0): Generated(cnn),
        ("edges", 0): edges(cnn),
    }
    table = wrong_cnn(cnn, coloured, explainers, {0: other}, steps=4, fills=("black",))
    assert len(table) == 2 * 3 * 8
    for whose, net in (("own", cnn), ("other", other)):
        maps = {("of_the_cnn", 0): OfTheCNN(net).attribute(coloured.images)}
        given = {"evidence": coloured.masks, "areas": (0.1,), "steps": 4, "fills": ("black",)}
        expected = judge(cnn, coloured.images, maps, coloured.explained, **given).scores
        for method in ("of_the_cnn", "generated"):
            found = table[(table["method"] == method) & (table["cnn_of_map"] == whose)]
            assert found["image"].tolist() == expected["image"].tolist()
            measured = ["insertion - deletion", "drop_black@10", "mass"]
            assert found[measured].to_numpy() == pytest.approx(expected[measured].to_numpy())
    blind = table[table["method"] == "edges"]
    pairs = differences(blind.assign(method=blind["cnn_of_map"]), "drop_black@10", ["own"], ["other"])
    assert pairs["mean"].tolist() == [0]
    assert pairs["n"].tolist() == [8]
    seeing = table[table["method"] == "generated"]
    pairs = differences(
        seeing.assign(method=seeing["cnn_of_map"]), "insertion - deletion", ["own"], ["other"]
    )
    assert pairs["mean"].iloc[0] != 0


def edges(cnn):
    return METHODS["edges"].make(cnn)


@pytest.mark.parametrize(("kind", "parts"), [("beside", ["left", "right"]), ("overlaid", ["one", "other"])])
def test_the_wrong_cnn_on_mosaics(two_cnns, coloured, kind, parts):
    cnn, other = two_cnns
    explainers = {("of_the_cnn", 3): OfTheCNN(cnn)}
    table = wrong_cnn(cnn, coloured, explainers, {3: other}, kind, steps=2, fills=())
    pictures, found = mosaic_parts(coloured, kind, 0)
    own = table[table["cnn_of_map"] == "own"].set_index("image")
    assert own.index.tolist() == [f"{name}{row}" for name in parts for row in range(len(pictures))]
    maps = {("of_the_cnn", 3): OfTheCNN(cnn).attribute(pictures)}
    second = found[parts[1]]
    region = None if second.region is None else second.region.expand(len(pictures), -1, -1, -1)
    expected = judge(cnn, pictures, maps, second.asked, evidence=region, steps=2, fills=()).scores
    shown = own.loc[[f"{parts[1]}{row}" for row in range(len(pictures))]]
    assert shown["insertion"].tolist() == pytest.approx(expected["insertion"].tolist())
    assert ("mass" in table) == (kind == "beside")
    if kind == "beside":
        assert shown["mass"].tolist() == pytest.approx(expected["mass"].tolist())
    few = wrong_cnn(cnn, coloured, explainers, {3: other}, kind, count=1, steps=0, fills=())
    assert len(few) == 4, "one mosaic, asked for two classes, by two CNNs"


def test_another_cnn_for_every_seed(two_cnns, coloured):
    cnn, other = two_cnns
    explainers = {("of_the_cnn", seed): OfTheCNN(cnn) for seed in (0, 1)}
    table = wrong_cnn(cnn, coloured, explainers, {0: other, 1: cnn}, steps=2)
    by = table.set_index(["seed", "cnn_of_map"])["insertion"]
    assert by[1, "own"].tolist() == by[1, "other"].tolist() == by[0, "own"].tolist()
    assert by[0, "other"].tolist() != by[0, "own"].tolist()
    with pytest.raises(KeyError, match="no other CNN for the explainers of seed 1"):
        wrong_cnn(cnn, coloured, explainers, {0: other})


# -- repaired sanity checks --------------------------------------------------------------------------


def test_repaired_sanity_of_what_looks_at_the_cnn_and_of_what_does_not(tiny_net, sample):
    explainers = {(name, 0): METHODS[name].make(tiny_net) for name in ("edges", "saliency")}
    table = smooth_sanity(tiny_net, sample, explainers, stages=2, copies=2, noise=0.1, seed=1)
    assert sorted(table["share"].unique()) == [40, 100], "in per cent: two of five layers, and all"
    assert table[table["method"] == "edges"]["rank"].tolist() == pytest.approx([1] * 16)
    seeing = table[(table["method"] == "saliency") & (table["share"] == 100)]
    assert seeing["rank"].mean() < 0.9
    down = smooth_sanity(tiny_net, sample, explainers, 2, copies=2, noise=0.1, bottom_up=False, seed=1)
    methods = {"saliency": lambda net, x, y: METHODS["saliency"].make(net).attribute(x, y)}
    for order, made in ((True, table), (False, down)):
        given = {"copies": 2, "noise": 0.1, "bottom_up": order, "seed": 1}
        expected = smooth_sanity_scores(methods, tiny_net, sample.images, sample.explained, stages=2, **given)
        found = made[made["method"] == "saliency"]["rank"].tolist()
        assert found == pytest.approx(expected["rank"].tolist(), nan_ok=True)
    rises = efficient_sanity(tiny_net, sample, explainers, bins=20)
    assert rises[rises["method"] == "edges"]["rise"].tolist() == [0] * 8
    assert (rises[rises["method"] == "saliency"]["rise"] != 0).all()


def test_options_of_a_baseline_hold_for_the_forgetful_cnn(tiny_net, sample):
    asked = []

    class Noted(METHODS["grad_cam"].make):
        def __init__(self, cnn, layer=None):
            asked.append(layer)
            super().__init__(cnn, layer)

    things = dict(METHODS._things)
    METHODS.register("noted", Method(Noted))
    try:
        explainers = {("noted", 0): SimpleNamespace()}
        efficient_sanity(tiny_net, sample, explainers, options={"noted": {"layer": "features.2"}})
    finally:
        METHODS._things = things
    assert asked == ["features.2"] * 2


# -- counterfactuals ---------------------------------------------------------------------------------


SCENES = {"train": 60, "test": 20, "size": 32, "seed": 3}  # of the fixture of scenes


def test_a_map_of_the_digit_against_the_image_without_it(tiny_net, sample):
    layers = dict(scene_layers(**SCENES))["test"]
    digit = layers[sample.rows].digits[0][0]
    explainers = {("digit", 0): showing(lambda x, y: digit), ("rest", 0): showing(lambda x, y: 1 - digit)}
    table = counterfactuals(tiny_net, sample, explainers, layers, steps=2, fills=()).set_index("method")
    assert table.loc["digit", "differing_precision"].mean() > 0.95
    assert table.loc["rest", "differing_precision"].mean() < 0.3
    assert table.loc["digit", "mass"].mean() > 0.8, "with the mask as evidence, as ever"
    others = without_digit(layers[sample.rows]).rendered().float() / 255
    expected = judge(
        tiny_net, sample.images, {("digit", 0): digit}, sample.explained, counterfactuals=others, steps=2
    ).scores
    for name in ("insertion_rerendered", "drop_rerendered", "differing_mass"):
        assert table.loc["digit", name].tolist() == pytest.approx(expected[name].tolist())


def test_another_change_than_the_digits(tiny_net, sample):
    layers = dict(scene_layers(**SCENES))["test"]
    second = with_second_digit(layers[sample.rows]).digits[0][0]
    explainers = {("second", 0): showing(lambda x, y: second)}
    table = counterfactuals(tiny_net, sample, explainers, layers, with_second_digit, steps=0)
    assert table["differing_precision"].mean() > 0.6, "but for what lies behind the first"
    with pytest.raises(ValueError, match="layers are of other images"):
        counterfactuals(tiny_net, sample, explainers, dict(scene_layers(**SCENES))["train"])


@pytest.mark.parametrize("name", ["digits_in_scenes", "Confounded digits"])
def test_layers_of_a_subject_are_those_of_its_images(name):
    recipe = SimpleNamespace(
        seed=4,
        data=SimpleNamespace(name=name, train_images=20, test_images=6, validation_images=3, image_size=16),
    )
    subject = SimpleNamespace(recipe=recipe)
    data = DATA_SETS[name](train=20, test=6, validation=3, size=16, seed=4)
    for split in data.splits:
        assert torch.equal(layers_of(subject, split).rendered(), data[split].images)
    with pytest.raises(KeyError, match="no split 'elsewhere'"):
        layers_of(subject, "elsewhere")
    recipe.data.name = "plain_digits"
    with pytest.raises(ValueError, match="plain_digits cannot be drawn again"):
        layers_of(subject)


def test_without_marks_there_is_nothing_to_take_away(tiny_net, sample):
    layers = dict(scene_layers(**SCENES))["test"]
    with pytest.raises(ValueError, match="no marks"):
        counterfactuals(tiny_net, sample, {("left", 0): showing(left)}, layers, without_mark)
