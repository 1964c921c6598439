"""Subjects: fair draws, addresses, training, what is kept for later notebooks."""

from __future__ import annotations

import shutil

import pytest
import torch
from typer.testing import CliRunner

from gan_lib.cli import app
from gan_lib.explainers import GeneratorExplainer
from gan_lib.gan.generators import DISCRIMINATORS, PublishedDiscriminator
from gan_lib.workbench import Workbench

FOLDER = {"data.name": "sorted", "data.train_images": None, "data.test_images": None}


@pytest.fixture(scope="module")
def folder(places):
    return Workbench("test", "tiny", FOLDER, places).subject()


def test_a_folder_sorted_by_class_is_trained_and_tested_on_all_classes(folder):
    """The first rows of a folder are of the first classes, the last ones of the last."""
    assert (folder.data.train.labels.diff() >= 0).all(), "sorted by class"
    trained, tested = folder.training_images(), folder.draw(8)
    assert trained.labels.bincount(minlength=4).tolist() == [3, 3, 3, 3]  # 12 of 36
    assert tested.labels.bincount(minlength=4).tolist() == [2, 2, 2, 2]  # 8 of 24
    assert folder.names == ("class_0", "class_1", "class_2", "class_3"), "whole"


def test_draws_are_disjoint_and_samples_can_be_cut(folder):
    first, second = folder.draw(8), folder.draw(6, skip=8)
    assert not set(first.rows.tolist()) & set(second.rows.tolist())
    assert torch.equal(first.rows, folder.draw(8).rows)
    assert torch.equal(first.images, folder.data.test.batch(first.rows).images)
    cut = first[2:5]
    assert len(cut) == 3
    assert torch.equal(cut.rows, first.rows[2:5])
    assert torch.equal(cut.images, first.images[2:5])
    assert cut.titles == first.titles[2:5]
    assert torch.equal(first[[4, 1]].explained, first.explained[[4, 1]])
    predicted = folder.cnn(first.images).argmax(1)
    assert torch.equal(first.explained.cpu(), predicted.cpu()), "what the CNN predicts for these rows"
    assert first.masks is None, "not known for a folder"
    alone = folder.draw(1)
    assert alone.explained.tolist() == folder.cnn(alone.images).argmax(1).tolist(), "one image is a batch too"


def test_settings_can_be_chosen_on_training_images_that_nothing_was_trained_on(folder):
    trained, tried = folder.training_images(), folder.draw(8, "train", skip=folder.recipe.gan.images)
    assert trained.labels.bincount().tolist() == [3, 3, 3, 3]
    assert tried.labels.bincount().tolist() == [2, 2, 2, 2]
    assert not set(trained.paths) & set(tried.split.paths)
    assert torch.equal(tried.images, folder.data.train.batch(tried.rows).images)
    rest = folder.draw(None, "train", skip=folder.recipe.gan.images + 8)
    assert len(trained.paths + tried.split.paths + rest.split.paths) == len(folder.data.train) == 36
    assert len(set(trained.paths + tried.split.paths + rest.split.paths)) == 36
    predicted = folder.cnn(tried.images).argmax(1)
    assert torch.equal(tried.explained.cpu(), predicted.cpu()), "of the training images"


def test_the_address_tells_precision_device_and_threads_apart(places, bench):
    """A run in float32 must not be handed weights of mixed precision."""
    own = bench.subject().store.address("generator", "gan_lib.workbench", {"seed": 0})
    for changes in ({"machine.precision": "bf16-mixed"}, {"machine.threads": 2}):
        other = Workbench("test", "tiny", changes, places).subject()
        assert other.store.address("generator", "gan_lib.workbench", {"seed": 0}) != own
    jobs = [
        Workbench("test", "tiny", {"machine.workers": workers}, places).subject().jobs_store
        for workers in (1, 2)
    ]
    first, second = (store.address("generator", "gan_lib.workbench", {"seed": 0}) for store in jobs)
    assert first == second, "each worker has its own threads, however many there are"


def test_generators_are_trained_once_and_kept(bench):
    subject = bench.subject()
    sample = subject.draw(3)
    for made, method in ((subject.supervised(), "lsft"), (subject.contrastive(), "contrastive-lsft")):
        assert list(made) == [("lsft", 0)]
        trained = made["lsft", 0]
        maps = trained.explainer.attribute(sample.images, target=sample.explained)
        assert maps.shape == (3, 1, 32, 32)
        assert len(trained.log) == 1
        subject.kept.save(method, {0: trained.explainer}, {0: subject.about()})
        found = subject.kept_by_profile(method.replace("-", "_"))
        assert list(found) == [0]
        assert subject.kept_by_profile(method, seeds=[1]) == {}
        assert torch.equal(found[0].attribute(sample.images, target=sample.explained), maps)
    shipped = CliRunner().invoke(app, ["ship", "--profile", "tiny", "--root", str(bench.data_dir.parent)])
    assert shipped.exit_code == 0, shipped.output
    home = bench.data_dir / "pretrained" / "slim_vgg"
    assert {path.parent.name for path in home.glob("*/explainer.json")} == {"lsft", "contrastive-lsft"}
    assert torch.equal(
        subject.shipped("contrastive_lsft").attribute(sample.images, target=sample.explained), maps
    )
    alone = GeneratorExplainer.from_pretrained(home / "contrastive-lsft")
    assert torch.equal(alone.attribute(sample.images, target=sample.explained), maps)
    shutil.rmtree(home)
    again = subject.supervised()["lsft", 0]
    assert again.key == subject.supervised()["lsft", 0].key
    other = bench.subject({"cnn.architecture": "slim_mobilenet"})
    assert other.kept_by_profile("lsft") == {}
    assert other.shipped("lsft") is None
    assert subject.supervised(variants=()) == {}


def test_the_discriminator_is_chosen_by_name(places):
    """Another kind, another address."""
    sizes = {"discriminator.width": 4, "discriminator.stem_stride": 8}
    made = {}
    for kind in ("spectral", "published"):
        changes = {**sizes, "discriminator.kind": kind, "supervised.discriminator_every": 3}
        made[kind] = Workbench("test", "tiny", changes, places).subject().supervised()["lsft", 0]
    assert len({own.key for own in made.values()}) == 2
    # Of the same generator at its first step they say different things.
    assert len({own.log["reconstruction"][0] for own in made.values()}) == 1
    assert len({own.log["adversarial"][0] for own in made.values()}) == 2


def test_a_discriminator_from_outside_is_in_the_address(places, monkeypatch):
    monkeypatch.setattr(DISCRIMINATORS, "_things", dict(DISCRIMINATORS._things))

    @DISCRIMINATORS.register("own")
    class OwnDiscriminator(PublishedDiscriminator):
        pass

    about = {}
    for kind in ("published", "own"):
        subject = Workbench("test", "tiny", {"discriminator.kind": kind}, places).subject()
        about[kind] = subject.supervised_plan().jobs[0].made_from()["discriminator"]
    assert about["published"] == {"width": 8, "stem_stride": 8, "kind": "published"}
    assert about["own"].keys() == {"width", "stem_stride", "kind", "code"}


def test_a_cnn_trained_as_published(places):
    """Images scaled for it, plain SGD, a part of them put aside; maps are of the images' size."""
    cnn = {"input_size": 48, "optimizer": "sgd", "one_cycle": False, "validation": 0.25, "epochs": 2}
    changes = {f"cnn.{name}": value for name, value in cnn.items()} | {"cnn.learning_rate": 0.05}
    subject = Workbench("test", "tiny", changes, places).subject()
    history = subject.trained.history
    assert list(history.columns) == ["epoch", "loss", "accuracy", "validation_loss", "validation_accuracy"]
    assert len(history) == 2
    assert subject.cnn.card.input_size == (48, 48)
    sample = subject.draw(3)
    assert subject.maker()(sample.images).cgma.shape[-2:] == (32, 32)
    alone = Workbench("test", "tiny", {**changes, "cnn.input_size": None}, places).subject()
    assert alone.trained.key != subject.trained.key


def test_one_job_left_gives_the_weights_that_two_give(places):
    """Torch sums in another order on two threads than on one: each job has one, however many are left."""
    changes = {"gan.variants": ["lsft", "gsft"], "generator.blocks": 1, "machine.workers": 2}
    both = Workbench("test", "tiny", changes, places).subject().supervised()
    alone = Workbench("test", "tiny", {**changes, "machine.workers": 1}, places).subject()
    alone.jobs_store.root = places.data / "other"
    for variant in ("lsft", "gsft"):
        own = alone.supervised([variant])[variant, 0]
        expected = both[variant, 0].generator.state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in own.generator.state_dict().items())
