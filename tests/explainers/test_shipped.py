"""The pretrained explainers that come with the project do what the README says."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from gan_lib import api
from gan_lib.classifiers import load_classifier, randomised, relabelled
from gan_lib.data import digits_in_scenes
from gan_lib.data.folders import read_image
from gan_lib.data.scenes import confounded_digits
from gan_lib.explainers import (
    ContrastiveExplainer,
    GANExplainer,
    GeneratorExplainer,
    make_explainer,
    methods_of,
)
from gan_lib.metrics import dice_at_area, judge, mass_inside, pointing_game
from gan_lib.metrics.similarity import rank_correlation

PRETRAINED = Path(__file__).parent.parent.parent / "data" / "pretrained"
METHODS = {
    "lsft": GANExplainer,
    "gsft": GANExplainer,
    "contrastive-lsft": ContrastiveExplainer,
    "contrastive-gsft": ContrastiveExplainer,
}


@pytest.fixture(scope="module")
def fresh():
    """Scenes that neither the CNN nor an explainer has seen."""
    data = digits_in_scenes(train=10, test=80, seed=1234)
    return data.test.batch(range(80))


def test_they_are_small_and_safe():
    files = [path for path in PRETRAINED.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".safetensors", ".json", ".csv"}  # no pickles
    assert sum(path.stat().st_size for path in files) < 12 * 2**20


@pytest.mark.parametrize("method", METHODS)
def test_digits(fresh, method):
    cnn = api.load_cnn("slim_vgg", pretrained=PRETRAINED)
    explainer = api.explainer(method, cnn, PRETRAINED)
    assert isinstance(explainer, METHODS[method])
    with torch.no_grad():
        right = cnn(fresh.images).argmax(1) == fresh.labels
    assert right.float().mean() > 0.85
    maps = explainer.attribute(fresh.images)
    dice = float(dice_at_area(maps, fresh.masks).mean())
    reference = float(
        dice_at_area(api.explainer("grad_cam", cnn).attribute(fresh.images), fresh.masks).mean()
    )
    if method.startswith("contrastive"):
        assert dice > reference + 0.1
        assert pointing_game(maps, fresh.masks, tolerance=2).mean() > 0.9
    else:  # taught to be Grad-CAM
        assert dice == pytest.approx(reference, abs=0.1)


@pytest.mark.parametrize("variant", ["lsft", "gsft"])
def test_photographs(test_data, variant):
    """One picture, a dog above a cat: asked for either, the map lies on that one."""
    weights = test_data / "weights" / "mobilenet_v2_imagenet.safetensors"
    cnn = load_classifier(PRETRAINED / "mobilenet_v2", weights)
    explainer = GeneratorExplainer.from_pretrained(
        PRETRAINED / "mobilenet_v2" / f"contrastive-{variant}", cnn
    )
    picture = read_image(test_data / "test-images" / "cat_dog.png", explainer.image_size)[None] / 255
    below = torch.zeros(1, 1, *explainer.image_size, dtype=torch.bool)
    below[..., explainer.image_size[0] // 2 :, :] = True
    assert mass_inside(explainer.attribute(picture, cnn.class_names.index("tiger cat")), below) > 0.8
    assert mass_inside(explainer.attribute(picture, cnn.class_names.index("bull mastiff")), ~below) > 0.8


def test_every_method_on_photographs(test_data, untrained_methods):
    """A real network and a real picture: maps of dog and cat by every method, and all measures of them."""
    folder = PRETRAINED / "mobilenet_v2"
    cnn = load_classifier(folder, test_data / "weights" / "mobilenet_v2_imagenet.safetensors")
    cnn.requires_grad_(False)
    picture = read_image(test_data / "test-images" / "cat_dog.png", cnn.card.image_size)[None] / 255
    both = picture.expand(2, -1, -1, -1).contiguous()
    target = torch.tensor([cnn.class_names.index(name) for name in ("bull mastiff", "tiger cat")])
    cheap = {
        "integrated_gradients": {"steps": 8},
        "smoothgrad": {"samples": 4},
        "gradient_shap": {"samples": 4},
        "expected_gradients": {"samples": 4},
        "score_cam": {"channels": 16},
        "rise": {"masks": 100},
    }
    cheap |= {"occlusion": {"window": 40}, "feature_ablation": {"count": 4}}
    names = [*untrained_methods, "contrastive_lsft", "contrastive_gsft"]
    explainers = {name: make_explainer(name, cnn, folder, **cheap.get(name, {})) for name in names}
    maps = {(name, 0): explainer.attribute(both, target) for name, explainer in explainers.items()}
    for (name, _), made in maps.items():
        assert made.amax((1, 2, 3)).tolist() == pytest.approx([1, 1], abs=0.1), name
        unasked = name in (*methods_of("control"), "guided_feature_inversion_step_1", "eigen_cam")
        assert unasked == torch.allclose(made[0], made[1], atol=1e-4) or name == "random", name
    above = torch.zeros(2, 1, 224, 224, dtype=torch.bool)
    above[0, :, :112], above[1, :, 112:] = True, True  # the dog sits above, the cat lies below
    for name in ("grad_cam", "guided_grad_cam", "contrastive_lsft", "contrastive_gsft"):
        # 0 for maps that do not tell the classes apart, 1 where each lies on its own animal only.
        assert mass_inside(maps[name, 0], above).sum() - 1 > 0.4, name
    scores = judge(cnn, both, maps, target, steps=8, road=(0.3,), fills=()).scores
    means = scores.groupby("method")[["insertion - deletion", "road"]].mean()
    assert means.notna().all().all()
    assert means.loc["grad_cam", "insertion - deletion"] > means.loc["random", "insertion - deletion"]


def test_cifar10(test_data):
    """ResNet-20 comes without weights. With them the order of its own explainers' maps is far from random."""
    with pytest.raises(FileNotFoundError, match="resnet20 comes without its weights"):
        api.load_cnn("resnet20", pretrained=PRETRAINED)
    with pytest.warns(UserWarning, match="its classes are taken to be airplane, automobile, bird, ..."):
        cnn = api.load_cnn(
            "resnet20", test_data / "weights/resnet20_cifar10.safetensors", pretrained=PRETRAINED
        )
    with zipfile.ZipFile(test_data / "cifar10-jpeg.zip") as archive:
        names = sorted(
            name for name in archive.namelist() if name.startswith("test/") and name.endswith(".jpg")
        )
        pictures = [Image.open(io.BytesIO(archive.read(name))).convert("RGB") for name in names[::100]]
    images = api.read_images(pictures, cnn)
    assert images.shape == (100, 3, 32, 32)
    right = [Path(name).parent.name for name in names[::100]]
    with torch.no_grad():
        asked = cnn(images).argmax(1)
    assert sum(cnn.class_names[own] == name for own, name in zip(asked, right, strict=True)) > 70
    methods = ("contrastive-lsft", "contrastive-gsft", "edges", "random")
    maps = {(own, 0): api.explainer(own, cnn, PRETRAINED).attribute(images, asked) for own in methods}
    for variant in ("lsft", "gsft"):  # another class, another map
        explainer = api.explainer(f"contrastive-{variant}", cnn, PRETRAINED)
        others = explainer.attribute(images, (asked + 1) % 10)
        assert rank_correlation(maps[f"contrastive-{variant}", 0], others).mean() < 0.5
    scores = judge(cnn, images, maps, asked, steps=8, fills=()).scores
    means = scores.groupby("method")["insertion - deletion"].mean()
    assert means[["contrastive-lsft", "contrastive-gsft"]].min() > means[["edges", "random"]].max() + 0.1


@pytest.mark.parametrize("variant", ["lsft", "gsft"])
@pytest.mark.parametrize("architecture", ["slim_vgg", "slim_resnet", "slim_mobilenet"])
def test_any_cnn(fresh, architecture, variant):
    """Honest: the digit. Cheating: the mark. Drawn anew: another map."""
    home = PRETRAINED / "reference"
    honest = load_classifier(home / "digits_in_scenes" / architecture / "0").requires_grad_(False)
    explainer = api.explainer(f"universal-{variant}", honest, PRETRAINED)
    with torch.no_grad():
        asked = honest(fresh.images).argmax(1)
    maps = explainer.attribute(fresh.images, asked)
    reference = api.explainer("grad_cam", honest).attribute(fresh.images, asked)
    better = dice_at_area(maps, fresh.masks).mean() - dice_at_area(reference, fresh.masks).mean()
    assert better > 0.05
    _, forgetful = next(randomised(honest, fresh.images[:1], stages=4))
    again = explainer.on(forgetful.requires_grad_(False)).attribute(fresh.images, asked)
    assert rank_correlation(maps, again).mean() < 0.4

    cheating = load_classifier(home / "confounded_digits" / architecture / "0").requires_grad_(False)
    marked = confounded_digits(train=10, test=10, seed=4321).splits["conflict"].batch(range(10))
    both = [
        api.explainer(name, cheating, PRETRAINED).attribute(marked.images)
        for name in (f"universal-{variant}", "grad_cam")
    ]
    found, reference = (mass_inside(own, marked.marks, top=True).nanmean() for own in both)
    assert found > reference + 0.2


def test_relabelled_channels_change_nothing(fresh):
    cnn = load_classifier(PRETRAINED / "reference/digits_in_scenes/slim_vgg/0").requires_grad_(False)
    other = relabelled(cnn, *(f"backbone.features.{place}" for place in (0, 1, 4)))
    images = fresh.images[:8]
    first, second = (
        api.explainer("universal-lsft", own, PRETRAINED).attribute(images) for own in (cnn, other)
    )
    torch.testing.assert_close(first, second, atol=1e-3, rtol=0)
