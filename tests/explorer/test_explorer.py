"""The explorer without a browser: gallery, models, views, what is inside, and its widgets' handlers."""

from __future__ import annotations

import copy
import io
import json
import shutil
import statistics
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gan_lib.classifiers import save_classifier
from gan_lib.concepts.contrasting import fit_hyperplanes
from gan_lib.core.storage import read_json
from gan_lib.data import digits_in_scenes
from gan_lib.explainers import GeneratorExplainer
from gan_lib.explorer import Explorer, Gallery, Inside, Models, conditions_of
from gan_lib.explorer.panel import NONE, Panel
from gan_lib.explorer.pictures import png

NOW = datetime(2024, 1, 1, tzinfo=UTC)
DATA = Path(__file__).parent.parent.parent / "data"


@pytest.fixture(scope="module")
def digits():
    return digits_in_scenes(train=300, test=24, size=64, seed=0)


@pytest.fixture(scope="module")
def models():
    return Models(DATA)


@pytest.fixture
def explorer(models, digits):
    return Explorer(models, Gallery(digits.test, digits.class_names))


def encoded(size, form="PNG", colour=(200, 30, 30), mode="RGB"):
    stream = io.BytesIO()
    Image.new(mode, size, colour if mode == "RGB" else 0).save(stream, form)
    return stream.getvalue()


# -- gallery and models -------------------------------------------------------------------------------


def test_uploads(explorer):
    _, notice = explorer.gallery.upload("red.png", encoded((90, 60)))
    assert "90 x 60" in notice
    assert next(iter(explorer.gallery)) == "red.png"
    view = explorer.view(replace(explorer.default(), image="red.png"))
    assert torch.allclose(view.image[:, 5, 5] * 255, torch.tensor([200.0, 30, 30]), atol=1)


def test_bad_uploads(explorer):
    with pytest.raises(ValueError, match="no image that can be read"):
        explorer.gallery.upload("notes.txt", b"these are no pixels")
    with pytest.raises(ValueError, match="no image that can be read"):
        explorer.gallery.upload("cut.png", encoded((80, 80))[:60])
    with pytest.raises(ValueError, match="no image that can be read"):
        explorer.gallery.upload("empty.png", b"")
    assert len(list(explorer.gallery)) == 24
    assert "made smaller" in explorer.gallery.upload("huge.png", encoded((9000, 5000)))[1]
    assert "1 x 1" in explorer.gallery.upload("dot.png", encoded((1, 1)))[1]
    first = next(iter(explorer.gallery.own))
    called, _ = explorer.gallery.upload(first, encoded((20, 20)))
    assert called != first  # the image of the data set is still there
    for name in ("huge.png", "dot.png"):
        assert explorer.view(replace(explorer.default(), image=name)).image.shape == (3, 64, 64)


def test_models_know_what_is_there(models, tmp_path):
    assert models.names()[0] == "slim_vgg"  # whose weights are shipped
    assert models.size("slim_vgg") == (64, 64)
    methods = models.methods("slim_vgg")
    assert methods[0] == "contrastive_lsft"
    assert {"gsft", "grad_cam", "guided_feature_inversion", "random"} <= set(methods)
    assert models.layers("slim_vgg")[0] == "backbone.features.0"
    assert models.explainer("slim_vgg", "grad_cam") is models.explainer("slim_vgg", "grad_cam")
    with pytest.raises(KeyError, match="unknown method"):
        models.explainer("slim_vgg", "tea_leaves")
    with pytest.raises(FileNotFoundError, match="no CNN"):
        Models(tmp_path)


def test_what_notebooks_have_kept_is_found(models, tmp_path):
    (tmp_path / "pretrained").symlink_to(DATA / "pretrained")
    kept = models.explainer("slim_vgg", "contrastive_lsft")
    assert isinstance(kept, GeneratorExplainer)
    kept.save(tmp_path / "artifacts/explainers/cpu/slim_vgg/contrastive-lsft/2")
    own = Models(tmp_path)
    assert "contrastive_lsft (cpu, seed 2)" in own.methods("slim_vgg")
    assert isinstance(own.explainer("slim_vgg", "contrastive_lsft (cpu, seed 2)"), GeneratorExplainer)


@pytest.fixture
def home(tmp_path):
    """A data folder of one's own, in which files may be changed."""
    shutil.copytree(DATA / "pretrained/slim_vgg", tmp_path / "pretrained/slim_vgg")
    return tmp_path


def test_files_that_have_changed_are_read_again(home):
    own, folder = Models(home), home / "pretrained/slim_vgg"
    first, gan = own.cnn("slim_vgg"), own.explainer("slim_vgg", "contrastive_lsft")
    assert own.cnn("slim_vgg") is first
    assert own.explainer("slim_vgg", "contrastive_lsft") is gan
    with torch.no_grad():
        next(gan.generator.parameters()).mul_(1.1)
    gan.save(folder / "contrastive-lsft")  # another explainer, as a notebook would leave it
    again = own.explainer("slim_vgg", "contrastive_lsft")
    assert again is not gan
    assert again.cnn is first
    changed = copy.deepcopy(first)
    with torch.no_grad():
        next(changed.parameters()).mul_(0.99)
    save_classifier(changed, folder)
    assert torch.equal(next(own.cnn("slim_vgg").parameters()), next(changed.parameters()))
    assert own.explainer("slim_vgg", "grad_cam").cnn is own.cnn("slim_vgg")


# -- views --------------------------------------------------------------------------------------------


def test_view(explorer):
    view = explorer.view(explorer.default())
    (method,) = view.maps
    assert view.choice.target == view.top[0][0]
    assert view.difference is None
    assert torch.allclose(view.shown[method], view.image * view.maps[method], atol=1e-6)  # on black
    assert torch.allclose(view.shown[method] + view.hidden[method], view.image, atol=1e-6)
    cnn = explorer.models.cnn("slim_vgg")
    after = cnn(view.shown[method][None]).softmax(1)[0, view.choice.target]
    assert view.probabilities[f"{method} shown"] == pytest.approx(float(after), abs=1e-4)
    assert sum(value for _, _, value in view.top) <= 1 + 1e-5


def test_two_methods_area_and_fill(explorer):
    choice = replace(explorer.default(), other="edges", area=0.1, fill="mean", target=4)
    view = explorer.view(choice)
    assert list(view.maps) == [choice.method, "edges"]
    assert view.difference.shape == (1, 64, 64)
    changed = (view.hidden["edges"] != view.image).any(0).float().mean()
    assert changed <= 0.1 + 1e-3
    assert set(view.probabilities) == {"image"} | {f"{m} {p}" for m in view.maps for p in ("shown", "hidden")}
    assert explorer.view(replace(choice, area=0.2)).cached
    assert not explorer.view(replace(choice, target=5)).cached
    layered = replace(choice, method="grad_cam", layer="backbone.features.0")
    first, last = explorer.view(layered), explorer.view(replace(layered, layer=None))
    assert not torch.equal(first.maps["grad_cam"], last.maps["grad_cam"])


def test_weights_that_change_in_place_give_new_maps(home, digits):
    explorer = Explorer(Models(home), Gallery(digits.test, digits.class_names))
    choice = replace(explorer.default(), method="grad_cam", other="contrastive_lsft", target=3)
    before = explorer.view(choice)
    assert explorer.view(choice).cached
    generator = explorer.models.explainer("slim_vgg", "contrastive_lsft").generator
    for network, expected in ((explorer.models.cnn("slim_vgg"), "grad_cam"), (generator, "contrastive_lsft")):
        for weights in network.parameters():
            weights.data.mul_(0.9)  # not even the version counter tells it
        view = explorer.view(choice)
        assert not view.cached
        assert not torch.equal(view.maps[expected], before.maps[expected])
        assert explorer.view(choice).cached
        before = view


def test_another_image_of_the_same_name_gives_another_map(explorer):
    shapes = np.zeros((2, 64, 64, 3), np.uint8)
    shapes[0, 10:30, 10:30], shapes[1, 40:60, 30:60] = 255, 200
    views = []
    for own in shapes:
        stream = io.BytesIO()
        Image.fromarray(own).save(stream, "PNG")
        explorer.gallery.upload("same.png", stream.getvalue())
        views.append(explorer.view(replace(explorer.default(), image="same.png", method="edges")))
        assert not views[-1].cached
    assert not torch.equal(views[0].image, views[1].image)
    assert not torch.equal(views[0].maps["edges"], views[1].maps["edges"])


def test_a_view_as_a_figure(explorer):
    view = explorer.view(replace(explorer.default(), other="edges"))
    pictures = view.pictures()
    assert list(pictures) == [
        "image",
        *(f"{m}{part}" for m in ("contrastive lsft", "edges") for part in ("", ": shown", ": hidden")),
        "difference of the maps",
    ]
    assert pictures["edges: hidden"][1] == view.probabilities["edges hidden"]
    texts = [text.get_text() for axis in view.figure().axes for text in axis.texts]
    assert texts == [f"{p:.2f}" for _, p in pictures.values() if p is not None]


def test_bad_choices(explorer):
    default = explorer.default()
    with pytest.raises(ValueError, match="fill"):
        replace(default, fill="pink")
    with pytest.raises(ValueError, match="area"):
        replace(default, area=0.0)
    with pytest.raises(IndexError, match=r"outside 0..9"):
        explorer.view(replace(default, target=10))
    with pytest.raises(KeyError, match="no image"):
        explorer.view(replace(default, image="nothing.png"))
    with pytest.raises(KeyError, match="no layer"):
        explorer.view(replace(default, method="grad_cam", layer="backbone.features.99"))


def test_export(explorer, tmp_path):
    view = explorer.view(replace(explorer.default(), other="edges", area=0.2))
    picture, settings = view.export(tmp_path / "out")
    with Image.open(picture) as image:
        assert min(image.size) > 150
    told = json.loads(settings.read_text())
    assert told["choice"]["area"] == 0.2
    assert told["choice"]["target"] == view.choice.target
    assert told["probabilities"] == pytest.approx(view.probabilities)


def test_a_new_image_takes_less_than_a_second(models):
    """The median over new images, two methods, pictures encoded: a statement, on an idle machine."""
    data = digits_in_scenes(train=10, test=12, size=64, seed=5)
    explorer = Explorer(models, Gallery(data.test, data.class_names))
    names, times, again, threads = list(explorer.gallery), [], [], torch.get_num_threads()
    torch.set_num_threads(1)  # two that wait for each other take seconds where the machine has other work
    for name in names:
        for seconds in (times, again):
            view = explorer.view(replace(explorer.default(), image=name, other="grad_cam"))
            for picture, _ in view.pictures().values():
                png(picture)
            seconds.append(view.seconds)
    torch.set_num_threads(threads)
    assert statistics.median(times) < 1.0
    assert statistics.median(again) < 0.3


# -- inside -------------------------------------------------------------------------------------------


def test_conditions(explorer):
    image = explorer.image(explorer.default())
    for method in ("contrastive_lsft", "lsft"):
        explainer = explorer.models.explainer("slim_vgg", method)
        found = conditions_of(explainer, image, 3)
        assert len(found) == explainer.generator.sizes.conditions
        assert len({own.name for own in found}) == len(found)
        assert sum(own.share for own in found) == pytest.approx(1.0, abs=1e-4)
        assert all(own.picture.shape == (1, 64, 64) for own in found)


def test_concepts_and_contrasts(explorer, digits):
    cnn = explorer.models.cnn("slim_vgg")
    inside, image = (
        Inside(cnn, digits.train, count=3, images_per_class=10),
        explorer.image(explorer.default()),
    )
    crops, maps = inside.concepts(image, 3, prototypes=2)
    assert crops.shape[:3] == (3, 2, 3)
    assert maps.shape == (3, 3, 64, 64)
    before = cnn(image).softmax(1)[0]
    curve = inside.shifted(image, 0, 8, [0.0, 4.0])
    assert curve["method"].tolist() == ["0", "8"] * 2
    assert curve["offset"].tolist() == [0.0, 0.0, 4.0, 4.0]
    assert curve["probability"][:2].tolist() == pytest.approx(before[[0, 8]].tolist(), abs=1e-4)
    assert curve["probability"][3] > curve["probability"][1]
    with pytest.raises(ValueError, match="different"):
        inside.shifted(image, 3, 3, [1.0])


def test_shifting_moves_along_the_normal_by_distances_of_the_means(explorer, digits):
    cnn = explorer.models.cnn("slim_vgg")
    inside = Inside(cnn, digits.train, count=2, images_per_class=10)
    image = explorer.image(explorer.default())
    evidence = inside._evidence()
    planes = fit_hyperplanes(evidence)
    distance = (evidence[8].mean(0) - evidence[0].mean(0)).norm()
    move = 1.5 * distance * planes.direction(0, 8)  # (C,)
    logits = inside.hidden.logits(image, lambda own: (own + move[:, None, None]).relu())
    expected = logits.softmax(1)[0, [0, 8]].tolist()
    assert inside.shifted(image, 0, 8, [1.5])["probability"].tolist() == pytest.approx(expected, abs=1e-5)


def test_a_pair_to_contrast_is_one_that_can_be(explorer, digits):
    few = digits.train.subset(torch.nonzero(digits.train.labels < 3)[:30, 0])
    inside = Inside(explorer.models.cnn("slim_vgg"), few, count=2, images_per_class=5)
    known = list(inside._evidence())
    missing = next(label for label in range(10) if label not in known)
    assert inside.pair(1, 2) == (1, 2)
    assert inside.pair(missing, 2) == (2, next(label for label in known if label != 2))
    assert inside.pair(2, missing) == (2, next(label for label in known if label != 2))
    with pytest.raises(KeyError, match="no image here is predicted"):
        inside.shifted(explorer.image(explorer.default()), 1, missing, [1.0])


def test_a_class_that_is_never_predicted(explorer, digits):
    few = digits.train.subset(torch.nonzero(digits.train.labels < 2)[:20, 0])
    inside = Inside(explorer.models.cnn("slim_vgg"), few, count=2)
    missing = next(label for label in range(10) if label not in set(inside._predicted()["prediction"]))
    with pytest.raises(ValueError, match="no image here is predicted"):
        inside.concepts(explorer.image(explorer.default()), missing)


def test_what_is_inside_follows_the_weights(home, digits):
    explorer = Explorer(Models(home), Gallery(digits.test, digits.class_names))
    inside = Inside(explorer.models.cnn("slim_vgg"), digits.train, count=2, images_per_class=5)
    image = explorer.image(explorer.default())
    before, planes = inside.concepts(image, 3)[0], inside.shifted(image, 0, 8, [1.0])
    assert torch.equal(inside.concepts(image, 3)[0], before)
    for weights in inside.cnn.parameters():
        weights.data.mul_(1.05)
    fresh = Inside(inside.cnn, digits.train, count=2, images_per_class=5)
    assert torch.equal(inside.concepts(image, 3)[0], fresh.concepts(image, 3)[0])
    assert inside.shifted(image, 0, 8, [1.0]).equals(fresh.shifted(image, 0, 8, [1.0]))
    assert not inside.shifted(image, 0, 8, [1.0]).equals(planes)


# -- the widgets' handlers ----------------------------------------------------------------------------


@pytest.fixture
def panel(explorer, digits, tmp_path):
    return Panel(explorer, digits.train, tmp_path / "exports")


def pictures_of(panel):
    return [
        image.value for row in panel.output.children for tile in row.children for image in tile.children[1:2]
    ]


def test_panel_follows_its_controls(panel):
    before = pictures_of(panel)
    assert len(before) == 4
    panel.method.value = "grad_cam"
    assert pictures_of(panel) != before
    assert "Grad" not in panel.message.value
    assert not panel.layer.disabled
    panel.area.value = 0.1
    panel.other.value = "edges"
    assert len(pictures_of(panel)) == 8
    panel.fill.value = "blur"
    panel.other.value = NONE
    assert "alert" not in panel.message.value
    panel.exporter.click()
    exported = sorted(panel.export_dir.iterdir())
    assert [path.suffix for path in exported] == [".json", ".png"]
    assert read_json(exported[0])["choice"]["fill"] == "blur"


def test_panel_tells_what_is_wrong_and_goes_on(panel):
    panel._take()  # nothing is there yet
    panel.uploader.value = uploaded("a.txt", b"abc")
    assert "no image that can be read" in panel.message.value
    assert "alert" in panel.message.value
    panel.uploader.value = uploaded("r.png", encoded((2, 2)))
    assert panel.image.value == "r.png"
    assert "2 x 2" in panel.message.value
    panel.tabs.selected_index = 1
    panel.method.value = "edges"
    assert "has no conditions" in panel.message.value


def uploaded(name, content):
    about = {"name": name, "type": "image/png", "size": len(content), "last_modified": NOW}
    return ({**about, "content": content},)


def test_panel_hears_after_an_upload_that_failed(panel, monkeypatch):
    """An exception between the menu's new options and its new value once left the panel deaf."""
    monkeypatch.setattr(panel.explorer.gallery, "upload", lambda *_: ("not in the menu.png", "a notice"))
    panel.uploader.value = uploaded("a.png", encoded((20, 20)))
    assert "alert" in panel.message.value
    before = pictures_of(panel)
    panel.method.value = "edges"
    assert pictures_of(panel) != before
    assert "alert" not in panel.message.value


def test_an_upload_that_cannot_be_explained_leaves_no_old_pictures(panel, monkeypatch):
    monkeypatch.setattr(panel.explorer, "view", lambda _: 1 / 0)
    panel.uploader.value = uploaded("a.png", encoded((20, 20)))
    assert "ZeroDivisionError" in panel.message.value
    assert panel.view is None
    assert panel.output.children == ()


def test_menus_that_cannot_be_filled_leave_the_panel_hearing(panel, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(panel.explorer.models, "methods", lambda _: [])
        panel._new_cnn()  # a menu without options
    panel._new_cnn()
    before = pictures_of(panel)
    panel.method.value = "edges"
    assert pictures_of(panel) != before


def test_missing_weights_are_told(digits, tmp_path):
    home = tmp_path / "pretrained"
    home.mkdir()
    (home / "slim_vgg").symlink_to(DATA / "pretrained/slim_vgg")
    (home / "lost").mkdir()
    (home / "lost/classifier.json").write_text((DATA / "pretrained/slim_vgg/classifier.json").read_text())
    explorer = Explorer(Models(tmp_path), Gallery(digits.test, digits.class_names))
    panel = Panel(explorer, digits.train, tmp_path)
    panel.cnn.value = "lost"
    assert "alert" in panel.message.value
    assert "classifier.safetensors" in panel.message.value
    assert panel.output.children == ()  # not the pictures of another CNN
    panel.exporter.click()
    assert "no view" in panel.message.value
    panel.cnn.value = "slim_vgg"
    assert "alert" not in panel.message.value


def test_panel_tabs(panel):
    panel.tabs.selected_index = 1
    assert len(panel.shown_conditions.children) == 2
    panel.tabs.selected_index = 2
    assert len(panel.shown_concepts.children) == 5
    panel.tabs.selected_index = 3
    before = panel.contrast.value
    panel.offset.value = 3.0
    assert "alert" not in panel.message.value
    assert panel.contrast.value != before
    panel.against.value = panel.one.value
    assert "different classes" in panel.message.value
    assert panel.contrast.value == ""
    panel.against.value = 5
    assert "alert" not in panel.message.value
