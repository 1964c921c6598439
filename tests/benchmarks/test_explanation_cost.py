"""What one explanation costs: the contrastive explainers beside Grad-CAM of the last layer."""

from __future__ import annotations

import pytest
import torch
from captum.attr import LayerGradCam
from conftest import median_seconds

from gan_lib.classifiers import folded, make_classifier
from gan_lib.core.capture import layers_in_order
from gan_lib.explainers import ContrastiveExplainer, GradCAM
from gan_lib.gan.conditions import FeatureMaker
from gan_lib.gan.generators import make_generator

ROUNDS = 15


@pytest.mark.parametrize(
    ("name", "size", "layers", "stride"),
    [("slim_vgg", 64, 3, 4), ("mobilenet_v2", 160, 4, 8), ("resnet18", 160, 4, 8)],
)
def test_explanation(record, benchmark, name, size, layers, stride):
    cnn = make_classifier(name, [str(i) for i in range(10)]).eval().requires_grad_(False)
    images = torch.rand(32, 3, size, size)
    last = layers_in_order(cnn, images[:1])[-1]
    captum = LayerGradCam(cnn, dict(cnn.named_modules())[last])
    grad_cam, fast_grad_cam = GradCAM(cnn, last), GradCAM(folded(cnn), last)
    maker = FeatureMaker(cnn, (size, size), layers)
    contestants = {
        "Grad-CAM, last layer": lambda: grad_cam.attribute(images),
        "Grad-CAM, last layer, normalisation folded": lambda: fast_grad_cam.attribute(images),
        "Captum's Grad-CAM, last layer": lambda: captum.attribute(images, target=0),
    }
    for variant in ("lsft", "gsft"):
        sizes = {"width": 16, "condition_channels": 8, "sft_hidden": 8, "stem_stride": stride, "detail": 16}
        generator = make_generator(
            variant, conditions=layers + 1, features=maker.channels, blocks=4, **sizes
        ).eval()
        explainer = ContrastiveExplainer(maker, generator)
        contestants[f"contrastive {variant}"] = lambda explainer=explainer: explainer.attribute(images)
    seconds = median_seconds(contestants, ROUNDS)
    for variant in ("lsft", "gsft"):
        for against in [other for other in contestants if "Grad-CAM" in other]:
            ratio = seconds[f"contrastive {variant}"] / seconds[against]
            record(
                f"one explanation, {name}, 32 images at {size} px",
                f"contrastive {variant}",
                against,
                ratio,
                ROUNDS,
            )
    benchmark.pedantic(contestants["contrastive lsft"], rounds=3)
