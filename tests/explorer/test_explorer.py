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
from safetensors.torch import load_file, save_file

from gan_lib.classifiers import save_classifier
from gan_lib.concepts.contrasting import Hyperplanes
from gan_lib.core.masking import FILLS
from gan_lib.core.storage import read_json
from gan_lib.data import DATA_SETS, ImageData, digits_in_scenes
from gan_lib.explainers import METHODS, Explainer, GeneratorExplainer, Method
from gan_lib.explorer import Choice, Explorer, ExplorerPanel, Gallery, Inside, Models, conditions_of
from gan_lib.explorer.models import weights_key
from gan_lib.explorer.panel import NONE
from gan_lib.explorer.pictures import png
from gan_lib.figures import overlay
from gan_lib.gan.relevance import as_parts
from gan_lib.metrics import MEASURES, Measure
from gan_lib.workbench import Places, Workbench

NOW = datetime(2024, 1, 1, tzinfo=UTC)
ROOT = Path(__file__).parent.parent.parent
DATA = ROOT / "data"


@pytest.fixture(scope="module")
def digits():
    return digits_in_scenes(train=100, test=24, size=64, seed=0)


@pytest.fixture(scope="module")
def models():
    return Models(DATA)


@pytest.fixture
def explorer(models, digits):
    return Explorer(models, Gallery(digits.test, digits.class_names), digits.train)


def first_of(explorer, **settings):
    """The first image and the shipped contrastive generator, or what else is given."""
    default = Choice(next(iter(explorer.gallery)), "slim_vgg", "contrastive_lsft")
    return replace(default, **settings)


def encoded(size, form="PNG", colour=(200, 30, 30), mode="RGB"):
    stream = io.BytesIO()
    Image.new(mode, size, colour if mode == "RGB" else 0).save(stream, form)
    return stream.getvalue()


# -- gallery and models -------------------------------------------------------------------------------


def test_uploads(explorer):
    _, notice = explorer.gallery.upload("red.png", encoded((90, 60)))
    assert "90 x 60" in notice
    assert next(iter(explorer.gallery)) == "red.png"
    view = explorer.view(first_of(explorer, image="red.png"))
    assert torch.allclose(view.image[:, 5, 5] * 255, torch.tensor([200.0, 30, 30]), atol=1)


def test_images_of_the_data_set_are_found_by_their_names(explorer, digits):
    for number, name in enumerate(list(explorer.gallery)[:3]):
        assert name == f"{number + 1}: {digits.class_names[int(digits.test.labels[number])]}"
        assert torch.equal(
            explorer.gallery.image(name, (64, 64))[0] * 255, digits.test.images[number].float()
        )
    assert explorer.gallery.image(name, (20, 32)).shape == (1, 3, 20, 32)


def test_bad_uploads(explorer):
    with pytest.raises(ValueError, match="no image that can be read"):
        explorer.gallery.upload("notes.txt", b"these are no pixels")
    with pytest.raises(ValueError, match="no image that can be read"):
        explorer.gallery.upload("cut.png", encoded((80, 80))[:60])
    with pytest.raises(ValueError, match="no image that can be read"):
        explorer.gallery.upload("empty.png", b"")
    assert len(list(explorer.gallery)) == 24
    assert "5000 x 700" in explorer.gallery.upload("huge.png", encoded((5000, 700)))[1]
    assert explorer.gallery.uploads["huge.png"].size == (2048, 287)
    assert "1 x 1" in explorer.gallery.upload("dot.png", encoded((1, 1)))[1]
    first = next(iter(explorer.gallery.own))
    called, _ = explorer.gallery.upload(first, encoded((20, 20)))
    assert called != first  # the image of the data set is still there
    for name in ("huge.png", "dot.png"):
        assert explorer.view(first_of(explorer, image=name)).image.shape == (3, 64, 64)


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
    view = explorer.view(first_of(explorer))
    (method,) = view.maps
    assert (view.label, view.name) == view.top[0][:2]
    shown, hidden = (view.pictures[f"{method}: {part}"][0] for part in ("shown", "hidden"))
    assert torch.allclose(shown, view.image * view.maps[method], atol=1e-6)  # on black
    assert torch.allclose(shown + hidden, view.image, atol=1e-6)
    assert torch.equal(view.pictures[method][0], overlay(view.image[None], view.maps[method][None])[0])
    cnn = explorer.models.cnn("slim_vgg")
    for part, picture in (("shown", shown), ("hidden", hidden)):
        after = float(cnn(picture[None]).softmax(1)[0, view.label])
        assert view.probabilities[f"{method}: {part}"] == pytest.approx(after, abs=1e-4)
    assert sum(value for _, _, value in view.top) <= 1 + 1e-5


def test_two_methods_area_and_fill(explorer):
    choice = first_of(explorer, other="edges", area=0.1, fill="mean", target=4)
    view = explorer.view(choice)
    assert list(view.maps) == [choice.method, "edges"]
    one, other = view.maps.values()
    expected = overlay(view.image[None], (one - other).abs()[None])[0]
    assert torch.equal(view.pictures["difference of the maps"][0], expected)
    changed = (view.pictures["edges: hidden"][0] != view.image).any(0).float().mean()
    assert changed <= 0.1 + 1e-3
    assert set(view.probabilities) == {"image"} | {
        f"{m}: {p}" for m in view.maps for p in ("shown", "hidden")
    }
    assert explorer.view(replace(choice, area=0.2)).cached
    assert not explorer.view(replace(choice, target=5)).cached
    layered = replace(choice, method="grad_cam", layer="backbone.features.0")
    first, last = explorer.view(layered), explorer.view(replace(layered, layer=None))
    assert not torch.equal(first.maps["grad_cam"], last.maps["grad_cam"])


def test_weights_that_change_in_place_give_new_maps(home, digits):
    explorer = Explorer(Models(home), Gallery(digits.test, digits.class_names))
    choice = first_of(explorer, method="grad_cam", other="contrastive_lsft", target=3)
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
    kept = explorer.models.explainer("slim_vgg", "contrastive_lsft")
    fresh = kept.on(kept.cnn)  # what the generator reads follows the CNN as well
    assert torch.equal(fresh.attribute(view.image[None], 3)[0], view.maps["contrastive_lsft"])


def test_another_image_of_the_same_name_gives_another_map(explorer):
    shapes = np.zeros((2, 64, 64, 3), np.uint8)
    shapes[0, 10:30, 10:30], shapes[1, 40:60, 30:60] = 255, 200
    views = []
    for own in shapes:
        stream = io.BytesIO()
        Image.fromarray(own).save(stream, "PNG")
        explorer.gallery.upload("same.png", stream.getvalue())
        views.append(explorer.view(first_of(explorer, image="same.png", method="edges")))
        assert not views[-1].cached
    assert not torch.equal(views[0].image, views[1].image)
    assert not torch.equal(views[0].maps["edges"], views[1].maps["edges"])


def test_a_view_as_a_figure(explorer):
    view = explorer.view(first_of(explorer, other="edges"))
    assert list(view.pictures) == [
        "image",
        *(f"{m}{part}" for m in ("contrastive_lsft", "edges") for part in ("", ": shown", ": hidden")),
        "difference of the maps",
    ]
    texts = [text.get_text() for axis in view.figure().axes for text in axis.texts]
    assert texts == [f"{value:.2f}" for _, value in view.pictures.values() if value is not None]


def test_bad_choices(explorer):
    default = first_of(explorer)
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
    view = explorer.view(first_of(explorer, other="edges", area=0.2))
    picture, settings = view.export(tmp_path / "out")
    with Image.open(picture) as image:
        assert min(image.size) > 150
    told = json.loads(settings.read_text())
    assert told["choice"]["area"] == 0.2
    assert told["choice"]["target"] == view.label
    assert told["probabilities"] == pytest.approx(view.probabilities)


def test_a_new_image_takes_less_than_a_second(models):
    """The median over new images, two methods, pictures encoded: a statement, on an idle machine."""
    data = digits_in_scenes(train=10, test=12, size=64, seed=5)
    explorer = Explorer(models, Gallery(data.test, data.class_names))
    names, times, again, threads = list(explorer.gallery), [], [], torch.get_num_threads()
    torch.set_num_threads(1)  # two that wait for each other take seconds where the machine has other work
    for name in names:
        for seconds in (times, again):
            view = explorer.view(first_of(explorer, image=name, other="grad_cam"))
            for picture, _ in view.pictures.values():
                png(picture)
            seconds.append(view.seconds)
    torch.set_num_threads(threads)
    assert statistics.median(times) < 1.0
    assert statistics.median(again) < 0.3


def test_scores_are_the_judges(explorer):
    view = explorer.view(first_of(explorer, other="edges", fill="mean", area=0.25))
    table = explorer.scores(view)
    assert list(table) == ["contrastive_lsft", "edges"]
    assert table.loc["area"].tolist() == pytest.approx([float(own.mean()) for own in view.maps.values()])
    for method, own in view.maps.items():
        top = (own >= own.flatten().sort(descending=True).values[round(0.25 * 64 * 64) - 1]).float()
        shown = top * view.image + (1 - top) * view.image.mean((1, 2), keepdim=True)
        after = float(explorer.models.cnn("slim_vgg")(shown[None]).softmax(1)[0, view.label])
        drop = 100 * max(0.0, view.probabilities["image"] - after) / view.probabilities["image"]
        assert table.loc["drop_mean@25", method] == pytest.approx(drop, abs=0.05)
    assert {"insertion", "deletion"} <= set(table.index)


# -- what there is to choose --------------------------------------------------------------------------


@pytest.fixture
def extended(monkeypatch):
    """A method, a fill, a measure and a data set from outside, for one test."""
    for registry in (METHODS, FILLS, MEASURES, DATA_SETS):
        monkeypatch.setattr(registry, "_things", dict(registry._things))

    class Upper(Explainer):
        def maps(self, images, target):
            made = torch.zeros_like(images[:, :1])
            made[:, :, : images.shape[2] // 2] = 1
            return made

    METHODS.register("upper half", Method(Upper))
    FILLS.register("paper", torch.ones_like)
    MEASURES.register("left", Measure(lambda maps: maps[..., : maps.shape[3] // 2].mean((1, 2, 3)), "left"))
    DATA_SETS.register("grey", grey)


def grey(size, seed, train=20, test=10):
    """Twenty and ten images of one grey, of two classes."""
    sets = [
        (torch.full((n, 3, size, size), 128, dtype=torch.uint8), torch.arange(n) % 2) for n in (train, test)
    ]
    return ImageData.from_arrays(*sets, ("odd", "even"))


def test_what_is_registered_outside_can_be_chosen(extended, tmp_path):
    changes = {"data.name": "grey", "explorer.images": 4, "explorer.learned_images": 6}
    places = Places(ROOT / "notebooks", tmp_path / "data", tmp_path / "figures")
    bench = Workbench("09_explorer", "cpu", changes, places)
    explorer = Explorer.of(bench)
    assert list(explorer.gallery) == ["1: odd", "2: even", "3: odd", "4: even"]
    assert len(explorer.learned) == 6
    assert "grey" in bench.provenance["data"]
    panel = ExplorerPanel(explorer, tmp_path)
    panel.method.value, panel.fill.value = "upper half", "paper"
    shown = panel.view.pictures["upper half: shown"][0]
    assert torch.equal(shown[:, 32:], torch.ones(3, 32, 64))
    assert torch.allclose(shown[:, :32], torch.full((3, 32, 64), 128 / 255))
    panel.tabs.selected_index = 4
    assert "<td>0.5</td>" in panel.found["Scores"].children[0].value.split("<th>left</th>")[1][:40]
    assert "alert" not in panel.message.value


# -- inside -------------------------------------------------------------------------------------------


def test_conditions(explorer):
    image = explorer.image(first_of(explorer))
    for method in ("contrastive_lsft", "lsft"):
        explainer = explorer.models.explainer("slim_vgg", method)
        found = conditions_of(explainer, image, 3)
        with torch.no_grad():
            given = explainer.conditions(image, 3)
            parts = as_parts(given)
            whole, moved = explainer.generator(image, given), []
            for number in range(len(parts)):
                less = [part * (place != number) for place, part in enumerate(parts)]
                made = explainer.generator(image, torch.cat(less, 1) if method == "lsft" else less)
                moved.append(float((made - whole).abs().mean()))
        assert [share for _, share in found.values()] == pytest.approx(
            [own / sum(moved) for own in moved], abs=1e-4
        )
        assert all(picture.shape == (1, 64, 64) for picture, _ in found.values())


def test_a_weights_key_knows_buffers_and_order():
    norm, other = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
    assert weights_key(norm) == weights_key(other)
    norm.running_mean[0] = 1.0
    assert weights_key(norm) != weights_key(other)
    assert weights_key(norm, other) != weights_key(other, norm)


def test_concepts_and_contrasts(explorer, digits):
    cnn = explorer.models.cnn("slim_vgg")
    inside, image = (
        Inside(cnn, digits.train, count=3, images_per_class=10),
        explorer.image(first_of(explorer)),
    )
    crops, maps = inside.concepts(image, 3)
    assert crops.shape[:3] == (3, 3, 3)
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
    image = explorer.image(first_of(explorer))
    evidence = inside.evidence
    planes = Hyperplanes(evidence)
    distance = (evidence[8].mean(0) - evidence[0].mean(0)).norm()
    move = 1.5 * distance * planes.direction(0, 8)  # (C,)
    logits = inside.hidden.logits(image, lambda own: (own + move[:, None, None]).relu())
    expected = logits.softmax(1)[0, [0, 8]].tolist()
    assert inside.shifted(image, 0, 8, [1.5])["probability"].tolist() == pytest.approx(expected, abs=1e-5)


def test_a_pair_to_contrast_is_one_that_can_be(explorer, digits):
    few = digits.train.subset(torch.nonzero(digits.train.labels < 3)[:30, 0])
    inside = Inside(explorer.models.cnn("slim_vgg"), few, count=2, images_per_class=5)
    known = list(inside.evidence)
    missing = next(label for label in range(10) if label not in known)
    assert inside.pair(1, 2) == (1, 2)
    assert inside.pair(missing, 2) == (2, next(label for label in known if label != 2))
    assert inside.pair(2, missing) == (2, next(label for label in known if label != 2))
    with pytest.raises(KeyError, match="no image here is predicted"):
        inside.shifted(explorer.image(first_of(explorer)), 1, missing, [1.0])


def test_a_class_that_is_never_predicted(explorer, digits):
    few = digits.train.subset(torch.nonzero(digits.train.labels < 2)[:20, 0])
    inside = Inside(explorer.models.cnn("slim_vgg"), few, count=2)
    missing = next(label for label in range(10) if label not in inside.evidence)
    with pytest.raises(ValueError, match="have no concepts"):
        inside.concepts(explorer.image(first_of(explorer)), missing)


def test_what_is_inside_follows_the_weights(home, digits):
    explorer = Explorer(Models(home), Gallery(digits.test, digits.class_names))
    few = digits.train.subset(range(60))
    inside = Inside(explorer.models.cnn("slim_vgg"), few, count=2, images_per_class=5)
    image = explorer.image(first_of(explorer))
    before, planes = inside.concepts(image, 3)[0], inside.shifted(image, 0, 8, [1.0])
    assert torch.equal(inside.concepts(image, 3)[0], before)
    for weights in inside.cnn.parameters():
        weights.data.mul_(1.05)
    fresh = Inside(inside.cnn, few, count=2, images_per_class=5)
    assert torch.equal(inside.concepts(image, 3)[0], fresh.concepts(image, 3)[0])
    assert inside.shifted(image, 0, 8, [1.0]).equals(fresh.shifted(image, 0, 8, [1.0]))
    assert not inside.shifted(image, 0, 8, [1.0]).equals(planes)


# -- the widgets' handlers ----------------------------------------------------------------------------


@pytest.fixture
def panel(explorer, digits, tmp_path):
    return ExplorerPanel(explorer, tmp_path / "exports")


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


def test_the_same_file_can_be_uploaded_again(panel, monkeypatch):
    """Two equal values are no change for a widget, so what failed once could not be tried again."""
    given = uploaded("a.png", encoded((20, 20)))
    with monkeypatch.context() as patched:
        patched.setattr(panel.explorer.gallery, "upload", lambda *_: 1 / 0)
        panel.uploader.value = given
        assert "ZeroDivisionError" in panel.message.value
    panel.uploader.value = given
    assert panel.image.value == "a.png"
    assert "alert" not in panel.message.value


def test_the_area_can_be_taken_back(panel):
    """Without a value, a slider's first place could not be reached again."""
    before = pictures_of(panel)
    panel.area.index = 3
    assert panel.view.choice.area == 0.05
    panel.area.index = 0
    assert panel.view.choice.area is None
    assert pictures_of(panel) == before


def test_an_upload_that_cannot_be_explained_leaves_no_old_pictures(panel, monkeypatch):
    monkeypatch.setattr(panel.explorer, "view", lambda _: 1 / 0)
    panel.uploader.value = uploaded("a.png", encoded((20, 20)))
    assert "ZeroDivisionError" in panel.message.value
    assert panel.view is None
    assert panel.output.children == ()


def test_menus_that_cannot_be_filled_leave_the_panel_hearing(panel, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(panel.explorer.models, "methods", lambda _: 5)
        panel._new_cnn()  # no menu
        assert "alert" in panel.message.value
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
    explorer = Explorer(Models(tmp_path), Gallery(digits.test, digits.class_names), digits.train)
    panel = ExplorerPanel(explorer, tmp_path)
    panel.cnn.value = "lost"
    assert "alert" in panel.message.value
    assert "classifier.safetensors" in panel.message.value
    assert panel.output.children == ()  # not the pictures of another CNN
    panel.exporter.click()
    assert "no view" in panel.message.value
    panel.cnn.value = "slim_vgg"
    assert "alert" not in panel.message.value


@pytest.fixture
def lacking(digits, tmp_path):
    """A panel of a CNN that is there, and of one whose weights are elsewhere."""
    home = tmp_path / "pretrained"
    (home / "lost").mkdir(parents=True)
    (home / "slim_vgg").symlink_to(DATA / "pretrained/slim_vgg")
    card = json.loads((DATA / "pretrained/slim_vgg/classifier.json").read_text())
    card["class_names"] = [f"digit {number}" for number in range(10)]
    (home / "lost/classifier.json").write_text(json.dumps(card))
    explorer = Explorer(Models(tmp_path), Gallery(digits.test, digits.class_names), digits.train)
    return ExplorerPanel(explorer, tmp_path)


def test_menus_stay_usable_where_weights_are_missing(lacking):
    """Classes and methods are known from the card; those of another CNN would be shown as this one's."""
    assert lacking.lacking.layout.display == "none"
    lacking.method.value = "grad_cam"
    lacking.cnn.value = "lost"
    assert "alert" in lacking.message.value
    assert lacking.lacking.layout.display == ""
    assert lacking.method.value == "grad_cam"  # what was chosen stays
    assert lacking.target.options[1][0] == "0: digit 0"
    assert lacking.layer.options == (("default", ""),)
    assert "contrastive_lsft" not in lacking.method.options  # slim_vgg's, not this one's
    lacking.method.value = "edges"
    assert "alert" in lacking.message.value
    lacking.cnn.value = "slim_vgg"
    assert lacking.lacking.layout.display == "none"
    assert lacking.method.value == "edges"
    assert lacking.view.choice.method == "edges"
    assert "alert" not in lacking.message.value


def test_a_weights_file_is_taken(lacking, tmp_path):
    weights = tmp_path / "weights/own.safetensors"
    weights.parent.mkdir()
    shutil.copy(DATA / "pretrained/slim_vgg/classifier.safetensors", weights)
    (tmp_path / "notes.pth").write_text("no weights")
    lacking.cnn.value = "lost"
    assert lacking.weights.options == (str(tmp_path / "notes.pth"), str(weights))
    for wrong, told in (("", "name a file"), (str(tmp_path / "none.pth"), "none.pth"), (str(tmp_path), "")):
        lacking.weights.value = wrong
        lacking.taker.click()
        assert "alert" in lacking.message.value
        assert told in lacking.message.value
        assert lacking.view is None
    lacking.weights.value = str(tmp_path / "notes.pth")
    lacking.taker.click()
    assert "neither" in lacking.message.value or "text" in lacking.message.value
    lacking.weights.value = f" {weights} "
    lacking.taker.click()
    assert "alert" not in lacking.message.value
    assert lacking.lacking.layout.display == "none"
    assert len(lacking.layer.options) > 3
    of_lost = lacking.view.probabilities["image"]
    lacking.cnn.value = "slim_vgg"
    assert lacking.view.probabilities["image"] == pytest.approx(of_lost, abs=1e-6)
    lacking.cnn.value = "lost"  # which remembers them
    assert "alert" not in lacking.message.value


def test_weights_that_do_not_fit_leave_those_that_do(models, tmp_path):
    (tmp_path / "pretrained").symlink_to(DATA / "pretrained")
    own, weights = Models(tmp_path), DATA / "pretrained/slim_vgg/classifier.safetensors"
    before = weights_key(own.cnn("slim_vgg"))
    with pytest.raises(ValueError, match="fit"):
        own.take_weights("slim_vgg", DATA / "pretrained/slim_vgg/lsft/generator.safetensors")
    assert weights_key(own.cnn("slim_vgg")) == before
    changed = tmp_path / "changed.safetensors"
    state = {name: value + 1 for name, value in load_file(weights).items()}
    save_file(state, changed)
    own.take_weights("slim_vgg", changed)
    assert weights_key(own.cnn("slim_vgg")) != before
    with pytest.raises(FileNotFoundError):
        own.take_weights("slim_vgg", tmp_path / "none.pth")


def test_panel_tabs(panel):
    panel.tabs.selected_index = 1
    assert len(panel.found["Conditions"].children) == 2
    panel.tabs.selected_index = 2
    assert len(panel.found["Concepts"].children) == 5
    panel.tabs.selected_index = 3
    (before,) = panel.found["Contrasting"].children
    panel.offset.value = 3.0
    assert "alert" not in panel.message.value
    assert panel.found["Contrasting"].children[0].value != before.value
    panel.against.value = panel.one.value
    assert "different classes" in panel.message.value
    assert panel.found["Contrasting"].children == ()
    panel.against.value = 5
    assert "alert" not in panel.message.value
