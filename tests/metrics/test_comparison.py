"""Measures of the comparison, against other packages and against what can be worked out."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gan_lib.core.masking import filling, top_share
from gan_lib.explainers import Edges, GradCAM, Saliency
from gan_lib.metrics import (
    Probe,
    adcc,
    area_under,
    class_probability,
    entropy,
    iou_at_area,
    judge,
    mass_inside,
    max_sensitivity,
    perturbation_curves,
    pointing_game,
    rank_correlation,
    sanity_checks,
    structural_similarity,
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
    for name in ("insertion", "deletion"):
        area = area_under(getattr(curves, name), curves.shares)
        assert float(area.mean()) == pytest.approx(expected[f"{name}_auc"], abs=1e-5)
    scores = judge(tiny_net, images, {("theirs", 0): maps}, target).scores
    expected_drop = drops.summary()
    assert scores["drop_black"].mean() / 100 == pytest.approx(expected_drop["avg_drop"], abs=1e-4)
    assert scores["increase_black"].mean() / 100 == pytest.approx(expected_drop["conf_increase"])


def test_curves_step_by_step(tiny_net, images, maps, target, monkeypatch):
    monkeypatch.setattr("gan_lib.metrics.curves.CACHED", 7 * 16 * 16)  # seven images in a pass
    probe = Probe(tiny_net)
    curves = perturbation_curves(probe, images, maps, target, steps=4, fill="mean")
    assert torch.allclose(curves.shares, torch.tensor([0, 0.25, 0.5, 0.75, 1.0]))
    hidden = filling(images, "mean")
    for step, share in enumerate(curves.shares.tolist()):
        top = top_share(maps, share).float()
        for own, kept in ((curves.insertion, top), (curves.deletion, 1 - top)):
            expected = class_probability(tiny_net, images * kept + hidden * (1 - kept), target)
            assert torch.allclose(own[:, step], expected, atol=1e-6)
    monkeypatch.undo()  # all images in one pass
    together = perturbation_curves(probe, images, maps, target, steps=4, fill="mean")
    assert torch.allclose(together.insertion, curves.insertion, atol=1e-6)
    assert torch.allclose(together.deletion, curves.deletion, atol=1e-6)
    rounded = perturbation_curves(probe, images, maps, target, steps=3)  # 86 pixels, and what is left of 256
    assert (256 * rounded.shares).tolist() == [0, 86, 172, 256]
    one = perturbation_curves(probe, images, maps, target, steps=1)
    assert one.insertion.shape == (3, 2)
    many = perturbation_curves(probe, images, maps, target, steps=10_000)
    assert many.insertion.shape == (3, 257)
    with pytest.raises(ValueError, match="steps must be at least 1"):
        perturbation_curves(probe, images, maps, target, steps=0)
    none = perturbation_curves(probe, images[:0], maps[:0], target[:0])
    assert none.insertion.shape[0] == 0


def test_passes_are_as_large_as_a_cpus_caches(tiny_net, images, target, monkeypatch):
    probe = Probe(tiny_net)
    assert probe.at_once(torch.empty(1, 3, 64, 64)) == 64
    assert probe.at_once(torch.empty(1, 3, 4000, 4000)) == 1
    whole = probe(images, target)
    monkeypatch.setattr("gan_lib.metrics.curves.CACHED", 16 * 16)
    assert probe.at_once(images) == 1
    assert torch.allclose(probe(images, target), whole, atol=1e-6)
    monkeypatch.undo()
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
        (quantus.PointingGame(disable_warnings=True), pointing_game),
        (quantus.RelevanceMassAccuracy(disable_warnings=True), mass_inside),
    ):
        expected = np.array(theirs(**common), dtype=float)
        assert np.allclose(ours(maps, evidence).numpy(), expected, atol=1e-4)
    theirs = quantus.Complexity(disable_warnings=True)
    expected = theirs(model=None, x_batch=images.numpy(), y_batch=common["y_batch"], a_batch=maps.numpy())
    assert np.allclose(entropy(maps).numpy(), expected, atol=1e-4)
    other = maps.flip(-1)
    for row, own in enumerate(rank_correlation(maps, other).tolist()):
        first, second = maps[row, 0].numpy(), other[row, 0].numpy()
        rho = quantus.similarity_func.correlation_spearman(first.ravel(), second.ravel())
        assert own == pytest.approx(rho, abs=1e-4)
    assert structural_similarity(maps, maps).tolist() == pytest.approx([1.0] * 3, abs=1e-5)
    assert structural_similarity(maps, other).mean() < 0.3


# -- maps as such ------------------------------------------------------------------------------------


def test_entropy_and_iou_by_hand():
    single = torch.zeros(1, 1, 4, 4)
    single[..., 1, 1] = 1
    found = entropy(torch.cat([single, torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)])).tolist()
    assert found == pytest.approx([0, math.log(16), math.nan], nan_ok=True)
    evidence = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    evidence[..., :2, :2] = True
    half = torch.zeros(1, 1, 4, 4)
    half[..., :2, 1:3] = 1
    assert float(iou_at_area(half, evidence)) == pytest.approx(2 / 6)


def test_adcc_by_hand(maps):
    before, after = torch.tensor([0.8, 0.5, 0.9]), torch.tensor([0.4, 0.9, 0.9])
    kept, simplicity = [0.5, 1.0, 1.0], (1 - maps.mean((1, 2, 3))).tolist()
    expected = [3 / (1 + 1 / s + 1 / k) for s, k in zip(simplicity, kept, strict=True)]
    assert adcc(maps, maps, before, after).tolist() == pytest.approx(expected, rel=1e-5)
    one, other = torch.tensor([[[[1.0, 0.0, 1.0, 0.0]]]]), torch.tensor([[[[1.0, 1.0, 0.0, 0.0]]]])
    assert adcc(one, other, *torch.ones(2, 1)).tolist() == pytest.approx([3 / (2 + 2 + 1)])  # uncorrelated
    assert adcc(maps, 1 - maps, before, after).abs().max() < 1e-6
    assert adcc(torch.zeros_like(maps), maps, before, after).tolist() == [0, 0, 0]
    assert adcc(maps, maps, torch.zeros(3), after).isnan().all()  # no probability to lose


def test_sensitivity_of_what_never_moves(tiny_net, images, maps, target):
    still = max_sensitivity(lambda pictures, _: maps[:1].expand(len(pictures), -1, -1, -1), images, target)
    assert still.tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    gradients, again = (max_sensitivity(Saliency(tiny_net).attribute, images, target) for _ in range(2))
    assert gradients.mean() > 0.01
    assert torch.equal(gradients, again)
    assert max_sensitivity(Saliency(tiny_net).attribute, images[:0], target[:0]).shape == (0,)


# -- sanity ------------------------------------------------------------------------------------------


def test_sanity_checks_tell_what_looks_at_the_cnn(tiny_net, images, target):
    methods = {
        "grad_cam": lambda net, x, y: GradCAM(net, "features.5").attribute(x, y),
        "edges": lambda net, x, y: Edges(net).attribute(x, y),
    }
    before = copy.deepcopy(tiny_net.state_dict())
    table, logits = sanity_checks(methods, tiny_net, images, target, stages=2, classes=4)
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
    logits = logits.set_index("method")
    assert logits.loc["edges", "rank"] == pytest.approx(1)
    assert logits.loc["grad_cam", "rank_n"] > 0  # maps of zeros have no ranks
    assert logits.loc["grad_cam", "rank"] < 0.99


def test_the_other_class_is_another_one_and_random(tiny_net, images):
    asked = []

    def explain(net, pictures, target):
        asked.append(target.tolist())
        return pictures[:, :1] * (target[:, None, None, None] + 1) / 4

    target = torch.tensor([0, 1, 2, 3]).repeat(30)
    pictures = images[:1].expand(120, -1, -1, -1)
    forgetting, other = sanity_checks({"m": explain}, tiny_net, pictures, target, stages=1, classes=4)
    assert asked[:2] == [target.tolist()] * 2  # at first, and of the forgetful CNN
    pairs = set(zip(target.tolist(), asked[2], strict=True))
    assert pairs == {(a, b) for a in range(4) for b in range(4) if a != b}
    assert forgetting["ssim"].tolist() == pytest.approx([1], abs=1e-5)
    assert other["rank"].tolist() == pytest.approx([1])
    assert other["ssim"].tolist() < [0.95]
    assert (other["ssim_low"] <= other["ssim"]).all()
    assert other["ssim_n"].tolist() == [120]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"methods": {}}, "methods must be at least 1"),
        ({"images": 0}, "images must be at least 1"),
        ({"stages": 0}, "stages must be at least 1"),
        ({"classes": 1}, "other_classes must be at least 1"),
    ],
)
def test_nothing_to_check(tiny_net, images, target, changed, message):
    given = {"methods": {"edges": lambda net, x, y: Edges(net).attribute(x, y)}, "images": 3} | changed
    count = given.pop("images")
    with pytest.raises(ValueError, match=message):
        sanity_checks(
            cnn=tiny_net,
            images=images[:count],
            target=target[:count],
            **({"stages": 2, "classes": 4} | given),
        )


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


def test_similarity_of_a_few_maps_at_a_time(monkeypatch):
    maps, others = torch.rand(2, 5, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    whole = structural_similarity(maps, others)
    assert len(whole.unique()) == 5, "or nothing could be out of order"
    monkeypatch.setattr("gan_lib.metrics.similarity.PIXELS", 2 * 24 * 24)
    torch.testing.assert_close(structural_similarity(maps, others), whole)
    monkeypatch.setattr("gan_lib.metrics.similarity.PIXELS", 1)
    torch.testing.assert_close(structural_similarity(maps[:1], others[:1]), whole[:1])
