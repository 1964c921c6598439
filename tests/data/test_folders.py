"""Image folders of every form: what is read, as which class and split, and what is said about the rest."""

from __future__ import annotations

import logging

import pytest
import torch
from PIL import Image

from gan_lib.core.artifacts import ArtifactStore
from gan_lib.data import image_folder, load_data


def fill(root, tree):
    """Files by name; each image has its own shade, in the order given."""
    for shade, name in enumerate(tree.split()):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            (root / name).mkdir()
        else:
            Image.new("L", (2, 2), shade).save(root / name)
    return root


def paths(data):
    """The images of each split by class."""
    return {
        name: {
            data.class_names[label]: sorted(
                path for path, own in zip(split.paths, split.labels.tolist(), strict=True) if own == label
            )
            for label in range(len(data.class_names))
        }
        for name, split in data.splits.items()
    }


def counts(data):
    return {name: len(split) for name, split in data.splits.items()}


TREES = {
    "sub-folders of classes are read": (
        "train/a/1.png train/a/left/2.png train/a/left/far/3.png train/b/1.png test/a/x/1.png test/b/1.png",
        {"train": {"a": 3, "b": 1}, "test": {"a": 1, "b": 1}},
    ),
    "validation is a split of its own": (
        "train/a/1.png train/b/1.png validation/a/1.png validation/b/1.png validation/b/2.png test/a/1.png",
        {"train": {"a": 1, "b": 1}, "validation": {"a": 1, "b": 2}, "test": {"a": 1, "b": 0}},
    ),
    "so is val beside evaluation, in capitals": (
        "Training/a/1.png Training/b/1.png VAL/a/1.png Evaluation/b/1.png",
        {"train": {"a": 1, "b": 1}, "validation": {"a": 1, "b": 0}, "test": {"a": 0, "b": 1}},
    ),
    "it is the test split where there is none": (
        "train/a/1.png train/b/1.png valid/a/1.png valid/b/1.png",
        {"train": {"a": 1, "b": 1}, "test": {"a": 1, "b": 1}},
    ),
    "also where the test images have no classes": (
        "train/a/1.png train/b/1.png val/a/1.png val/b/1.png test/1.png test/2.png",
        {"train": {"a": 1, "b": 1}, "test": {"a": 1, "b": 1}},
    ),
    "a class may be called train": (
        "train/1.png train/2.png bus/1.png bus/2.png plane/1.png plane/2.png",
        {"train": {"bus": 1, "plane": 1, "train": 1}, "test": {"bus": 1, "plane": 1, "train": 1}},
    ),
    "train and test of images only are two classes": (
        "train/1.png train/2.png test/1.png test/2.png",
        {"train": {"test": 1, "train": 1}, "test": {"test": 1, "train": 1}},
    ),
    "hidden folders are no classes": (
        "a/1.png a/2.png b/1.png b/2.png .ipynb_checkpoints/1.png __MACOSX/a/1.png a/.ipynb_checkpoints/1.png",
        {"train": {"a": 1, "b": 1}, "test": {"a": 1, "b": 1}},
    ),
    "numbers are in their order": (
        "class10/1.png class10/2.png class2/1.png class2/2.png",
        {"train": {"class2": 1, "class10": 1}, "test": {"class2": 1, "class10": 1}},
    ),
}


@pytest.mark.parametrize(("tree", "expected"), TREES.values(), ids=TREES)
def test_trees(tmp_path, tree, expected):
    data = image_folder(fill(tmp_path, tree), size=2)
    found = {split: {name: len(own) for name, own in by.items()} for split, by in paths(data).items()}
    assert found == expected
    assert list(data.class_names) == list(expected["train"])
    for split in data.splits.values():
        for path, image in zip(split.paths, split.images[:], strict=True):
            assert image.unique().tolist() == [tree.split().index(path)]


NOTICES = {
    "train/a/1.png train/b/1.png val/a/1.png": "no test folder: val is the test split",
    "train/1.png train/2.png test/1.png test/2.png": "test, train|train, test",
    "train/a/1.png train/b/1.png test/a/1.png more/a/1.png": "beside the split folders, more is not read",
}


@pytest.mark.parametrize(("tree", "notice"), NOTICES.items())
def test_what_was_decided_is_said(tmp_path, tree, notice, caplog):
    with caplog.at_level(logging.WARNING):
        image_folder(fill(tmp_path, tree), size=2)
    assert any(own in caplog.text for own in notice.split("|"))


REFUSED = {
    "train/a/1.png train/b/1.png": "has train/ but no test folder",
    "test/a/1.png test/b/1.png": "has test/ but no training folder",
    "train/old/1.png bus/1.png plane/1.png": "no test folder .* a class of that name holds its images itself",
    "train/a/1.png train/b/1.png test/a/1.png testing/a/1.png": "two test folders, test and testing",
    "train/Cat/1.png train/dog/1.png test/cat/1.png": "training folder lacks: cat; did you mean Cat?",
    "Cat/1.png cat/1.png dog/1.png": "Cat and cat differ by capitals only",
    "a/1.png b/1.png b/2.png": "a needs two images to be split",
    "a/1.png a/2.png b/1.png b/2.png empty/": "class folder .*empty holds no image",
    "train/a/1.png train/b/1.png test/a/1.png validation/": "validation holds no image of a class",
    "a/1.png a/2.png": "two class folders or more, has \\['a'\\]",
}


@pytest.mark.parametrize(("tree", "message"), REFUSED.items())
def test_trees_that_are_refused(tmp_path, tree, message):
    with pytest.raises(ValueError, match=message):
        image_folder(fill(tmp_path, tree), size=2)


def test_images_in_no_class_folder_are_reported(tmp_path):
    fill(tmp_path, "train/a/1.png train/b/1.png train/stray.png test/a/1.png")
    assert image_folder(tmp_path, size=2).skipped == (("train/stray.png", "it lies in no class folder"),)


def test_validation_images_are_drawn_in_proportion(tmp_path):
    fill(
        tmp_path,
        " ".join(
            f"{split}/{name}/{i}.png" for split in ("train", "val", "test") for name in "ab" for i in range(4)
        ),
    )
    data = image_folder(tmp_path, size=2, validation=2, into=tmp_path / "cache")
    assert counts(data) == {"train": 8, "validation": 2, "test": 8}
    assert data["validation"].labels.tolist() in ([0, 1], [1, 0])
    assert data.to_choose_on == "validation"
    store = ArtifactStore(tmp_path / "store")
    for asked, expected in ((None, 8), (4, 4), (99, 8)):
        loaded = load_data(tmp_path.name, store, tmp_path.parent, size=2, validation=asked)
        assert counts(loaded) == {"train": 8, "validation": expected, "test": 8}
    assert counts(load_data(tmp_path.name, store, tmp_path.parent, size=2, validation=0)) == {
        "train": 8,
        "test": 8,
    }


def test_the_order_of_classes_can_be_given(tmp_path):
    """Neither the images nor the split depend on it, only the labels."""
    fill(tmp_path, " ".join(f"{name}/{index}.png" for name in ("cat", "dog", "cow") for index in range(6)))
    by_name, given = (
        image_folder(tmp_path, size=2, class_names=own) for own in (None, ("dog", "cat", "cow"))
    )
    assert by_name.class_names == ("cat", "cow", "dog")
    assert given.class_names == ("dog", "cat", "cow")
    assert paths(given) == paths(by_name)
    assert given.train.labels.tolist() == sorted(given.train.labels.tolist())


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("cat",), "once, but lack dog"),
        (("cat", "dog", "cow"), "have unknown cow"),
        (("cat", "horse"), "lack dog; have unknown horse"),
        (("cat", "dog", "cat"), "repeat cat"),
    ],
)
def test_an_order_that_does_not_fit_says_what_is_wrong(tmp_path, names, message):
    fill(tmp_path, "cat/1.png cat/2.png dog/1.png dog/2.png")
    with pytest.raises(ValueError, match=message):
        image_folder(tmp_path, size=2, class_names=names)


def test_links_are_followed_or_reported(tmp_path, caplog):
    """A class that is a link, an image that is one, one that leads nowhere, and two that lead in a circle."""
    fill(tmp_path / "elsewhere", "dogs/1.png dogs/2.png cat.png")
    root = fill(tmp_path / "animals", "cat/1.png cat/2.png")
    (root / "dog").symlink_to(tmp_path / "elsewhere" / "dogs")
    (root / "cat" / "linked.png").symlink_to(tmp_path / "elsewhere" / "cat.png")
    (root / "cat" / "gone.png").symlink_to(tmp_path / "gone.png")
    (root / "cat" / "up").symlink_to(root)
    (root / "bird").symlink_to(tmp_path / "no folder")
    with caplog.at_level(logging.WARNING):
        data = image_folder(root, size=2)
    assert data.class_names == ("cat", "dog")
    assert sum(counts(data).values()) == 5
    assert data.skipped == (
        ("bird", "a link to what is not there"),
        ("cat/gone.png", "a link to what is not there"),
        ("cat/up", "a link to a folder that holds it"),
    )
    assert "gone.png" in caplog.text
    read = image_folder(root, size=2, into=tmp_path / "cache")
    assert read.skipped == data.skipped


def test_a_linked_class_whose_images_changed_is_read_again(tmp_path):
    fill(tmp_path / "elsewhere", "1.png 2.png")
    root = fill(tmp_path / "animals", "cat/1.png cat/2.png")
    (root / "dog").symlink_to(tmp_path / "elsewhere")
    store = ArtifactStore(tmp_path / "store")
    before = load_data("animals", store, tmp_path, size=2)
    Image.new("RGB", (3, 3), (255, 0, 0)).save(tmp_path / "elsewhere" / "1.png")
    after = load_data("animals", store, tmp_path, size=2)
    assert max(own.images[:].max() for own in before.splits.values()) == 1
    assert max(own.images[:].max() for own in after.splits.values()) == 255


def test_files_of_12_bits_are_read_when_it_is_said(tmp_path):
    fill(tmp_path, "data/a/1.png data/a/2.png data/b/1.png data/b/2.png")
    for path in tmp_path.rglob("*.png"):
        Image.fromarray(torch.full((2, 2), 4095, dtype=torch.uint16).numpy()).save(path)
    with pytest.raises(ValueError, match=r"none of 2 images can be read; ./\d.png: .*pass bits=12"):
        image_folder(tmp_path / "data", size=2)
    assert image_folder(tmp_path / "data", size=2, bits=12).train.images[:].unique().tolist() == [255]
    store = ArtifactStore(tmp_path / "store")
    for bits, white in ((12, 255), (16, 16)):  # 4095 / 257 = 15.9
        data = load_data("data", store, tmp_path, size=2, bits=bits)
        assert data.test.images[:].unique().tolist() == [white]
    with pytest.raises(ValueError, match="mnist takes no bits"):
        load_data("mnist", store, tmp_path, bits=12)
