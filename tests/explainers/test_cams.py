"""Class activation maps, worked out by hand where a CNN is its own last layer, and against other libraries."""

from __future__ import annotations

import pytest
import torch
from pytorch_grad_cam import GradCAMPlusPlus as TheirPlusPlus
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn
from torchcam.methods import LayerCAM as TheirLayerCAM
from torchcam.methods import XGradCAM as TheirXGradCAM

from gan_lib.classifiers import make_classifier
from gan_lib.core.grad_cam import layer_activations, layer_gradients
from gan_lib.core.maps import min_max
from gan_lib.explainers import (
    EigenCAM,
    GradCAM,
    GradCAMPlusPlus,
    LayerCAM,
    ScoreCAM,
    XGradCAM,
)

ALL = (GradCAM, GradCAMPlusPlus, LayerCAM, XGradCAM, EigenCAM, ScoreCAM)


class Weighted(nn.Module):
    """Logits are the image's places times weights of their own, (K, 3, H, W): a gradient is a weight."""

    def __init__(self, weights: list[list[list[float]]]) -> None:
        super().__init__()
        self.layer = nn.Identity()
        self.weights = nn.Parameter(torch.tensor(weights)[:, :, None])  # (K, 3, 1, W)

    def forward(self, images):
        return (self.layer(images)[:, None] * self.weights).sum((2, 3, 4))


# Two places, a row: what red, green and blue are there, and what they count for class 1.
PICTURE = torch.tensor([[1.0, 0.5], [0.2, 0.4], [0.0, 1.0]])[None, :, None]  # (1, 3, 1, 2)
WEIGHTS = [[[0.0, 0.0]] * 3, [[2.0, -1.0], [1.0, 1.0], [-3.0, 0.5]]]


def raw(method, **options):
    return method(Weighted(WEIGHTS), "layer", **options).raw(PICTURE, torch.tensor([1])).flatten().tolist()


def test_layer_cam_by_hand():
    """relu(g) A: 2 * 1 + 1 * .2, and 0 + 1 * .4 + .5 * 1."""
    assert raw(LayerCAM) == pytest.approx([2.2, 0.9])


def test_xgrad_cam_by_hand():
    """Weights (2 * 1 - .5) / 1.5 = 1, 1, and (0 + .5) / 1 = .5; the map is 1 A_r + 1 A_g + .5 A_b."""
    assert raw(XGradCAM) == pytest.approx([1.2, 1.4])


def test_a_channel_that_adds_up_to_nothing_has_no_weight_in_xgrad_cam():
    net, picture = Weighted(WEIGHTS), PICTURE.clone()
    picture[0, 2] = torch.tensor([-1.0, 1.0])
    made = XGradCAM(net, "layer").raw(picture, torch.tensor([1])).flatten().tolist()
    assert made == pytest.approx([1.2, 0.9])


def test_grad_cam_plus_plus_by_hand():
    """alpha = g^2 / (2 g^2 + g^3 S): 4 / (8 + 8 * 1.5) = .2 of red, 1 / (2 + .6) of green twice, and of blue
    .25 / (.5 + .125) = .4; weights .2 * 2, 2 / 2.6 and .4 * .5."""
    red, green, blue = 0.4, 2 / 2.6, 0.2
    expected = [red + 0.2 * green, 0.5 * red + 0.4 * green + blue]
    assert raw(GradCAMPlusPlus) == pytest.approx(expected)


def test_eigen_cam_by_hand():
    """All of an image's places are multiples of one colour: the component is their lengths."""
    colour = torch.tensor([2.0, 1.0, 2.0]).view(1, 3, 1, 1) / 6
    shares = torch.tensor([1.0, 3.0, 2.0, 0.0]).view(1, 1, 2, 2) / 2
    made = EigenCAM(Weighted([[[1.0, 1.0]] * 3]), "layer").raw(colour * shares, None)
    assert torch.allclose(made, shares / 2, atol=1e-6)
    for sign in (1, -1):  # it adds up to no less than 0
        mixed = sign * colour * torch.tensor([3.0, -1.0, -1.0, 0.0]).view(1, 1, 2, 2)
        expected = torch.tensor([1.5, 0, 0, 0]).view(1, 1, 2, 2)
        assert torch.allclose(EigenCAM(Weighted([[[1.0, 1.0]] * 3]), "layer").raw(mixed, None), expected)


def test_score_cam_by_hand():
    """Masks 1, 0 of red and 0, 1 of green and blue; what is seen gets the class's logit alone."""
    left = 2 * 1.0 + 1 * 0.2
    right = -0.5 + 0.4 + 0.5
    shares = (
        torch.tensor([left, right, right]).sigmoid() - 0.5
    )  # of two classes, the other at 0; black has .5
    expected = (shares.view(3, 1) * PICTURE[0, :, 0]).sum(0)
    assert raw(ScoreCAM) == pytest.approx(expected.tolist())


def test_score_cam_of_the_channels_that_vary_most():
    """Blue varies by 1, red by .5, green by .2."""
    left, right = torch.tensor([2.2, 0.4]).sigmoid().tolist()
    one = raw(ScoreCAM, channels=1)
    assert one == pytest.approx([0, right - 0.5])
    assert raw(ScoreCAM, channels=2) == pytest.approx([left - 0.5, 0.5 * (left - 0.5) + right - 0.5])
    assert raw(ScoreCAM, channels=9) == raw(ScoreCAM)


def test_score_cam_asks_by_what_the_outputs_mean():
    """One label of several: a sigmoid, and of the other label nothing."""
    net = Weighted([[[5.0, -7.0]] * 3, WEIGHTS[1]])
    net.output = "multi_label"
    made = ScoreCAM(net, "layer").raw(PICTURE, torch.tensor([1])).flatten().tolist()
    assert made == pytest.approx(raw(ScoreCAM))


def test_masks_are_asked_in_many_passes(tiny_net, images, monkeypatch):
    whole = ScoreCAM(tiny_net, "features.5").raw(images, 2)
    monkeypatch.setattr("gan_lib.explainers.cams.AT_ONCE", 5)
    assert torch.allclose(ScoreCAM(tiny_net, "features.5").raw(images, 2), whole, atol=1e-6)


@pytest.fixture(scope="module")
def slim():
    torch.manual_seed(1)
    return make_classifier("slim_resnet", ["a", "b", "c"], seed=2).eval(), torch.rand(2, 3, 64, 64)


@pytest.mark.parametrize("layer", ["backbone.layer2", "backbone.layer3"])
def test_equal_to_other_libraries(slim, layer):
    """Behind a ReLU, where their small constants in denominators matter least: within 1e-3 of the peak."""
    cnn, pictures = slim
    for ours, theirs in ((LayerCAM, TheirLayerCAM), (XGradCAM, TheirXGradCAM)):
        with theirs(cnn, layer) as extractor:
            expected = extractor([1, 1], cnn(pictures), normalized=False)[0].relu()
        made = layer_made(ours, cnn, layer, pictures)
        assert expected.max() > 0
        assert torch.allclose(made, expected, atol=1e-3 * expected.max())
    with TheirPlusPlus(cnn, [cnn.get_submodule(layer)]) as extractor:
        expected = torch.tensor(extractor(pictures, [ClassifierOutputTarget(1)] * 2))
    made = min_max(GradCAMPlusPlus(cnn, layer).raw(pictures, 1))[:, 0]
    # Theirs is scaled before it is enlarged.
    assert torch.cosine_similarity(made.flatten(1), expected.flatten(1)).min() > 0.99


def layer_made(method, cnn, layer, pictures):
    """The map before it is enlarged, (B, h, w)."""
    return method(cnn, layer).combined(pictures, layer, 1).relu()[:, 0]


@pytest.mark.parametrize("method", ALL)
def test_a_batch_and_its_images_alone(tiny_net, images, method):
    explainer = method(tiny_net)
    together = explainer.attribute(images, [2, 0, 1])
    alone = torch.cat([explainer.attribute(images[i : i + 1], (2, 0, 1)[i]) for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("method", [EigenCAM, ScoreCAM])
def test_some_need_no_gradients(tiny_net, images, method):
    with torch.inference_mode():
        made = method(tiny_net).attribute(images, 2)
    assert torch.allclose(made, method(tiny_net).attribute(images, 2), atol=1e-6)
    with torch.inference_mode(), pytest.raises(RuntimeError, match="inference_mode"):
        LayerCAM(tiny_net).attribute(images)


class Turned(nn.Module):
    """The same convolution as channels last, or as rows of tokens behind one of the class."""

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head, self.kind = nn.Conv2d(3, 5, 4, stride=4), nn.Linear(5, 4), kind
        self.layer = nn.ReLU()

    def forward(self, pictures):
        made = self.conv(pictures)
        if self.kind == "channels last":
            return self.head(self.layer(made.permute(0, 2, 3, 1)).mean((1, 2)))
        if self.kind == "tokens":
            rows = made.flatten(2).transpose(1, 2)
            extra = torch.zeros_like(rows[:, :1])
            return self.head(self.layer(torch.cat([extra, rows], 1))[:, 1:].mean(1))
        return self.head(self.layer(made).mean((2, 3)))


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("kind", ["channels last", "tokens"])
def test_every_layout(method, kind):
    pictures = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(3))
    expected = method(Turned("channels first"), "layer").combined(pictures, "layer", 2)
    assert expected.shape == (2, 1, 4, 6)
    assert expected.abs().max() > 0
    made = method(Turned(kind), "layer").combined(pictures, "layer", 2)
    assert torch.allclose(made, expected, atol=1e-5)


def test_activations_and_gradients_of_layers(tiny_net, images):
    layers = ["features.2", "features.6"]
    found = layer_gradients(tiny_net, images, layers, 2)
    seen = layer_activations(tiny_net, images, layers)
    assert list(found.activations) == list(found.gradients) == list(seen.activations) == layers
    for layer in layers:
        assert torch.equal(found.activations[layer], seen.activations[layer])
        assert found.gradients[layer].shape == found.activations[layer].shape
        assert not found.activations[layer].requires_grad
    assert torch.equal(found.logits, seen.logits)
    # features.6 is pooled and weighed by the head.
    expected = tiny_net.head.weight[2].view(1, 8, 1, 1).expand(3, -1, 8, 8) / 64
    assert torch.allclose(found.gradients["features.6"], expected)
    before = images.clone()
    layer_activations(nn.Sequential(nn.ReLU(inplace=True), tiny_net), images - 0.5, ["1.features.0"])
    assert torch.equal(images, before)


def test_score_cam_of_no_channel_is_refused(tiny_net):
    with pytest.raises(ValueError, match="channels must be at least 1, not 0"):
        ScoreCAM(tiny_net, channels=0)
