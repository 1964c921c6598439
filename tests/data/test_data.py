from __future__ import annotations

import logging
import shutil
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from gan_lib.core.artifacts import ArtifactStore
from gan_lib.data import (
    DATA_SETS,
    ImageData,
    ImageSplit,
    digits_in_scenes,
    image_folder,
    load_data,
    read_image,
)
from gan_lib.data.torchvision_sets import torchvision_set


def paint(path, colour, mode="RGB", size=(20, 12)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "animals"
    for name, colour in (("cat", (255, 0, 0)), ("dog", (0, 0, 255))):
        for index in range(5):
            paint(root / name / f"{index}.png", colour)
    return root


def test_digits_in_scenes_has_exact_masks_and_is_seeded(scenes):
    again = digits_in_scenes(train=60, test=20, size=32, seed=3)
    assert again.fingerprint == scenes.fingerprint
    assert digits_in_scenes(train=60, test=20, size=32, seed=4).fingerprint != scenes.fingerprint
    assert scenes.train.images.shape == (60, 3, 32, 32)
    assert torch.bincount(scenes.train.labels).tolist() == [6] * 10
    share = scenes.train.masks[:].float().mean((1, 2, 3))
    assert share.min() > 0.01
    assert share.max() < 0.5


@pytest.mark.parametrize("seed", range(6))
def test_a_single_test_image_is_on_one_of_two_photographs(seed):
    assert digits_in_scenes(train=10, test=1, size=16, seed=seed).test.images.shape == (1, 3, 16, 16)


def test_the_mask_is_where_the_digit_is():
    """A digit has one colour: well inside the mask an image hardly varies, outside it does."""
    data = digits_in_scenes(train=200, test=10, seed=1)
    images, masks = data.train.images[:].float(), data.train.masks[:].float()
    eroded = -torch.nn.functional.max_pool2d(-masks, 3, 1, 1) > 0.5
    within = {"inside": [], "outside": []}
    for image, mask, core in zip(images, masks > 0.5, eroded, strict=True):
        if core.sum() > 5:
            within["inside"].append(image[:, core[0]].std(dim=1).max())
            within["outside"].append(image[:, ~mask[0]].std(dim=1).max())
    inside, outside = (torch.stack(values) for values in within.values())
    assert len(inside) > 100
    assert inside.median() < 3  # of 255
    assert (inside < outside).float().mean() > 0.95


def test_confounded_marks_follow_the_class_in_training_only():
    data = digits_in_scenes(train=80, test=40, seed=0, confounded=True)

    def mark_colour(split):
        marks = split.marks[:].expand(-1, 3, -1, -1)
        return torch.stack(
            [
                image[mark].view(3, -1).float().mean(1)
                for image, mark in zip(split.images[:], marks, strict=True)
            ]
        )

    train_colours = mark_colour(data.train)
    assert not (data.train.marks[:] & data.train.masks[:]).any()
    for digit in range(10):
        own = train_colours[data.train.labels == digit]
        assert (own - own[0]).abs().max() < 1
    assert not data.test.marks[:].any()
    by_class = torch.stack([train_colours[data.train.labels == digit][0] for digit in range(10)])
    marked_as = torch.cdist(mark_colour(data["conflict"]), by_class).argmin(1)
    assert (marked_as != data["conflict"].labels).all()


def test_a_set_that_was_saved_reads_the_same_from_disk(tmp_path, scenes):
    scenes.save(tmp_path)
    loaded = ImageData.load(tmp_path)
    rows = torch.tensor([7, 3, 59])
    for column in ("images", "masks"):
        assert torch.equal(getattr(loaded.train, column)[rows], getattr(scenes.train, column)[rows])
    batch = loaded.test.batch([1, 0])
    assert batch.images.dtype == torch.float32
    assert 0 <= batch.images.min() <= batch.images.max() <= 1
    assert batch.rows.tolist() == [1, 0]
    with pytest.raises(FileNotFoundError, match="no complete data set"):
        ImageData.load(tmp_path / "nothing")


def test_store_builds_once(tmp_path, scenes):
    store = ArtifactStore(tmp_path)
    first = load_data("digits_in_scenes", store, train=20, test=10, size=32)
    stamp = next(tmp_path.rglob("data.json")).stat().st_mtime_ns
    second = load_data("digits_in_scenes", store, train=20, test=10, size=32)
    assert next(tmp_path.rglob("data.json")).stat().st_mtime_ns == stamp
    assert first.fingerprint == second.fingerprint


def test_batches_cover_every_row_once_in_a_seeded_order(scenes):
    seen = torch.cat([batch.rows for batch in scenes.train.batches(16, shuffle_seed=5)])
    again = torch.cat([batch.rows for batch in scenes.train.batches(16, shuffle_seed=5)])
    assert torch.equal(seen, again)
    assert sorted(seen.tolist()) == list(range(60))
    assert seen.tolist() != list(range(60))
    other = torch.cat([batch.rows for batch in scenes.train.batches(16, shuffle_seed=6)])
    assert not torch.equal(seen, other)


def test_folder_with_seeded_split(folder):
    data = image_folder(folder, size=8)
    assert data.class_names == ("cat", "dog")
    assert (len(data.train), len(data.test)) == (8, 2)
    assert torch.bincount(data.test.labels).tolist() == [1, 1]
    assert set(data.train.paths).isdisjoint(data.test.paths)
    assert image_folder(folder, size=8).test.paths == data.test.paths
    assert len({image_folder(folder, size=8, seed=seed).test.paths for seed in range(5)}) > 1
    assert data.train.subset([5, 2]).paths == (data.train.paths[5], data.train.paths[2])
    red = data.train.batch([0]).images[0]
    assert red[0].min() == 1
    assert red[1:].max() == 0


@pytest.mark.parametrize("test_name", ["test", "val", "evaluation"])
def test_folder_with_split_folders(tmp_path, test_name):
    for split, count in (("train", 3), (test_name, 1)):
        for name in ("a", "b"):
            for index in range(count):
                paint(tmp_path / split / name / f"{index}.jpg", 128, mode="L")
    data = image_folder(tmp_path, size=(6, 10), into=tmp_path / "cache")
    assert (len(data.train), len(data.test)) == (6, 2)
    assert data.train.images[:].shape == (6, 3, 6, 10)  # grey became 3-channel
    assert ImageData.load(tmp_path / "cache").train.paths == data.train.paths


def test_unreadable_images_are_reported_by_path(folder, caplog):
    (folder / "cat" / "broken.png").write_bytes(b"no image at all")
    whole = (folder / "dog" / "0.png").read_bytes()
    (folder / "dog" / "short.png").write_bytes(whole[: len(whole) // 2])
    with caplog.at_level(logging.WARNING):
        data = image_folder(folder, size=8)
    assert sorted(path for path, _ in data.skipped) == ["cat/broken.png", "dog/short.png"]
    assert len(data.train) + len(data.test) == 10
    assert "broken.png" in caplog.text
    assert "skipped 2 unreadable of 12 images" in caplog.text
    on_disk = image_folder(folder, size=8, into=folder.parent / "cache")
    again = ImageData.load(folder.parent / "cache")
    assert again.skipped == on_disk.skipped == data.skipped
    for split in (own for read in (data, on_disk, again) for own in read.splits.values()):
        assert [path.startswith("dog") for path in split.paths] == split.labels.tolist()
        assert (split.images[:][:, 2, 0, 0] == 255).tolist() == split.labels.tolist()  # dogs are blue


def test_bad_folders_are_named(folder, tmp_path):
    with pytest.raises(NotADirectoryError, match="but a file"):
        image_folder(folder / "cat" / "0.png")
    with pytest.raises(NotADirectoryError, match="nowhere"):
        image_folder(tmp_path / "nowhere")
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match="empty"):
        image_folder(folder)
    shutil.rmtree(folder / "empty")
    shutil.rmtree(folder / "dog")
    with pytest.raises(ValueError, match="two class folders"):
        image_folder(folder)
    paint(tmp_path / "half" / "train" / "a" / "0.png", 1, "L")
    with pytest.raises(ValueError, match="no test folder"):
        image_folder(tmp_path / "half")


def test_all_images_of_a_class_unreadable(folder):
    for path in (folder / "cat").iterdir():
        path.write_text("nothing")
    with pytest.raises(ValueError, match="no training image of class 'cat'"):
        image_folder(folder, size=8)
    for path in (folder / "dog").iterdir():
        path.write_text("nothing")
    with pytest.raises(ValueError, match=r"animals: none of 8 images can be read.*cat/"):
        image_folder(folder, size=8, into=folder.parent / "cache")


def test_modes_of_images(tmp_path):
    for mode, colour in (
        ("RGBA", (10, 20, 30, 128)),
        ("P", 3),
        ("LA", (9, 9)),
        ("1", 1),
        ("CMYK", (1, 2, 3, 4)),
    ):
        name = f"{mode}.tiff"
        paint(tmp_path / name, colour, mode)
        assert read_image(tmp_path / name, (8, 8)).shape == (3, 8, 8)
    Image.fromarray(np.full((5, 5), 65535, dtype=np.uint16)).save(tmp_path / "deep.png")
    assert read_image(tmp_path / "deep.png", (4, 4)).min() == 255
    Image.fromarray(np.full((5, 5), 257 * 90, dtype=np.uint16)).save(tmp_path / "deep.png")
    assert read_image(tmp_path / "deep.png", (4, 4)).unique().tolist() == [90]


def test_bad_arrays_are_named():
    good = (np.zeros((4, 8, 8), dtype=np.float32), [0, 1, 0, 1])
    assert ImageData.from_arrays(good, good).train.images.shape == (4, 3, 8, 8)
    nearly = ImageData.from_arrays((good[0] + 0.999, good[1]), good)
    assert nearly.train.images.unique().tolist() == [255]
    broken = good[0].copy()
    broken[2, 1, 1] = np.nan
    with pytest.raises(ValueError, match="image 2 has NaN"):
        ImageData.from_arrays((broken, good[1]), good)
    for far in (255, -0.1):
        with pytest.raises(ValueError, match=r"image 0 has values outside .*4 such images"):
            ImageData.from_arrays((good[0] + far, good[1]), good)
    with pytest.raises(ValueError, match="two classes"):
        ImageData.from_arrays((good[0], [0, 0, 0, 0]), (good[0], [0, 0, 0, 0]))
    with pytest.raises(ValueError, match="no training image of class '1'"):
        ImageData.from_arrays((good[0], [0, 0, 0, 2]), good)
    with pytest.raises(ValueError, match="labels"):
        ImageData.from_arrays((good[0], [0, 1]), good)


def test_missing_split_is_named(scenes):
    with pytest.raises(ValueError, match="no 'test' split"):
        ImageData("x", ("a", "b"), {"train": scenes.train})
    with pytest.raises(KeyError, match="conflict"):
        scenes["conflict"]
    with pytest.raises(ValueError, match="masks"):
        ImageSplit(scenes.train.images, scenes.train.labels, masks=scenes.train.images)


def test_torchvision_set_without_files_says_which(tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise OSError("no network here")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", refuse)
    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", refuse)
    for name, file in (
        ("mnist", "train-images-idx3-ubyte.gz"),
        ("emnist", "gzip.zip"),
        ("cifar10", "cifar-10-python"),
    ):
        with pytest.raises(FileNotFoundError, match=file):
            load_data(name, ArtifactStore(tmp_path / "store"), tmp_path)


@pytest.mark.parametrize("transposed", [False, True])
def test_a_torchvision_set_is_drawn_from_and_turned_upright(tmp_path, transposed):
    """Image i has the shade i in its first row, 0 elsewhere; training shades start at 0, test shades at 100."""

    class Shades:
        classes = ("even", "odd")

        def __init__(self, root, train, download):
            assert (root, download) == (str(tmp_path / "torchvision"), True)
            self.data = np.zeros((20, 6, 6), dtype=np.uint8)
            self.data[:, 0] = np.arange(20)[:, None] + (0 if train else 100)
            self.targets = [index % 2 for index in range(20)]

    build = torchvision_set("shades", Shades, transposed=transposed)
    data = build(tmp_path, size=6, train=8, seed=3)
    first = data.train.images[:, 0, :, 0] if transposed else data.train.images[:, 0, 0]  # (8, 6)
    rows = build(tmp_path, size=6).train.sample(8, seed=3)
    assert torch.equal(first, rows[:, None].expand(-1, 6).to(torch.uint8))
    assert torch.equal(data.train.labels, rows % 2)
    assert data.train.images.sum() == 3 * first.sum()
    assert data.test.images.amax((1, 2, 3)).tolist() == list(range(100, 120))
    assert build(tmp_path, size=12).train.images.shape == (20, 3, 12, 12)


def test_real_mnist(test_data, tmp_path):
    shutil.copytree(test_data / "mnist", tmp_path / "torchvision", copy_function=shutil.copyfile)
    data = load_data("mnist", ArtifactStore(tmp_path / "store"), tmp_path, size=32, train=200, seed=1)
    assert data.train.images.shape == (200, 3, 32, 32)
    whole = DATA_SETS["mnist"](tmp_path, size=32)
    assert whole.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert len(data.test) == len(whole.test) == 10_000
    rows = whole.train.sample(200, seed=1)
    assert torch.equal(data.train.images[:], whole.train.images[rows])
    assert torch.equal(data.train.labels, whole.train.labels[rows])


def test_real_folders(test_data, tmp_path):
    imagenette = image_folder(test_data / "imagenette", size=48, train=40, test=20)
    assert len(imagenette.class_names) == 10
    assert torch.bincount(imagenette.test.labels).tolist() == [2] * 10
    with zipfile.ZipFile(test_data / "chinese-mnist.zip") as archive:
        wanted = [name for name in archive.namelist() if "_1_" in name or name.endswith("/")]
        archive.extractall(tmp_path / "chinese", wanted)
    chinese = image_folder(tmp_path / "chinese", size=64, into=tmp_path / "cache")
    assert len(chinese.class_names) == 15
    assert not chinese.skipped


def test_validation_images_are_the_first_of_those_held_out():
    whole = digits_in_scenes(train=20, test=12, size=32, seed=5, confounded=True)
    parted = digits_in_scenes(train=20, test=8, validation=4, size=32, seed=5, confounded=True)
    for split, rows in (("validation", range(4)), ("test", range(4, 12))):
        assert parted[split].fingerprint == whole.test.subset(rows).fingerprint
    assert parted.train.fingerprint == whole.train.fingerprint
    assert parted["conflict"].fingerprint == whole["conflict"].fingerprint
    assert "validation" not in whole.splits
    with pytest.raises(ValueError, match="validation >= 0"):
        digits_in_scenes(train=20, test=8, validation=-1, size=32)


def test_settings_are_chosen_on_validation_or_training_images():
    assert digits_in_scenes(train=20, test=8, validation=4, size=32).to_choose_on == "validation"
    assert digits_in_scenes(train=20, test=8, size=32).to_choose_on == "train"


def test_a_batch_of_no_images_is_empty(scenes):
    batch = scenes.test.batch([])
    assert batch.images.shape == (0, 3, 32, 32)
    assert batch.masks.shape == (0, 1, 32, 32)
