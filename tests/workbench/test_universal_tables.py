"""The tables of universal sweeps and of forgetful CNNs, from planted scores."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from torch import nn

from gan_lib.core.artifacts import digest
from gan_lib.explainers import Explainer
from gan_lib.metrics import corrected
from gan_lib.workbench import PoolOptions, checks, forgetful, universal
from gan_lib.workbench.pools import projections_of
from gan_lib.workbench.recipes import Recipe

ASKED = PoolOptions(pool=(), left_out={})


def rows(**columns):
    return pd.DataFrame(columns)


def test_another_cnns_map_counts_against_the_own():
    """Own maps at .9 and .7, the other's at .4 and .4: +.5 and +.3, so +.4 in the mean; drops 10 - 30."""
    own = rows(cnn_of_map="own", image=["a", "b"], drop_black=10.0)
    scores = pd.concat(
        [
            own.assign(**{"insertion - deletion": [0.9, 0.7], "drop_black@10": 10.0}),
            own.assign(cnn_of_map="other", **{"insertion - deletion": 0.4, "drop_black@10": 30.0}),
        ]
    ).assign(unseen="x", pictures="alone", method="m", seed=0, cnn="c")
    made = universal._another_table([scores])["wrong_cnn"][0].set_index("measure")
    assert made["mean"].to_dict() == pytest.approx({"insertion - deletion": 0.4, "drop_black@10": -20})
    assert set(made["explainer"]) == {"m"}


def test_means_over_all_architectures_and_of_each():
    scores = rows(unseen=["x", "x", "y", "y"], image=["a", "b"] * 2, score=[0.0, 2.0, 10.0, 20.0])
    scores = scores.assign(**{"data set": "d"}, method="m", seed=0, cnn=["c", "c", "e", "e"])
    assert universal._overall(scores, ["score"])["mean"].tolist() == [8.0]
    each = universal._summaries(scores, ["unseen"], ["score"])
    assert each[["unseen", "mean", "n"]].values.tolist() == [["x", 1.0, 2], ["y", 15.0, 2]]


def test_holms_correction_is_over_all_rows():
    """Of .01, .02, .04: three times the least, twice the next, then once, never less than one before."""
    assert corrected(rows(p=[0.02, 0.01, 0.04]))["p_holm"].tolist() == pytest.approx([0.04, 0.03, 0.04])


def test_the_least_share_is_the_one_that_is_reported(monkeypatch):
    def sanity(cnn, sample, explainers, classes, stages, options):
        assert (len(sample), stages, options) == (1, 4, None)
        found = rows(method="m", image=0, rank=[0.1, 0.2, 0.9], share=[50.0, 25.0, None])
        return found.assign(check=["randomised", "randomised", "another class"])

    monkeypatch.setattr(checks, "sanity", sanity)
    subject = SimpleNamespace(cnn=None, names="ab")
    explainers = {("m", seed): Fixed(None) for seed in (0, 2)}
    made = universal._redrawn(replace(ASKED, sanity_images=1), subject, explainers, ["one", "two"])
    assert made.to_dict("records") == [
        {"method": "m", "image": 0, "rank": 0.2, "seed": seed} for seed in (0, 2)
    ]


class Drawn(list):
    """So many images."""

    def __init__(self, count):
        super().__init__(range(count))
        self.split = SimpleNamespace(fingerprint=f"{count} images")


def at_once(subject, module, made_from, make):
    """In place of a store."""
    return make()


@pytest.mark.parametrize(
    ("keys", "seeds"), [(["a", "a"], [[0, 1], [0, 1]]), (["a", "b"], [[0], [1]])], ids=["given", "trained"]
)
def test_a_cnn_with_given_weights_is_judged_by_all_seeds_on_every_image(monkeypatch, keys, seeds):
    """Five images: three and two. Of one CNN each seed's generator scores all five, of two CNNs its own."""
    recipe = SimpleNamespace(
        data=SimpleNamespace(name="d"), evidence=SimpleNamespace(layers=2, emphasis=None, joint="mean")
    )
    drawn = SimpleNamespace(recipe=recipe, data={"test": range(5)})
    there = {
        ("x", 0, seed): SimpleNamespace(
            **vars(drawn), trained=SimpleNamespace(key=key), draw=lambda count, split, skip: Drawn(count)
        )
        for seed, key in enumerate(keys)
    }

    def scores(subject, explainers, sample, areas, steps):
        kept = [(name, seed, image) for name, seed in explainers for image in range(len(sample))]
        return pd.DataFrame(kept, columns=["method", "seed", "image"]).assign(cell="x")

    def explainers(subject, generators, given):
        return {("rival", given[0]): None, **{("universal", seed): None for seed in given}}

    monkeypatch.setattr(universal, "cell_scores", scores)
    monkeypatch.setattr(universal, "explainers_of", explainers)
    monkeypatch.setattr(universal, "kept_table", at_once)
    pool = SimpleNamespace(asked=replace(ASKED, test_images=5), seeds=[0, 1])
    given = {("lsft", seed): SimpleNamespace(key=f"g{seed}") for seed in (0, 1)}
    calls = universal._judgements(pool, "x", there, given, {}, checked=False)
    assert [call.args[3] for call in calls] == seeds
    mixed = there | {
        ("y", 0, seed): SimpleNamespace(**vars(drawn), trained=SimpleNamespace(key=f"y{seed}"))
        for seed in (0, 1)
    }
    dealt = universal._judgements(pool, "x", mixed, given, {}, checked=False)
    assert [call.args[3] for call in dealt] == [[0], [1]], "a table holds one or the other"
    table = pd.concat([call()["scores"] for call in calls])
    rival, own = (table[table["method"] == name] for name in ("rival", "universal"))
    assert rival["image"].nunique() == len(rival) == 5, "once each"
    assert len(own) == sum(count * len(by) for count, by in zip((3, 2), seeds, strict=True))
    assert not own.duplicated(["seed", "image"]).any()
    assert (own.groupby("image")["seed"].nunique() == len(seeds[0])).all()


def cell_addresses(monkeypatch, asked=ASKED, key="g", marked="m", other="o", seeds=(0, 1), layers=2):
    """Of the tables of a cell: ``scores``, ``sanity`` and ``wrong``."""
    found = {}

    def collected(subject, module, made_from, make):
        found[made_from["table"]] = digest(made_from)
        return pd.DataFrame({"image": [0]})

    monkeypatch.setattr(universal, "kept_table", collected)
    monkeypatch.setattr(universal, "explainers_of", lambda *given: {})
    recipe = SimpleNamespace(
        data=SimpleNamespace(name="d"), evidence=SimpleNamespace(layers=layers, emphasis=None, joint="mean")
    )
    subject = SimpleNamespace(
        recipe=recipe, trained=SimpleNamespace(key="c"), draw=lambda count, split, skip: Drawn(count)
    )
    split = SimpleNamespace(split=SimpleNamespace(fingerprint=marked))
    cheat = SimpleNamespace(trained=SimpleNamespace(key=other), draw=lambda count, split_name: split)
    generators = {("lsft", seed): SimpleNamespace(key=f"{key}{seed}") for seed in (0, 1)}
    universal.judge_cnn(asked, subject, generators, list(seeds), (5, 0), cheat, {})
    return found


@pytest.mark.parametrize(
    ("change", "others"),
    [
        ({"key": "h"}, {"scores", "sanity", "wrong"}),
        ({"seeds": (0,)}, {"scores", "sanity", "wrong"}),
        ({"layers": 3}, {"scores", "sanity", "wrong"}),
        ({"asked": {"areas": (0.3,)}}, {"scores"}),
        ({"asked": {"steps": 3}}, {"scores", "wrong"}),
        ({"asked": {"sanity_images": 3}}, {"sanity"}),
        ({"asked": {"wrong_images": 3}}, {"wrong"}),
        ({"other": "p"}, {"wrong"}),
        ({"marked": "n"}, {"wrong"}),
    ],
)
def test_what_decides_a_table_is_in_its_address(monkeypatch, change, others):
    cheating = replace(ASKED, cheating=({"data.name": "confounded_digits"},))
    before = cell_addresses(monkeypatch, cheating)
    given = {**change, "asked": replace(cheating, **change.get("asked", {}))}
    after = cell_addresses(monkeypatch, **given)
    assert {name for name in before if before[name] != after[name]} == others


class Fixed(Explainer):
    """Everywhere the same maps."""

    def __init__(self, maps):
        super().__init__(nn.Identity())
        self.made = maps

    def maps(self, images, target):
        return self.made[: len(images)]


def test_the_highest_pixels_on_the_mark(monkeypatch):
    marks = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    marks[:, :, 0, :2] = True
    off = torch.zeros(2, 1, 4, 4)
    off[:, :, 3, 2:] = 1
    half = off.clone()
    half[:, :, 3, 3], half[:, :, 0, 0] = 0, 1
    made = {"on": marks.float(), "off": off, "half": half}
    monkeypatch.setattr(
        universal, "explainers_of", lambda *given: {(name, 0): Fixed(own) for name, own in made.items()}
    )
    monkeypatch.setattr(universal, "kept_table", at_once)
    sample = SimpleNamespace(images=torch.rand(2, 3, 4, 4), explained=torch.tensor([0, 1]), marks=marks)
    sample.split = SimpleNamespace(fingerprint="two images")

    def draw(count, split):
        assert (count, split) == (40, "conflict")
        return sample

    recipe = SimpleNamespace(evidence=SimpleNamespace(layers=2, emphasis=None, joint="mean"))
    subject = SimpleNamespace(draw=draw, trained=SimpleNamespace(key="c"), recipe=recipe)
    table = universal.on_marks(ASKED, subject, {}, 0, {"unseen": "x"})["marks"]
    means = table.groupby("method")["top mass"].mean()
    assert means.to_dict() == pytest.approx({"on": 1, "off": 0, "half": 0.5})


class Follows(Explainer):
    """The map of the picture's brightness, or, of a CNN that is turned, of its darkness."""

    def __init__(self, cnn, turned):
        super().__init__(cnn)
        self.turned = turned

    def maps(self, images, target):
        bright = images.mean(1, keepdim=True)
        return 1 - bright if self.turned else bright


@pytest.mark.parametrize(("signs", "mean"), [((1, 1), 1.0), ((-1, -1), -1.0), ((1, -1), 0.0)])
def test_maps_that_are_turned_inside_out(monkeypatch, signs, mean):
    """Each draw leaves the map alone or turns it: the mean of both is 0, the absolute values are 1."""
    made = iter([sign < 0 for sign in signs])
    monkeypatch.setattr(forgetful, "on_cnn", lambda own, name, net, options: Follows(net, next(made)))
    cnn = nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    images = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    sample = SimpleNamespace(images=images, explained=torch.tensor([0, 1, 0]))
    table = forgetful.turned(cnn, sample, {("m", 0): Follows(cnn, False)}, stages=2, draws=2)
    assert table.groupby("asked")["rank"].mean().to_dict() == pytest.approx(
        dict.fromkeys([forgetful.OWN, forgetful.SAME], mean)
    )
    assert table["absolute"].tolist() == pytest.approx([1.0] * 4)


@pytest.mark.parametrize(
    ("changes", "name", "begins"),
    [
        ({}, None, {}),
        ({"evidence.emphasis": 2.0}, "evidence_projection, emphasised", {"emphasis": 2.0}),
        ({"evidence.joint": "product"}, "evidence_projection, product", {"joint": "product"}),
        (
            {"evidence.emphasis": 2.0, "evidence.joint": "product"},
            "evidence_projection, emphasised product",
            {"emphasis": 2.0, "joint": "product"},
        ),
    ],
)
def test_what_a_generator_begins_with_is_a_rival(changes, name, begins):
    made = projections_of(Recipe().changed({"evidence.layers": 3, **changes}))
    expected = {"evidence_projection": {"layers": 3}}
    assert made == expected | ({name: {"layers": 3, **begins}} if name else {})
