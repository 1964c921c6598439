"""The repaired sanity checks, on methods of which it is known what noise and new weights do to them."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

from gan_lib.classifiers import randomised
from gan_lib.explainers import Edges, GradCAM
from gan_lib.metrics import (
    discrete_entropy,
    efficient_sanity_scores,
    rank_correlation,
    sanity_scores,
    smooth_sanity_scores,
    smoothed,
)

TARGET = torch.tensor([0, 2, 3])


def brightness(net, pictures, target):
    return pictures.mean(1, keepdim=True)


def grad_cam(net, pictures, target):
    return GradCAM(net, "features.5").attribute(pictures, target)


def edges(net, pictures, target):
    return Edges(net).attribute(pictures, target)


def weighed(net, pictures, target):
    """What depends on the CNN's first layer alone."""
    kernel = net.features[0].weight.detach()[:1]  # (1, 3, 3, 3)
    return torch.nn.functional.conv2d(pictures, kernel, padding=1).sigmoid()


# -- entropy of values -------------------------------------------------------------------------------


def test_entropy_of_a_histogram_by_hand():
    maps = torch.tensor([[0.0, 0, 1, 1], [0, 0.3, 0.6, 1], [0, 0, 0, 1], [0.4] * 4, [0.2, 0.2, 0.3, 0.3]])
    expected = [math.log(2), math.log(4), -0.75 * math.log(0.75) - 0.25 * math.log(0.25), 0, math.log(2)]
    assert discrete_entropy(maps.view(5, 1, 2, 2), bins=4).tolist() == pytest.approx(expected)
    assert discrete_entropy(maps[1:2].view(1, 1, 2, 2), bins=2).tolist() == pytest.approx([math.log(2)])
    with pytest.raises(ValueError, match="bins must be at least 1"):
        discrete_entropy(maps.view(5, 1, 2, 2), bins=0)


def test_entropy_of_a_histogram_is_quantus(images):
    quantus = pytest.importorskip("quantus", exc_type=ImportError)
    if not hasattr(quantus.complexity_func, "discrete_entropy"):
        pytest.skip("a version of Quantus without it")
    maps = images.mean(1, keepdim=True)
    theirs = [quantus.complexity_func.discrete_entropy(a=own, x=own, n_bins=100) for own in maps.numpy()]
    assert np.allclose(discrete_entropy(maps).numpy(), theirs, atol=1e-5)


# -- averages over noisy copies ----------------------------------------------------------------------


def test_noisy_copies_and_their_mean(images):
    seen = []

    def explain(net, pictures, target):
        seen.append((pictures, target))
        return pictures[:, :1]

    dim = images * 0.2 + 0.4  # no copy leaves [0, 1]
    dim[1] = 0.4 + 0.5 * (dim[1] - 0.4)  # half the range
    maps = smoothed(explain, copies=40, noise=0.1, seed=3)(None, dim, TARGET)
    copies = torch.stack([pictures for pictures, _ in seen])  # (N, B, 3, H, W)
    assert len(copies) == 40
    assert all(torch.equal(target, TARGET) for _, target in seen)
    assert torch.allclose(maps, copies.mean(0)[:, :1], atol=1e-6)
    noise = copies - dim
    ranges = dim.flatten(1).amax(1) - dim.flatten(1).amin(1)
    assert noise.transpose(0, 1).flatten(1).std(1).tolist() == pytest.approx(
        (0.1 * ranges).tolist(), rel=0.02
    )
    assert noise.mean().abs() < 1e-3
    assert not torch.equal(noise[0], noise[1])
    bright = smoothed(explain, copies=1, noise=1.0)(None, images, TARGET)
    assert bright.min() == 0
    assert bright.max() == 1, "copies are images"
    assert torch.allclose(smoothed(explain, copies=3, noise=0)(None, images, TARGET), images[:, :1])


def test_noise_is_the_images_own(images):
    smooth = smoothed(brightness, copies=2, noise=0.2)
    whole = smooth(None, images, TARGET)
    assert torch.equal(smooth(None, images[[2, 0]], TARGET[[2, 0]]), whole[[2, 0]])
    assert torch.equal(smooth(None, images[1:2], TARGET[1:2]), whole[1:2])
    assert not torch.equal(smoothed(brightness, copies=2, noise=0.2, seed=1)(None, images, TARGET), whole)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"copies": 0}, "copies must be at least 1"),
        ({"noise": -0.1}, "noise is a share"),
        ({"noise": math.nan}, "noise is a share"),
    ],
)
def test_no_copies_and_negative_noise(changed, message):
    with pytest.raises(ValueError, match=message):
        smoothed(brightness, **changed)


# -- the smooth form ---------------------------------------------------------------------------------


def test_smooth_scores_step_by_step(tiny_net, images):
    before = copy.deepcopy(tiny_net.state_dict())
    methods = {"grad_cam": grad_cam, "edges": edges}
    table = smooth_sanity_scores(methods, tiny_net, images, TARGET, stages=2, copies=3, noise=0.2, seed=1)
    smooth = smoothed(grad_cam, 3, 0.2, seed=1)
    first = smooth(tiny_net, images, TARGET)
    own = table[table["method"] == "grad_cam"]
    assert own["share"].nunique() == 2
    for share, net in randomised(tiny_net, images[:1], 2, seed=1, bottom_up=True):
        expected = rank_correlation(first, smooth(net.requires_grad_(False), images, TARGET)).tolist()
        assert own[own["share"] == share]["rank"].tolist() == pytest.approx(expected, nan_ok=True)
    blind = table[table["method"] == "edges"]
    assert blind[["rank", "ssim"]].to_numpy() == pytest.approx(1, abs=1e-5)
    assert all(torch.equal(own, tiny_net.state_dict()[name]) for name, own in before.items())
    assert all(own.grad is None for own in tiny_net.parameters())


def test_without_noise_it_is_the_plain_check(tiny_net, images):
    given = (tiny_net, images, TARGET)
    plain, _ = sanity_scores({"grad_cam": grad_cam}, *given, stages=3, classes=4, seed=2)
    smooth = smooth_sanity_scores(
        {"grad_cam": grad_cam}, *given, stages=3, copies=1, noise=0, bottom_up=False, seed=2
    )
    assert smooth.equals(plain)


def test_from_the_first_layer_or_from_the_last(tiny_net, images):
    given = ({"weighed": weighed}, tiny_net, images, TARGET)
    settings = {"stages": 5, "copies": 1, "noise": 0}
    up = smooth_sanity_scores(*given, **settings).groupby("share")["rank"].mean()
    down = smooth_sanity_scores(*given, **settings, bottom_up=False).groupby("share")["rank"].mean()
    assert (up < 0.99).all(), "the first layer goes first"
    assert down.tolist()[:-1] == pytest.approx([1] * 4), "and last"
    assert down.iloc[-1] < 0.99


# -- the efficient form ------------------------------------------------------------------------------


def test_the_rise_by_hand(tiny_net):
    """Of two levels of values four are made, and of one level two: by whether the CNN is the one given."""
    levels = torch.tensor([[0.0, 0, 1, 1], [0.5] * 4]).view(2, 1, 2, 2)
    more = torch.tensor([[0.0, 0.3, 0.6, 1], [0, 0, 1, 1]]).view(2, 1, 2, 2)

    def explain(net, pictures, target):
        return levels if net is tiny_net else more

    images = torch.rand(2, 3, 16, 16)
    methods = {"rising": explain, "still": lambda net, pictures, target: levels}
    table = efficient_sanity_scores(methods, tiny_net, images, TARGET[:2], bins=4)
    rising, still = (table[table["method"] == name] for name in ("rising", "still"))
    assert rising["image"].tolist() == [0, 1]
    assert rising["complexity"].tolist() == pytest.approx([math.log(2), 0])
    assert rising["randomised"].tolist() == pytest.approx([math.log(4), math.log(2)])
    assert rising["rise"].tolist() == pytest.approx([1, math.nan], nan_ok=True)
    assert still["rise"].tolist() == pytest.approx([0, math.nan], nan_ok=True)


def test_all_layers_are_drawn_anew_by_the_seed(tiny_net, images):
    seen = []

    def explain(net, pictures, target):
        seen.append(net)
        assert not any(own.requires_grad for own in net.parameters()) or net is tiny_net
        return grad_cam(net, pictures, target)

    for seed in (0, 0, 1):
        efficient_sanity_scores({"grad_cam": explain}, tiny_net, images, TARGET, seed=seed)
    weights = [[own.weight for own in net.modules() if hasattr(own, "kernel_size")] for net in seen[1::2]]
    original = [own.weight for own in tiny_net.modules() if hasattr(own, "kernel_size")]
    assert not any(torch.equal(own, other) for own, other in zip(weights[0], original, strict=True))
    assert all(torch.equal(own, other) for own, other in zip(weights[0], weights[1], strict=True))
    assert not torch.equal(weights[0][0], weights[2][0])
    assert seen[0] is seen[2] is tiny_net


@pytest.mark.parametrize("check", [smooth_sanity_scores, efficient_sanity_scores])
def test_nothing_to_check_by_the_other_forms(tiny_net, images, check):
    more = {"stages": 1} if check is smooth_sanity_scores else {}
    with pytest.raises(ValueError, match="methods must be at least 1"):
        check({}, tiny_net, images, TARGET, **more)
    with pytest.raises(ValueError, match="images must be at least 1"):
        check({"edges": edges}, tiny_net, images[:0], TARGET[:0], **more)
