"""Measures of the comparison, against other packages and against what can be worked out."""

from __future__ import annotations

import copy
import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gan_lib.core.masking import filling, top_share
from gan_lib.explainers import Edges, GradCAM, Saliency
from gan_lib.metrics import (
    ADCC,
    Deletion,
    Entropy,
    Insertion,
    IoUAtArea,
    MassInside,
    MaxSensitivity,
    PointingGame,
    Probe,
    RankCorrelation,
    StructuralSimilarity,
    class_probability,
    explanation_scores,
    paired_tests,
    perturbation_curves,
    quality_scores,
    random_logit_check,
    randomisation_check,
    ranking_scores,
    summarise,
    win_shares,
)


@pytest.fixture
def maps():
    return torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(7))


@pytest.fixture
def target():
    return torch.tensor([0, 2, 3])


# -- insertion and deletion --------------------------------------------------------------------------


def test_insertion_and_deletion_are_torch_cams(tiny_net, images):
    from torchcam.methods import GradCAM as TheirGradCAM
    from torchcam.metrics import ClassificationMetric, DeletionInsertionMetric

    with TheirGradCAM(tiny_net, "features.5") as extractor:
        theirs = DeletionInsertionMetric(extractor, lambda logits: logits.softmax(-1), steps=20)
        theirs.update(images, [0, 2, 3])
        expected = theirs.summary()
        drops = ClassificationMetric(extractor, lambda logits: logits.softmax(-1))
        drops.update(images, [0, 2, 3])
    target = torch.tensor([0, 2, 3])
    with TheirGradCAM(tiny_net, "features.5") as extractor:
        cams = extractor([0, 2, 3], tiny_net(images).softmax(-1))[0]  # as its metrics do
    maps = F.interpolate(cams[:, None], (16, 16), mode="bilinear").detach()
    curves = perturbation_curves(Probe(tiny_net), images, maps, target, steps=20)
    insertion, deletion = Insertion(), Deletion()
    insertion.update(curves.insertion, curves.shares)
    deletion.update(curves.deletion, curves.shares)
    assert insertion.compute().mean == pytest.approx(expected["insertion_auc"], abs=1e-5)
    assert deletion.compute().mean == pytest.approx(expected["deletion_auc"], abs=1e-5)
    scores = explanation_scores(tiny_net, images, {("theirs", 0): maps}, target)
    expected_drop = drops.summary()
    assert scores["drop_black"].mean() / 100 == pytest.approx(expected_drop["avg_drop"], abs=1e-4)
    assert scores["increase_black"].mean() / 100 == pytest.approx(expected_drop["conf_increase"])


def test_curves_step_by_step(tiny_net, images, maps, target):
    probe = Probe(tiny_net, batch_size=7)
    curves = perturbation_curves(probe, images, maps, target, steps=4, fill="mean")
    assert torch.allclose(curves.shares, torch.tensor([0, 0.25, 0.5, 0.75, 1.0]))
    hidden = filling(images, "mean")
    for step, share in enumerate(curves.shares.tolist()):
        top = top_share(maps, share).float()
        for own, kept in ((curves.insertion, top), (curves.deletion, 1 - top)):
            expected = class_probability(tiny_net, images * kept + hidden * (1 - kept), target)
            assert torch.allclose(own[:, step], expected, atol=1e-6)
    one = perturbation_curves(probe, images, maps, target, steps=1)
    assert one.insertion.shape == (3, 2)
    many = perturbation_curves(probe, images, maps, target, steps=10_000)
    assert many.insertion.shape == (3, 257)
    with pytest.raises(ValueError, match="at least one step"):
        perturbation_curves(probe, images, maps, target, steps=0)
    none = perturbation_curves(probe, images[:0], maps[:0], target[:0])
    assert none.insertion.shape[0] == 0


def test_passes_are_as_large_as_a_cpus_caches(tiny_net, images, target):
    probe = Probe(tiny_net)
    assert probe.at_once(torch.empty(1, 3, 64, 64)) == 64
    assert probe.at_once(torch.empty(1, 3, 4000, 4000)) == 1
    assert Probe(tiny_net, batch_size=3).at_once(images) == 3
    assert torch.allclose(Probe(tiny_net, batch_size=1)(images, target), probe(images, target), atol=1e-6)
    mixed = Probe(tiny_net, mixed_precision=True)
    assert mixed.at_once(torch.empty(1, 3, 64, 64)) == 128  # half the memory each
    assert mixed(images, target).dtype == torch.float32
    assert torch.allclose(mixed(images, target), probe(images, target), atol=0.02)
    double = Probe(copy.deepcopy(tiny_net).double(), mixed_precision=True)
    assert torch.allclose(double(images, target), mixed(images, target), atol=1e-6)


# -- against Quantus ---------------------------------------------------------------------------------


def test_localisation_and_similarity_are_quantus(tiny_net, images, maps):
    quantus = pytest.importorskip("quantus", exc_type=ImportError)
    evidence = torch.zeros(3, 1, 16, 16, dtype=torch.bool)
    evidence[..., 2:9, 4:12] = True
    evidence[0] = maps[0] > 0.9
    common = {"model": None, "x_batch": images.numpy(), "y_batch": np.array([0, 2, 3])}
    common |= {"a_batch": maps.numpy(), "s_batch": evidence.numpy()}
    for theirs, ours in (
        (quantus.PointingGame(disable_warnings=True), PointingGame()),
        (quantus.RelevanceMassAccuracy(disable_warnings=True), MassInside()),
    ):
        ours.update(maps, evidence)
        assert np.allclose(ours.per_image.numpy(), np.array(theirs(**common), dtype=float), atol=1e-4)
    theirs = quantus.Complexity(disable_warnings=True)
    entropy = Entropy()
    entropy.update(maps)
    expected = theirs(model=None, x_batch=images.numpy(), y_batch=common["y_batch"], a_batch=maps.numpy())
    assert np.allclose(entropy.per_image.numpy(), expected, atol=1e-4)
    other = maps.flip(-1)
    correlation, likeness = RankCorrelation(), StructuralSimilarity()
    correlation.update(maps, other)
    likeness.update(maps, other)
    for row in range(3):
        first, second = maps[row, 0].numpy(), other[row, 0].numpy()
        rho = quantus.similarity_func.correlation_spearman(first.ravel(), second.ravel())
        assert float(correlation.per_image[row]) == pytest.approx(rho, abs=1e-4)
    same = StructuralSimilarity()
    same.update(maps, maps)
    assert same.compute().mean == pytest.approx(1.0, abs=1e-5)
    assert likeness.compute().mean < 0.3


# -- maps as such ------------------------------------------------------------------------------------


def test_entropy_and_iou_by_hand():
    single = torch.zeros(1, 1, 4, 4)
    single[..., 1, 1] = 1
    entropy = Entropy()
    entropy.update(torch.cat([single, torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)]))
    assert entropy.per_image[:2].tolist() == pytest.approx([0, math.log(16)])
    assert entropy.per_image[2].isnan()
    evidence = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    evidence[..., :2, :2] = True
    half = torch.zeros(1, 1, 4, 4)
    half[..., :2, 1:3] = 1
    iou = IoUAtArea()
    iou.update(half, evidence)
    assert iou.compute().mean == pytest.approx(2 / 6)


def test_adcc_by_hand(maps):
    adcc = ADCC()
    before, after = torch.tensor([0.8, 0.5, 0.9]), torch.tensor([0.4, 0.9, 0.9])
    adcc.update(maps, maps, before, after)
    kept, simplicity = [0.5, 1.0, 1.0], (1 - maps.mean((1, 2, 3))).tolist()
    expected = [3 / (1 + 1 / s + 1 / k) for s, k in zip(simplicity, kept, strict=True)]
    assert adcc.per_image.tolist() == pytest.approx(expected, rel=1e-5)
    opposite = ADCC()
    opposite.update(maps, 1 - maps, before, after)
    assert opposite.per_image.abs().max() < 1e-6
    flat = ADCC()
    flat.update(torch.zeros_like(maps), maps, before, after)
    assert flat.per_image.tolist() == [0, 0, 0]


def test_sensitivity_of_what_never_moves(tiny_net, images, maps, target):
    metric = MaxSensitivity()
    metric.update(lambda pictures, _: maps[:1].expand(len(pictures), -1, -1, -1), images, target)
    assert metric.compute().mean == pytest.approx(0, abs=1e-6)
    gradients, again = MaxSensitivity(), MaxSensitivity()
    for each in (gradients, again):
        each.update(Saliency(tiny_net).attribute, images, target)
    assert gradients.compute().mean > 0.01
    assert torch.equal(gradients.per_image, again.per_image)


# -- sanity ------------------------------------------------------------------------------------------


def test_sanity_checks_tell_what_looks_at_the_cnn(tiny_net, images, target):
    methods = {
        "grad_cam": lambda net, x, y: GradCAM(net, "features.5").attribute(x, y),
        "edges": lambda net, x, y: Edges(net).attribute(x, y),
    }
    before = copy.deepcopy(tiny_net.state_dict())
    table = randomisation_check(methods, tiny_net, images, target, stages=2)
    assert len(table) == 4  # two methods, two stages
    assert table["share"].is_monotonic_increasing
    assert table["share"].max() == 1
    rows = table[table["share"] == 1].set_index("method")
    assert rows.loc["edges", "rank"] == pytest.approx(1)
    assert rows.loc["edges", "ssim"] == pytest.approx(1, abs=1e-5)
    assert rows.loc["grad_cam", "rank"] < 0.9
    assert all(
        torch.equal(a, b) for a, b in zip(before.values(), tiny_net.state_dict().values(), strict=True)
    )
    logits = random_logit_check(methods, tiny_net, images, target, classes=4).set_index("method")
    assert logits.loc["edges", "rank"] == pytest.approx(1)
    assert logits.loc["grad_cam", "rank_n"] > 0  # maps of zeros have no ranks
    assert logits.loc["grad_cam", "rank"] < 0.99


# -- tables ------------------------------------------------------------------------------------------


def test_win_shares_and_paired_tests():
    rng = np.random.default_rng(0)
    base = rng.random(40)
    table = pd.DataFrame(
        [
            {"method": method, "seed": seed, "image": image, "drop_black": base[image] + offset}
            for method, seeds, offset in (("good", 2, -0.2), ("poor", 1, 0.0), ("same", 1, 0.0))
            for seed in range(seeds)
            for image in range(40)
        ]
    )
    wins = win_shares(table, "drop_black")
    assert wins.loc["good", "poor"] == 100
    assert wins.loc["poor", "good"] == 0
    assert wins.loc["poor", "same"] == 0
    assert math.isnan(wins.loc["good", "good"])
    tests = paired_tests(table, "drop_black", ["good", "same"], ["poor"]).set_index("method")
    assert tests.loc["good", "difference"] == pytest.approx(-0.2)
    assert tests.loc["good", "p_holm"] == pytest.approx(2 * tests.loc["good", "p"])
    assert tests.loc["good", "p_holm"] < 1e-6
    assert tests.loc["same", "p_holm"] == 1


def test_all_scores_of_a_comparison(tiny_net, images, maps, target):
    explainers = {("grad_cam", 0): GradCAM(tiny_net, "features.5"), ("edges", 0): Edges(tiny_net)}
    made = {key: explainer.attribute(images, target) for key, explainer in explainers.items()}
    explain = {key: explainer.attribute for key, explainer in explainers.items()}
    scores = explanation_scores(tiny_net, images, made, target, fills=("mean",), areas=[0.2])
    ranking, curves = ranking_scores(tiny_net, images, made, target, steps=5, road=(0.5,))
    quality = quality_scores(
        tiny_net, images[:2], {k: m[:2] for k, m in made.items()}, target[:2], explain, 1
    )
    index = ["method", "seed", "image"]
    table = scores.merge(ranking, on=index).merge(quality, on=index, how="left")
    assert len(table) == 6
    assert {"drop_mean@20", "insertion - deletion", "road", "adcc", "sensitivity", "entropy"} <= {*table}
    difference = table["insertion"] - table["deletion"] - table["insertion - deletion"]
    assert difference.abs().max() < 1e-6
    results = summarise(table).set_index(["method", "measure"])
    assert results.loc[("edges", "adcc"), "n"] == 2
    assert results.loc[("edges", "sensitivity"), ["n", "skipped"]].tolist() == [1, 2]
    mean = curves[(curves["method"] == "edges") & (curves["share"] == 1)]["insertion"].item()
    assert mean == pytest.approx(float(class_probability(tiny_net, images, target).mean()), abs=1e-5)


def test_scores_of_a_cnn_that_cannot_be_folded(images, maps, target):
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 4)

        def forward(self, pictures):
            if pictures.mean() > 2:  # torch.fx cannot trace this
                pictures = pictures / 2
            return self.head(self.conv(pictures).relu().mean((2, 3)))

    cnn = Branching().train()
    curves = perturbation_curves(Probe(cnn), images, maps, target, steps=3)
    assert curves.insertion.isfinite().all()
    assert cnn.training
