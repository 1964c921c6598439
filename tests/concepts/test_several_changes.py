"""Several changes of one layer's activations: the network before it runs once, where the rest allows it."""

import pytest
import torch
from torch import nn

from gan_lib.concepts import HiddenLayer, importance


class Counted(nn.Module):
    """A convolution without weights to speak of, and how many images it has seen."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor, self.seen = nn.Parameter(torch.tensor(factor)), 0

    def forward(self, images):
        self.seen += len(images)
        return images * self.factor


class Net(nn.Module):
    """Logits: means of the channels of layer, ``2 * first(images)``, and of what a shortcut adds to it."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.first, self.layer = way, Counted(3.0), Counted(2.0)

    def forward(self, images):
        before = self.first(images)
        behind = self.layer(before)
        if self.way == "shortcut":
            behind = behind + before
        if self.way == "batch":  # wrong for a batch of another length, and no error: it must be noticed
            behind = behind / len(behind)
        return behind.mean((2, 3))


@pytest.fixture
def images():
    return torch.rand(4, 3, 6, 5, generator=torch.Generator().manual_seed(1))


CHANGES = torch.tensor([1.0, 0.5, 0.0])


def changed(activation):
    return torch.stack([activation * factor for factor in CHANGES])


@pytest.mark.parametrize(("way", "passes"), [("plain", 1), ("shortcut", 4), ("batch", 4)])
def test_logits_of_each_by_hand(images, way, passes):
    net = Net(way)
    hidden = HiddenLayer(net, "layer", (6, 5))
    means = images.mean((2, 3))
    expected = CHANGES[:, None, None] * 6 * means  # the layer gives 2 * 3 * images
    if way == "shortcut":
        expected = expected + 3 * means
    if way == "batch":
        expected = expected / 4
    torch.testing.assert_close(hidden.logits_of_each(images, changed), expected)
    net.first.seen = 0
    torch.testing.assert_close(hidden.logits_of_each(images, changed), expected)
    assert net.first.seen == passes * len(images)


def test_importance_looks_at_an_image_once(images):
    net = Net("plain")
    hidden = HiddenLayer(net, "layer", (6, 5))
    basis = torch.eye(3)
    first = importance(hidden, images, 1, basis)
    net.first.seen = 0
    assert torch.equal(importance(hidden, images, 1, basis), first)
    assert net.first.seen == len(images)
    logits = 6 * images.mean((2, 3))
    for k in range(3):
        without = logits.clone()
        without[:, k] = 0
        expected = 1 - without.softmax(1)[:, 1] / logits.softmax(1)[:, 1]
        torch.testing.assert_close(first[:, k], expected, rtol=1e-3, atol=1e-4)
