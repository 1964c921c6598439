"""Published sets as they lie when unzipped."""

from __future__ import annotations

import shutil
import zipfile

import pandas as pd
import pytest
from PIL import Image

from gan_lib.core.artifacts import ArtifactStore
from gan_lib.data import DATA_SETS, load_data
from gan_lib.data.layouts import ANIMALS, FOODS

VALUES = (*range(11), 100, 1000, 10000, 100000000)


@pytest.fixture
def load(tmp_path):
    def load(name, **options):
        return load_data(name, ArtifactStore(tmp_path / "store"), tmp_path / "data", size=4, **options)

    return load


def paint(path, shade):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), shade).save(path)


def by_class(split, class_names):
    """Mean shades of a split's images by the name of the class."""
    shades = split.images[:].float().mean((1, 2, 3)).tolist()
    return sorted(
        (class_names[label], round(shade)) for label, shade in zip(split.labels, shades, strict=True)
    )


@pytest.mark.parametrize(
    "place", ["animals10/raw-img", "Animals-10/raw-img", "animals10/animals10/raw-img", "animals10"]
)
def test_animals_have_english_names(tmp_path, load, place):
    for label, name in enumerate(ANIMALS):
        for index in range(5):
            paint(tmp_path / "data" / place / name / f"{index}.jpeg", 20 * label)
    (tmp_path / "data" / place.split("/")[0] / "translate.py").write_text("translate = {}")
    data = load("animals10", seed=3)
    assert data.name == "animals10"
    assert data.class_names == tuple(ANIMALS.values())
    assert (len(data.train), len(data.test)) == (40, 10)
    english = {"dog": 0, "horse": 20, "butterfly": 60, "squirrel": 180}
    found = dict(by_class(data.test, data.class_names))
    assert {name: found[name] for name in english} == english
    assert load("animals10", seed=3).test.paths == data.test.paths != load("animals10", seed=4).test.paths
    assert len(load("animals10", train=20).train) == 20


def test_animals_in_class_folders_of_other_names_keep_them(tmp_path, load):
    for name in ("cat", "dog"):
        for index in range(5):
            paint(tmp_path / "data" / "animals10" / name / f"{index}.jpg", 0)
    assert load("animals10").class_names == ("cat", "dog")


@pytest.fixture
def food(tmp_path):
    """Of each class two training images, a validation and two test images; class k has the shade 20 k."""
    folder = tmp_path / "data" / "food11"
    for label in range(11):
        for split, count in (("training", 2), ("validation", 1), ("evaluation", 2)):
            for index in range(count):
                paint(folder / split / f"{label}_{index}.jpg", 20 * label)
    return folder


@pytest.mark.parametrize("place", ["food11", "Food-11", "food11-image-dataset", "food11/food11"])
def test_food_is_labelled_by_the_names_of_its_files(tmp_path, food, load, place):
    moved = food.rename(tmp_path / "moved")
    (tmp_path / "data" / place).parent.mkdir(exist_ok=True)
    moved.rename(tmp_path / "data" / place)
    data = load("food11")
    assert data.class_names == FOODS
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 22,
        "validation": 11,
        "test": 22,
    }
    assert (data.name, data.skipped) == ("food11", ())
    expected = [(name, 20 * label) for label, name in enumerate(FOODS)]
    assert by_class(data["validation"], FOODS) == sorted(expected)
    assert by_class(data.test, FOODS) == sorted(2 * expected)
    assert len(load("food11", validation=5)["validation"]) == 5


def test_food_of_no_class_is_reported(food, load):
    paint(food / "training" / "11_0.jpg", 0)
    paint(food / "training" / "soup.jpg", 0)
    data = load("food11")
    assert [path for path, _ in data.skipped] == ["training/11_0.jpg", "training/soup.jpg"]
    assert len(data.train) == 22


def test_food_in_class_folders(food, load):
    for path in list(food.rglob("*.jpg")):
        paint(path.parent / FOODS[int(path.name.split("_")[0])] / path.name, 0)
        path.unlink()
    data = load("food11")
    assert data.class_names == FOODS
    assert len(data["validation"]) == 11


@pytest.mark.parametrize("split", ["training", "evaluation"])
def test_half_of_food_is_not_read_as_classes(food, load, split):
    shutil.rmtree(food / split)
    with pytest.raises(
        FileNotFoundError, match=r"does not hold food11: .*training/, validation/ and evaluation/"
    ):
        load("food11")


@pytest.fixture
def chinese(tmp_path):
    """Two suites of two samples of 15 characters in shades of their codes, and the table."""
    folder = tmp_path / "data" / "chinese_mnist"
    rows = [(suite, sample, code) for suite in (1, 2) for sample in (1, 2) for code in range(1, 16)]
    for suite, sample, code in rows:
        paint(folder / "data" / "data" / f"input_{suite}_{sample}_{code}.jpg", 10 * code)
    table = pd.DataFrame(rows, columns=["suite_id", "sample_id", "code"])
    table["value"] = [VALUES[code - 1] for code in table["code"]]
    table["character"] = "x"
    table.sample(frac=1, random_state=0).to_csv(folder / "chinese_mnist.csv", index=False)
    return folder


@pytest.mark.parametrize("place", ["data/data", "data", "."])
def test_chinese_digits_by_their_table(chinese, load, place):
    for path in list(chinese.rglob("*.jpg")):
        (chinese / place).mkdir(exist_ok=True)
        path.rename(chinese / place / path.name)
    data = load("chinese_mnist")
    assert data.class_names == tuple(map(str, VALUES))
    assert (len(data.train), len(data.test), data.skipped) == (45, 15, ())
    expected = [(str(value), 10 * code) for code, value in enumerate(VALUES, 1)]
    assert by_class(data.test, data.class_names) == sorted(expected)
    assert by_class(data.train, data.class_names) == sorted(3 * expected)


def test_chinese_digits_that_table_and_folder_do_not_share_are_reported(chinese, load):
    (chinese / "data" / "data" / "input_1_1_3.jpg").unlink()
    paint(chinese / "data" / "data" / "input_9_9_9.jpg", 0)
    data = load("chinese_mnist")
    assert [(path.rpartition("/")[2], "not there" in reason) for path, reason in data.skipped] == [
        ("input_1_1_3.jpg", True),
        ("input_9_9_9.jpg", False),
    ]
    assert len(data.train) + len(data.test) == 59


def test_chinese_digits_without_a_code_are_refused(chinese, load):
    pd.DataFrame({"suite_id": [1], "value": [3]}).to_csv(chinese / "chinese_mnist.csv")
    with pytest.raises(ValueError, match="lacks the columns sample_id, code"):
        load("chinese_mnist")


def test_real_chinese_digits_in_class_folders(test_data, tmp_path, load):
    with zipfile.ZipFile(test_data / "chinese-mnist.zip") as archive:
        wanted = [name for name in archive.namelist() if "input_1_" in name or not name.endswith(".jpg")]
        archive.extractall(tmp_path / "data" / "chinese-mnist", wanted)
    data = load("chinese_mnist")
    assert data.class_names[:2] + data.class_names[-1:] == ("01_0", "02_1", "15_100000000")
    assert len(data.train) + len(data.test) == 150


@pytest.mark.parametrize(
    ("name", "layout", "source"),
    [
        ("animals10", "raw-img/ with a folder per class", "alessiocorrado99/animals10"),
        ("food11", "training/, validation/ and evaluation/", "Food-11"),
        ("chinese_mnist", "chinese_mnist.csv and the images", "gpreda/chinese-mnist"),
    ],
)
@pytest.mark.parametrize("there", ["no data folder", "nothing", "an empty folder", "something else"])
def test_what_is_missing_is_described(tmp_path, load, name, layout, source, there):
    if there != "no data folder":
        (tmp_path / "data").mkdir()
    if there in ("an empty folder", "something else"):
        (tmp_path / "data" / name).mkdir()
    if there == "something else":
        paint(tmp_path / "data" / name / "picture.jpg", 0)
    with pytest.raises(FileNotFoundError, match=rf"{name}/ should hold {layout}.* published as .*{source}"):
        load(name)


def test_new_images_of_a_published_set_are_read(food, load):
    assert len(load("food11").train) == 22
    paint(food / "training" / "0_99.jpg", 0)
    assert len(load("food11").train) == 23
    assert {"animals10", "food11", "chinese_mnist", "emnist", "cifar10", "mnist"} <= set(DATA_SETS)
