"""Grids of images, on CNNs and methods of which it is known where they look."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gan_lib.classifiers import make_classifier
from gan_lib.explainers import GradCAM, LayerCAM, Occlusion, Saliency, make_explainer
from gan_lib.metrics.grid import (
    Grids,
    confident_grids,
    grid_scores,
    joined,
    parted,
    separate_scores,
    separated,
)


@pytest.fixture
def colours():
    """Three pictures of each of four colours, ever darker, that a CNN of four classes knows by its scores."""
    shades = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [1.0, 1.0, 1.0]])
    strengths = torch.tensor([0.5, 1.0, 0.75])
    pictures = (shades[None] * strengths[:, None, None]).flatten(0, 1)  # (12, 3)
    return pictures[:, :, None, None].expand(-1, -1, 8, 8).contiguous(), torch.arange(4).repeat(3)


class Shades(nn.Module):
    """Logits by the mean colour; of white they need all three."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 1, bias=False)
        weights = torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1], [0.5, 0.5, 0.5]])
        self.layer.weight = nn.Parameter(8 * weights[:, :, None, None])

    def forward(self, images):
        return self.layer(images).mean((2, 3))


def test_a_grid_and_its_cells():
    cells = torch.arange(2 * 4 * 3 * 2 * 5).float().view(8, 3, 2, 5)
    grids = joined(cells, 2)
    assert grids.shape == (2, 3, 4, 10)
    assert torch.equal(grids[0, :, :2, :5], cells[0])
    assert torch.equal(grids[0, :, :2, 5:], cells[1]), "row by row"
    assert torch.equal(grids[0, :, 2:, :5], cells[2])
    assert torch.equal(grids[1, :, 2:, 5:], cells[7])
    assert torch.equal(parted(grids, 2), cells)


def test_grids_of_the_surest_images_first(colours):
    pictures, labels = colours
    grids = confident_grids(Shades(), pictures, labels, side=2)
    assert grids.images.shape == (3, 3, 16, 16)
    assert grids.classes.sort(1).values.tolist() == [[0, 1, 2, 3]] * 3, "four different classes each"
    assert sorted(grids.rows.flatten().tolist()) == list(range(12)), "every image once"
    strengths = (1.0, 0.75, 0.5)  # rows 4 to 7, 8 to 11, 0 to 3
    for grid, strength in zip(grids.images, strengths, strict=True):
        assert grid.max() == strength
    assert torch.equal(parted(grids.images, 2), pictures[grids.rows.flatten()])
    assert torch.equal(labels[grids.rows], grids.classes)
    assert len(confident_grids(Shades(), pictures, labels, side=2, count=1).images) == 1
    assert torch.equal(confident_grids(Shades(), pictures, labels, side=2).rows, grids.rows)
    others = [confident_grids(Shades(), pictures, labels, side=2, seed=seed).rows for seed in range(4)]
    assert any(not torch.equal(own, grids.rows) for own in others)


def test_images_that_are_classified_wrongly_or_unsurely_make_no_grid(colours):
    pictures, labels = colours
    with pytest.raises(ValueError, match="4 classes; 3 are classified surely"):
        confident_grids(Shades(), pictures, labels.where(labels != 3, 0), side=2)
    with pytest.raises(ValueError, match="4 classes; 0 are"):
        confident_grids(Shades(), pictures, (labels + 1) % 4, side=2, least=0)
    with pytest.raises(ValueError, match="9 classes; 4 are"):
        confident_grids(Shades(), pictures, labels, side=3)
    with pytest.raises(ValueError, match="4 classes; 0 are"):
        confident_grids(Shades(), pictures, labels, side=2, least=1.1)


def by_class(net, images, target):
    """A map of the asked class's own channel: where its colour is, whatever the CNN looks at."""
    with torch.no_grad():
        return (
            net.layer(images).gather(1, target.view(-1, 1, 1, 1).expand(-1, 1, *images.shape[2:])) > 5
        ).float()


def test_grid_scores_by_hand(colours):
    """The class's own colour lies in its cell alone; an even map has a quarter there, nothing is not defined."""
    grids = confident_grids(Shades(), *colours, side=2, count=2)
    methods = {
        "own": by_class,
        "even": lambda net, x, y: torch.ones(len(x), 1, *x.shape[2:]),
        "none": lambda net, x, y: torch.zeros(len(x), 1, *x.shape[2:]),
    }
    table = grid_scores(methods, Shades(), grids)
    assert list(table.columns) == ["method", "image", "inside"]
    assert not table.duplicated(["method", "image"]).any()
    assert table["method"].value_counts().to_dict() == dict.fromkeys(methods, 8)
    assert set(table["image"]) == {f"{grid}-{cell}" for grid in range(2) for cell in range(4)}
    shares = table.set_index("method")["inside"]
    assert shares["own"].tolist() == [1.0] * 8
    assert shares["even"].tolist() == pytest.approx([0.25] * 8)
    assert shares["none"].isna().all()


def test_a_map_in_another_cell_scores_nothing(colours):
    grids = confident_grids(Shades(), *colours, side=2)

    def upper_left(net, images, target):
        maps = torch.zeros(len(images), 1, 16, 16)
        maps[..., :8, :8] = 1
        return maps

    table = grid_scores({"upper left": upper_left}, Shades(), grids)
    is_first = table["image"].str.endswith("-0")
    assert table[is_first]["inside"].eq(1).all()
    assert table[~is_first]["inside"].eq(0).all()


@pytest.fixture(scope="module", params=["slim_vgg", "slim_resnet", "slim_mobilenet"])
def slim(request):
    cnn = make_classifier(request.param, ["a", "b", "c"], seed=2).eval()
    cells = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return cnn, cells, joined(cells, 2)


def test_a_separated_cnn_sees_one_cell(slim):
    cnn, cells, grids = slim
    for cell in range(4):
        net = separated(cnn, 2, cell, grids[:1])
        with torch.no_grad():
            expected, made = cnn(cells[cell::4]), net(grids)
            assert torch.allclose(made, expected, atol=1e-5)
            others = grids.clone()
            others[..., :32, :32] = 0  # of cell 0
            assert torch.allclose(net(others), made) == (cell > 0)
    assert type(cnn).__name__ == "Classifier", "it stays as it is"
    with torch.no_grad():
        assert not torch.allclose(cnn(grids), made, atol=1e-5)


def test_activations_of_a_separated_cnn_are_those_of_its_cells(slim):
    from gan_lib.core.grad_cam import default_layer, layer_activations

    cnn, cells, grids = slim
    net, layer = separated(cnn, 2, 1, grids[:1]), default_layer(cnn, cells[:1])
    whole = layer_activations(net, grids, [layer]).activations[layer]
    expected = layer_activations(cnn, cells, [layer]).activations[layer]
    assert torch.allclose(whole, joined(expected, 2), atol=1e-5)
    assert [name for name, _ in net.named_modules()] == [name for name, _ in cnn.named_modules()]


def test_gradients_of_a_separated_cnn_are_right_and_grad_cam_is_not(slim):
    """What Grad-CAM makes of a layer has the asked cell's weights, and other cells' activations."""
    cnn, _, grids = slim
    given = Grids(grids, torch.tensor([[0, 1, 2, 0]] * 2), torch.zeros(2, 4).long())
    methods = {
        "saliency": lambda net, x, y: Saliency(net).attribute(x, y),
        "occlusion": lambda net, x, y: Occlusion(net, window=16, stride=16).attribute(x, y),
        "guided": lambda net, x, y: make_explainer("guided_backprop", net).attribute(x, y),
        "grad_cam": lambda net, x, y: GradCAM(net).attribute(x, y),
    }
    table = separate_scores(methods, cnn, given)
    shares = table.groupby("method")["inside"]
    assert shares.min()[["saliency", "guided"]].tolist() == pytest.approx([1, 1])
    assert table[table["method"] == "occlusion"]["inside"].dropna().ge(0.99).all()
    assert shares.max()["grad_cam"] < 0.99


def test_layer_cam_of_a_separated_cnn_stays_in_its_cell_but_for_the_enlarging(slim):
    cnn, _, grids = slim
    made = LayerCAM(separated(cnn, 2, 3, grids[:1]))
    made.layer = None
    maps = made.attribute(grids, 1)
    assert maps[..., :16, :].abs().max() == 0
    assert not any(module._forward_hooks for module in cnn.modules())


def test_cnns_that_cannot_be_separated(tiny_net):
    grids = torch.rand(1, 3, 16, 16)

    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(256, 3)

        def forward(self, images):
            return self.head(self.conv(images).flatten(1))

    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)

        def forward(self, images):
            return self.conv(images).flatten(2).mean(2)

    for own in (Flat(), Mean()):
        with pytest.raises(ValueError, match="cannot look at the cells of a grid one by one"):
            separated(own, 2, 1, grids)
    with pytest.raises(ValueError, match="cell 4 is not one of a grid of 2 x 2, 0 to 3"):
        separated(tiny_net, 2, 4, grids)
