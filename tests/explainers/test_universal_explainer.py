"""Explainers that take any CNN: one without weights, and generators trained on others."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import nn
from torchvision import models

from gan_lib import api
from gan_lib.core.maps import min_max
from gan_lib.explainers import EvidenceProjection, GeneratorExplainer, UniversalExplainer, make_explainer
from gan_lib.gan.conditions import EvidenceMaker
from gan_lib.gan.generators import make_generator, projections

SIZES = {
    "width": 8,
    "condition_channels": 4,
    "sft_hidden": 4,
    "stem_stride": 8,
    "image": "none",
    "prior": True,
}


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(0)
    return make_generator("lsft", conditions=3, features=(2, 2, 3), **SIZES).eval()


def test_the_projection_is_the_conditions_mean(tiny_net, images):
    made = EvidenceProjection(tiny_net, layers=2).attribute(images, [0, 3, 1])
    conditions = EvidenceMaker(tiny_net, (16, 16), 2)(images, [0, 3, 1]).activations
    total = sum(
        torch.nn.functional.interpolate(own[:, :2].sum(1, keepdim=True), size=(16, 16), mode="bilinear")
        for own in conditions
    )
    torch.testing.assert_close(made, min_max((total / 3).relu()))
    assert made.amax((1, 2, 3)).tolist() == [1, 1, 1]


def test_one_explainer_takes_images_of_any_size(tiny_net, generator):
    for explainer in (EvidenceProjection(tiny_net, 2), UniversalExplainer(tiny_net, (16, 16), generator, 2)):
        for size in ((16, 16), (24, 40), (19, 30)):  # the last one is no multiple of the stem's stride
            pictures = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(2))
            assert explainer.attribute(pictures).shape == (2, 1, *size)


def test_the_generator_draws_at_the_nearest_size(tiny_net, generator):
    explainer = UniversalExplainer(tiny_net, (16, 16), generator, 2)
    pictures = torch.rand(2, 3, 19, 29, generator=torch.Generator().manual_seed(2))
    conditions = EvidenceMaker(tiny_net, (19, 29), 2)(pictures).activations
    with torch.no_grad():
        drawn = generator(torch.rand(2, 3, 16, 32), conditions)  # it does not see the image
    expected = torch.nn.functional.interpolate(drawn, size=(19, 29), mode="bilinear")
    torch.testing.assert_close(explainer.attribute(pictures), expected)


def test_a_map_is_the_same_alone_and_in_a_batch(tiny_net, generator, images):
    for explainer in (EvidenceProjection(tiny_net, 2), UniversalExplainer(tiny_net, (16, 16), generator, 2)):
        together = explainer.attribute(images, 1)
        torch.testing.assert_close(explainer.attribute(images[1:2], 1), together[1:2])


def test_emphasis_of_the_evidence(tiny_net, images):
    conditions = EvidenceMaker(tiny_net, (16, 16), 2)(images, 1).activations
    expected = min_max(projections(conditions, (16, 16), [1.0, 1.0, 4.0]).relu())
    made = EvidenceProjection(tiny_net, 2, emphasis=4).attribute(images, 1)
    torch.testing.assert_close(made, expected)
    usual = EvidenceProjection(tiny_net, 2).attribute(images, 1)
    assert torch.equal(usual, EvidenceProjection(tiny_net, 2, emphasis=1).attribute(images, 1))
    assert not torch.allclose(usual, made)
    torch.manual_seed(3)
    other = type(tiny_net)().eval()
    on_other = EvidenceProjection(tiny_net, 2, emphasis=4).on(other).attribute(images, 1)
    assert torch.equal(on_other, EvidenceProjection(other, 2, emphasis=4).attribute(images, 1))
    for wrong in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="emphasis="):
            EvidenceProjection(tiny_net, 2, emphasis=wrong)


def test_the_product_of_the_layers(tiny_net, images):
    conditions = EvidenceMaker(tiny_net, (16, 16), 2)(images, 1).activations
    expected = min_max(projections(conditions, (16, 16), joint="product").exp())
    made = EvidenceProjection(tiny_net, 2, joint="product").attribute(images, 1)
    torch.testing.assert_close(made, expected)
    assert (made.amin((1, 2, 3)).tolist(), made.amax((1, 2, 3)).tolist()) == ([0.0] * 3, [1.0] * 3)
    with pytest.raises(ValueError, match="joint is mean or product, not 'sum'"):
        EvidenceProjection(tiny_net, 2, joint="sum")


def test_saved_and_read_for_another_cnn(tiny_net, generator, images, tmp_path):
    explainer = UniversalExplainer(tiny_net, (16, 16), generator, 2)
    assert (explainer.name, explainer.kind) == ("universal_lsft", "universal")
    explainer.save(tmp_path / "universal-lsft", {"pool": ["tiny"]})
    torch.manual_seed(4)
    other = models.squeezenet1_1(num_classes=7).eval()
    pictures = torch.rand(2, 3, 64, 64)
    for made in (
        GeneratorExplainer.from_pretrained(tmp_path / "universal-lsft", other),
        make_explainer("universal-lsft", other, pretrained=tmp_path),
    ):
        assert isinstance(made, UniversalExplainer)
        expected = projections(EvidenceMaker(other, (64, 64), 2)(pictures).activations, (64, 64))
        assert made.attribute(pictures).shape == expected.shape
        torch.testing.assert_close(made.attribute(pictures), explainer.on(other).attribute(pictures))
    again = GeneratorExplainer.from_pretrained(tmp_path / "universal-lsft", tiny_net)
    torch.testing.assert_close(again.attribute(images), explainer.attribute(images))


def test_it_travels_to_other_processes(generator):
    torch.manual_seed(4)
    explainer = UniversalExplainer(models.squeezenet1_1(num_classes=7).eval(), (64, 64), generator, 2)
    pictures = torch.rand(1, 3, 64, 64)
    expected = explainer.attribute(pictures)
    torch.testing.assert_close(pickle.loads(pickle.dumps(explainer)).attribute(pictures), expected)


def test_other_conditions_are_refused(tiny_net, generator):
    with pytest.raises(ValueError, match=r"conditions of \(2, 2, 2, 3\) channels, the generator takes"):
        UniversalExplainer(tiny_net, (16, 16), generator, 3)
    with pytest.raises(ValueError, match="count must be at least 1"):
        EvidenceProjection(tiny_net, 0)


class OneColour(nn.Module):
    """Class k where channel k is strong in the mean, through one 1x1 convolution."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Conv2d(3, 3, 1, bias=False), nn.Linear(3, 3, bias=False)
        self.layer.weight.data.copy_(torch.eye(3)[:, :, None, None])
        self.head.weight.data.copy_(10 * torch.eye(3))

    def forward(self, images):
        return self.head(self.layer(images).mean((2, 3)))


def test_the_projection_lies_on_the_asked_class():
    """Left half red, right half green: asked for red, the map is 1 on the left and 0 on the right."""
    picture = torch.zeros(1, 3, 32, 32)
    picture[:, 0, :, :16], picture[:, 1, :, 16:] = 1, 1
    explainer = EvidenceProjection(OneColour(), layers=1)
    left = explainer.attribute(picture, 0)
    assert left[..., :14].min() == 1
    assert left[..., 18:].max() == 0
    torch.testing.assert_close(explainer.attribute(picture, 1), left.flip(3))


def test_the_front_door_looks_for_them_by_the_size_of_the_images(tiny_net, generator, tmp_path):
    small = api.wrap(tiny_net, mean=(0.0,) * 3, std=(1.0,) * 3, image_size=32)
    large = api.wrap(tiny_net, mean=(0.0,) * 3, std=(1.0,) * 3, image_size=128)
    made = UniversalExplainer(small, (32, 32), generator, 2)
    made.save(tmp_path / "universal" / "small" / "universal-lsft")
    assert api.explainer("universal-lsft", small, tmp_path).name == "universal_lsft"
    with pytest.raises(
        KeyError, match=r"no universal-lsft is trained .*gan\.training\.train_universal trains"
    ):
        api.explainer("universal-lsft", large, tmp_path)
