"""Signed activations, channels last and tokens as places that are not below 0, and back."""

from __future__ import annotations

import math

import pandas as pd
import pytest
import torch
from captum.attr import LayerDeepLift, LayerGradCam, LayerGradientXActivation, LayerIntegratedGradients
from torch import nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig

import gan_lib
from gan_lib.concepts import (
    METHODS,
    FeatureVisualisation,
    HiddenLayer,
    LayerRelevance,
    PooledActivations,
    concept_maps,
    importance,
)
from gan_lib.concepts.calls import CallAttribution
from gan_lib.concepts.contrasting import Hyperplanes, gather_evidence, shifting_test
from gan_lib.concepts.pictures import decoded_concepts, train_decoder
from gan_lib.concepts.places import SplitPlaces
from gan_lib.core.capture import replaced_activation
from gan_lib.core.layouts import Layout
from gan_lib.data import ImageSplit

SIZE = (32, 32)


def vit():
    torch.manual_seed(0)
    made = models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=4)
    nn.init.normal_(made.heads.head.weight)  # torchvision's is zero
    return made.eval().requires_grad_(False)


def swin():
    torch.manual_seed(0)
    made = models.SwinTransformer([2, 2], 8, [1, 1], [2, 2], [4, 4], num_classes=4)
    nn.init.normal_(made.head.weight)
    return made.eval().requires_grad_(False)


def convnext():
    torch.manual_seed(0)
    made = models.ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)], 0.0, 1.0, num_classes=4)
    return made.eval().requires_grad_(False)


def normalised():
    torch.manual_seed(0)
    made = models.resnet18(num_classes=4)
    for own in made.modules():
        if isinstance(own, nn.BatchNorm2d):
            nn.init.uniform_(own.running_var, 0.5, 2)
            nn.init.uniform_(own.running_mean, -1, 1)
    return made.eval().requires_grad_(False)


def pictures(count=6, seed=5):
    return torch.rand(count, 3, *SIZE, generator=torch.Generator().manual_seed(seed))


# -- there and back ------------------------------------------------------------------------------------

KINDS = {
    "channels first": (Layout("channels first", (2, 3)), (4, 5, 2, 3)),
    "channels last": (Layout("channels last", (2, 3)), (4, 2, 3, 5)),
    "tokens": (Layout("tokens", (2, 3), 1), (4, 7, 5)),
    "tokens with registers": (Layout("tokens", (2, 3), 5), (4, 11, 5)),
    "tokens first": (Layout("tokens first", (2, 3), 1), (7, 4, 5)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back_is_exact(kind, signed, dtype):
    layout, shape = KINDS[kind]
    given = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    given.view(-1)[:3] = torch.tensor([0.0, torch.inf, -torch.inf])
    places = SplitPlaces(layout, signed)
    made = places.split(given)
    assert made.shape == (4, 10 if signed else 5, 2, 3)
    assert torch.equal(places.join(given, made), given)
    assert places.join(given, made.double()).dtype == dtype
    if signed:
        plain = SplitPlaces(layout, False).split(given)
        assert made.min() == 0
        assert torch.equal(made[:, :5], plain.clamp(min=0))
        assert torch.equal(made[:, 5:], (-plain).clamp(min=0))


def test_only_places_are_replaced():
    given = torch.arange(1.0, 8.0).view(1, 7, 1)  # a class token and 2 x 3 places, one channel
    places = SplitPlaces(Layout("tokens", (2, 3), 1), True)
    made = places.join(given, torch.tensor([[3.0, 0, 1, 0, 2, 0], [1.0, 4, 0, 0, 2, 5]]).view(1, 2, 2, 3))
    assert made.flatten().tolist() == [1, 2, -4, 1, 0, 0, -5]


@pytest.mark.parametrize(
    ("make", "layers"),
    [
        (
            vit,
            (
                None,
                "conv_proj",
                "encoder.layers.encoder_layer_0",
                "encoder.layers.encoder_layer_1.ln_1@input",
            ),
        ),
        (swin, (None, "norm", "features.1", "features.3.0.attn")),
        (convnext, (None, "features.1.0.block.3")),
    ],
)
def test_what_is_not_changed_changes_nothing(make, layers):
    cnn = make()
    for layer in layers:
        hidden = HiddenLayer(cnn, layer, SIZE)
        assert hidden.places.signed
        made = hidden(pictures())
        assert made.shape == (6, hidden.channels, *hidden.size)
        assert made.min() == 0
        with torch.no_grad():  # put together again, values may lie otherwise in memory and be summed so
            same = hidden.logits(pictures(), lambda own: own)
            torch.testing.assert_close(same, cnn(pictures()), rtol=1e-6, atol=1e-6, msg=layer)
        changed = hidden.logits(pictures(), torch.zeros_like)
        assert (changed - hidden.logits(pictures(), torch.clone)).abs().max() > 1e-6, layer


def test_default_layers():
    hidden = HiddenLayer(vit(), image_size=SIZE)
    assert (hidden.layer, hidden.channels, hidden.size) == ("encoder.layers.encoder_layer_1.ln_1", 32, (4, 4))
    hidden = HiddenLayer(swin(), image_size=SIZE)
    assert (hidden.layer, hidden.channels, hidden.size) == ("permute", 32, (8, 8))
    hidden = HiddenLayer(convnext(), image_size=SIZE)
    assert (hidden.layer, hidden.channels, hidden.size) == ("features", 32, (4, 4))


def test_the_class_token_stays():
    cnn, layer = vit(), "encoder.layers.encoder_layer_0"

    def without_places(tokens):
        made = torch.zeros_like(tokens)
        made[:, 0] = tokens[:, 0]
        return made

    with torch.no_grad(), replaced_activation(cnn, layer, without_places):
        expected = cnn(pictures())
    made = HiddenLayer(cnn, layer, SIZE).logits(pictures(), torch.zeros_like)
    torch.testing.assert_close(made, expected)
    assert len(made[:, 0].unique()) == 6, "or the class token were the same, too"


def test_tokens_that_the_logits_do_not_depend_on_are_refused():
    with pytest.raises(ValueError, match=r"not depend on the places of layer 'encoder.ln'.*earlier layer"):
        HiddenLayer(vit(), "encoder.ln", SIZE)


def test_channels_last_are_the_same_layer_as_channels_first():
    """Swin's last normalisation, and the permutation behind it."""
    cnn = swin()
    last, first = HiddenLayer(cnn, "norm", SIZE), HiddenLayer(cnn, "permute", SIZE)
    assert (last.places.layout.kind, first.places.layout.kind) == ("channels last", "channels first")
    torch.testing.assert_close(last(pictures()), first(pictures()))
    basis = torch.rand(2, 32, generator=torch.Generator().manual_seed(0))
    expected = importance(first, pictures(), 1, basis)
    assert expected.abs().min() > 1e-4
    torch.testing.assert_close(importance(last, pictures(), 1, basis), expected, rtol=1e-4, atol=1e-6)
    for method in METHODS:
        own, other = (LayerRelevance(hidden, method, 0)(pictures(2), 1) for hidden in (last, first))
        assert own.any()
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-7)


# -- by hand -------------------------------------------------------------------------------------------


class Signed(nn.Module):
    """Activations of pixels x and y at each place, (3 x - 1, 2 - 3 y); a linear head on their sum."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Identity(), nn.Linear(2, 2, bias=False)
        self.head.weight.data = torch.tensor([[1.0, -2.0], [0.0, 1.0]])
        self.conv = nn.Conv2d(3, 2, 1)
        self.conv.weight.data = torch.tensor([[3.0, 0, 0], [0, -3.0, 0]])[..., None, None]
        self.conv.bias.data = torch.tensor([-1.0, 2.0])
        self.requires_grad_(False)

    def forward(self, images):
        return self.head(self.layer(self.conv(images)).sum((2, 3)))


@pytest.fixture
def signed():
    """Its layer; and an image of two places, with activations (2, -1) and (-1, 1/2)."""
    image = torch.zeros(1, 3, 1, 2)
    image[0, 0], image[0, 1] = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.5]])
    hidden = HiddenLayer(Signed().eval(), "layer", (1, 2))
    made = torch.tensor([[2.0, 0], [0, 0.5], [0, 1], [1, 0]])  # (2 C, places)
    torch.testing.assert_close(hidden(image), made[None, :, None])
    return hidden, image


def test_relevance_by_hand(signed):
    """Of class 0 the gradient is (1, -2), of the halves (1, -2, -1, 2)."""
    hidden, image = signed
    gradient = hidden.with_gradient_of(image, 0)[1]
    assert gradient[0, :, 0].T.tolist() == 2 * [[1, -2, -1, 2]]
    # Gradient times activation: 2 and 2 at the first place, -1 and -1 at the second.
    for method in ("gradient_x_activation", "grad_cam"):
        made = CallAttribution(hidden, method).attribute(image, torch.tensor([0]))
        torch.testing.assert_close(made[0, :, 0].T, torch.tensor([[2.0, 0, 0, 2], [0, -1, -1, 0]]))
        relevance = LayerRelevance(hidden, method, 0)(image, 0)
        torch.testing.assert_close(relevance.flatten(), torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(
        LayerRelevance(hidden, "gradient_x_activation", 0).weighted(image, 0)[0, :, 0].T,
        torch.tensor([[2.0, 0, 0, 1], [0, 0, 0, 0]]),
    )
    # White has (2, -1), halves (2, 0, 0, 1): the first place is no different, the second by (-2, 1/2, 1, -1).
    for method in ("deep_lift", "integrated_gradients"):
        made = CallAttribution(hidden, method).attribute(image, torch.tensor([0]))
        expected = torch.tensor([[0.0, 0, 0, 0], [-2, -1, -1, -2]])
        torch.testing.assert_close(made[0, :, 0].T, expected, atol=1e-6, rtol=1e-6)


def test_importance_by_hand(signed):
    """Logits are (2, -1/2); without what is below 0 in the second channel (0, 1/2)."""
    hidden, image = signed
    basis = torch.eye(4)[[3, 0]]
    torch.testing.assert_close(concept_maps(hidden, image, basis)[0, :, 0], hidden(image)[0, [3, 0], 0])

    def lost(one, other):
        return 1 - (1 + math.exp(-2.5)) / (1 + math.exp(other - one))

    expected = torch.tensor([[lost(0.0, 0.5), lost(0.0, -0.5)]])  # the first channel's 2 gone: (0, -1/2)
    torch.testing.assert_close(importance(hidden, image, 0, basis), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("move", "channels"),
    [
        ((-3.0, 0, 0, 0), (-1.0, -0.5)),  # the half above 0 ends there: 2 -> 0, not -1
        ((0, 0, 0.5, 0), (0.0, -0.5)),  # the half below 0 is raised: 2 -> 1.5, -1 -> -1.5
        ((0, 0, -1.0, 0), (2.0, -0.5)),  # lowered it ends at 0: 2 -> 2, -1 -> 0
        ((-3.0, 0, 4.0, 0), (-9.0, -0.5)),  # both: 2 -> -4, -1 -> -5
        ((1.0, 0, 1.0, 0), (1.0, -0.5)),  # both raised: no change
    ],
)
def test_shifting_by_hand(signed, move, channels):
    """Two images alike, moved in the halves of the first channel, whose sum over places is to be found."""
    hidden, image = signed
    planes = Hyperplanes({0: torch.zeros(1, 4), 1: torch.ones(1, 4)})
    length = torch.tensor(move).norm()
    planes.direction = lambda start, end: torch.tensor(move) / length
    split = ImageSplit((255 * image).round().to(torch.uint8), torch.zeros(1).long())
    evidence = {
        label: gan_lib.concepts.contrasting.Evidence(torch.rand(1, 4), torch.zeros(1), torch.zeros(1).long())
        for label in (0, 1)
    }
    made = shifting_test(hidden, planes, evidence, split, [(0, 1)], [0.0, float(length)], absolute=True)
    made = made[made["direction"] == "normal"].set_index("offset")["probability"]
    first, second = channels
    expected = 1 / (1 + math.exp(first - 2 * second - second))
    assert made[0.0] == pytest.approx(1 / (1 + math.exp(2.5)), abs=1e-2)  # a pixel is a byte
    assert made.iloc[-1] == pytest.approx(expected, abs=1e-2)


# -- against the activations as they are -----------------------------------------------------------------


@pytest.mark.parametrize("layer", ["features.5", "features.3"])
def test_both_halves_together_are_captums_of_the_layer(net, images, layer):
    """Of a convolution: the sum of the halves' attributions; and per place half the mean, of twice as many."""
    net.requires_grad_(True)
    hidden, module, chosen = (
        HiddenLayer(net, layer, (16, 16)),
        net.get_submodule(layer),
        torch.tensor([1, 0, 2]),
    )
    expected = {
        "deep_lift": LayerDeepLift(net, module).attribute(images, baselines=1.0, target=chosen),
        "gradient_x_activation": LayerGradientXActivation(net, module).attribute(images, target=chosen),
        "grad_cam": LayerGradCam(net, module).attribute(images, target=chosen, attr_dim_summation=False),
        "integrated_gradients": LayerIntegratedGradients(net, module).attribute(
            images, baselines=1.0, n_steps=16, target=chosen
        ),
    }
    for method, raw in expected.items():
        positive, negative = CallAttribution(hidden, method).attribute(images, chosen).chunk(2, 1)
        torch.testing.assert_close(positive + negative, raw.float(), rtol=1e-4, atol=1e-6)
        if method in ("gradient_x_activation", "grad_cam"):  # only one half is there
            made = LayerRelevance(hidden, method, 0)(images, chosen)
            torch.testing.assert_close(made, raw.relu().mean(1, keepdim=True) / 2, rtol=1e-4, atol=1e-6)


def test_a_layer_behind_a_relu_has_one_half(net, hidden, images):
    split = HiddenLayer(net, "features.6", (16, 16), signed=True)
    assert (split.channels, hidden.channels) == (20, 10)
    assert torch.equal(split(images)[:, :10], hidden(images))
    assert not split(images)[:, 10:].any()
    basis = torch.rand(2, 10, generator=torch.Generator().manual_seed(0))
    expected = importance(hidden, images, 1, basis)
    both = torch.cat([basis, torch.zeros(2, 10)], 1)
    torch.testing.assert_close(importance(split, images, 1, both), expected)


def test_what_is_not_split_must_not_be_below_zero(net):
    with pytest.raises(ValueError, match=r"features.5.*down to -.*not split; say signed=True"):
        HiddenLayer(net, "features.5", (16, 16), signed=False)


def test_integrated_gradients_of_tokens_are_complete():
    """They sum to what the logit changes when all places, but no other token, become those of white."""
    cnn, layer = vit(), "encoder.layers.encoder_layer_0"
    hidden, chosen = HiddenLayer(cnn, layer, SIZE), torch.tensor([0, 1, 2])
    made = CallAttribution(hidden, "integrated_gradients").attribute(pictures(3), chosen)
    white = hidden(torch.ones(3, 3, *SIZE))
    changed = hidden.logits(pictures(3), torch.clone) - hidden.logits(pictures(3), lambda own: white)
    expected = changed.gather(1, chosen[:, None])[:, 0]
    assert expected.abs().min() > 0.01
    torch.testing.assert_close(made.flatten(1).sum(1), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_relevance_of_tokens_is_the_images_own(method):
    hidden = HiddenLayer(vit(), image_size=SIZE)
    relevance = LayerRelevance(hidden, method, samples=2)
    whole = LayerRelevance(hidden, method, 0)(pictures(3), [0, 1, 2])
    alone = LayerRelevance(hidden, method, 0)(pictures(3)[1:2], 1)
    torch.testing.assert_close(whole[1:2], alone, rtol=1e-3, atol=1e-6)
    noisy = relevance(pictures(3))
    assert noisy.shape == (3, 1, 4, 4)
    assert noisy.min() >= 0
    assert noisy.any()


# -- the whole way -------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [vit, swin, convnext])
def test_concepts_of_transformers(make):
    cnn = make()
    logits = cnn(pictures(16))
    for head in [own for own in cnn.modules() if isinstance(own, nn.Linear)][-1:]:
        head.bias.data -= logits.mean(0)  # or one class alone would be predicted
    learned = gan_lib.Concepts(cnn, None, 2, "gradient_x_activation", 0, cell=2).fit(pictures(16))
    assert len(learned.bank.classes) >= 2
    assert all(basis.shape == (2, learned.hidden.channels) for basis in learned.bank.basis.values())
    one, other = learned.bank.classes[:2]
    maps = learned.transform(pictures(16), one)
    assert maps.shape == (16, 2, *learned.hidden.size)
    assert maps.any()
    assert learned.prototypes[one].shape[:3] == (2, 3, 3)
    lost = importance(learned.hidden, pictures(16), one, learned.bank.basis[one])
    assert lost.isfinite().all()
    assert lost.abs().max() > 1e-4
    table = pd.DataFrame({"image": range(16), "prediction": cnn(pictures(16)).argmax(1).tolist()})
    relevance = LayerRelevance(learned.hidden, "gradient_x_activation", 0)
    split = ImageSplit.of(pictures(16))
    evidence = gather_evidence(relevance, split, table, [one, other])
    planes = Hyperplanes({label: own.vectors for label, own in evidence.items()})
    moved = shifting_test(learned.hidden, planes, evidence, split, [(one, other)], [0.0, 4.0])
    growth = moved.groupby(["direction", "offset"])["growth"].mean()
    assert growth["normal", 4.0] > 0
    assert growth["normal", 0.0] == 0
    pooled = PooledActivations(learned.hidden, split, 2)
    assert pooled.nearest(learned.bank.basis[one]).similarity.min() > 0.1


@pytest.mark.parametrize(
    ("make", "layer"),
    [(vit, None), (swin, None), (swin, "norm"), (normalised, None), (normalised, "layer4.1.conv2")],
)
def test_drawn_concepts_of_any_layer(make, layer):
    """Also of blocks, which no folded copy has, and of a convolution whose normalisation comes behind it."""
    hidden = HiddenLayer(make(), layer, SIZE)
    drawing = FeatureVisualisation(hidden, pictures(), steps=2, crops=1)
    expected = hidden(pictures())
    torch.testing.assert_close(drawing.hidden(pictures()), expected, rtol=1e-3, atol=1e-4)
    made = drawing.concepts(torch.eye(hidden.channels)[[0, -1]])
    assert made.pictures.shape == (2, 3, *SIZE)
    assert made.asked.any()


def test_a_decoder_of_tokens():
    hidden = HiddenLayer(vit(), image_size=SIZE)
    decoder, log = train_decoder(hidden, ImageSplit.of(pictures(8)), epochs=2)
    assert log.notna().all(axis=None)
    assert decoder.highest.shape == (32,)
    made = decoded_concepts(hidden, decoder, torch.eye(32)[[0, -1]], steps=2)
    assert made.shape == (2, 3, *SIZE)


@pytest.mark.parametrize("name", ["vit_b_16", "swin_t"])
def test_torchvisions_own(name):
    torch.manual_seed(0)
    cnn = models.vit_b_16(image_size=64) if name == "vit_b_16" else models.swin_t()
    if name == "vit_b_16":
        nn.init.normal_(cnn.heads.head.weight, std=0.05)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    hidden = HiddenLayer(cnn.eval(), image_size=(64, 64))
    assert (hidden.channels, hidden.size) == (1536, (4, 4) if name == "vit_b_16" else (2, 2))
    relevance = LayerRelevance(hidden, "gradient_x_activation", 0)
    weighted = relevance.weighted(images, 3)
    assert weighted.any()
    basis = weighted.mean((2, 3))
    assert importance(hidden, images, 3, basis / basis.norm(dim=1, keepdim=True)).abs().max() > 1e-6
