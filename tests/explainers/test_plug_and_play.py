from __future__ import annotations

import copy
import re

import numpy as np
import pytest
import torch
import torchvision
from matplotlib import colormaps
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

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


class Clipped(nn.ReLU):
    """A ReLU6 that explainable-cnn takes for a ReLU: others it does not guide."""

    def forward(self, images):
        return F.relu6(images)


@pytest.fixture
def package(monkeypatch):
    """The package itself; NumPy has removed a name that it needs."""
    monkeypatch.setattr(np, "float", float, raising=False)
    return pytest.importorskip("explainable_cnn", exc_type=ImportError)


def comparable(cnn):
    """A copy for explainable-cnn, which leaves its hooks behind and fails where a ReLU works in place."""
    own = copy.deepcopy(cnn)
    for name, module in list(own.named_modules()):
        if isinstance(module, nn.ReLU6):
            own.set_submodule(name, Clipped())
        elif isinstance(module, nn.ReLU):
            module.inplace = False
    return own


def four_calls(make, path, label, shape, layers):
    """What the four calls of explainers return, every call of a new one."""
    return {
        "saliency": make().get_saliency_map(str(path), label, shape),
        "guided": make().get_guided_back_propagation(str(path), label, shape),
        "grad-cam": np.stack(make().get_grad_cam(str(path), label, shape, layers)),
        "guided grad-cam": np.stack(make().get_guided_grad_cam(str(path), label, shape, layers)),
    }


def correlations(package, cnn, path, label, shape, layers, names):
    """How much each call's pictures are like the package's."""
    theirs = four_calls(
        lambda: package.CNNExplainer(comparable(cnn), names), path, label, shape, list(layers)
    )
    ours = four_calls(lambda: CNNExplainer(cnn, names), path, label, shape, layers)
    assert {name: own.shape for name, own in ours.items()} == {n: own.shape for n, own in theirs.items()}
    return {name: np.corrcoef(own.ravel(), theirs[name].ravel())[0, 1] for name, own in ours.items()}


@pytest.mark.parametrize("size", [(32, 32), (21, 50), (90, 40)], ids=str)
@pytest.mark.parametrize("label", ["dog", 2])
def test_against_explainable_cnn(package, plain, tmp_path, size, label):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path := tmp_path / "picture.png")
    given = str(path), label, SHAPE
    theirs = four_calls(lambda: package.CNNExplainer(comparable(plain), NAMES), *given, ["0", "2"])
    ours = four_calls(lambda: CNNExplainer(plain, NAMES), *given, ["0", "2"])
    for name, expected in theirs.items():
        assert np.allclose(ours[name], expected, atol=1e-6 if name == "saliency" else 0.05), name


PHOTOGRAPHS = {
    "swan.jpg": (None, 100),  # 384 x 256
    "dd_tree.png": (None, 207),  # 487 x 256
    "cat_dog.png": ((40, 0, 160, 224), 243),  # 120 x 224
    "both.png": ((0, 20, 224, 160), 282),  # 224 x 140
}


SQUEEZENET, MOBILENET = ("squeezenet1_1", ["features.5", "features.12"]), ("mobilenet_v2", ["features.18"])


@pytest.mark.parametrize(
    ("architecture", "layers", "photograph"),
    [(*SQUEEZENET, own) for own in PHOTOGRAPHS]
    + [(*MOBILENET, own) for own in ("dd_tree.png", "cat_dog.png")],
)
def test_photographs_against_explainable_cnn(package, test_data, tmp_path, architecture, layers, photograph):
    """Photographs that are not square, and CNNs with their weights."""
    cnn = getattr(torchvision.models, architecture)()
    weights = load_file(test_data / "weights" / f"{architecture}_imagenet.safetensors")
    cnn.load_state_dict(
        {name: own.float() if own.is_floating_point() else own for name, own in weights.items()}
    )
    box, label = PHOTOGRAPHS[photograph]
    path = tmp_path / photograph
    with Image.open(test_data / "test-images" / photograph) as picture:
        part = picture.crop(box or (0, 0, *picture.size))
        assert part.size[0] != part.size[1]
        part.save(path)
    names = {number: f"class {number}" for number in range(1000)}
    made = correlations(package, cnn.eval(), path, label, (128, 128), layers, names)
    assert min(made.values()) > 0.99, made


def test_the_parts_that_a_picture_is_stretched_from_or_cropped_to(plain, tmp_path):
    """A wide picture: grey, and in the middle third, all that a crop shows, colours."""
    pixels = np.full((32, 96, 3), 128, dtype=np.uint8)
    pixels[:, 32:64] = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path := tmp_path / "wide.png")
    explainer = CNNExplainer(plain, NAMES)
    middle = explainer.get_guided_back_propagation(pixels[:, 32:64], 1, SHAPE)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    for kind in (path, pixels, tensor, tensor / 255):
        cropped = explainer.get_guided_back_propagation(kind, 1, SHAPE, fit="crop")
        assert np.allclose(cropped, middle, atol=1e-3)
    stretched = explainer.get_guided_back_propagation(path, 1, SHAPE)
    assert not np.allclose(stretched, middle, atol=30)
    for kind in (pixels, tensor):
        assert np.allclose(explainer.get_guided_back_propagation(kind, 1, SHAPE), stretched, atol=1e-3)
    # Of numbers nothing is rounded, so that these are almost the same.
    floats = explainer.get_guided_back_propagation(tensor / 255, 1, SHAPE)
    assert np.corrcoef(floats.ravel(), stretched.ravel())[0, 1] > 0.99
    inside = [slice(None), slice(12, 20)]  # the middle third, but for where it is mixed with grey
    cams = {
        fit: explainer.get_grad_cam(path, 1, SHAPE, ["0"], infuse=False, fit=fit)[0]
        for fit in ("stretch", "crop")
    }
    assert cams["stretch"][:, :9].std() < cams["stretch"][tuple(inside)].std()
    assert cams["crop"].std() > 0
    for call in (explainer.get_saliency_map, explainer.get_guided_grad_cam):
        layers = () if call == explainer.get_saliency_map else (["2"],)
        whole, part = (np.ravel(call(path, 1, SHAPE, *layers, fit=fit)) for fit in ("stretch", "crop"))
        expected = np.ravel(call(pixels[:, 32:64], 1, SHAPE, *layers))
        assert np.corrcoef(part, expected)[0, 1] > 0.999
        assert np.corrcoef(whole, expected)[0, 1] < 0.9


def test_colours(plain, picture):
    """By hand: a place with all the evidence is jet's dark red, one without is dark blue; blue is first."""
    path, pixels = picture
    explainer = CNNExplainer(plain, NAMES)
    cam = explainer.get_grad_cam(path, 1, SHAPE, ["2"], infuse=False)[0]
    made = explainer.get_grad_cam(path, 1, SHAPE, ["2"])[0]
    top = np.unravel_index(cam.argmax(), cam.shape)
    low = np.unravel_index(cam.argmin(), cam.shape)
    assert np.allclose(2 * made[top] - pixels[top][::-1], [0, 0, 127.5], atol=1)
    assert np.allclose(2 * made[low] - pixels[low][::-1], [127.5, 0, 0], atol=1)
    heat = explainer.get_grad_cam(path, 1, SHAPE, ["2"], colours="inferno")[0]
    assert np.allclose(2 * heat[low] - pixels[low], 255 * np.array(colormaps["inferno"](0)[:3]), atol=1)
    assert np.allclose(2 * heat[top] - pixels[top], 255 * np.array(colormaps["inferno"](255)[:3]), atol=1)
    with torch.no_grad():
        plain[-1].weight.zero_()
    dark = explainer.get_grad_cam(path, 1, SHAPE, ["2"])[0]
    assert np.allclose(dark, pixels[..., ::-1] / 2, atol=1e-3), "black where there is no evidence"
    assert explainer.get_guided_back_propagation(path, 1, SHAPE).max() == 0


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


# What is given in place of a good argument, and what both raise; and where the package fails by accident,
# with an error of OpenCV's or an AttributeError, what is raised here.
BOTH = [
    ({"image_label": "tigercat"}, ValueError, "did you mean 'tiger cat'"),
    ({"image_label": 7}, ValueError, "no class 7 in class_map"),
    ({"image_label": -1}, ValueError, "no class -1"),
    ({"image_label": 1.0}, TypeError, "name or number, not 1.0"),
    ({"input_shape": 32}, TypeError, "tuple or list"),
    ({"input_shape": "32x32"}, TypeError, "tuple or list"),
    ({"input_shape": np.array([32, 32])}, TypeError, "tuple or list"),
    ({"input_shape": (32,)}, ValueError, "two sides above 0"),
    ({"input_shape": (1, 3, 32, 32)}, ValueError, "two sides above 0"),
    ({"transforms": "normalise"}, TypeError, "can be called"),
    ({"layers": ["layer4"]}, ValueError, "no layer 'layer4' in Sequential"),
    ({"layers": [2]}, ValueError, "a layer's name is text, not 2"),
    ({"layers": ["0", "zero"]}, ValueError, "no layer 'zero'"),
    ({"layers": ["6"]}, ValueError, "has no places"),
]
OURS = [
    ({"image_path": "nowhere.png"}, FileNotFoundError, "No such file or directory: 'nowhere.png'"),
    ({"image_path": 3}, TypeError, "an image is a file, an array or a tensor, not 3"),
    ({"image_path": None}, TypeError, "not None"),
    ({"input_shape": (32, 32, 3)}, ValueError, "two sides above 0"),
    ({"input_shape": (0, 32)}, ValueError, "two sides above 0"),
    ({"input_shape": (32.0, 32.0)}, TypeError, "whole numbers"),
    ({"layers": "2"}, TypeError, "layers is a list of names"),
    ({"layers": None}, TypeError, "layers is a list of names"),
]


def given_wrongly(explainer, path, wrong):
    """A call with one wrong argument."""
    good = {"image_path": str(path), "image_label": 1, "input_shape": SHAPE, "layers": ["2"]}
    return explainer.get_grad_cam(**good | wrong)


@pytest.mark.parametrize(("wrong", "kind", "told"), BOTH + OURS, ids=repr)
def test_wrong_arguments(plain, picture, wrong, kind, told):
    with pytest.raises(kind, match=re.escape(told)):
        given_wrongly(CNNExplainer(plain, NAMES), picture[0], wrong)


@pytest.mark.parametrize(("wrong", "kind", "told"), BOTH, ids=repr)
def test_the_package_raises_the_same(package, plain, picture, wrong, kind, told):
    with pytest.raises(kind):
        given_wrongly(package.CNNExplainer(comparable(plain), NAMES), picture[0], wrong)


def test_the_same_is_raised_of_a_wrong_cnn(package, plain, picture):
    for kind in (package.CNNExplainer, CNNExplainer):
        for given in (("net", NAMES), (plain, NAMES, 3)):
            with pytest.raises(ValueError, match=r"not|instance"):
                kind(*given)
        with pytest.raises(RuntimeError):
            kind(plain, NAMES, "abacus")
        with pytest.raises(IndexError):
            kind(plain, {9: "nobody"}).get_saliency_map(str(picture[0]), 9, SHAPE)


def test_mistakes(plain, picture, tmp_path):
    path, pixels = picture
    explainer = CNNExplainer(plain, NAMES)
    with pytest.raises(ValueError, match="one label each"):
        explainer.get_saliency_map([path, path], [0], SHAPE)
    with pytest.raises(ValueError, match="three dimensions"):
        explainer.get_saliency_map(pixels[0], 0, SHAPE)
    with pytest.raises(ValueError, match="as an array"):
        explainer.get_saliency_map(pixels[..., :2], 0, SHAPE)
    with pytest.raises(ValueError, match=r"fit is one of .*not 'squeeze'"):
        explainer.get_saliency_map(path, 0, SHAPE, fit="squeeze")
    with pytest.raises(ValueError, match="no layer 'layer4'"):
        explainer.get_guided_grad_cam(path, 0, SHAPE, ["layer4"])
    (tmp_path / "text.png").write_text("no image")
    for fit in ("stretch", "crop"):
        with pytest.raises(ValueError, match=r"text.png"):
            explainer.get_saliency_map(tmp_path / "text.png", 0, SHAPE, fit=fit)
        with pytest.raises(FileNotFoundError):
            explainer.get_saliency_map(tmp_path / "none.png", 0, SHAPE, fit=fit)
    with pytest.raises(ValueError, match="class_map"):
        CNNExplainer(plain)
    with pytest.raises(TypeError, match="class_map maps"):
        CNNExplainer(plain, ["cat", "dog"])
    assert (
        explainer.get_grad_cam(path, 0, SHAPE, []) == explainer.get_guided_grad_cam(path, 0, SHAPE, []) == []
    )
