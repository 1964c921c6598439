"""Places of activations in every layout: which value lies where, by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gan_lib.core.capture import frozen
from gan_lib.core.grad_cam import default_layer, grad_cam, layers_with_places
from gan_lib.core.layouts import layout_of


def numbered(*shape: int) -> Tensor:
    """An activation whose values are row * 100 + column * 10 + channel, in (B, C, h, w)."""
    batch, channels, height, width = shape
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    return (100 * rows + 10 * columns + torch.arange(channels)[:, None, None]).expand(batch, -1, -1, -1)


def tokens(activation: Tensor, extra: int) -> Tensor:
    """(B, C, h, w) as (B, extra + h w, C), row by row."""
    made = activation.flatten(2).transpose(1, 2)
    return torch.cat([-torch.ones_like(made[:, :extra]), made], dim=1)


@pytest.mark.parametrize("extra", [0, 1, 2, 5])
@pytest.mark.parametrize(
    ("places", "size"), [((2, 8, 4, 4), (64, 64)), ((2, 8, 12, 16), (192, 256)), ((3, 6, 7, 7), (224, 224))]
)
def test_tokens_lie_where_they_are(places, size, extra):
    given = numbered(*places)
    made = tokens(given, extra)
    layout = layout_of(made, size)
    assert (layout.kind, layout.size, layout.extra) == ("tokens", places[2:], extra)
    assert torch.equal(layout.places(made), given)
    assert torch.equal(layout.replaced(made, given + 1), tokens(given + 1, extra)), "others are as they were"
    turned = made.transpose(0, 1)  # (N, B, C), as nn.MultiheadAttention has it
    layout = layout_of(turned, size, batch=places[0])
    assert torch.equal(layout.places(turned), given)
    assert torch.equal(layout.replaced(turned, given + 1), tokens(given + 1, extra).transpose(0, 1))


@pytest.mark.parametrize(
    ("places", "size"),
    [
        ((2, 96, 7, 7), (224, 224)),
        ((1, 16, 12, 16), (192, 256)),
        ((2, 3, 5, 8), (64, 100)),  # rounded
        ((2, 64, 1, 1), (64, 64)),
        ((1, 8, 2, 2), (64, 64)),
    ],
)
def test_channels_first_and_last(places, size):
    given = numbered(*places)
    first = layout_of(given, size)
    assert (first.kind, first.size) == ("channels first", places[2:])
    last = given.permute(0, 2, 3, 1)
    layout = layout_of(last, size)
    assert (layout.kind, layout.size) == ("channels last", places[2:])
    assert torch.equal(layout.places(last), given)
    assert torch.equal(layout.replaced(last, given + 1), last + 1)
    assert torch.equal(first.replaced(given, given + 1), given + 1)


def test_where_both_would_do_channels_come_first():
    assert layout_of(torch.zeros(2, 8, 8, 8), (64, 64)).kind == "channels first"
    assert layout_of(torch.zeros(2, 32, 32, 1), (64, 64)).kind == "channels first"  # pooled over the width


@pytest.mark.parametrize("shape", [(2, 10), (2, 3, 4, 5, 6), (2, 12, 8), (2,)])
def test_no_places(shape):
    with pytest.raises(ValueError, match=r"layer 'fc' gives .* has no places"):
        layout_of(torch.zeros(shape), (64, 64), "fc")


class Shuffled(nn.Module):
    """A convolution with a ReLU, whose result goes on in another layout, and a head that pools over places."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        torch.manual_seed(0)
        self.conv, self.relu = nn.Conv2d(3, 5, 3, stride=4, padding=1), nn.ReLU()
        self.turned, self.head = nn.Identity(), nn.Linear(5, 3)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.relu(self.conv(images))  # (B, 5, h, w)
        if self.kind == "channels first":
            return self.head(self.turned(hidden).mean((2, 3)))
        if self.kind == "channels last":
            return self.head(self.turned(hidden.permute(0, 2, 3, 1)).mean((1, 2)))
        row = hidden.flatten(2).transpose(1, 2)  # (B, h w, 5)
        given = self.turned(torch.cat([torch.zeros_like(row[:, :1]), row], dim=1))
        return self.head(given[:, 0] if self.kind == "class token" else given[:, 1:].mean(1))


@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
@pytest.mark.parametrize("kind", ["channels last", "tokens"])
def test_grad_cam_is_the_same_in_every_layout(kind, size):
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    plain, other = Shuffled("channels first"), Shuffled(kind)
    other.load_state_dict(plain.state_dict())
    expected = grad_cam(plain, images, ["turned"], [0, 2]).raw["turned"]
    assert expected.any()
    torch.testing.assert_close(grad_cam(other, images, ["turned"], [0, 2]).raw["turned"], expected)
    assert default_layer(other, images[:1]) == "turned"
    assert default_layer(plain, images[:1]) == "conv"


def test_tokens_that_nothing_depends_on_are_refused_and_not_chosen():
    cnn, images = Shuffled("class token"), torch.rand(2, 3, 32, 32)
    with pytest.raises(ValueError, match=r"not depend on the places of layer 'turned'.*an earlier layer"):
        grad_cam(cnn, images, ["turned"])
    with pytest.raises(ValueError, match="no layer of Shuffled has places that its scores depend on"):
        default_layer(cnn, images[:1])


@pytest.mark.parametrize("name", ["vit", "swin", "convnext"])
def test_torchvisions_other_architectures(name):
    """The default layer is a late one, and its map has the grid of the picture."""
    from torchvision import models
    from torchvision.models.convnext import CNBlockConfig

    torch.manual_seed(0)
    if name == "vit":
        cnn = models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=4)
        nn.init.normal_(cnn.heads.head.weight)
        expected, grid = "encoder.layers.encoder_layer_1.ln_1", (4, 4)
    elif name == "swin":
        cnn = models.SwinTransformer([2, 2], 8, [1, 1], [2, 2], [4, 4], num_classes=4)
        expected, grid = "permute", (8, 8)
    else:
        cnn = models.ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)], num_classes=4)
        expected, grid = "features", (4, 4)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    layer = default_layer(cnn.eval(), images[:1])
    assert layer == expected
    assert grad_cam(cnn, images, [layer]).raw[layer].shape == (2, 1, *grid)


def test_a_convolution_is_channels_first_whatever_its_aspect():
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, stride=(2, 1), padding=1)
    cnn = nn.Sequential(first, nn.ReLU(), second, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    images = torch.rand(2, 3, 16, 16)
    assert default_layer(cnn, images[:1]) == "2"
    assert grad_cam(cnn, images, ["2"]).raw["2"].shape == (2, 1, 8, 16)


def test_rows_of_a_flattened_map_are_no_tokens():
    torch.manual_seed(0)
    pooled = (nn.Flatten(2), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    cnn = nn.Sequential(nn.Conv2d(3, 16, 3, stride=4, padding=1), nn.ReLU(), *pooled, nn.Linear(16, 3))
    assert default_layer(cnn, torch.rand(1, 3, 16, 16)) == "0"


def test_the_grid_of_the_convolution_decides_where_tokens_could_lie_otherwise():
    made = torch.zeros(2, 21 * 23 + 1, 8)  # and 22 * 22 of them
    layout = layout_of(made, (84, 92), grid=(21, 23))
    assert (layout.size, layout.extra) == ((21, 23), 1)
    many = layout_of(torch.zeros(2, 25, 8), (16, 16), grid=(4, 4))
    assert (many.size, many.extra) == ((4, 4), 9)


def test_attention_is_no_map():
    class Attending(Shuffled):
        def __init__(self) -> None:
            super().__init__("tokens")
            self.soft = nn.Softmax(-1)

        def forward(self, images: Tensor) -> Tensor:
            row = self.relu(self.conv(images)).flatten(2).transpose(1, 2)  # (B, N, 5)
            row = self.turned(torch.cat([row.mean(1, keepdim=True), row], dim=1))
            attention = self.soft(row[:, None] @ row[:, None].transpose(2, 3))  # (B, 1, N, N)
            return self.head((attention[:, 0] @ row)[:, 0])

    assert default_layer(Attending(), torch.rand(1, 3, 32, 32)) == "turned"


class Mixed(nn.Module):
    """Two convolutions, and two blocks that work with channels last; their outputs are those of their layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 4, 4), nn.ReLU())
        self.local = nn.Conv2d(6, 6, 3, padding=1)
        self.blocks = nn.Sequential(*(nn.Sequential(nn.Linear(6, 6), nn.GELU()) for _ in range(2)))
        self.head = nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        places = self.local(self.stem(images)).permute(0, 2, 3, 1)  # (B, h, w, 6)
        return self.head(self.blocks(places).mean((1, 2)))


def test_layers_with_places_of_a_cnn_are_its_convolutions(tiny_net, images):
    assert layers_with_places(tiny_net, images[:1]) == ["features.0", "features.2", "features.5"]


def test_layers_with_places_go_on_behind_the_last_convolution():
    """Each output once, by the outermost module that gives it; up to the last that the scores depend on."""
    layers = layers_with_places(Mixed(), torch.rand(1, 3, 24, 32))
    assert layers == ["stem.0", "stem", "local", "blocks.0.0", "blocks.0", "blocks.1.0", "blocks"]


def test_frozen_parameters_get_no_gradient_and_are_as_they_were(tiny_net, images):
    tiny_net.head.bias.requires_grad_(False)
    given = images.clone().requires_grad_()
    with frozen(tiny_net):
        tiny_net(given).sum().backward()
    assert given.grad is not None
    assert all(own.grad is None for own in tiny_net.parameters())
    assert [own.requires_grad for own in tiny_net.head.parameters()] == [True, False]
