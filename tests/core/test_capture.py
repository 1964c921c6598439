from __future__ import annotations

import pytest
import torch
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

TINY_LAYERS = ["features.0", "features.2", "features.5"]  # of the fixture tiny_net


def hook_count(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


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


# -- what a module is given ---------------------------------------------------------------------------


@pytest.fixture
def halves():
    """x -> 2 x -> ReLU in place -> 3 x: what each layer takes and gives is known."""
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(inplace=True), nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(2 * torch.eye(2))
        net[2].weight.copy_(torch.tensor([[3.0, 3.0]]))
    return net


def test_an_input_is_kept_before_its_module_overwrites_it(halves):
    with Capture(halves, ["1@input", "1", "2@input"]) as captured:
        made = halves(torch.tensor([[-1.0, 4.0]]))
    assert captured["1@input"].tolist() == [[-2, 8]]
    assert captured["1"].tolist() == captured["2@input"].tolist() == [[0, 8]]
    assert made.item() == 24
    # d made / d input of the ReLU: 3 where it passes, 0 where it does not.
    (gradient,) = torch.autograd.grad(made, captured["1@input"])
    assert gradient.tolist() == [[0, 3]]
    assert hook_count(halves) == 0


class Skip(nn.Module):
    """fc(x) + x with fc(x) = 5 x, run twice; x is what ``start`` gives."""

    def __init__(self):
        super().__init__()
        self.start, self.fc = nn.Identity(), nn.Linear(1, 1, bias=False)
        nn.init.constant_(self.fc.weight, 5.0)

    def forward(self, x):
        x = self.start(x)
        x = self.fc(x) + x
        return self.fc(x) + x


def test_inputs_by_call_and_the_gradient_through_one_call_alone():
    net, x = Skip(), torch.ones(1, 1, requires_grad=True)
    with pytest.raises(RuntimeError, match="'fc#0@input', 'fc#1@input'"), Capture(net, ["fc@input"]):
        net(x)
    with Capture(net, ["fc#0@input", "fc#1@input", "fc#1"]) as captured:
        made = net(x)  # 36
    assert [captured[name].item() for name in captured] == [1, 6, 30]
    first, second = torch.autograd.grad(made.sum(), [captured["fc#0@input"], captured["fc#1@input"]])
    assert first.item() == 5 * 6  # not (5 + 1) * 6, which is the tensor's, skip included
    assert second.item() == 5
    with Capture(net, ["fc#5@input"]) as captured:
        net(x)
    with pytest.raises(KeyError, match="did not run"):
        captured["fc#5@input"]


def test_replacing_an_input_replaces_what_the_module_is_given_alone(halves):
    net, x = Skip(), torch.ones(1, 1)
    with replaced_activation(net, "fc#0@input", torch.full((1, 1), 10.0)):
        assert net(x).item() == 6 * (50 + 1)
    with replaced_activation(net, "fc#1@input", lambda given: given + 1):
        assert net(x).item() == 5 * (6 + 1) + 6
    given = torch.tensor([[1.0, -1.0]], requires_grad=True)
    with replaced_activation(halves, "1@input", given):
        made = halves(torch.zeros(1, 2))
    assert made.item() == 3
    assert given.tolist() == [[1, -1]]  # the ReLU works in place, on a clone
    made.backward()
    assert given.grad.tolist() == [[3, 0]]
    with replaced_activation(halves, "0", given.detach()):
        halves(torch.zeros(1, 2))
    assert given.tolist() == [[1, -1]]
    three = torch.zeros(1, 3)
    with pytest.raises(ValueError, match="the replacement"), replaced_activation(halves, "1@input", three):
        halves(torch.zeros(1, 2))
    assert hook_count(halves) == hook_count(net) == 0


@pytest.mark.parametrize("inference", [False, True])
def test_what_a_module_changes_in_place_stays_changed(inference):
    """A network that goes on with the overwritten tensor gives the same, watched or not."""

    class Overwrites(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x):
            x = 2 * x
            self.relu(x)  # the result is not used, only the change
            return x

    net, x = Overwrites(), torch.tensor([-1.0, 4.0])
    with torch.inference_mode(inference):
        x = x.clone().requires_grad_(not inference)
        with Capture(net, ["relu@input"]) as captured:
            assert net(x).tolist() == [0, 8]
        assert captured["relu@input"].tolist() == [-2, 8]
        with replaced_activation(net, "relu@input", lambda given: given):
            assert net(x).tolist() == [0, 8]


def test_inputs_that_cannot_be_addressed(images):
    class ByName(nn.Module):
        def __init__(self):
            super().__init__()
            self.pair, self.fc = nn.Identity(), nn.Linear(16, 2)

        def forward(self, x):
            self.pair((x, x))
            return self.fc(input=x)

    net = ByName()
    for change in (
        lambda layer: Capture(net, [layer]),
        lambda layer: replaced_activation(net, layer, images),
    ):
        with pytest.raises(TypeError, match=r"'fc@input': .* nothing by position"), change("fc@input"):
            net(images)
        with pytest.raises(TypeError, match="'pair@input' takes tuple, not a tensor"), change("pair@input"):
            net(images)
        with pytest.raises(TypeError, match="'pair' gives tuple, not a tensor"), change("pair"):
            net(images)
    assert hook_count(net) == 0


def test_a_replacement_that_never_happened_is_no_secret(tiny_net, images):
    tiny_net.spare = nn.Conv2d(3, 3, 1)
    for layer in ("spare", "spare@input", "features.0#1"):
        nothing = replaced_activation(tiny_net, layer, torch.zeros_like)
        with pytest.raises(KeyError, match="nothing was replaced"), nothing:
            tiny_net(images)
    twice = nn.Sequential(tiny_net.features[0], nn.Conv2d(6, 3, 1), tiny_net.features[0])
    with pytest.raises(RuntimeError, match="ran twice"), replaced_activation(twice, "0", lambda own: own):
        twice(images)


def test_a_capture_may_be_entered_again(tiny_net, images):
    captured = Capture(tiny_net, ["head@input"])
    for part in images.split(1):
        with captured:
            tiny_net(part)
    assert torch.equal(captured["head@input"], tiny_net.features(images[2:]).mean((2, 3)))


def test_evaluation_mode_restores_every_module(tiny_net):
    tiny_net.train()
    tiny_net.features[3].eval()
    before = [module.training for module in tiny_net.modules()]
    with evaluation_mode(tiny_net):
        assert not any(module.training for module in tiny_net.modules())
        tiny_net.features[3].train()
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
