"""Hidden layers as places and channels, and how much the places matter."""

from __future__ import annotations

import pytest
import torch
from captum.attr import LayerDeepLift, LayerGradCam, LayerGradientXActivation
from torch import nn
from torchvision.models import resnet18

from gan_lib.concepts import (
    METHODS,
    HiddenLayer,
    LayerRelevance,
)


def test_the_last_layer_with_places_is_found(net, images):
    hidden = HiddenLayer(net, image_size=(16, 16))
    assert (hidden.layer, hidden.channels, hidden.size) == ("features.6", 10, (8, 8))
    made = hidden(images)
    assert torch.allclose(made, net.features(images), atol=1e-6)  # another layout rounds otherwise
    assert torch.allclose(hidden.logits(images, lambda own: own), net(images), atol=1e-5)
    assert torch.allclose(hidden.logits(images, torch.zeros_like), net.head.bias.expand(3, -1), atol=1e-6)


def test_of_a_module_that_runs_twice_what_holds_it():
    hidden = HiddenLayer(resnet18().eval(), image_size=(64, 64))
    assert hidden.layer == "layer4.1"
    assert hidden(torch.rand(2, 3, 64, 64)).shape == (2, 512, 2, 2)


def test_unknown_layer_and_layer_without_places(net):
    with pytest.raises(KeyError, match=r"features\.6"):
        HiddenLayer(net, "feature.6", (16, 16))
    with pytest.raises(ValueError, match="no places"):
        HiddenLayer(net, "head", (16, 16))


@pytest.mark.parametrize("target", [None, 1, torch.tensor([0, 3, 2])])
def test_relevance_is_captums(net, hidden, images, target):
    chosen = net(images).argmax(1) if target is None else torch.as_tensor(target).expand(3)
    module = net.features[6]
    net.requires_grad_(True)  # as Captum's own methods need it
    expected = {
        "deep_lift": LayerDeepLift(net, module).attribute(images, baselines=1.0, target=chosen),
        "gradient_x_activation": LayerGradientXActivation(net, module).attribute(images, target=chosen),
        "grad_cam": LayerGradCam(net, module).attribute(images, target=chosen, attr_dim_summation=False),
    }
    for method, raw in expected.items():
        made = LayerRelevance(hidden, method, samples=0)(images, target)
        assert torch.allclose(made, raw.relu().mean(1, keepdim=True), atol=1e-6), method


@pytest.mark.parametrize("method", METHODS)
def test_noise_is_seeded_and_nothing_is_left_behind(net, hidden, images, method):
    net.train()
    with torch.no_grad():
        made = LayerRelevance(hidden, method, samples=5)(images, 1)
        assert torch.equal(made, LayerRelevance(hidden, method, samples=5)(images, 1))
    assert made.shape == (3, 1, 8, 8)
    assert made.min() >= 0
    assert net.training
    assert not any(module._forward_hooks or module._backward_hooks for module in net.modules())
    other = LayerRelevance(hidden, method, samples=5, seed=1)(images, 1)
    assert not torch.equal(made, other)


def test_relevance_refuses(hidden, images):
    with pytest.raises(ValueError, match="deep_lift"):
        LayerRelevance(hidden, "lime")
    with pytest.raises(ValueError, match="negative"):
        LayerRelevance(hidden, samples=-1)
    with pytest.raises(IndexError):
        LayerRelevance(hidden, samples=0)(images, 9)
    with pytest.raises(ValueError, match="target"):
        LayerRelevance(hidden, samples=0)(images, torch.tensor([1]))


@pytest.mark.parametrize("samples", [0, 2])
@pytest.mark.parametrize("method", ["deep_lift", "gradient_x_activation", "grad_cam", "integrated_gradients"])
def test_a_single_call_of_a_module_is_as_a_module_of_its_own(method, samples):
    """Captum's methods on a CNN with two ReLUs, ours on the same CNN with one ReLU that runs twice."""

    class Net(nn.Module):
        def __init__(self, shared: bool) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.deep = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1, stride=2)
            self.first, self.fc = nn.ReLU(), nn.Linear(8, 3)
            self.second = self.first if shared else nn.ReLU()

        def forward(self, images):
            return self.fc(self.second(self.deep(self.first(self.conv(images)))).mean((2, 3)).square())

    images = torch.rand(3, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    two, one = Net(shared=False).eval(), Net(shared=True).eval()
    expected = LayerRelevance(HiddenLayer(two, "second", (12, 12)), method, samples)(images, 1)
    made = LayerRelevance(HiddenLayer(one, "first#1", (12, 12)), method, samples)(images, 1)
    assert expected.any()
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("layer", ["features.1", "features.4", "features.6"])
@pytest.mark.parametrize("target", [None, 2])
def test_weighted_activations_from_one_pass_are_captums(net, layer, target):
    """Gradient times activation by Captum, positive parts, mean over channels, times the activation."""
    hidden = HiddenLayer(net, layer, (16, 16))
    relevance = LayerRelevance(hidden, "gradient_x_activation", samples=0)
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(7))
    expected = relevance(images, target) * hidden(images)
    assert expected.abs().max() > 0
    torch.testing.assert_close(relevance.weighted(images, target), expected, rtol=1e-5, atol=1e-8)
    again = LayerRelevance(hidden, "gradient_x_activation", samples=2)
    torch.testing.assert_close(
        again.weighted(images, target), again(images, target) * hidden(images), rtol=1e-5, atol=1e-8
    )


def test_the_gradient_at_a_layer_leaves_the_cnn_as_it_was(net):
    net.train().requires_grad_(True)
    net.features[3].requires_grad_(False)
    hidden = HiddenLayer(net, "features.6", (16, 16))
    images = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        activation, gradient = hidden.with_gradient_of(images, torch.tensor([1, 3]))
    # The head is linear behind a mean: the gradient is the class's weight over the number of places.
    weight = net.head.weight.detach()[[1, 3]]
    places = activation.shape[-1] * activation.shape[-2]
    torch.testing.assert_close(gradient, (weight / places)[..., None, None].expand_as(gradient))
    assert not activation.requires_grad
    assert net.training
    assert net.head.weight.requires_grad
    assert not net.features[3].weight.requires_grad
    assert all(own.grad is None for own in net.parameters())
    assert not any(module._forward_hooks for module in net.modules())
    with torch.inference_mode(), pytest.raises(RuntimeError, match="inference_mode forbids"):
        LayerRelevance(hidden, "gradient_x_activation", samples=0).weighted(images)
