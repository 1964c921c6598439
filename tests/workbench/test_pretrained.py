"""Explainers on disk, what they refuse, and ``gan-lib explain``."""

from __future__ import annotations

import csv
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms.functional import to_pil_image
from typer.testing import CliRunner

from gan_lib import api
from gan_lib.classifiers import Classifier, load_classifier, make_classifier, save_classifier
from gan_lib.classifiers.wrap import ModelCard
from gan_lib.cli import app
from gan_lib.core.masking import FILLS
from gan_lib.core.storage import load_tensors, read_json, write_json
from gan_lib.explainers import (
    ContrastiveExplainer,
    Explainer,
    GANExplainer,
    GeneratorExplainer,
    UniversalExplainer,
)
from gan_lib.gan.conditions import ConditionMaker, FeatureMaker, evidence_channels
from gan_lib.gan.generators import make_generator
from gan_lib.workbench.explain import Counts, explain_images, find_photos, resolve_class
from gan_lib.workbench.explained import ExplanationFolder

NAMES = tuple("0123456789")
SMALL = {"width": 8, "condition_channels": 4, "sft_hidden": 4, "stem_stride": 8, "detail": 4}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A project with one CNN and three explainers, untrained."""
    root = tmp_path_factory.mktemp("project")
    folder = root / "data" / "pretrained" / "slim_vgg"
    cnn = make_classifier("slim_vgg", NAMES).eval()
    save_classifier(cnn, folder)
    maker = FeatureMaker(cnn, (64, 64), 2)
    for variant in ("lsft", "gsft"):
        generator = make_generator(variant, conditions=3, features=maker.channels, blocks=2, **SMALL)
        generator.prepare(maker(torch.rand(4, 3, 64, 64)).activations)
        ContrastiveExplainer(maker, generator).save(folder / f"contrastive-{variant}", {"images": 3})
    generator = make_generator("lsft", conditions=8, condition_hidden=8, **SMALL)
    GANExplainer(ConditionMaker(cnn, (64, 64)), generator).save(folder / "lsft")
    channels = evidence_channels(2)
    generator = make_generator("lsft", conditions=3, features=channels, prior=True, **SMALL)
    UniversalExplainer(cnn, (64, 64), generator, 2).save(folder.parent / "universal/small/universal-lsft")
    return root


@pytest.fixture
def folder(root):
    return root / "data" / "pretrained" / "slim_vgg"


@pytest.mark.parametrize("method", ["contrastive-lsft", "contrastive-gsft", "lsft"])
def test_what_is_saved_comes_back(folder, method):
    images = torch.rand(2, 3, 64, 64)
    first = GeneratorExplainer.from_pretrained(folder / method)
    second = GeneratorExplainer.from_pretrained(folder / method, load_classifier(folder))
    assert isinstance(first, GANExplainer if method == "lsft" else ContrastiveExplainer)
    for target in (None, 3, torch.tensor([1, 2])):
        assert torch.equal(first.attribute(images, target), second.attribute(images, target))
    assert not torch.equal(first.attribute(images, 1), first.attribute(images, 2))


def test_maps_need_no_backward_pass(folder, monkeypatch):
    explainer = ContrastiveExplainer.from_pretrained(folder / "contrastive-lsft")
    monkeypatch.setattr(torch.autograd, "grad", None)
    with torch.inference_mode():
        maps = explainer.attribute(torch.rand(2, 3, 64, 64), target=3)
    assert maps.shape == (2, 1, 64, 64)


def test_kinds_are_not_mixed_up(folder):
    with pytest.raises(ValueError, match="holds a supervised explainer"):
        ContrastiveExplainer.from_pretrained(folder / "lsft")
    with pytest.raises(FileNotFoundError, match=r"holds no explainer\.json"):
        ContrastiveExplainer.from_pretrained(folder / "nothing")


def changed(cnn, **fields):
    recipe = cnn.card.__class__(**{**vars(cnn.card), **fields})
    return Classifier(cnn.backbone, recipe).eval()


def test_a_cnn_that_does_not_fit_is_refused_with_the_reason(folder):
    method = folder / "contrastive-lsft"
    cnn = load_classifier(folder)
    with pytest.raises(ValueError, match=r"trained on slim_vgg; this one has no layer 'backbone\.features"):
        ContrastiveExplainer.from_pretrained(method, make_classifier("slim_resnet", NAMES))
    with pytest.raises(ValueError, match="of 10 classes, this one has 4"):
        ContrastiveExplainer.from_pretrained(method, make_classifier("slim_vgg", NAMES[:4]))
    with pytest.raises(ValueError, match="normalised by the mean"):
        ContrastiveExplainer.from_pretrained(method, changed(cnn, mean=(0.5, 0.5, 0.5)))
    with pytest.raises(ValueError, match="its weights are others"):
        ContrastiveExplainer.from_pretrained(method, make_classifier("slim_vgg", NAMES, seed=5))
    # Rounded weights, as a quantised CNN has, are the same CNN.
    with torch.no_grad():
        for parameter in cnn.parameters():
            parameter.mul_(256).round_().div_(256)
    ContrastiveExplainer.from_pretrained(method, cnn)


def test_a_cnn_without_its_weights_says_what_to_do(folder, tmp_path, monkeypatch):
    from torchvision.models._api import WeightsEnum

    def offline(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(WeightsEnum, "get_state_dict", offline)
    home = tmp_path / "mobilenet_v2"
    save_classifier(make_classifier("mobilenet_v2", [str(i) for i in range(1000)]), home)
    for name in ("classifier.safetensors", "checksums.json"):  # which notes it
        (home / name).unlink()
    write_json(home / "weights.json", "IMAGENET1K_V1")
    with pytest.raises(FileNotFoundError, match=r"put the file at .*mobilenet_v2-.*\.pth"):
        load_classifier(home)


# -- the command -------------------------------------------------------------------------------------


def explain(root, *arguments):
    return CliRunner().invoke(app, ["explain", *map(str, arguments), "--root", str(root), "--device", "cpu"])


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    Image.new("RGB", (80, 50), (200, 30, 30)).save(folder / "a.png")
    Image.new("L", (64, 64), 90).save(folder / "a.jpg")
    Image.new("RGBA", (30, 90), (0, 200, 0, 100)).save(folder / "more" / "a.png")
    (folder / "broken.png").write_bytes(b"no image at all")
    (folder / "notes.txt").write_text("not looked at")
    return folder


def table(out):
    with (out / "explanations.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_is_explained(root, pictures, tmp_path):
    out = tmp_path / "out"
    result = explain(root, pictures, "--out", out)
    assert result.exit_code == 0, result.output
    assert "3 images explained, 1 skipped" in result.output
    assert "broken.png" in result.output
    rows = table(out)
    assert [row["method"] for row in rows] == ["universal_lsft", "grad_cam"] * 3
    names = [row["image"].removeprefix(str(pictures)) for row in rows[::2]]
    assert names == ["/a.jpg", "/a.png", "/more/a.png"]
    for row in rows:
        assert row["prediction"] == row["target"]
        assert 0 <= float(row["probability"]) <= 1
        assert 0 <= float(row["drop"]) <= 100
        assert 0 <= float(row["area"]) <= 1
    assert [row["name"] for row in rows] == ["a", "a", "a_png", "a_png", "more/a", "more/a"]
    for stem in ("a", "a_png", "more/a"):
        with Image.open(out / "inputs" / f"{stem}.png") as picture:
            assert picture.size == (64, 64)
        for method in ("universal_lsft", "grad_cam"):
            with Image.open(out / method / f"{stem}.png") as grey:
                assert grey.mode == "L"
            with Image.open(out / method / f"{stem}_overlay.png") as coloured:
                assert coloured.mode == "RGB"
            values = load_tensors(out / method / f"{stem}.safetensors")["map"]
            assert values.shape == (1, 64, 64)


def test_numbers_of_the_table_worked_out_by_hand(colour_net, tmp_path):
    """The map shows the left half, which is red, and hides the right one, which is darker and blue."""
    cnn = api.wrap(colour_net, (0, 0, 0), (1, 1, 1), ["red", "green", "blue"], 8)
    pixels = torch.zeros(3, 8, 8)
    pixels[0, :, :4], pixels[2, :, 4:] = 1, 0.8
    to_pil_image(pixels).save(tmp_path / "one.png")
    image = (pixels * 255).round()[None] / 255  # as the file has it

    class Left(Explainer):
        def maps(self, images, target):
            maps = torch.zeros_like(images[:, :1])
            maps[..., :4] = 1
            return maps

    def chances(images):  # 20 times the mean colour
        return (20 * images.mean((2, 3))).softmax(1)[0]

    for target, label in ((None, 0), (2, 2)):
        out = tmp_path / f"out of {target}"
        folder = ExplanationFolder(out, {}, {"left": ""})
        photos = find_photos([tmp_path / "one.png"], out)
        counts = explain_images(photos, cnn, {"left": Left(cnn)}, (8, 8), folder, target)
        assert counts == Counts(explained=1)
        (row,) = table(out)
        shown = torch.cat([image[..., :4], FILLS["blur"](image)[..., 4:]], 3)
        before, after = float(chances(image)[label]), float(chances(shown)[label])
        assert (row["prediction"], row["target"]) == ("red", ("red", "green", "blue")[label])
        assert float(row["probability"]) == pytest.approx(float(chances(image)[0]), abs=1e-4)
        assert float(row["target_probability"]) == pytest.approx(before, abs=1e-4)
        assert float(row["drop"]) == pytest.approx(100 * max(0, before - after) / before, abs=0.02)
        assert float(row["area"]) == 0.5
    assert float(row["drop"]) > 1
    grey = np.asarray(Image.open(out / "left" / "one.png"))
    assert (grey[:, :4] == 255).all()
    assert not grey[:, 4:].any()


def test_names_do_not_collide(root, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.png", "a_overlay.png", "a.bmp", "a_png.png"):
        Image.new("RGB", (64, 64), (9, 90, 200)).save(folder / name)
    assert explain(root, folder, "--out", tmp_path / "out").exit_code == 0
    assert len([*(tmp_path / "out" / "universal_lsft").iterdir()]) == 4 * 3
    assert len({row["name"] for row in table(tmp_path / "out")}) == 4


def test_a_name_of_several_classes_is_refused(root, pictures, tmp_path):
    cnn = Classifier(nn.Identity(), ModelCard("own", ("crane", "dog", "crane")))
    with pytest.raises(KeyError, match=r"several classes .* \[0, 2\]"):
        resolve_class(cnn, "Crane")
    assert resolve_class(cnn, "2") == 2
    assert resolve_class(cnn, "dog") == 1


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("gas_pump", 0),
        ("Gas Pump", 0),
        (" gas-pump", 0),
        ("Dog", 1),
        ("dog", 2),
        ("2", 2),
        ("03", 4),
        ("4", 4),
    ],
)
def test_a_class_is_found_by_what_is_meant(asked, found):
    cnn = make_classifier("slim_vgg", ["gas_pump", "Dog", "dog", "gas mask", "03"])
    assert resolve_class(cnn, asked) == found


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("DOG", r"several classes are called 'DOG': give one of the numbers \[1, 2\]"),
        ("gas pumps", r"no class 'gas pumps'; did you mean 'gas_pump'"),
        ("mask", r"no class 'mask'; did you mean 'gas mask'"),
        ("5", r"no class '5'; there are 5 classes, numbered 0 to 4"),
        ("-1", r"no class '-1'; there are 5 classes"),
        ("", r"no class ''; there are 5 classes"),
    ],
)
def test_a_class_that_is_not_there(asked, told):
    cnn = make_classifier("slim_vgg", ["gas_pump", "Dog", "dog", "gas mask", "03"])
    with pytest.raises(KeyError, match=told):
        resolve_class(cnn, asked)


def test_one_image_one_class_another_method(root, pictures, tmp_path):
    out = tmp_path / "out"
    result = explain(root, pictures / "a.png", "--target", "7", "--method", "saliency", "--out", out)
    assert result.exit_code == 0, result.output
    assert [row["target"] for row in table(out)] == ["7", "7"]
    folders, files = (
        {"inputs", "saliency", "grad_cam"},
        {"explanations.csv", "explain.json", "contact_sheet.png"},
    )
    assert {path.name for path in out.iterdir()} == folders | files


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "neither an image nor a folder"),
        ([".", "--target", "eleven"], "no class 'eleven'; there are 10 classes"),
        ([".", "--method", "magic"], "unknown method 'magic'; there are saliency"),
        ([".", "--model", "my_net"], "no weights for 'my_net'.*slim_vgg"),
    ],
)
def test_mistakes_get_one_line(root, pictures, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(pictures)
    result = explain(root, *arguments, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert re.search(message, result.output)
    assert "Traceback" not in result.output


def test_nothing_readable_fails(root, tmp_path):
    (tmp_path / "x.png").write_bytes(b"nothing")
    assert explain(root, tmp_path / "x.png", "--out", tmp_path / "out").exit_code == 1


def test_a_checkpoint_says_what_it_was_trained_on(folder):
    about = read_json(folder / "contrastive-lsft" / "explainer.json")
    assert about["cnn"]["architecture"] == "slim_vgg"
    assert about["image_size"] == [64, 64]
    assert about["trained_on"] == {"images": 3}
    assert len(about["settings"]["layers"]) == 2
