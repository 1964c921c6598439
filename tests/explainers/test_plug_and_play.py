from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn

from gan_lib import CNNExplainer
from gan_lib.classifiers import make_classifier

SHAPE = (32, 32)
NAMES = {0: "cat", 1: "dog", 2: "owl", 3: "tiger cat"}


@pytest.fixture
def plain():
    """No in-place ReLU: the case that explainable-cnn can do."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, stride=2), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path)
    return path, pixels


def test_against_explainable_cnn(plain, picture):
    package = pytest.importorskip("explainable_cnn", exc_type=ImportError)
    from explainable_cnn.explainers.grad_cam import GradCAM as TheirGradCAM

    path, _ = picture
    theirs, ours = package.CNNExplainer(plain, NAMES), CNNExplainer(plain, NAMES)
    for label in ("dog", 2):
        expected = theirs.get_saliency_map(str(path), label, SHAPE)
        assert np.allclose(ours.get_saliency_map(path, label, SHAPE), expected, atol=1e-6)
        expected = theirs.get_guided_back_propagation(str(path), label, SHAPE)
        assert np.allclose(ours.get_guided_back_propagation(path, label, SHAPE), expected, atol=0.05)
        expected = theirs.get_guided_grad_cam(str(path), label, SHAPE, ["2"])[0]
        assert np.allclose(ours.get_guided_grad_cam(path, label, SHAPE, ["2"])[0], expected, atol=0.05)
    # Its Grad-CAM pictures need np.float, which NumPy has removed; its maps can be had.
    fresh = nn.Sequential(*plain)  # the package leaves its hooks behind
    for module in fresh.modules():
        module._forward_hooks.clear()
        module._backward_hooks.clear()
    cam = TheirGradCAM(fresh)
    inputs = theirs.preprocess_image(str(path), SHAPE)[1][None]
    cam.forward(inputs)
    cam.backward(torch.tensor([[1]]))
    expected = cam.generate("2")[0, 0].numpy()
    made = ours.get_grad_cam(path, "dog", SHAPE, ["2"], infuse=False)[0]
    assert np.allclose(made, expected, atol=1e-5)


def test_what_comes_back(plain, picture):
    path, pixels = picture
    explainer = CNNExplainer(plain.train(), NAMES)
    saliency = explainer.get_saliency_map(path, 1, SHAPE)
    assert saliency.shape == SHAPE
    assert saliency.min() >= 0
    for kind in (pixels, torch.from_numpy(pixels).permute(2, 0, 1).float() / 255):
        assert np.allclose(explainer.get_saliency_map(kind, 1, SHAPE), saliency, atol=1e-6)
    pictures = explainer.get_grad_cam(path, "dog", SHAPE, ["0", "2"])
    assert [p.shape for p in pictures] == [(*SHAPE, 3)] * 2
    assert pictures[0].min() >= 0
    assert 60 < pictures[0].max() <= 255
    guided = explainer.get_guided_back_propagation(path, "dog", SHAPE)
    assert guided.min() == 0
    assert guided.max() == pytest.approx(255)
    assert plain.training
    assert not any(module._forward_hooks or module._backward_hooks for module in plain.modules())
    assert explainer.get_saliency_map(path, None, (20, 28)).shape == (20, 28)


def test_several_images_are_the_single_ones(plain, picture):
    _, pixels = picture
    explainer = CNNExplainer(plain, NAMES)
    both = np.stack([pixels, 255 - pixels])
    labels = ["dog", 3]
    cams = explainer.get_grad_cam(both, labels, SHAPE, ["0", "2"])
    guided = explainer.get_guided_grad_cam(both, labels, SHAPE, ["2"])
    saliency = explainer.get_saliency_map(both, labels, SHAPE)
    assert cams[1].shape == (2, *SHAPE, 3)
    for row, label in enumerate(labels):
        assert np.allclose(saliency[row], explainer.get_saliency_map(both[row], label, SHAPE), atol=1e-6)
        own = explainer.get_grad_cam(both[row], label, SHAPE, ["0", "2"])
        assert np.allclose(cams[1][row], own[1], atol=1e-2)
        own = explainer.get_guided_grad_cam(both[row], label, SHAPE, ["2"])
        assert np.allclose(guided[0][row], own[0], atol=1e-2)


def test_in_place_relus_and_own_transforms(picture):
    path, _ = picture
    torch.manual_seed(0)
    cnn = make_classifier("resnet18", ["a", "b", "c"]).eval()  # torchvision's ReLUs work in place
    explainer = CNNExplainer(cnn)
    guided = explainer.get_guided_grad_cam(path, "b", SHAPE, ["backbone.layer2", "backbone.layer4"])
    assert all(np.isfinite(each).all() for each in guided)
    normalise = torchvision.transforms.Compose(
        [
            torchvision.transforms.ToTensor(),
            torchvision.transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    bare = CNNExplainer(cnn.backbone, {0: "a", 1: "b", 2: "c"})
    given = bare.get_saliency_map(path, "b", SHAPE, transforms=normalise)
    assert np.allclose(given, bare.get_saliency_map(path, "b", SHAPE), atol=1e-4)


def test_mistakes(plain, picture, tmp_path):
    path, pixels = picture
    explainer = CNNExplainer(plain, NAMES)
    with pytest.raises(KeyError, match="did you mean 'tiger cat'"):
        explainer.get_saliency_map(path, "tigercat", SHAPE)
    with pytest.raises(IndexError, match="outside"):
        explainer.get_saliency_map(path, 7, SHAPE)
    with pytest.raises(KeyError, match="no layer 'layer4'"):
        explainer.get_grad_cam(path, 0, SHAPE, ["layer4"])
    with pytest.raises(ValueError, match="one label each"):
        explainer.get_saliency_map([path, path], [0], SHAPE)
    with pytest.raises(ValueError, match="height, width"):
        explainer.get_saliency_map(path, 0, (0, 32))
    with pytest.raises(ValueError, match="three dimensions"):
        explainer.get_saliency_map(pixels[0], 0, SHAPE)
    with pytest.raises(ValueError, match="as an array"):
        explainer.get_saliency_map(pixels[..., :2], 0, SHAPE)
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match=r"text.png"):
        explainer.get_saliency_map(tmp_path / "text.png", 0, SHAPE)
    with pytest.raises(ValueError, match="class_map"):
        CNNExplainer(plain)
