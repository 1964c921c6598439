"""Hidden layers, relevance, prototypes, the concept bank and the prediction test."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from captum.attr import LayerDeepLift, LayerGradCam, LayerGradientXActivation
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet18
from torchvision.models.vision_transformer import VisionTransformer

from gan_lib.concepts import (
    METHODS,
    SOURCES,
    ConceptBank,
    HiddenLayer,
    LayerRelevance,
    Places,
    PooledActivations,
    concept_maps,
    how_many,
    importance,
    learn_concepts,
    load_concepts,
    montage,
    prediction_test,
    weighted_activations,
)
from gan_lib.concepts.pictures import (
    Decoder,
    DecoderOptions,
    agreement,
    decoded_concepts,
    maximised_activation,
    train_decoder,
)
from gan_lib.data import ImageSplit

LAYER = "features.6"


class Plain(nn.Module):
    """Convolutions and ReLUs of their own, which Captum needs; four classes."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 12, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(12, 10, 3, padding=1),
            nn.ReLU(),
        )
        self.head = nn.Linear(10, 4)

    def forward(self, images):
        return self.head(self.features(images).mean((2, 3)))


@pytest.fixture
def net():
    return Plain().eval().requires_grad_(False)


@pytest.fixture
def hidden(net):
    return HiddenLayer(net, LAYER, (16, 16))


@pytest.fixture
def split():
    drawn = torch.Generator().manual_seed(3)
    return ImageSplit(
        torch.randint(0, 256, (40, 3, 16, 16), generator=drawn, dtype=torch.uint8), torch.zeros(40).long()
    )


def table_of(net, split):
    logits = net(split.batch(range(len(split))).images)
    return pd.DataFrame({"image": range(len(split)), "prediction": logits.argmax(1).tolist()})


# -- layers ------------------------------------------------------------------------------------------


def test_the_last_layer_with_places_is_found(net, images):
    hidden = HiddenLayer(net, image_size=(16, 16))
    assert (hidden.layer, hidden.channels, hidden.size) == (LAYER, 10, (8, 8))
    made = hidden(images)
    assert torch.equal(made, net.features(images))
    assert torch.allclose(hidden.logits(images, lambda own: own), net(images), atol=1e-5)
    assert torch.allclose(hidden.logits(images, torch.zeros_like), net.head.bias.expand(3, -1), atol=1e-6)


def test_of_a_module_that_runs_twice_what_holds_it():
    hidden = HiddenLayer(resnet18().eval(), image_size=(64, 64))
    assert hidden.layer == "layer4.1"
    assert hidden(torch.rand(2, 3, 64, 64)).shape == (2, 512, 2, 2)


def test_activations_below_zero_are_refused_or_split(net, images):
    with pytest.raises(ValueError, match="behind a ReLU"):
        HiddenLayer(net, "features.5", (16, 16))
    hidden = HiddenLayer(net, "features.5", (16, 16), negative="split")
    made = hidden(images)
    raw = net.features[:6](images)
    assert made.min() >= 0
    assert torch.allclose(made[:, :10] - made[:, 10:], raw, atol=1e-6)
    with pytest.raises(ValueError, match="refuse"):
        HiddenLayer(net, LAYER, (16, 16), negative="shift")


def test_unknown_layer_and_layer_without_places(net):
    with pytest.raises(KeyError, match=r"features\.6"):
        HiddenLayer(net, "feature.6", (16, 16))
    with pytest.raises(ValueError, match="no places"):
        HiddenLayer(net, "head", (16, 16))


def test_tokens_are_a_grid(images):
    torch.manual_seed(0)
    vit = VisionTransformer(16, 4, 2, 2, 12, 24, num_classes=5).eval()
    vit.heads.head.weight.data.normal_()
    hidden = HiddenLayer(vit, "encoder.layers.encoder_layer_0", (16, 16), negative="split")
    assert (hidden.channels, hidden.size) == (24, (4, 4))
    for method in METHODS:
        made = LayerRelevance(hidden, method, samples=0)(images, 2)
        assert made.shape == (3, 1, 4, 4)
        assert made.max() > 0
    assert torch.allclose(hidden.logits(images, lambda own: own), vit(images), atol=1e-5)
    moved = hidden.logits(images, lambda own: 3 * own.flip(1))
    assert not torch.allclose(moved, vit(images), atol=1e-3)


# -- relevance ---------------------------------------------------------------------------------------


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
        each = LayerRelevance(hidden, method, samples=0, by_channel=True)(images, target)
        assert torch.allclose(each, raw.relu(), atol=1e-6), method


@pytest.mark.parametrize("method", METHODS)
def test_noise_is_seeded_and_nothing_is_left_behind(net, hidden, images, method):
    net.train()
    with torch.no_grad():
        made = LayerRelevance(hidden, method, samples=5, copies_at_once=2)(images, 1)
        assert torch.equal(made, LayerRelevance(hidden, method, samples=5, copies_at_once=2)(images, 1))
    assert made.shape == (3, 1, 8, 8)
    assert made.min() >= 0
    assert net.training
    assert not any(module._forward_hooks or module._backward_hooks for module in net.modules())
    other = LayerRelevance(hidden, method, samples=5, copies_at_once=2, seed=1)(images, 1)
    assert not torch.equal(made, other)


def test_relevance_refuses(hidden, images):
    with pytest.raises(ValueError, match="deep_lift"):
        LayerRelevance(hidden, "lime")
    with pytest.raises(IndexError):
        LayerRelevance(hidden, samples=0)(images, 9)
    with pytest.raises(ValueError, match="target"):
        LayerRelevance(hidden, samples=0)(images, torch.tensor([1]))


# -- prototypes --------------------------------------------------------------------------------------


def test_nearest_crops(net, hidden, split):
    pooled = PooledActivations(hidden, split, 2, batch_size=7)
    raw = F.normalize(
        F.avg_pool2d(hidden(split.batch(range(40)).images), 2).flatten(2).mT, dim=2
    )  # (40, 16, 10)
    wanted = torch.rand(3, 10, generator=torch.Generator().manual_seed(0))
    cosines = torch.einsum("npc,vc->vnp", raw, F.normalize(wanted, dim=1))
    found = pooled.nearest(wanted, top=4, block=11)
    best, where = cosines.amax(2).topk(4)
    assert torch.allclose(found.similarity, best, atol=2e-3)
    assert (found.image == where).float().mean() > 0.8, "but for half precision"
    again = pooled.nearest(wanted, top=4, distinct=False)
    assert torch.allclose(again.similarity, cosines.flatten(1).topk(4).values, atol=2e-3)
    allowed = torch.zeros(3, 40, dtype=torch.bool)
    allowed[0, 5], allowed[1, [7, 9]] = True, True
    few = pooled.nearest(wanted, top=2, allowed=allowed)
    assert few.image[0].tolist() == [5, -1]
    assert set(few.image[1].tolist()) == {7, 9}
    assert few.image[2].tolist() == [-1, -1]
    assert few.similarity[2].isnan().all()
    with pytest.raises(ValueError, match="channels"):
        pooled.nearest(torch.rand(1, 9))
    with pytest.raises(ValueError, match="pool"):
        PooledActivations(hidden, split, 9)


@pytest.mark.parametrize(
    ("pool", "stride", "place", "box"),
    [(2, None, 5, (4, 4, 8, 8)), (4, 1, 6, (2, 2, 10, 10)), (3, None, 1, (6, 0, 12, 6))],
)
def test_crops_are_the_cells(hidden, split, pool, stride, place, box):
    pooled = PooledActivations(hidden, split, pool, stride)
    assert pooled.boxes(torch.tensor(place)).tolist() == list(box)
    left, top, right, bottom = box
    found = Places(torch.tensor([[3, -1]]), torch.tensor([[place, 0]]), torch.ones(1, 2))
    crops = pooled.crops(split, found, pooled.cell)
    picture = split.batch([3]).images[0]
    assert torch.allclose(crops[0, 0], picture[:, top:bottom, left:right], atol=1e-5)
    assert crops[0, 1].max() == 0
    masks = torch.zeros(40, 1, 16, 16, dtype=torch.bool)
    masks[3, 0, bottom - 1, left] = True
    assert pooled.contains(found, masks).tolist() == [[True, False]]
    masks[3, 0, bottom - 1, left] = False
    masks[3, 0, bottom, left] = True
    assert pooled.contains(found, masks).tolist() == [[False, False]]


def test_crops_are_looked_at_by_themselves(hidden, split):
    """The order is that of the cosine of an image that is full of the crop."""
    pooled = PooledActivations(hidden, split, 4)
    vectors = torch.rand(2, 10, generator=torch.Generator().manual_seed(0))
    found = pooled.nearest(vectors, 6)
    made = pooled.by_themselves(split, found, vectors, batch_size=4)
    for row in range(2):
        assert set(made.image[row].tolist()) == set(found.image[row].tolist())
        crops = pooled.crops(
            split, Places(made.image[[row]], made.place[[row]], made.similarity[[row]]), pooled.cell
        )[0]
        full = crops.repeat(1, 1, 2, 2)  # 2 x 2 copies of 8 x 8
        expected = F.cosine_similarity(hidden(full).mean((2, 3)), vectors[[row]])
        assert torch.allclose(made.similarity[row], expected, atol=1e-4)
        assert (made.similarity[row].diff() <= 0).all()
    kept = pooled.by_themselves(split, found[:, 2:], vectors)
    anew = PooledActivations(hidden, split, 4).by_themselves(split, found[:, 2:], vectors)
    assert torch.equal(kept.image, anew.image)
    assert torch.allclose(kept.similarity, anew.similarity, atol=1e-5), "crops that were seen before"
    allowed = torch.zeros(2, 40, dtype=torch.bool)
    allowed[:, :2] = True
    few = pooled.by_themselves(split, pooled.nearest(vectors, 3, allowed), vectors)
    assert (few.image[:, 2] == -1).all()
    assert few.similarity[:, :2].isfinite().all()


def test_montage():
    crops = torch.arange(4.0)[None, :, None, None, None].expand(1, 4, 3, 8, 8)
    whole = montage(crops, (16, 16))
    assert whole[0, 0, [0, 0, 15, 15], [0, 15, 0, 15]].tolist() == [0, 1, 2, 3]
    assert montage(crops[:, :3], (6, 6)).shape == (1, 3, 6, 6)
    with pytest.raises(ValueError, match="no crop"):
        montage(crops[:, :0], (6, 6))


# -- bank --------------------------------------------------------------------------------------------


def test_concepts_are_learned_once_and_stored(net, hidden, split, tmp_path, monkeypatch):
    table = table_of(net, split)
    relevance = LayerRelevance(hidden, "gradient_x_activation", samples=0)
    bank = learn_concepts(relevance, split, table, tmp_path, range(5), 3, 20, classes_at_once=2)
    counts = table["prediction"].value_counts()
    expected = [label for label in range(5) if counts.get(label, 0) >= 3]
    assert bank.classes == expected
    assert all(basis.shape == (3, 10) for basis in bank.basis.values())
    report = bank.report.set_index("class")
    assert "predicted for 0 images" in report.loc[4, "skipped"]
    assert report.loc[expected, "error"].between(0, 1).all()
    monkeypatch.setattr("gan_lib.concepts.bank.weighted_activations", lambda *_: pytest.fail("made again"))
    again = learn_concepts(relevance, split, table, tmp_path, range(5), 3, 20)
    assert all(torch.equal(again.basis[label], bank.basis[label]) for label in expected)
    assert load_concepts(tmp_path).report.equals(bank.report)


def test_classes_that_nothing_speaks_for_are_reported(net, hidden, split, tmp_path):
    net.head.weight.data[0] = 0
    table = pd.DataFrame({"image": range(40), "prediction": 0})
    bank = learn_concepts(LayerRelevance(hidden, "grad_cam", samples=0), split, table, tmp_path, [0], 2)
    assert bank.classes == []
    assert "no place" in bank.report["skipped"].item()


def test_concept_maps_and_importance(net, hidden, split):
    images = split.batch(range(6)).images
    basis = torch.eye(10)[:4]
    maps = concept_maps(hidden, images, basis)
    assert torch.allclose(maps, hidden(images)[:, :4], atol=1e-4)
    lost = importance(hidden, images, 2, basis)
    before = net(images).softmax(1)[:, 2]
    for k in range(4):
        rest = net.features(images).clone()
        rest[:, k] = 0
        after = net.head(rest.mean((2, 3))).softmax(1)[:, 2]
        assert torch.allclose(lost[:, k], 1 - after / before, atol=1e-3)
    splitting = HiddenLayer(net, "features.5", (16, 16), negative="split")
    with pytest.raises(ValueError, match="split"):
        importance(splitting, images, 2, torch.eye(20)[:2])


def test_how_many(hidden, split):
    relevance = LayerRelevance(hidden, "gradient_x_activation", samples=0)
    data = weighted_activations(relevance, split, torch.arange(10), 1)
    assert data.shape == (10 * 64, 10)
    table = how_many(data, [1, 3], seeds=(0, 1))
    assert len(table) == 4
    error = table.groupby("components")["error"].mean()
    assert error[3] < error[1]
    assert table.loc[table["components"] == 1, "stability"].min() > 0.99
    assert table["stability"].between(0, 1.001).all()


# -- prediction test ---------------------------------------------------------------------------------


@pytest.mark.parametrize("strict", [False, True])
def test_prediction_test_of_a_cnn_that_sees_colours(colour_net, strict):
    """Every image has a large part of one colour and a small part of another."""
    pictures = torch.zeros(30, 3, 8, 8, dtype=torch.uint8)
    for row in range(30):
        pictures[row, row % 3] = 200
        pictures[row, :, :2, :2] = 0
        pictures[row, (row + 1) % 3, :2, :2] = 200
    split = ImageSplit(pictures, torch.zeros(30).long())
    cnn = colour_net
    hidden = HiddenLayer(cnn, "layer", (8, 8))
    pooled = PooledActivations(hidden, split, 2)
    table = table_of(cnn, split)
    bank = ConceptBank({label: torch.eye(3)[[label]] for label in range(3)}, pd.DataFrame())
    made, montages, found = prediction_test(cnn, bank, pooled, split, table, 4, strict)
    assert made["won"].all()
    assert made["probability"].min() > 0.9
    assert montages.shape == (3, 3, 8, 8)
    predicted = torch.tensor(table["prediction"].to_numpy())
    own = predicted[found.image] == torch.arange(3)[:, None]
    assert own.any() if not strict else not own.any()
    other, _, _ = prediction_test(cnn, bank, pooled, split, table, 4, strict, SOURCES[2])
    assert not other["won"].any()
    drawn, _, places = prediction_test(cnn, bank, pooled, split, table, 4, strict, SOURCES[1])
    assert len(drawn) == 3
    assert not strict or not (predicted[places.image] == torch.arange(3)[:, None]).any()
    sure, _, _ = prediction_test(cnn, bank, pooled, split, table, 4, strict, candidates=8)
    assert sure["won"].all()
    assert sure["probability"].min() >= made["probability"].min() - 1e-4
    single = ConceptBank({0: torch.eye(3)[[0]]}, pd.DataFrame())
    with pytest.raises(ValueError, match="one class only"):
        prediction_test(cnn, single, pooled, split, table, source=SOURCES[2])
    with pytest.raises(ValueError, match="prototypes"):
        prediction_test(cnn, bank, pooled, split, table, source="guess")


# -- pictures ----------------------------------------------------------------------------------------


def test_concepts_are_drawn(net, hidden):
    coarse = torch.rand(80, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    smooth = F.interpolate(coarse, size=(16, 16), mode="bilinear")
    split = ImageSplit((255 * smooth).to(torch.uint8), torch.zeros(80).long())
    weights = [weight.clone() for weight in net.state_dict().values()]
    options = DecoderOptions(epochs=10, batch_size=10, width=4, learning_rate=5e-3)
    decoder, log = train_decoder(hidden, split, options)
    assert len(log) == 80
    assert log["features"].tail(8).mean() < log["features"].head(8).mean()
    assert decoder(hidden(split.batch(range(2)).images)).shape == (2, 3, 16, 16)
    assert all(torch.equal(a, b) for a, b in zip(weights, net.state_dict().values(), strict=True))
    vectors = F.normalize(hidden(split.batch(range(3)).images).mean((2, 3)) ** 4, dim=1)
    for draw in (
        lambda steps: decoded_concepts(hidden, decoder, vectors, steps),
        lambda steps: maximised_activation(hidden, vectors, steps),
    ):
        begun, made = draw(0), draw(60)
        assert made.shape == (3, 3, 16, 16)
        assert made.min() >= 0
        assert made.max() <= 1
        assert agreement(hidden, made, vectors).mean() > agreement(hidden, begun, vectors).mean() + 0.005


def test_a_decoder_needs_a_power_of_two():
    with pytest.raises(ValueError, match="power of two"):
        Decoder(4, (7, 7), (64, 64))
