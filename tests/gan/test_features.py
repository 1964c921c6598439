"""Feature conditions: activations, the class's evidence, folding, and any CNN that ends in a linear layer."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from gan_lib.classifiers import folded, make_classifier
from gan_lib.core.capture import INPUT, Capture, last_places
from gan_lib.gan.conditions import ConditionMaker, FeatureMaker, pooled

TINY_LAYERS = ["features.0", "features.2", "features.5"]  # of the fixture tiny_net


CLASSES = ["a", "b", "c"]


def test_activations_are_those_of_the_cnn(tiny_net, images):
    maker = FeatureMaker(tiny_net, (16, 16), layers=TINY_LAYERS, fold=False)
    features = maker(images)
    with torch.no_grad(), Capture(tiny_net, TINY_LAYERS) as captured:
        logits = tiny_net(images)
    for layer, activation in zip(TINY_LAYERS, features.activations[:-1], strict=True):
        assert torch.allclose(activation, captured[layer], atol=1e-6)  # another layout rounds otherwise
    assert torch.allclose(features.logits, logits)
    assert torch.equal(features.explained, logits.argmax(1))
    assert maker.channels == (6, 8, 8, 2)


def test_the_evidence_averages_to_the_logit(tiny_net, images):
    """With global average pooling the CNN's logit is the mean of its last layer applied to each place."""
    features = FeatureMaker(tiny_net, (16, 16), 2)(images, torch.tensor([1, 3, 0]))
    evidence = features.activations[-1]  # (3, 2, 8, 8)
    logits = tiny_net(images)
    assert torch.allclose(evidence[:, 0].mean((1, 2)), logits[range(3), [1, 3, 0]], atol=1e-5)
    # Over all classes the second channel holds the probabilities of one place.
    every = [FeatureMaker(tiny_net, (16, 16), 2)(images, c).activations[-1][:, 1].exp() for c in range(4)]
    assert torch.allclose(torch.stack(every).sum(0), torch.ones(3, 8, 8), atol=1e-5)


def test_a_head_on_something_else_gives_its_row(images):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 14 * 14, 5)).eval()
    features = FeatureMaker(net, (16, 16), layers=["0"])(images, 2)
    row = features.activations[-1]
    assert row.shape == (3, 4 * 14 * 14, 1, 1)
    assert torch.equal(row[0, :, 0, 0], net[2].weight[2])
    assert features.embedding.shape == (3, 4 * 14 * 14)


@pytest.mark.parametrize(
    "name",
    ["slim_vgg", "slim_resnet", "slim_mobilenet", "resnet18", "squeezenet1_1", "densenet121", "mobilenet_v2"],
)
def test_any_cnn(name):
    cnn = make_classifier(name, CLASSES).eval()
    maker = FeatureMaker(cnn, (64, 64), 3)
    images = torch.rand(2, 3, 64, 64)
    features = maker(images, 1)
    assert maker.fold
    with torch.no_grad():
        assert torch.allclose(features.logits, cnn(images), atol=1e-4)
    assert len(features.activations) == 4
    # Densenet's last features pass a functional ReLU, so its last layer sees something else than their
    # mean; Squeezenet's last layer is a convolution.
    assert features.activations[-1].shape[1] == (1024 if name == "densenet121" else 2)
    if name not in ("densenet121", "squeezenet1_1"):  # the latter ends in a ReLU
        assert torch.allclose(features.activations[-1][:, 0].mean((1, 2)), features.logits[:, 1], atol=1e-3)
    assert features.embedding.ndim == 2


def test_folding_keeps_the_logits_and_leaves_the_cnn(images):
    cnn = make_classifier("slim_vgg", CLASSES)
    with torch.no_grad():
        for module in cnn.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    cnn.train()
    copied = folded(cnn)
    assert cnn.training
    assert not any(isinstance(module, nn.BatchNorm2d) for module in copied.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in cnn.modules())
    assert torch.allclose(copied(images), cnn.eval()(images), atol=1e-4)


def test_what_cannot_be_traced_runs_as_it_is(images):
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

        def forward(self, x):
            if x.mean() > 100:  # depends on the data
                x = -x
            return self.fc(self.conv(x).mean((2, 3)))

    net = Branching().eval()
    maker = FeatureMaker(net, (16, 16), layers=["conv"])
    assert not maker.fold
    assert torch.allclose(maker(images).logits, net(images), atol=1e-5)
    with pytest.raises(ValueError, match="cannot be folded"):
        FeatureMaker(net, (16, 16), layers=["conv"], fold=True)


def test_no_linear_last_layer(images):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ValueError, match="no linear map"):
        FeatureMaker(net, (16, 16), layers=["0"])


def test_no_trace_is_left(tiny_net, images):
    maker = FeatureMaker(tiny_net.train(), (16, 16), 2)
    maker(images)
    assert tiny_net.training
    assert all(not module._forward_hooks for net in (tiny_net, maker.net) for module in net.modules())
    assert all(parameter.grad is None for parameter in tiny_net.parameters())
    with pytest.raises(ValueError, match="target"):
        maker(images, torch.tensor([0, 1]))


def test_inputs_of_a_layer_are_captured(tiny_net, images):
    with Capture(tiny_net, ["head" + INPUT, "head"]) as captured:
        tiny_net(images)
    assert captured["head" + INPUT].shape == (3, 8)
    assert torch.allclose(tiny_net.head(captured["head" + INPUT]), captured["head"])
    assert torch.equal(pooled(torch.ones(2, 5, 3, 3)), torch.ones(2, 5))


def test_last_places_names_the_layer_inside():
    cnn = make_classifier("resnet18", CLASSES)
    example = torch.zeros(1, 3, 64, 64)
    assert last_places(cnn, example, "backbone.fc") == "backbone.layer4.1.relu#1"
    with pytest.raises(ValueError, match="has places"):
        last_places(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), torch.zeros(1, 3, 2, 2), "1")


def written_in_place(cnn):
    """Other weights in the same tensors, as an optimiser or a loaded state dict leaves them."""
    with torch.no_grad():
        for parameter in cnn.parameters():
            parameter.mul_(1.3).add_(0.05)


@pytest.mark.parametrize("fold", [True, False])
def test_a_maker_follows_its_cnn(tiny_net, images, fold):
    maker = FeatureMaker(tiny_net, (16, 16), 2, fold=fold)
    before = maker(images, 1)
    written_in_place(tiny_net)
    after, anew = maker(images, 1), FeatureMaker(tiny_net, (16, 16), 2, fold=fold)(images, 1)
    for own, wanted, old in zip(after.activations, anew.activations, before.activations, strict=True):
        assert torch.equal(own, wanted)
        assert not torch.equal(own, old)
    assert torch.allclose(after.logits, tiny_net(images), atol=1e-4)


def test_conditions_follow_the_cnn(tiny_net, images):
    maker = ConditionMaker(tiny_net, (16, 16), 2)
    before = maker(images, 1)
    written_in_place(tiny_net)
    after, anew = maker(images, 1), ConditionMaker(tiny_net, (16, 16), 2)(images, 1)
    assert torch.equal(after.cgma, anew.cgma)
    assert torch.equal(after.target, anew.target)
    assert not torch.equal(after.cgma, before.cgma)
    assert torch.allclose(after.probability, tiny_net(images).softmax(1)[:, 1])


def test_embeddings_are_what_the_last_layer_sees(tiny_net, images):
    maker = FeatureMaker(tiny_net, (16, 16), 2)
    made = maker.embeddings(images, batch_size=2)
    assert torch.allclose(made, tiny_net.features(images).mean((2, 3)), atol=1e-5)


def test_evidence_by_hand():
    """Two classes, features (1, 2) at one place and (0, 0) at the other; weights (1, 0), (0, 1), bias (0, 1).

    Logits are (1, 3) and (0, 1), so that class 1 has the log-probabilities 3 - log(e + e^3) and 1 - log(1 + e).
    """
    net = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net.append(nn.Linear(2, 2)).eval()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1, 0]]).view(2, 3, 1, 1))
        net[4].weight.copy_(torch.eye(2))
        net[4].bias.copy_(torch.tensor([0.0, 1.0]))
    maker = FeatureMaker(net, (1, 2), layers=["0"], fold=False)
    image = torch.tensor([[1.0, 0], [2.0, 0], [0, 0]]).view(1, 3, 1, 2)
    evidence = maker(image, 1).activations[-1]
    assert evidence[0, 0, 0].tolist() == pytest.approx([3, 1])
    expected = [3 - math.log(math.e + math.e**3), 1 - math.log(1 + math.e)]
    assert evidence[0, 1, 0].tolist() == pytest.approx(expected)
    with pytest.raises(ValueError, match="count must be at least 1"):
        FeatureMaker(net, (1, 2), count=0)
