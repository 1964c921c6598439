from __future__ import annotations

import shutil

import pytest
import torch
from PIL import Image

from gan_lib.core.artifacts import ArtifactStore
from gan_lib.core.storage import read_json
from gan_lib.data import DATA_SETS, ImageData, ImageSplit, digits_in_scenes, load_data

NAMES = "abcd"


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "artifacts")


@pytest.fixture
def classes(tmp_path):
    """A folder with 10 training and 5 test images of each of four classes; shades tell images apart."""
    for part, count in (("train", 10), ("test", 5)):
        for label, name in enumerate(NAMES):
            for index in range(count):
                path = tmp_path / "sorted" / part / name / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (4, 4), 60 * label + index).save(path)
    return tmp_path


def made(store):
    """What each data set in a store was made from."""
    return [read_json(path) for path in sorted(store.root.glob("data/*/made_from.json"))]


def test_a_folder_sorted_by_class_trains_and_tests_on_all_classes(classes, store):
    """The first rows of a folder are of its first classes, the last of its last: once, no class was in both."""
    data = load_data("sorted", store, classes, size=4, train=32, test=16, seed=1)
    assert torch.bincount(data.train.labels).tolist() == [8] * 4
    assert torch.bincount(data.test.labels).tolist() == [4] * 4
    for split, count in ((data.train, 12), (data.test, 8)):
        for beginning in (split.labels[:count], split.labels[split.sample(count, seed=1)]):
            assert torch.bincount(beginning, minlength=4).tolist() == [count // 4] * 4
    whole = load_data("sorted", store, classes, size=4, seed=1)
    assert whole.train.labels.tolist() == sorted(whole.train.labels.tolist())
    rows = whole.train.sample(32, seed=1)
    assert torch.equal(data.train.images[:], whole.train.images[rows])
    assert data.train.paths == tuple(whole.train.paths[row] for row in rows)
    other = load_data("sorted", store, classes, size=4, train=32, test=16, seed=2)
    assert set(other.train.paths) != set(data.train.paths)


def test_counts_beyond_a_folder_give_all_of_it(classes, store):
    data = load_data("sorted", store, classes, size=4, train=99, test=20)
    assert (len(data.train), len(data.test)) == (40, 20)
    assert len(set(data.train.paths)) == 40


def test_a_folder_whose_files_changed_is_read_again(classes, store):
    before = load_data("sorted", store, classes, size=4)
    Image.new("L", (9, 9), 255).save(classes / "sorted" / "train" / "a" / "0.png")
    after = load_data("sorted", store, classes, size=4)
    assert before.train.images[0].max() == 0
    assert after.train.images[0].min() == 255
    assert torch.equal(before.train.images[1:], after.train.images[1:])


def test_a_half_written_folder_is_decoded_anew(classes, store, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("gan_lib.data.folders.save_index", killed)
        with pytest.raises(KeyboardInterrupt):
            load_data("sorted", store, classes, size=4)
    half = next((store.root / "data").glob("*.partial"))
    shutil.copytree(half / "train", half / "left over")
    assert len(load_data("sorted", store, classes, size=4).train) == 40
    assert not list((store.root / "data").glob("*/left over"))


def test_embedded_sets_are_built_as_large_as_asked(store):
    data = load_data("digits_in_scenes", store, size=16, train=20, test=10, seed=2)
    assert data.fingerprint == load_data("Digits in scenes", store, "nowhere", 16, 20, 10, 2).fingerprint
    straight = digits_in_scenes(20, 10, 16, 2)
    assert torch.equal(data.train.images[:], straight.train.images)
    assert torch.equal(data.test.masks[:], straight.test.masks)
    marked = load_data("confounded_digits", store, size=16, train=20, test=12)
    assert [len(marked[name]) for name in ("train", "test", "conflict")] == [20, 12, 12]
    assert marked.train.marks[:].any()
    assert [(own["name"], own.get("train")) for own in made(store)].count(("digits_in_scenes", 20)) == 1


def test_what_a_builder_does_not_choose_is_chosen_for_it(store):
    """A builder without counts makes all; so many of each split are drawn, and a third split is left whole."""

    def everything(root, size):
        labels = torch.arange(3).repeat_interleave(6)
        images = torch.arange(18, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, size, size)
        splits = {name: ImageSplit(images, labels) for name in ("train", "test", "other")}
        return ImageData(str(root), ("a", "b", "c"), splits)

    DATA_SETS.register("everything", everything)
    data = load_data("everything", store, "some/root", size=4, train=9, test=3, seed=5)
    assert data.name == "some/root"
    assert torch.bincount(data.train.labels).tolist() == [3, 3, 3]
    assert sorted(data.test.labels.tolist()) == [0, 1, 2]
    assert len(data["other"]) == 18
    rows = data["other"].sample(9, seed=5)
    assert torch.equal(data.train.images[:, 0, 0, 0], rows.to(torch.uint8))
    load_data("everything", store, "some/root", size=4, train=3, seed=6)
    assert len(made(store)) == 1  # neither counts nor seed made another


def test_a_builder_in_a_notebook_is_known_by_its_text(store):
    def stated(size):
        image = torch.full((2, 3, size, size), 7, dtype=torch.uint8)
        split = ImageSplit(image, torch.tensor([0, 1]))
        return ImageData("stated", ("a", "b"), {"train": split, "test": split})

    stated.__module__ = "__main__"
    DATA_SETS.register("stated", stated)
    assert load_data("stated", store, size=4).train.images[:].unique().tolist() == [7]
    assert "def stated(size)" in made(store)[0]["code"]


def test_unknown_names_are_told_which_are_known(store, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such set.*neither a folder.*digits_in_scenes.*mnist"):
        load_data("no such set", store, tmp_path)
