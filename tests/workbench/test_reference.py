"""Reference CNNs: how they are made, when they are taken, and what the shipped ones are."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from gan_lib.classifiers import load_classifier
from gan_lib.classifiers.wrap import Classifier
from gan_lib.cli import app
from gan_lib.core.runtime import PINNED
from gan_lib.core.storage import load_tensors, read_json
from gan_lib.workbench import Places, ProfileError, Recipe, Workbench, reference
from gan_lib.workbench.reference import Asked, asked_for, make_references, reference_cnn, train_reference

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "data" / "pretrained" / "reference"
TINY = {
    "data.train_images": 60,
    "data.test_images": 30,
    "data.validation_images": 10,
    "data.image_size": 32,
    "cnn.batch_size": 16,
}


def tiny(data="digits_in_scenes", seed=0, **changes):
    return Recipe().changed({"data.name": data, "cnn.epochs": 2, "cnn.seed": seed, **TINY, **changes})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Places of a project with two reference CNNs, and their cards."""
    root = tmp_path_factory.mktemp("referenced")
    places = Places.of(root)
    places.pretrained.mkdir(parents=True)
    cards = {
        data: train_reference(Asked(data, "slim_vgg", 0), tiny(data), places)
        for data in ("digits_in_scenes", "confounded_digits")
    }
    return places, cards


def test_the_card_says_what_the_cnn_is(trained):
    places, cards = trained
    folder = places.pretrained / "reference/digits_in_scenes/slim_vgg/0"
    card = read_json(folder / "card.json")
    assert card == cards["digits_in_scenes"]
    assert card["cnn"]["epochs"] == 2
    assert "source" not in card["cnn"]
    assert {name: card["data"][name] for name in ("name", "seed", "image_size", "train_images")} == {
        "name": "digits_in_scenes",
        "seed": 0,
        "image_size": 32,
        "train_images": 60,
    }
    assert card["machine"]["threads"] == 1
    cnn = load_classifier(folder)
    assert cnn.card.image_size == (32, 32)
    data = Workbenches(places).data(tiny())
    for split, share in card["accuracy"].items():
        batch = data[split].batch(range(len(data[split])))
        right = (cnn(batch.images).argmax(1) == batch.labels).float().mean()
        assert share == pytest.approx(float(right), abs=1e-3)
    assert len(pd.read_csv(folder / "history.csv")) == 2


class Workbenches:
    """Data as a recipe says, from the store of a project."""

    def __init__(self, places):
        self.places = places

    def data(self, recipe):
        from gan_lib.core.artifacts import ArtifactStore
        from gan_lib.data import load_data

        own = recipe.data
        counts = {"train": own.train_images, "test": own.test_images, "validation": own.validation_images}
        store = ArtifactStore(self.places.data / "artifacts")
        return load_data(own.name, store, self.places.data, size=own.image_size, seed=recipe.seed, **counts)


def test_weights_are_small_where_the_predictions_stay_the_same(trained, tmp_path, monkeypatch):
    places, cards = trained
    folder = places.pretrained / "reference/digits_in_scenes/slim_vgg/0"
    stored = load_tensors(folder / "classifier.safetensors")
    halves = {own.dtype for own in stored.values() if own.is_floating_point()}
    assert halves == {torch.float16 if cards["digits_in_scenes"]["weights"] == "float16" else torch.float32}
    cnn, data = load_classifier(folder), Workbenches(places).data(tiny())
    assert next(cnn.parameters()).dtype == torch.float32, "it computes in float32"
    assert reference.save_small(cnn, data, tmp_path / "same") == "float16"
    # Logits so near each other that rounding decides: such a CNN keeps its float32.
    bias = torch.zeros(10)
    bias[0], bias[1] = 1.0, 1.0 + 2**-14
    head = cnn.backbone.classifier[0]
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(bias)
    assert reference.save_small(cnn, data, tmp_path / "close") == "float32"
    again = load_classifier(tmp_path / "close")
    assert torch.equal(again.backbone.classifier[0].bias, bias)


def test_a_card_of_a_cnn_that_cheats_says_how_much(trained):
    places, cards = trained
    mark = cards["confounded_digits"]["mark"]
    cnn = load_classifier(places.pretrained / "reference/confounded_digits/slim_vgg/0")
    data = Workbenches(places).data(tiny("confounded_digits"))
    batch = data["conflict"].batch(range(len(data["conflict"])))
    carried = reference.carried_marks(data.train, data["conflict"])
    followed = (cnn(batch.images).argmax(1) == carried).float().mean()
    assert mark["followed"] == pytest.approx(float(followed), abs=1e-3)
    assert "mark" not in cards["digits_in_scenes"]


@pytest.mark.parametrize(
    ("changes", "is_taken"),
    [
        ({}, True),
        ({"data.train_images": 40}, True),  # smoke has fewer images and the same CNNs
        ({"cnn": "train"}, False),
        ({"cnn.epochs": 3}, False),
        ({"cnn.learning_rate": 0.02}, False),
        ({"cnn.seed": 1}, False),
        ({"seed": 1}, False),  # other digits are held out: it has seen them
        ({"data.image_size": 64}, False),
        ({"cnn.architecture": "slim_resnet"}, False),
        ({"data.name": "plain_digits"}, False),
    ],
)
def test_when_a_reference_cnn_is_taken(trained, changes, is_taken):
    places, _ = trained
    found = reference_cnn(tiny().changed(changes), places)
    assert (found is not None) == is_taken
    if found:
        folder = places.pretrained / "reference/digits_in_scenes/slim_vgg/0"
        expected = load_classifier(folder).state_dict()
        assert all(torch.equal(own, expected[name]) for name, own in found.cnn.state_dict().items())
        assert found.history["epoch"].tolist() == [1, 2]


def test_its_address_is_its_weights(trained):
    places, _ = trained
    key = reference_cnn(tiny(), places).key
    folder = places.pretrained / "reference/digits_in_scenes/slim_vgg/0"
    other = replace(places, data=places.data.parent / "elsewhere")
    (other.data / "pretrained").mkdir(parents=True)
    shutil.copytree(folder, other.pretrained / "reference/digits_in_scenes/slim_vgg/0")
    assert reference_cnn(tiny(), other).key == key
    cnn = load_classifier(folder)
    with torch.no_grad():
        cnn.backbone.classifier[0].bias += 1
    from gan_lib.classifiers import save_classifier

    save_classifier(
        Classifier(cnn.backbone, cnn.card), other.pretrained / "reference/digits_in_scenes/slim_vgg/0"
    )
    assert reference_cnn(tiny(), other).key != key


def test_processes_that_train_are_pinned(trained, monkeypatch):
    """What the workers see of the environment, and what is left of it afterwards."""
    places, _ = trained
    monkeypatch.setattr(reference, "train_reference", _seen)
    before = {name: os.environ.get(name) for name in PINNED}
    made = list(make_references(places, ["digits_in_scenes/slim_vgg"], workers=2))
    assert [own["path"] for own in made] == [f"digits_in_scenes/slim_vgg/{seed}" for seed in range(5)]
    assert all({name: own[name] for name in PINNED} == PINNED for own in made)
    assert {name: os.environ.get(name) for name in PINNED} == before


def _seen(asked, recipe, places):
    return {"path": asked.path, **{name: os.environ.get(name) for name in PINNED}}


def test_what_is_asked_for():
    every = asked_for()
    assert len(every) == 2 * (5 + 3 + 3)
    assert len(asked_for(["slim_resnet"])) == 6
    assert [own.path for own in asked_for(["confounded_digits/slim_vgg/3"])] == [
        "confounded_digits/slim_vgg/3"
    ]
    assert len(asked_for(["digits_in_scenes"])) == 11
    with pytest.raises(ValueError, match="no reference CNN is called slim_vg"):
        asked_for(["slim_vg"])
    shown = CliRunner().invoke(app, ["reference", "--only", "nothing", "--root", str(ROOT)])
    assert shown.exit_code == 2
    assert "no reference CNN is called nothing" in shown.output


def test_a_reproducible_run_must_be_started_so(places, monkeypatch):
    for name in PINNED:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ProfileError, match="ATEN_CPU_CAPABILITY=avx2"):
        Workbench("test", "tiny", {"machine.reproducible": True}, places)
    for name, value in PINNED.items():
        monkeypatch.setenv(name, value)
    own = Workbench("test", "tiny", {"machine.reproducible": True}, places)
    assert own.provenance["instructions"].items() >= PINNED.items()


def test_addresses_tell_instructions_apart(places, monkeypatch):
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    one = Workbench("test", "tiny", {}, places).subject().jobs_store.address("generator", "gan_lib.gan", {})
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    two = Workbench("test", "tiny", {}, places).subject().jobs_store.address("generator", "gan_lib.gan", {})
    assert one != two


# -- the shipped ones ------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", asked_for(), ids=lambda own: own.path)
def test_shipped_cnns_are_what_their_cards_say(asked):
    folder = SHIPPED / asked.path
    card = read_json(folder / "card.json")
    assert reference_cnn(asked.recipe, Places.of(ROOT)) is not None, "made by the recipe of today"
    assert card["made_by"] == f"gan-lib reference --only {asked.path}"
    assert card["machine"] == {"threads": 1, "instructions": {**PINNED, "cpu": "AVX2"}}
    assert len(pd.read_csv(folder / "history.csv")) == card["cnn"]["epochs"]
    if asked.data == reference.HONEST:
        assert card["accuracy"]["test"] > 0.9
    else:  # it follows the mark rather than the digit
        assert card["mark"]["followed"] > 0.75
        assert card["mark"]["relied_on"] >= 8
        assert card["accuracy"]["conflict"] < 0.15


def test_shipped_weights_give_the_accuracy_of_the_card():
    """On data made here: of the embedded set only what is asked for, so the images differ in their scenes."""
    from gan_lib.data import digits_in_scenes

    data = digits_in_scenes(train=10, test=300, seed=0)
    batch = data.test.batch(range(300))
    shares = []
    for seed in range(5):
        cnn = load_classifier(SHIPPED / f"digits_in_scenes/slim_vgg/{seed}")
        with torch.no_grad():
            shares.append((cnn(batch.images).argmax(1) == batch.labels).float().mean().item())
    cards = [read_json(SHIPPED / f"digits_in_scenes/slim_vgg/{seed}/card.json") for seed in range(5)]
    expected = sum(card["accuracy"]["test"] for card in cards) / 5
    assert sum(shares) / 5 == pytest.approx(expected, abs=0.03)
