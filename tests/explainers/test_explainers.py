from __future__ import annotations

import pytest
import torch
from captum.attr import Attribution, LayerGradCam

from gan_lib.core.maps import min_max, upsample
from gan_lib.explainers import Edges, GANExplainer, GradCAM, LinearReadout, RandomMap, UniformMap
from gan_lib.gan.conditions import ConditionMaker
from gan_lib.gan.generators import make_generator

TINY_LAYERS = ["features.0", "features.2", "features.5"]  # of the fixture tiny_net


@pytest.fixture
def maker(tiny_net):
    return ConditionMaker(tiny_net, (16, 16), 2, layers=TINY_LAYERS)


@pytest.fixture
def explainers(tiny_net, maker):
    generator = make_generator("lsft", conditions=2, width=8, condition_hidden=8, stem_stride=4)
    return [GradCAM(tiny_net, "features.5"), LinearReadout(maker), GANExplainer(maker, generator)]


def test_contract_of_every_explainer(explainers, images):
    for explainer in explainers:
        assert isinstance(explainer, Attribution)
        for target in (None, 1, torch.tensor([0, 1, 2])):
            maps = explainer.attribute(images, target=target)
            assert maps.shape == (3, 1, 16, 16)
            assert maps.min() >= 0
            assert maps.max() <= 1
            assert torch.allclose(explainer.attribute(images, target=target, batch_size=2), maps, atol=1e-5)
        with pytest.raises(ValueError, match="target"):
            explainer.attribute(images, target=torch.tensor([0, 1]))
        with pytest.raises(ValueError, match="target"):
            explainer.attribute(images, target=torch.tensor([0, 1]), batch_size=2)
        explainer.cnn.train()
        explainer.attribute(images)
        assert explainer.cnn.training
        explainer.cnn.eval()


def test_grad_cam_is_captums_scaled(tiny_net, images):
    raw = LayerGradCam(tiny_net, tiny_net.features[5]).attribute(images, target=1, relu_attributions=True)
    expected = min_max(upsample(raw.detach(), (16, 16)))
    assert torch.allclose(GradCAM(tiny_net, "features.5").attribute(images, target=1), expected, atol=1e-6)


def test_maps_depend_on_the_class_asked_about(explainers, images):
    for explainer in explainers:
        assert not torch.allclose(
            explainer.attribute(images, target=0), explainer.attribute(images, target=1)
        )


def test_generator_of_another_number_of_conditions(maker):
    with pytest.raises(ValueError, match="generator of 8"):
        GANExplainer(maker, make_generator("lsft", width=8))


def test_controls_do_not_look_at_the_cnn(tiny_net, images):
    edges, noise = Edges(tiny_net), RandomMap(tiny_net, seed=3)
    step = torch.zeros(1, 3, 16, 16)
    step[..., 8:] = 1
    strongest = edges.attribute(step)[0, 0].mean(0).argmax()
    assert strongest in (7, 8)
    made = noise.attribute(images)
    assert torch.equal(noise.attribute(images.flip(0), batch_size=1), made.flip(0))
    assert not torch.allclose(made[0], made[1])
    assert not torch.equal(noise.attribute(images), RandomMap(tiny_net, seed=4).attribute(images))
    half = UniformMap(tiny_net)
    assert torch.equal(half.attribute(images), torch.full((3, 1, 16, 16), 0.5))
    for control in (edges, noise, half):
        maps = control.attribute(images)
        assert maps.shape == (3, 1, 16, 16)
        assert torch.equal(control.attribute(images, 0), control.attribute(images, 1))
        assert maps.min() >= 0
        assert maps.max() <= 1
