"""Cohorts: several CNNs with generators of their own, images dealt out over them."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from gan_lib.explainers import Edges, GradCAM
from gan_lib.metrics import differences, judge, summarise
from gan_lib.workbench import Workbench

SEEDS = {"seeds": [0, 3]}


def cohort_of(places, **changes):
    return Workbench("test", "tiny", {**SEEDS, **changes}, places).cohort()


@pytest.fixture(scope="module")
def cohort(places):
    return cohort_of(places)


def weights(module):
    return torch.cat([own.flatten() for own in module.parameters()])


def same_label(subject, sample):
    """Shown for :meth:`Cohort.each`: which seed, and how many of a sample's images are right."""
    return (
        subject.recipe.cnn.seed,
        int((sample.labels == sample.explained.cpu()).sum()),
        torch.get_num_threads(),
    )


def test_each_seed_is_a_cnn_of_its_own_on_the_same_data(cohort):
    assert list(cohort) == [0, 3]
    assert cohort.first is cohort[0]
    assert [own.recipe.cnn.seed for own in cohort.values()] == [0, 3]
    assert not torch.equal(weights(cohort[0].cnn), weights(cohort[3].cnn))
    assert cohort[0].data.fingerprint == cohort[3].data.fingerprint
    table = cohort.accuracies()
    assert table["seed"].tolist() == [0, 3]
    assert table["test accuracy"].tolist() == [own.accuracy for own in cohort.values()]


def test_a_given_cnn_is_the_same_for_all_seeds(places, tmp_path):
    from gan_lib.core.storage import save_tensors

    made = cohort_of(places)[0].cnn
    save_tensors(places.data / "given.safetensors", made.backbone.state_dict())
    given = cohort_of(places, **{"cnn.weights": "given.safetensors", "cnn.epochs": 0})
    assert given[0].trained.key == given[3].trained.key
    assert torch.equal(weights(given[3].cnn), weights(made))


@pytest.mark.parametrize(("count", "expected"), [(8, [4, 4]), (7, [4, 3]), (None, [10, 10]), (99, [10, 10])])
def test_images_are_dealt_out_none_twice(cohort, count, expected):
    samples = cohort.deal(count)
    assert [len(own) for own in samples.values()] == expected
    rows = torch.cat([own.rows for own in samples.values()])
    assert len(rows.unique()) == sum(expected)
    for seed, own in samples.items():
        assert torch.equal(own.images, cohort[seed].data.test.batch(own.rows).images)
        predicted = cohort[seed].cnn(own.images).argmax(1)
        assert torch.equal(own.explained.cpu(), predicted.cpu()), "what its own CNN predicts"
    few = cohort.deal(2, "validation")
    assert torch.equal(few[0].images, cohort[0].data["validation"].batch(few[0].rows).images)


def test_every_cnn_is_explained_by_its_own_explainers(cohort):
    samples = cohort.deal(8)
    explainers = {("Grad-CAM", seed): GradCAM(own.cnn, own.target_layer) for seed, own in cohort.items()}
    explainers |= {("edges", seed): Edges(own.cnn) for seed, own in cohort.items()}
    scores, curves, maps = cohort.judge(explainers, samples, reference="Grad-CAM", areas=[0.1], steps=2)
    assert set(maps) == set(explainers)
    for seed, own in cohort.items():
        sample = samples[seed]
        expected = {
            key: made.attribute(sample.images, target=sample.explained)
            for key, made in explainers.items()
            if key[1] == seed
        }
        assert all(torch.allclose(maps[key], one, atol=1e-6) for key, one in expected.items())
        given = {"evidence": sample.masks, "reference": expected["Grad-CAM", seed]}
        alone, lines = judge(
            own.cnn, sample.images, expected, sample.explained, **given, areas=[0.1], steps=2
        )
        mine = scores[scores["seed"] == seed].reset_index(drop=True)
        assert mine["image"].tolist() == [f"{seed}/{row}" for row in alone["image"]]
        assert mine["cnn"].unique().tolist() == [own.trained.key]
        pd.testing.assert_frame_equal(mine[["drop_black@10"]], alone[["drop_black@10"]], rtol=1e-4, atol=1e-4)
        assert mine.loc[mine["method"] == "Grad-CAM", "dice"].dropna().eq(1).all()
        assert len(curves[curves["seed"] == seed]) == len(lines)
    results = summarise(scores)
    assert results["cnns"].unique().tolist() == [2]
    own = scores[scores["method"] == "edges"].groupby("seed")["drop_black"].mean()
    row = results[(results["method"] == "edges") & (results["measure"] == "drop_black")].iloc[0]
    assert row["mean"] == pytest.approx(own.mean())
    paired = differences(scores, "drop_black", ["edges"], ["Grad-CAM"]).iloc[0]
    assert paired["n"] == 8
    assert paired["cnns"] == 2


def test_counts_of_images_explained_again_are_shared(cohort):
    samples = cohort.deal(8)
    explainers = {("edges", seed): Edges(own.cnn) for seed, own in cohort.items()}
    scores, _, _ = cohort.judge(explainers, samples, again=True, first={"adcc": 4, "sensitivity": 0})
    assert scores.groupby("seed")["adcc"].count().tolist() == [2, 2]
    assert "sensitivity" not in scores or scores["sensitivity"].isna().all()


def test_two_processes_give_what_one_gives(places):
    """Byte for byte: each job has its own thread, whichever process it runs in."""
    made = []
    for workers in (1, 2):
        own = cohort_of(places, **{"machine.workers": workers})
        explainers = {("Grad-CAM", seed): GradCAM(one.cnn, one.target_layer) for seed, one in own.items()}
        made.append(own.judge(explainers, own.deal(8), areas=[0.1]))
    (one, _, maps), (two, _, others) = made
    assert one.to_csv() == two.to_csv()
    assert all(torch.equal(maps[key], others[key]) for key in maps)
    cohort = cohort_of(places, **{"machine.workers": 2})
    sample = cohort.first.draw(6)
    found = cohort.each(same_label, sample)
    assert {seed: own[0] for seed, own in found.items()} == {0: 0, 3: 3}
    assert all(own[2] == cohort.first.machine.job_threads for own in found.values())


def test_generators_belong_to_the_cnn_of_their_seed(cohort):
    for made, method in ((cohort.supervised(), "lsft"), (cohort.contrastive(), "contrastive-lsft")):
        assert list(made) == [("lsft", 0), ("lsft", 3)]
        for (_, seed), own in made.items():
            assert torch.equal(weights(own.explainer.cnn), weights(cohort[seed].cnn))
        assert made["lsft", 0].key != made["lsft", 3].key
        cohort.keep({(method, seed): own.explainer for (_, seed), own in made.items()})
        found, source = cohort.kept(method.replace("-", "_"))
        assert source == "trained by this profile, seeds 0, 3"
        for seed, sample in cohort.deal(4).items():
            expected = made["lsft", seed].explainer.attribute(sample.images, target=sample.explained)
            assert torch.equal(found[seed].attribute(sample.images, target=sample.explained), expected)
    alone = cohort.first.supervised(seeds=[0])["lsft", 0]
    assert alone.key == cohort.supervised()["lsft", 0].key, "a cohort trains what a subject would"
    cohort.keep({("lsft", 3): cohort.supervised()["lsft", 3].explainer})
    assert list(cohort.kept("lsft")[0]) == [3], "the earlier ones are gone"


def test_what_no_notebook_has_kept(cohort):
    assert cohort.kept("gsft") == ({}, "not there for these CNNs")
