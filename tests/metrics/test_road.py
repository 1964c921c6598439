"""ROAD and its imputation, against pytorch-grad-cam's and against what can be worked out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from gan_lib.core.masking import top_share
from gan_lib.metrics import Probe, imputation, road_curves, road_score
from gan_lib.metrics.imputation import Imputer
from gan_lib.metrics.road import NOISE, UNDONE


def impute(images, known, noise=0.0, seed=0):
    drawn = noise * torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    return Imputer()(images, known, drawn if noise else None)


@pytest.fixture
def maps():
    return torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (3, 5)])
def test_imputation_is_pytorch_grad_cams(share, size):
    road = pytest.importorskip("pytorch_grad_cam.metrics.road", exc_type=ImportError)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 3, *size, generator=generator)
    smooth = F.interpolate(torch.rand(3, 1, 4, 4, generator=generator), size=size, mode="bicubic")
    noisy = torch.rand(3, 1, *size, generator=generator)
    for maps in (smooth, noisy):
        known = ~top_share(maps, share)
        ours = impute(images, known)
        for row in range(3):
            theirs = road.NoisyLinearImputer(noise=0)(images[row], known[row, 0].float())
            assert torch.allclose(ours[row], theirs, atol=1e-4)


def test_road_scores_are_pytorch_grad_cams(tiny_net, images, maps):
    road = pytest.importorskip("pytorch_grad_cam.metrics.road", exc_type=ImportError)
    target = torch.tensor([0, 2, 3])
    targets = [lambda output, c=c: output.softmax(-1)[c] for c in target.tolist()]
    imputer = road.NoisyLinearImputer(noise=0)
    highest, lowest = road_curves(Probe(tiny_net), images, maps, target, shares=(0.25, 0.5), noise=0)
    for column, share in enumerate((0.25, 0.5)):
        for kind, own, percentile in (
            (road.RemoveMostRelevantFirst, highest, 100 * (1 - share)),
            (road.RemoveLeastRelevantFirst, lowest, 100 * (1 - share)),
        ):
            metric = road.PerturbationConfidenceMetric(kind(percentile, imputer))
            theirs = metric(images, maps[:, 0].numpy(), targets, tiny_net, return_diff=False)
            assert np.allclose(own[:, column].numpy(), theirs, atol=1e-4)
    by_hand = (torch.tensor([[0.2, 0.4]]), torch.tensor([[0.9, 0.5]]))  # (0.7 + 0.1) / 2 / 2
    assert road_score(by_hand).tolist() == pytest.approx([0.2])


def test_imputation_of_what_is_known_and_unknown():
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    everything = torch.ones(2, 1, 8, 8, dtype=torch.bool)
    assert torch.equal(impute(images, everything), images)
    nothing = impute(images, ~everything)
    assert torch.allclose(nothing, images.mean((2, 3), keepdim=True).expand_as(images), atol=1e-6)
    ramp = torch.linspace(0, 1, 9).expand(1, 1, 9, 9).contiguous()  # linear: the solution between borders
    inner = torch.ones(1, 1, 9, 9, dtype=torch.bool)
    inner[..., 2:7, 2:7] = False
    assert torch.allclose(impute(ramp, inner), ramp, atol=1e-5)
    known = top_share(images.mean(1, keepdim=True), 0.5)
    first, second = impute(images, known, 0.1, seed=1), impute(images, known, 0.1, seed=1)
    assert torch.equal(first, second)
    spread = (first - impute(images, known))[~known.expand_as(images)].std()
    assert 0.07 < spread < 0.13
    assert torch.equal(first[known.expand_as(images)], images[known.expand_as(images)])


def test_imputation_in_parts_is_the_same(monkeypatch):
    images = torch.rand(5, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    known = top_share(images.mean(1, keepdim=True), 0.4)
    whole = impute(images, known, 0.01, seed=2)
    monkeypatch.setattr("gan_lib.metrics.imputation.AT_ONCE", 300)
    assert torch.allclose(impute(images, known, 0.01, seed=2), whole, atol=1e-4)


def test_an_imputer_used_again_remembers_no_images():
    generator = torch.Generator().manual_seed(0)
    imputer = Imputer()
    for size in ((24, 17), (24, 17), (9, 30)):
        images = torch.rand(4, 3, *size, generator=generator)
        known = top_share(torch.rand(4, 1, *size, generator=generator), 0.3)
        assert torch.equal(imputer(images, known), impute(images, known))
        assert imputer(images[:0], known[:0]).shape == (0, 3, *size)


def test_black_surroundings_are_solved_at_once(monkeypatch):
    images = torch.zeros(2, 3, 28, 28)
    images[1, :, :, 17:] = 1.0
    known = torch.ones(2, 1, 28, 28, dtype=torch.bool)
    known[..., 4:16, 4:16] = False  # surrounded by black, with white one pixel further
    asked = []
    multiply = imputation._Level.multiply
    monkeypatch.setattr(imputation._Level, "multiply", lambda *a: asked.append(1) or multiply(*a))
    assert torch.allclose(impute(images, known), images, atol=1e-4)
    assert len(asked) < 60  # all levels; 200 iterations would take 2000


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("side", [64, 224])
def test_what_roads_solver_leaves_undone_is_below_a_third_of_its_noise(share, side):
    generator = torch.Generator().manual_seed(0)
    images = F.interpolate(torch.rand(2, 3, 9, 9, generator=generator), size=(side, side), mode="bicubic")
    rough = torch.rand(2, 1, side, side, generator=generator)
    smooth = F.interpolate(torch.rand(2, 1, 5, 5, generator=generator), size=(side, side), mode="bicubic")
    for maps in (smooth, rough):
        known = ~top_share(maps, share)
        error = (Imputer(UNDONE)(images, known) - Imputer(1e-7)(images, known)).square()
        assert error[~known.expand_as(images)].mean().sqrt() < NOISE / 3


def test_road_does_not_depend_on_how_many_images_are_solved_together(tiny_net, images, maps, monkeypatch):
    probe, target = Probe(tiny_net), torch.tensor([0, 2, 3])
    shares = (0.1, 0.5, 0.9)
    whole = torch.stack(road_curves(probe, images, maps, target, shares))

    def corner(pictures, _):
        return pictures[:, 0, 0, 0]

    noisy = torch.stack(road_curves(corner, images, maps, target, shares, noise=0.5))
    monkeypatch.setattr(imputation, "AT_ONCE", 1)
    alone = torch.stack(road_curves(corner, images, maps, target, shares, noise=0.5))
    assert torch.allclose(alone, noisy, atol=0.05)  # the noise is each image's own
    assert torch.allclose(torch.stack(road_curves(probe, images, maps, target, shares)), whole, atol=1e-3)
    with pytest.raises(ValueError, match="shares must be at least 1"):
        road_curves(probe, images, maps, target, shares=())
    nothing = road_curves(probe, images[:0], maps[:0], target[:0], shares=(0.5,))
    assert [part.shape for part in nothing] == [(0, 1), (0, 1)]
