"""Relevance worked out by hand, and what it adds up to."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import get_model

from gan_lib.classifiers import make_classifier
from gan_lib.explainers import LRP
from gan_lib.explainers.lrp import relevance_copy


def convolution(*weights):
    """1 x 1, without bias: a row of weights for each channel that it makes."""
    made = nn.Conv2d(len(weights[0]), len(weights), 1, bias=False)
    made.weight = nn.Parameter(torch.tensor(weights)[:, :, None, None])
    return made


def linear(*weights):
    made = nn.Linear(len(weights[0]), len(weights), bias=False)
    made.weight = nn.Parameter(torch.tensor(weights))
    return made


PICTURE = torch.tensor([[0.5, 1.0], [1.0, 0.0], [0.25, 0.5]])[None, :, None]  # (1, 3, 1, 2)


def test_three_layers_by_hand():
    """Places hold (.5, 1, .25) and (1, 0, .5). The first layer makes a = r + g and b = 2 b - r, the second
    c = 2 a - b and d = a + b of what ReLU leaves, means of these are weighed by 3 and -1.

    a = 1.5, 1 and b = 0, 0; c = 3, 2 and d = 1.5, 1; means 2.5 and 1.25; the logit is 7.5 - 1.25 = 6.25, of which
    7.5 is c's and -1.25 d's. The mean shares 7.5 out as 3 : 2, 4.5 and 3, and -1.25 as -.75 and -.5. By z-plus all
    of it is a's, 3.75 and 2.5; the flat first layer shares a place's equally among its three colours."""
    net = nn.Sequential(
        convolution([1.0, 1.0, 0.0], [-1.0, 0.0, 2.0]),
        nn.ReLU(inplace=True),
        convolution([2.0, -1.0], [1.0, 1.0]),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        linear([0.0, 0.0], [3.0, -1.0]),
    ).eval()
    made = LRP(net).attributions(PICTURE, 1)
    expected = torch.tensor([3.75, 2.5]).view(1, 1, 1, 2).expand(1, 3, 1, 2) / 3
    assert torch.allclose(made, expected, atol=1e-4)
    maps = LRP(net).attribute(PICTURE, 1)
    assert maps.flatten().tolist() == pytest.approx([1, 0])


def test_by_z_plus_only_what_adds_to_a_convolution_has_relevance():
    """a = 1.5 and 1; 2 a - 1 a of two places makes 2, all of which is the first place's."""
    both = nn.Conv2d(1, 1, (1, 2), bias=False)
    both.weight = nn.Parameter(torch.tensor([2.0, -1.0]).view(1, 1, 1, 2))
    net = nn.Sequential(convolution([1.0, 1.0, 0.0]), both, nn.ReLU(), nn.Flatten(), linear([3.0])).eval()
    made = LRP(net).attributions(PICTURE, 0).sum(1).flatten()
    assert made.tolist() == pytest.approx([6, 0], abs=1e-4)


class Around(nn.Module):
    """a = r + g, and a + 2 b of what a way around it made, in functions alone."""

    def __init__(self):
        super().__init__()
        self.first, self.aside = convolution([1.0, 1.0, 0.0]), convolution([2.0])
        self.last = linear([1.0], [-1.0])

    def forward(self, images):
        own = F.relu(self.first(images), inplace=True)
        made = torch.relu_(own + self.aside(own))
        return self.last(made.mean((2, 3)))


def test_a_residual_shares_out_by_what_each_way_adds():
    """a = 1.5 and 1 at two places, tripled: a third goes by each way alone, and comes together at a again."""
    made = LRP(Around().eval()).attributions(PICTURE, 0)
    assert made.sum().item() == pytest.approx(3.75, abs=1e-4)  # the logit, 3 (1.5 + 1) / 2
    assert made.sum(1).flatten().tolist() == pytest.approx([2.25, 1.5], abs=1e-4)
    against = LRP(Around().eval()).attribute(PICTURE, 1)
    assert not against.any(), "nothing speaks for a class whose logit is below 0 everywhere"


class Padded(nn.Module):
    """Sums of a = r + g, twice as wide by padding: (1.5, 1) with zeros around or its own copies."""

    def __init__(self, mode, layer=None):
        super().__init__()
        self.mode, self.layer = mode, layer
        self.first, self.last = convolution([1.0, 1.0, 0.0]), linear([3.0])

    def forward(self, images):
        inner = self.first(images)
        padded = self.layer(inner) if self.layer else F.pad(inner, (1, 1, 0, 0), mode=self.mode)
        return self.last(padded.mean((2, 3)))


@pytest.mark.parametrize(
    ("net", "left", "right"),
    [
        (Padded("constant"), 1.5, 1.0),
        (Padded("replicate"), 3.0, 2.0),
        (Padded("reflect"), 3.0, 2.0),  # 1, 1.5, 1, 1.5: each place is there twice
        (Padded("", nn.ReplicationPad2d((1, 1, 0, 0))), 3.0, 2.0),
        (Padded("", nn.ZeroPad2d((1, 1, 0, 0))), 1.5, 1.0),
    ],
)
def test_what_is_padded_gives_relevance_back_to_where_it_is_from(net, left, right):
    """Four places weigh 3 / 4 each, and the flat first layer gives what is a place's to its colours."""
    made = LRP(net.eval()).attributions(PICTURE, 0).sum(1).flatten()
    assert made.tolist() == pytest.approx([0.75 * left, 0.75 * right], abs=1e-3)


@pytest.mark.parametrize("name", ["squeezenet1_1", "resnet18", "mobilenet_v2"])
def test_relevance_adds_up_to_the_score_without_biases(name):
    """Of torchvision's CNNs with no bias left, up to the stabilisers of the rules: within 1 %."""
    torch.manual_seed(0)
    cnn = get_model(name, weights=None, num_classes=5).eval().double()
    for module in cnn.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d) and module.bias is not None:
            nn.init.zeros_(module.bias)
    for module in cnn.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data.abs_()  # nothing for z-plus to leave out
    images = torch.rand(2, 3, 64, 64, dtype=torch.double) + 0.5
    with torch.no_grad():
        scores = cnn(images)[:, 1]
    total = LRP(cnn).raw(images.requires_grad_(), torch.tensor([1, 1])).sum((1, 2, 3))
    assert torch.allclose(total, scores, rtol=1e-2)


@pytest.mark.parametrize("name", ["slim_vgg", "slim_resnet", "slim_mobilenet", "resnet20"])
def test_batch_normalisation_and_the_wrapped_normalisation_pass(name):
    """The same maps for a CNN and for one whose images are scaled otherwise before the same layers."""
    cnn = make_classifier(name, ["a", "b", "c"], seed=2).eval()
    for module in cnn.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.bias, -0.2, 0.2)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    made = LRP(cnn).attributions(images, 1)
    assert made.abs().max() > 0
    other = copy.deepcopy(cnn)
    other.mean, other.std = other.mean + 0.5, other.std / 2
    # The same normalised images: (x' - m - .5) / (s / 2) = (x - m) / s.
    moved = (images - cnn.mean) / 2 + cnn.mean + 0.5
    assert torch.allclose(other(moved), cnn(images), atol=1e-4)
    close = LRP(other).raw(moved.requires_grad_(), torch.tensor([1, 1]))
    assert torch.allclose(close, made, atol=1e-3 * made.abs().max())


@pytest.mark.parametrize("side", [16, 48])
def test_relevance_of_scaled_images_is_shared_out_by_the_weights_of_the_scaling(side):
    """A CNN that scales images to 32 px: the relevance of their scaled pixels, carried back, none lost."""
    cnn = make_classifier("slim_vgg", ["a", "b", "c"], seed=2, input_size=(32, 32)).eval()
    plain = make_classifier("slim_vgg", ["a", "b", "c"], seed=2).eval()
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1), requires_grad=True)
    scaled = F.interpolate(images, (32, 32), mode="bilinear", antialias=True)
    relevance = LRP(plain).attributions(scaled.detach(), 1)
    (expected,) = torch.autograd.grad((scaled * relevance).sum(), images)
    made = LRP(cnn).attributions(images.detach(), 1)
    assert made.abs().max() > 0
    assert torch.allclose(made, expected, atol=1e-5 * made.abs().max())
    assert torch.allclose(made.sum((1, 2, 3)), relevance.sum((1, 2, 3)), rtol=1e-3)


def test_the_copy_gives_the_same_scores_and_follows(tiny_net, images):
    explainer = LRP(tiny_net)
    before = explainer.attributions(images, 2)
    with torch.no_grad():
        assert torch.allclose(relevance_copy(tiny_net)(images), tiny_net(images), atol=1e-6)
        tiny_net.features[0].weight.mul_(-1)
    after = explainer.attributions(images, 2)
    assert not torch.allclose(before, after)
    assert torch.allclose(after, LRP(tiny_net).attributions(images, 2))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in tiny_net.modules())


def test_what_outputs_mean_comes_after_the_last_layer(tiny_net, images):
    """A sigmoid's logarithm of odds is the logit again."""
    import gan_lib

    class Shares(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = tiny_net

        def forward(self, pictures):
            return self.net(pictures).sigmoid()

    options = {"mean": (0, 0, 0), "std": (1, 1, 1), "image_size": 16}
    labels = gan_lib.wrap(Shares(), output="multi_label_probabilities", **options)
    made, expected = (LRP(own).attributions(images, 2) for own in (labels, tiny_net))
    assert torch.allclose(made, expected, atol=1e-4 * expected.abs().max())


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, images):
        made = self.conv(images)
        return self.head((made * made.sigmoid()).mean((2, 3)))


class Branching(Attending):
    def forward(self, images):
        return self.head(self.conv(images if images.sum() > 0 else -images).mean((2, 3)))


class Weightless(nn.Module):
    def forward(self, images):
        return images.mean((2, 3))


@pytest.mark.parametrize(
    ("net", "told"),
    [
        (Attending(), "LRP has no rule for .* in Attending: take another method"),
        (Branching(), "LRP needs a CNN that torch.fx can trace, which Branching is not"),
        (Weightless(), "LRP needs a layer with weights, which Weightless does not have"),
    ],
)
def test_a_cnn_without_rules_is_refused(net, told):
    with pytest.raises(ValueError, match=told):
        relevance_copy(net)
