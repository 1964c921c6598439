from __future__ import annotations

import pytest
import torch
from conftest import TINY_LAYERS
from torch import nn
from torchvision.models import resnet18, vgg16

from gan_lib.core.capture import (
    Capture,
    evaluation_mode,
    layers_in_order,
    replaced_activation,
    spread,
    spread_positions,
)


def hook_count(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.conv(self.conv(x))


def test_captures_the_output_before_an_in_place_relu_changes_it(tiny_net, images):
    with Capture(tiny_net, ["features.0"]) as captured:
        tiny_net(images)
    assert torch.equal(captured["features.0"], tiny_net.features[0](images))
    assert (captured["features.0"] < 0).any()


def test_leaves_no_hook_even_after_an_error(tiny_net, images):
    with pytest.raises(RuntimeError), Capture(tiny_net, TINY_LAYERS):
        tiny_net(images[:, :2])
    assert hook_count(tiny_net) == 0


def test_unknown_layer_lists_near_misses(tiny_net):
    with pytest.raises(KeyError, match=r"features\.0"):
        Capture(tiny_net, ["feature.0"])


def test_layer_that_did_not_run_is_named(tiny_net, images):
    tiny_net.spare = nn.Conv2d(3, 3, 1)
    with Capture(tiny_net, ["spare"]) as captured:
        tiny_net(images)
    with pytest.raises(KeyError, match="did not run"):
        captured["spare"]
    with pytest.raises(KeyError, match="not captured"):
        captured["head"]


def test_a_module_that_runs_twice_needs_a_call_number(images):
    model = Twice()
    with pytest.raises(RuntimeError, match="conv#0"), Capture(model, ["conv"]):
        model(images)
    with Capture(model, ["conv#0", "conv#1"]) as captured:
        result = model(images)
    assert torch.equal(captured["conv#1"], result)
    assert not torch.equal(captured["conv#0"], result)
    assert layers_in_order(model, images) == ["conv#0", "conv#1"]


def test_call_number_must_be_a_number(tiny_net):
    with pytest.raises(ValueError, match="call number"):
        Capture(tiny_net, ["features.0#x"])


def test_output_that_is_no_tensor_is_refused(images):
    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    model = nn.Sequential(Pair())
    with pytest.raises(TypeError, match="tuple"), Capture(model, ["0"]):
        model(images)


def test_replacing_an_activation_decides_what_follows(tiny_net, images):
    with replaced_activation(tiny_net, "features.5", torch.zeros_like):
        logits = tiny_net(images)
    assert torch.allclose(logits, tiny_net.head.bias.expand(3, -1))
    with (
        pytest.raises(ValueError, match="replacement"),
        replaced_activation(tiny_net, "features.5", torch.zeros(1)),
    ):
        tiny_net(images)
    assert hook_count(tiny_net) == 0


def test_evaluation_mode_restores_every_module(tiny_net):
    tiny_net.train()
    tiny_net.features[3].eval()
    before = [module.training for module in tiny_net.modules()]
    with evaluation_mode(tiny_net):
        assert not any(module.training for module in tiny_net.modules())
    assert [module.training for module in tiny_net.modules()] == before


def test_layers_come_in_the_order_in_which_they_run():
    layers = layers_in_order(resnet18(), torch.rand(1, 3, 64, 64))
    assert len(layers) == 20
    assert layers[0] == "conv1"
    # torchvision registers the shortcut last; it runs after the block's second convolution as well
    assert layers.index("layer2.0.conv2") < layers.index("layer2.0.downsample.0")
    assert layers[-1] == "layer4.1.conv2"
    with pytest.raises(ValueError, match="Conv3d"):
        layers_in_order(resnet18(), torch.rand(1, 3, 64, 64), nn.Conv3d)


def test_positions_of_the_paper():
    assert len(layers_in_order(vgg16(), torch.rand(1, 3, 32, 32))) == 13
    assert spread_positions(13, 8) == [1, 2, 4, 6, 8, 10, 12, 13]
    assert spread_positions(8, 8) == list(range(1, 9))
    assert spread_positions(53, 8) == [1, 8, 16, 23, 31, 39, 46, 53]
    assert spread_positions(5, 1) == [5]
    assert spread("abcde", 2) == ["a", "e"]


def test_positions_are_distinct_for_every_depth():
    for total in range(1, 60):
        for count in range(1, total + 1):
            positions = spread_positions(total, count)
            assert positions == sorted(set(positions))
            assert positions[-1] == total
            assert positions[0] >= 1
    with pytest.raises(ValueError, match="cannot spread"):
        spread_positions(3, 4)
