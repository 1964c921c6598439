"""A CNN that nobody here wrote, with padding, convolutions and activations of its own: all of it works.

Weights and pictures are those of ``GAN_LIB_TEST_DATA``.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

import gan_lib
from gan_lib.classifiers import folded
from gan_lib.concepts import HiddenLayer, LayerRelevance
from gan_lib.explainers import make_explainer
from gan_lib.gan.conditions import ConditionMaker, FeatureMaker
from gan_lib.inversion import InversionOptions

DATA = Path(os.environ.get("GAN_LIB_TEST_DATA", ""))
WEIGHTS = DATA / "weights/efficientnet_lite0_imagenet.safetensors"
SIZE = 96  # pixels; half the trained size, to be quick
FACTORY = """
from efficientnet_lite_pytorch import EfficientNet


def make(num_classes=1000):
    return EfficientNet.from_name("efficientnet-lite0")
"""
OPTIONS = {
    "occlusion": {"window": 32, "stride": 32},
    "feature_ablation": {"count": 3},
    "integrated_gradients": {"steps": 4},
    "smoothgrad": {"samples": 2},
    "gradient_shap": {"samples": 2},
    "expected_gradients": {"samples": 2},
    "score_cam": {"channels": 8},
    "rise": {"masks": 64},
    "guided_feature_inversion": {
        "first": InversionOptions(iterations=2),
        "second": InversionOptions(iterations=2),
    },
    "guided_feature_inversion_step_1": {"first": InversionOptions(iterations=2)},
}

pytestmark = pytest.mark.skipif(
    not os.environ.get("GAN_LIB_TEST_DATA"), reason="GAN_LIB_TEST_DATA is not set"
)


@pytest.fixture(scope="module")
def cnn(tmp_path_factory):
    pytest.importorskip("efficientnet_lite_pytorch")
    file = tmp_path_factory.mktemp("lite") / "nets.py"
    file.write_text(FACTORY)
    return gan_lib.load_cnn(f"{file}:make", WEIGHTS, mean=(0.498,) * 3, std=(0.502,) * 3, image_size=SIZE)


@pytest.fixture(scope="module")
def images():
    return gan_lib.read_images(DATA / "test-images/swan.jpg", SIZE)


def test_a_factory_without_normalisation_is_told_which_one_is_taken(tmp_path):
    pytest.importorskip("efficientnet_lite_pytorch")
    (tmp_path / "nets.py").write_text(FACTORY)
    with pytest.warns(UserWarning, match=r"normalised with ImageNet's mean .* give mean= and std="):
        gan_lib.load_cnn(f"{tmp_path / 'nets.py'}:make", WEIGHTS, image_size=SIZE)


def test_it_sees_what_is_there(cnn):
    dog = gan_lib.read_images(DATA / "test-images/cat_dog.png", 224)
    scores = cnn(dog)
    assert int(scores.argmax()) == 243, "a bull mastiff"
    torch.testing.assert_close(scores, cnn.backbone((dog - 0.498) / 0.502))


def test_every_method_explains_it(cnn, images, untrained_methods):
    for name in untrained_methods:
        maps = make_explainer(name, cnn, **OPTIONS.get(name, {})).attribute(images)
        assert maps.shape == (1, 1, SIZE, SIZE), name
        assert maps.isfinite().all(), name
        assert maps.max() > maps.min(), name


def test_conditions_and_concepts_can_be_made_of_it(cnn, images):
    assert folded(cnn) is not None
    maker = FeatureMaker(cnn, (SIZE, SIZE))
    assert maker.layers[-1] == "backbone._conv_head"
    assert maker.head == "backbone._fc"
    torch.testing.assert_close(maker(images).logits, cnn(images).detach(), rtol=1e-3, atol=1e-3)
    assert maker(images).activations[-1].shape[1] == 2, "evidence at every place"
    assert ConditionMaker(cnn, (SIZE, SIZE), 4)(images).cgma.shape == (1, 4, SIZE, SIZE)
    hidden = HiddenLayer(cnn, image_size=(SIZE, SIZE))
    assert hidden.channels == 1280
    assert LayerRelevance(hidden, samples=0)(images).any()
