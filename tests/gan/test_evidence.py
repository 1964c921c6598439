"""Evidence conditions, worked out by hand, and what must leave them as they are."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gan_lib import wrap
from gan_lib.gan.conditions import EvidenceMaker, FeatureMaker, evidence_maps
from gan_lib.gan.conditions.evidence import first_order, pooling, standardised


def square(*values):
    """Values of two rows of two places, (1, 1, 2, 2)."""
    return torch.tensor(values).view(1, 1, 2, 2)


EVIDENCE = square(6.0, 6.0, 2.0, 2.0)  # standardised: 1, 1, -1, -1


def test_standardised_by_hand():
    made = standardised(torch.tensor([[1.0, 3.0], [7.0, 7.0], [0.0, 0.0]]))
    assert made.tolist() == [[-1, 1], [0, 0], [0, 0]]


def test_a_channel_that_is_the_evidence_is_found_and_another_is_not():
    other = square(1.0, -1.0, 1.0, -1.0)  # uncorrelated with it
    activation = torch.cat([5 * EVIDENCE + 2, other], 1)
    torch.testing.assert_close(evidence_maps(activation, EVIDENCE), square(1.0, 1.0, -1.0, -1.0))


def test_a_channel_against_the_evidence_counts_as_one_for_it():
    made = evidence_maps(-2 * EVIDENCE, EVIDENCE)
    torch.testing.assert_close(made, square(1.0, 1.0, -1.0, -1.0))


def test_a_projection_is_as_strong_as_its_correlation():
    """The channel 2, 0, -1, -1 has deviation sqrt(1.5), and the correlation (2 + 0 + 1 + 1) / 4 / sqrt(1.5)."""
    made = evidence_maps(square(2.0, 0.0, -1.0, -1.0), EVIDENCE)
    torch.testing.assert_close(made, square(2.0, 0.0, -1.0, -1.0) / 1.5)


def test_several_kinds_of_evidence_have_a_map_each():
    other = square(1.0, -1.0, 1.0, -1.0)
    both = evidence_maps(torch.cat([EVIDENCE, other], 1), torch.cat([EVIDENCE, other], 1))
    torch.testing.assert_close(both, torch.cat([square(1.0, 1.0, -1.0, -1.0), other], 1))


def test_evidence_of_fewer_places_is_compared_at_its_own():
    """A channel of 4 x 4 places whose means over squares of four are the evidence, and noise within them."""
    noise = torch.tensor([[0.5, -0.5], [-0.5, 0.5]]).repeat(2, 2)
    fine = F.interpolate(standardised(EVIDENCE.flatten(2)).view(1, 1, 2, 2), scale_factor=2) + noise
    made = evidence_maps(fine, EVIDENCE)
    torch.testing.assert_close(made, fine / fine.square().mean().sqrt())


def test_evidence_of_more_places_is_averaged():
    fine = F.interpolate(EVIDENCE, scale_factor=2)
    made = evidence_maps(EVIDENCE, fine)
    torch.testing.assert_close(made, square(1.0, 1.0, -1.0, -1.0))


def test_pooling_by_hand():
    """Three places become two, each the mean of two neighbours; four become two halves."""
    assert pooling(3, 2).tolist() == [[0.5, 0.0], [0.5, 0.5], [0.0, 0.5]]
    assert pooling(4, 2).tolist() == [[0.5, 0.0], [0.5, 0.0], [0.0, 0.5], [0.0, 0.5]]


@pytest.mark.parametrize(
    ("fine", "coarse"), [((7, 5), (3, 2)), ((8, 6), (4, 6)), ((3, 9), (5, 4)), ((4, 4), (4, 4))]
)
def test_maps_are_those_of_standardised_channels(fine, coarse):
    """As the formula has it: channels standardised, averaged where the evidence is coarser, projected."""
    drawn = torch.Generator().manual_seed(0)
    activation, evidence = (
        5 + torch.rand(2, 6, *fine, generator=drawn),
        torch.rand(2, 2, *coarse, generator=drawn),
    )
    size = tuple(map(min, fine, coarse))
    channels = standardised(activation.flatten(2)).unflatten(2, fine)
    few = F.adaptive_avg_pool2d(channels, size).flatten(2)
    known = standardised(F.adaptive_avg_pool2d(evidence, size).flatten(2))
    weights = torch.einsum("ben,bcn->bec", known, few) / known.shape[2]
    fits = (standardised(torch.einsum("bec,bcn->ben", weights, few)) * known).mean(2)
    expected = standardised(torch.einsum("bec,bcn->ben", weights, channels.flatten(2))) * fits[:, :, None]
    torch.testing.assert_close(evidence_maps(activation, evidence).flatten(2), expected)


def test_a_channel_too_small_to_be_squared():
    activation = torch.rand(1, 8, 6, 6, generator=torch.Generator().manual_seed(0))
    evidence = activation[:, :2].flip(2)
    expected = evidence_maps(activation, evidence)
    activation[:, 3] *= 1e-20
    torch.testing.assert_close(evidence_maps(activation, evidence), expected, rtol=1e-4, atol=1e-4)


def test_salience_by_hand():
    first, second = square(1.0, 1.0, -1.0, -1.0), square(1.0, -1.0, 1.0, -1.0)
    made = evidence_maps(torch.cat([first, second], 1), EVIDENCE, salience=True)
    assert made.shape == (1, 4, 2, 2)
    mean, strength = made[:, 2:3], made[:, 3:]
    torch.testing.assert_close(mean, (first + second) / 2)
    torch.testing.assert_close(strength, torch.zeros(1, 1, 2, 2))  # everywhere sqrt(2) / sqrt(2) - 1
    # The mean feature where the evidence is points along the first channel alone.
    torch.testing.assert_close(made[:, 1:2], first / 2**0.5)


def test_constant_channels_and_constant_evidence_give_nothing():
    flat = torch.full((2, 3, 4, 4), 7.0)
    assert evidence_maps(flat, EVIDENCE.expand(2, -1, -1, -1), salience=True)[:, :3].abs().max() == 0
    assert evidence_maps(torch.rand(2, 3, 4, 4), torch.ones(2, 2, 2, 2)).abs().max() == 0
    rounded = torch.full((1, 3, 7, 5), 0.7)  # whose mean is another number, by the last digit
    assert rounded.mean() != rounded[0, 0, 0, 0]
    assert evidence_maps(rounded, torch.rand(1, 2, 7, 5), salience=True)[:, :4].abs().max() == 0


@pytest.mark.parametrize("salience", [False, True])
def test_order_scale_and_shift_of_channels_do_not_matter(salience):
    torch.manual_seed(0)
    activation, evidence = torch.rand(3, 6, 8, 8), torch.rand(3, 2, 4, 4)
    scale, shift = torch.rand(6, 1, 1) * 10 + 0.1, torch.randn(6, 1, 1)
    changed = (activation * scale + shift)[:, torch.randperm(6)]
    made = evidence_maps(activation, evidence, salience)
    torch.testing.assert_close(evidence_maps(changed, evidence, salience), made, rtol=1e-4, atol=1e-4)


def test_images_of_a_batch_do_not_mix():
    torch.manual_seed(0)
    activation, evidence = torch.rand(3, 6, 8, 8), torch.rand(3, 2, 4, 4)
    alone = evidence_maps(activation[1:2], evidence[1:2])
    torch.testing.assert_close(evidence_maps(activation, evidence)[1:2], alone)


# -- of CNNs -----------------------------------------------------------------------------------------


class Net(nn.Module):
    """Two convolutions with ReLUs, and a linear layer on pooled features."""

    def __init__(self, pooled=True):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 3, 2, 1)
        self.third, self.head = nn.Conv2d(5, 6, 3, padding=1), nn.Linear(6, 3)
        self.pooled, self.last = pooled, nn.ReLU()

    def forward(self, images):
        features = self.last(self.third(self.second(self.first(images).relu()).relu()))
        seen = features.mean((2, 3)) if self.pooled else features.amax((2, 3))
        return self.head(seen)


@pytest.fixture
def net():
    torch.manual_seed(3)
    return Net().eval()


def placed(net, images, classes):
    """Logit and log-odds of classes (B,) at every place, written out one by one: (B, 2, h, w)."""
    features = FeatureMaker(net, (16, 16), layers=["third"], fold=False)(images).activations[0].relu()
    logits, made = net(images).detach(), torch.empty(len(images), 2, *features.shape[2:])
    for image, own in enumerate(classes):
        at = torch.einsum("kc,chw->khw", net.head.weight, features[image]) + net.head.bias[:, None, None]
        others = [name for name in range(3) if name != own]
        likely = logits[image, others].exp() / logits[image, others].exp().sum()
        lead = at[own] - (likely[:, None, None] * at[others]).sum(0)
        odds = logits[image, own] - logits[image, others].exp().sum().log()
        made[image] = torch.stack([at[own], odds + lead - lead.mean()])
    return made.detach()


def test_conditions_are_the_layers_maps_and_the_evidence(net, images):
    maker = EvidenceMaker(net, (16, 16), count=2)
    assert (maker.layers, maker.channels) == (["second", "third"], (2, 2, 3))
    made = maker(images, target=[0, 1, 2])
    plain = FeatureMaker(net, (16, 16), count=2)(images, target=1)
    evidence = placed(net, images, [0, 1, 2])
    for own, activation in zip(made.activations, plain.activations[:-1], strict=False):
        coarse = F.adaptive_avg_pool2d(activation, (4, 4))  # a quarter of the image's side is enough
        torch.testing.assert_close(own, evidence_maps(coarse, evidence), rtol=1e-3, atol=1e-4)
    last = made.activations[-1]
    expected = standardised(evidence.flatten(2)).unflatten(2, (8, 8))
    torch.testing.assert_close(last[:, :2], expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(last[:, 2], evidence[:, 1].sigmoid(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(made.logits, net(images).detach())
    torch.testing.assert_close(made.embedding, plain.embedding)


def test_weighed_logits_by_hand(net):
    """Channels 1 and 2 of one place: logits 1 - 2 + 0.5 and 3 * 1 - 1, sums 2 * -0.5 - 2 and 2."""
    maker = EvidenceMaker(net, (16, 16), count=2, fold=False)
    with torch.no_grad():
        net.head.weight.zero_()
        net.head.weight[0, :2] = torch.tensor([1.0, -1.0])
        net.head.weight[1, :1] = 3.0
        net.head.bias.copy_(torch.tensor([0.5, -1.0, 7.0]))
        features = torch.zeros(1, 6, 1, 1)
        features[0, :2, 0, 0] = torch.tensor([1.0, 2.0])
        made = maker.weighed_logits(features, torch.tensor([[[2.0, -1.0, 0.0], [0.0, 1.0, 0.0]]]))
    assert maker.placed_logits(features).flatten().tolist() == [-0.5, 2.0, 7.0]
    assert made.flatten().tolist() == [-3.0, 2.0]


def test_weighed_logits_of_one_output(images):
    layers = [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1)).eval()
    maker = EvidenceMaker(wrap(net, output="binary", class_names=["no", "yes"]), (16, 16), count=1)
    features, weights = torch.rand(2, 4, 3, 3), torch.rand(2, 5, 2)
    expected = torch.einsum("bek,bkhw->behw", weights, maker.placed_logits(features))
    torch.testing.assert_close(maker.weighed_logits(features, weights), expected)


def test_labels_that_do_not_exclude_each_other_have_no_rivals(net, images):
    cnn = wrap(net, output="multi_label", class_names=["one", "two", "three"])
    evidence = EvidenceMaker(cnn, (16, 16), count=2)(images, target=1).activations[-1]
    torch.testing.assert_close(evidence[:, 0], evidence[:, 1])


def test_channels_of_a_cnn_can_be_permuted_and_rescaled(net, images):
    """Of a layer, where the next one undoes it: the CNN is the same function."""
    changed, order = copy.deepcopy(net), torch.tensor([2, 0, 4, 1, 3])
    scale = torch.tensor([0.1, 3.0, 1.0, 20.0, 0.7])
    with torch.no_grad():
        changed.second.weight.copy_(net.second.weight[order] * scale[:, None, None, None])
        changed.second.bias.copy_(net.second.bias[order] * scale)
        changed.third.weight.copy_(net.third.weight[:, order] / scale[:, None, None])
    torch.testing.assert_close(changed(images), net(images), rtol=1e-3, atol=1e-4)
    first, second = (EvidenceMaker(own, (16, 16), count=2)(images).activations for own in (net, changed))
    for own, other in zip(first, second, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-4)


def test_a_cnn_of_few_layers_gives_some_twice(net, images):
    maker = EvidenceMaker(net, (16, 16), count=5)
    assert maker.layers == ["second", "second", "second", "third", "third"]
    assert maker.channels == (2, 2, 2, 2, 2, 3)


def test_a_backward_pass_through_the_head_finds_the_same_evidence(net, images):
    """The head is linear: to the first order is exact."""
    maker = EvidenceMaker(net, (16, 16), count=2)
    assert maker.has_places
    straight = maker(images, target=[0, 1, 2])
    maker.has_places = False
    around = maker(images, target=[0, 1, 2])
    for own, other in zip(straight.activations, around.activations, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-4)


def test_first_order_by_hand():
    """Two places of effects 1 and 3 on a score of 10: everywhere the first, it is 10 + 2 (1 - 2)."""
    made = first_order(torch.tensor([10.0]), torch.tensor([[[1.0, 3.0]]]))
    assert made.tolist() == [[[8.0, 12.0]]]


class Tokens(nn.Module):
    """Patches as tokens behind a class token, as vision transformers have them."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(3))
        self.token, self.head = nn.Parameter(torch.zeros(1, 1, 8)), nn.Linear(8, 3)

    def forward(self, images):
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(tokens), -1, -1), tokens], 1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(tokens[:, 0])


@pytest.mark.parametrize("make", [lambda: Net(pooled=False), Tokens])
def test_cnns_without_a_linear_layer_on_pooled_features(make, images):
    torch.manual_seed(5)
    cnn = make().eval().requires_grad_(False)
    maker = EvidenceMaker(cnn, (16, 16), count=2)
    assert not maker.has_places
    made = maker(images, target=2)
    assert maker.channels == (2, 2, 3)
    assert [own.shape[-2:] for own in made.activations[:-1]] == [(4, 4)] * 2
    assert all(own.isfinite().all() and own.std() > 0 for own in made.activations)
    other = maker(images, target=1)
    assert not torch.allclose(made.activations[0], other.activations[0], atol=1e-2)
    assert not any(len(own._forward_hooks) + len(own._forward_pre_hooks) for own in cnn.modules())
    assert all(own.grad is None for own in cnn.parameters())
    with torch.inference_mode(), pytest.raises(RuntimeError, match="needs gradients"):
        maker(images)


def test_the_cnn_is_left_as_it_is(net, images):
    net.train()
    EvidenceMaker(net, (16, 16), count=2)(images)
    assert net.training
    assert all(own.grad is None and own.requires_grad for own in net.parameters())
    assert not any(len(own._forward_hooks) for own in net.modules())


def test_the_same_conditions_of_another_cnn(net, images):
    torch.manual_seed(9)
    other, maker = Net().eval(), EvidenceMaker(net, (16, 16), count=2, salience=True)
    again = maker.on(other)
    assert (again.layers, again.channels) == (maker.layers, (5, 5, 3))
    torch.testing.assert_close(again(images).logits, other(images).detach())
    assert maker.settings() == {"layers": maker.layers, "fold": maker.fold, "salience": True}
    kept = EvidenceMaker(other, (16, 16), **maker.settings())
    assert (kept.salience, kept.channels) == (True, maker.channels)


@pytest.mark.parametrize(("activation", "evidence"), [((3, 4), (3, 3)), ((3, 3), (3, 4)), ((5, 2), (2, 5))])
def test_sizes_that_differ_in_one_direction(activation, evidence):
    """What is compared lies on the coarser of both grids, height by height and width by width."""
    generator = torch.Generator().manual_seed(0)
    given = torch.rand(2, 6, *activation, generator=generator)
    known = torch.rand(2, 2, *evidence, generator=generator)
    coarser = tuple(map(min, activation, evidence))
    made = evidence_maps(given, known)
    assert made.shape == (2, 2, *activation)
    channels = standardised(given.flatten(2)).unflatten(2, activation)
    at = standardised(F.adaptive_avg_pool2d(known, coarser).flatten(2))
    weights = at @ F.adaptive_avg_pool2d(channels, coarser).flatten(2).mT / at.shape[2]
    slope = standardised(weights @ channels.flatten(2))
    same = F.cosine_similarity(made.flatten(2), slope, dim=2)
    torch.testing.assert_close(same, torch.ones(2, 2), rtol=1e-4, atol=1e-4)


def test_images_of_odd_sizes(net):
    maker = EvidenceMaker(net, (16, 16), count=2)
    for size in ((48, 50), (17, 31), (64, 16)):
        made = maker(torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)))
        assert all(own.isfinite().all() for own in made.activations)


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_logits_that_are_a_multiple_of_the_last_layer(net, images, factor):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, images):
            return factor * self.net(images)

    maker = EvidenceMaker(Scaled().eval(), (16, 16), count=2)
    assert maker.has_places
    assert maker.scale == pytest.approx(factor, rel=1e-3)
    straight = maker(images, target=[0, 1, 2])
    maker.has_places = False
    around = maker(images, target=[0, 1, 2])
    for own, other in zip(straight.activations, around.activations, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-2, atol=1e-3)


def test_one_output_that_nobody_has_said_anything_about(images):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1))
    with pytest.raises(ValueError, match=r"gan_lib\.wrap\(model, output"):
        EvidenceMaker(net.eval(), (16, 16), count=1)


def test_a_cnn_of_one_layer_has_no_conditions():
    """Its only layer with places is the one that classifies: one clear error, so that others can be tried."""
    single = nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ValueError, match="no layer"):
        EvidenceMaker(single, (32, 32))
