"""Copies of a CNN follow its weights, however these change; what has not changed stays bit for bit."""

from __future__ import annotations

import copy
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from joblib import Parallel, delayed
from torch import nn

from gan_lib.classifiers import folded, make_classifier
from gan_lib.classifiers.copies import follow
from gan_lib.concepts.layers import HiddenLayer, LayerRelevance
from gan_lib.explainers import GradCAM, make_explainer
from gan_lib.gan.conditions import FeatureMaker
from gan_lib.metrics.curves import Probe


@cache
def made(seed):
    """Made once: initialising it takes longer than all that is asked of it."""
    return make_classifier("slim_vgg", ["a", "b", "c"], seed=seed).eval()


@pytest.fixture
def cnn():
    return copy.deepcopy(made(1))


@pytest.fixture
def pictures():
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(5))


def optimizer_step(cnn, pictures):
    optimizer = torch.optim.SGD(cnn.parameters(), lr=0.1)
    cnn(pictures).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def other_state(cnn, pictures):
    cnn.load_state_dict(made(2).state_dict())


def assigned_state(cnn, pictures):
    cnn.load_state_dict(copy.deepcopy(made(2).state_dict()), assign=True)


def written_to_data(cnn, pictures):
    cnn.backbone.features[0].weight.data.mul_(1.5)


def other_data(cnn, pictures):
    cnn.backbone.features[0].weight.data = 1.5 * cnn.backbone.features[0].weight.data


def mirrored_kernels(cnn, pictures):  # the same values, elsewhere: no sum tells
    cnn.backbone.features[0].weight.data = cnn.backbone.features[0].weight.data.flip(-1)


def written_under_inference_mode(cnn, pictures):
    with torch.inference_mode():
        cnn.backbone.features[0].weight.mul_(1.5)


def running_statistics(cnn, pictures):
    cnn.train()
    with torch.no_grad():
        cnn(pictures)
    cnn.eval()


def normalisation(cnn, pictures):
    cnn.mean.add_(0.1)


def other_module(cnn, pictures):
    cnn.backbone.features[0] = copy.deepcopy(cnn.backbone.features[0])
    nn.init.normal_(cnn.backbone.features[0].weight)


CHANGES = [
    *(optimizer_step, other_state, assigned_state, written_to_data, other_data, mirrored_kernels),
    *(written_under_inference_mode, running_statistics, normalisation, other_module),
]


class Untraceable(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images):
        return self.net(images if images.mean() < 100 else -images)


def features(cnn):
    maker = FeatureMaker(cnn, (32, 32), 3)

    def run(pictures):
        made = maker(pictures, 1)
        return torch.cat([own.flatten() for own in (*made.activations, made.logits, made.embedding)])

    return run


def probe(cnn, mixed=False):
    asked = Probe(cnn, mixed_precision=mixed)
    return lambda pictures: asked(pictures, torch.ones(len(pictures), dtype=torch.long))


def relevance(cnn):
    made = LayerRelevance(HiddenLayer(cnn, image_size=(32, 32)), samples=2)
    return lambda pictures: made(pictures, 1)


def attributions(name):
    def of(cnn):
        made = make_explainer(name, cnn)
        return lambda pictures: made.attributions(pictures, 1)

    return of


def grad_cams_of_all(cnn):
    """Of every class: some of them have an empty map."""
    made = GradCAM(cnn)
    classes = range(len(cnn(torch.zeros(1, 3, 32, 32))[0]))
    return lambda pictures: torch.cat([made.attribute(pictures, label) for label in classes])


def quick(cnn):
    from gan_lib.workbench.subject import Subject

    return Subject.quick.func(SimpleNamespace(cnn=cnn))


USERS = {
    "folded": folded,
    "a subject's quick CNN": quick,
    "folded twice": lambda cnn: folded(folded(cnn)),
    "grad_cam of a folded copy": lambda cnn: grad_cams_of_all(folded(cnn)),
    "features": features,
    "probe": probe,
    "probe, mixed": lambda cnn: probe(cnn, True),
    "probe, mixed, cannot be folded": lambda cnn: probe(Untraceable(cnn).eval(), True),
    "probe of a folded copy": lambda cnn: probe(folded(cnn)),
    "deep_lift": attributions("deep_lift"),
    "guided_backprop": attributions("guided_backprop"),
    "deep_lift of a folded copy": lambda cnn: attributions("deep_lift")(folded(cnn)),
    "layer_relevance": relevance,
}


CASES = [("features", change) for change in CHANGES]
CASES += [(user, change) for user in USERS for change in (mirrored_kernels, assigned_state)]


@pytest.mark.parametrize(("user", "change"), dict.fromkeys(CASES))
def test_copies_follow_every_change(cnn, pictures, user, change):
    used = USERS[user](cnn)
    before = used(pictures)
    assert torch.equal(used(pictures), before), "unchanged, bit for bit"
    change(cnn, pictures)
    after, expected = used(pictures), USERS[user](cnn)(pictures)
    assert torch.equal(after, expected)
    assert not torch.equal(after, before)
    assert torch.equal(used(pictures), after)


def test_a_copy_is_made_again_only_when_something_changed(cnn, pictures):
    made = []

    def count(source):
        made.append(source)
        return copy.deepcopy(source)

    copied = follow(copy.deepcopy(cnn), cnn, count)
    copied(pictures)
    cnn.requires_grad_(False)
    cnn.train()
    copied(pictures)
    assert not made
    cnn.mean.data.add_(0.1)
    copied(pictures)
    copied(pictures)
    assert made == [cnn]
    assert all(parameter.requires_grad for parameter in copied.parameters())


def test_other_layers_are_refused(cnn, pictures):
    quick = folded(cnn)
    relu = cnn.backbone.features[2]
    assert isinstance(relu, nn.ReLU)
    cnn.backbone.features[2] = nn.LeakyReLU()
    with pytest.raises(RuntimeError, match="other layers"):
        quick(pictures)
    cnn.backbone.features[2] = relu
    quick(pictures)
    cnn.backbone.classifier[0] = nn.Linear(cnn.backbone.classifier[0].in_features, 5)
    with pytest.raises(RuntimeError, match="other layers"):
        quick(pictures)


def test_methods_that_copy_take_other_layers(cnn, pictures):
    explainer = make_explainer("guided_backprop", cnn)
    before = explainer.attributions(pictures, 1)
    cnn.backbone.features[2] = nn.Identity()
    after = explainer.attributions(pictures, 1)
    assert torch.equal(after, make_explainer("guided_backprop", cnn).attributions(pictures, 1))
    assert not torch.equal(after, before)


def through_a_process(maker):
    """Sent to a worker process and back, as jobs are."""
    return Parallel(n_jobs=2)([delayed(copy.copy)(maker)] * 2)[0]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, through_a_process])
def test_a_copy_of_a_maker_follows_its_own_cnn(cnn, pictures, duplicate):
    maker = FeatureMaker(cnn, (32, 32), 3)
    before = maker(pictures).logits
    own = duplicate(maker)
    assert torch.equal(own(pictures).logits, before)
    written_to_data(own.cnn, pictures)
    assert torch.equal(own(pictures).logits, FeatureMaker(own.cnn, (32, 32), 3)(pictures).logits)
    assert not torch.equal(own(pictures).logits, before)
    assert torch.equal(maker(pictures).logits, before)
    plain = duplicate(FeatureMaker(cnn, (32, 32), 3, fold=False))
    assert plain.net is plain.cnn


def test_number_format_follows_in_a_maker(cnn, pictures):
    maker = FeatureMaker(cnn, (32, 32), 3)
    exact = maker(pictures).logits
    cnn.double()
    assert torch.allclose(maker(pictures.double()).logits, exact.double(), atol=1e-5)
    cnn.float()
    assert torch.equal(maker(pictures).logits, exact)


def test_a_copy_of_the_copy_is_as_it_is(cnn, pictures):
    static = copy.deepcopy(folded(cnn))
    before = static(pictures)
    written_to_data(cnn, pictures)
    assert torch.equal(static(pictures), before)


def test_made_under_inference_mode_and_used_with_gradients(cnn, pictures):
    with torch.inference_mode():
        quick = folded(cnn)
        quick(pictures)
    written_to_data(cnn, pictures)
    with torch.inference_mode():
        quick(pictures)  # takes over there
    inputs = pictures.clone().requires_grad_()
    quick(inputs).sum().backward()
    assert inputs.grad.abs().max() > 0
    assert torch.allclose(quick(pictures), cnn(pictures), atol=1e-4)
