"""Data sets of PyTorch as data sets of this package."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from gan_lib.core.artifacts import ArtifactStore
from gan_lib.data import DATA_SETS, ImageData, load_data


class Items(Dataset):
    """Items by number; more are given than there are, as by many data sets."""

    def __init__(self, items, classes=None):
        self.items = items
        if classes is not None:
            self.classes = classes

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index % len(self.items)]


class Uncounted(Dataset):
    def __init__(self, items):
        self.items = items

    def __getitem__(self, index):
        return self.items[index]


class Stream(IterableDataset):
    """Can be read once, and in order only."""

    def __init__(self, items):
        self.items = iter(items)

    def __iter__(self):
        yield from self.items


class CountedStream(Stream):
    def __len__(self):
        return 99  # an estimate, as of shards


def shade(value, size=2):
    return Image.new("L", (size, size), value)


PAIRS = [(shade(10 * index), index % 2) for index in range(6)]
GREY = torch.full((2, 2), 100, dtype=torch.uint8)
PICTURES = {
    "PIL": Image.new("RGB", (2, 2), (100, 100, 100)),
    "wide PIL": Image.new("L", (6, 2), 100),
    "PIL of 16 bits": Image.fromarray(np.full((2, 2), 257 * 100, np.uint16)),
    "uint8 (H, W)": GREY,
    "uint8 (1, H, W)": GREY[None],
    "uint8 (3, H, W)": GREY.expand(3, 2, 2),
    "float (3, H, W)": GREY.expand(3, 2, 2) / 255,
    "double, with a gradient": (GREY.expand(3, 2, 2).double() / 255).requires_grad_(),
    "array (H, W)": GREY.numpy(),
    "array (H, W, 3)": np.full((2, 2, 3), 100, np.uint8),
    "float array": np.full((2, 2, 3), 100 / 255),
}


@pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES)
def test_every_form_of_an_image(picture):
    data = ImageData.from_datasets(Items([(picture, 0), (picture, 1)]), Items([(picture, 1)]), size=2)
    assert data.train.images.dtype == torch.uint8
    assert data.train.images.shape == (2, 3, 2, 2)
    assert data.train.images.unique().tolist() == [100]


@pytest.mark.parametrize(
    "one", [1, np.int64(1), True, torch.tensor(1), torch.tensor([1]), np.array([[1]]), np.array(1, np.uint8)]
)
def test_every_form_of_a_label(one):
    data = ImageData.from_datasets([(shade(0), 0), (shade(1), one)], [(shade(2), one)], size=2)
    assert data.train.labels.tolist() == [0, 1]
    assert data.test.labels.tolist() == [1]
    assert data.class_names == ("0", "1")


KINDS = {
    "by number": Items,
    "without a length": Uncounted,
    "a stream": Stream,
    "a stream that says how long it is": CountedStream,
    "a list": list,
    "a generator": iter,
    "a part": lambda items: Subset(Items([*items, (shade(255), 0)]), range(len(items))),
    "several": lambda items: ConcatDataset([Items(items[:2]), Items(items[2:])]),
    "tensors": lambda items: TensorDataset(
        torch.stack([torch.from_numpy(np.array(image))[None] for image, _ in items]),
        torch.tensor([label for _, label in items]),
    ),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("on_disk", [False, True])
def test_every_kind_of_data_set_is_read_in_order(tmp_path, monkeypatch, kind, on_disk):
    monkeypatch.setattr("gan_lib.data.datasets.ROWS_PER_WRITE", 4)  # so that the last batch is smaller
    into = tmp_path / "cache" if on_disk else None
    data = ImageData.from_datasets(
        kind(PAIRS), kind(PAIRS[3:]), size=2, validation=kind(PAIRS[:1]), into=into
    )
    for read in (data, ImageData.load(into)) if into else (data,):
        assert read.train.images[:][:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40, 50]
        assert read.train.labels.tolist() == [0, 1, 0, 1, 0, 1]
        assert read.test.images[:][:, 0, 0, 0].tolist() == [30, 40, 50]
        assert read["validation"].labels.tolist() == [0]
        assert read.to_choose_on == "validation"


def test_images_are_cropped_to_the_size():
    left = np.repeat(np.uint8([[0, 0, 255, 255, 0, 0]]), 2, axis=0)
    data = ImageData.from_datasets([(left, 0), (left, 1)], [(left, 0)], size=(2, 2))
    assert data.train.images.flatten().tolist() == [255] * 24


NAMES = {
    "given": ({"class_names": ("x", "y")}, Items(PAIRS, ["a", "b"]), ("x", "y")),
    "of the data set": ({}, Items(PAIRS, ["a", "b", "c"][:2]), ("a", "b")),
    "of synonyms the first": (
        {},
        Items(PAIRS, [("tench", "Tinca tinca"), ("goldfish",)]),
        ("tench", "goldfish"),
    ),
    "of the data set within": ({}, Subset(Items(PAIRS, ["a", "b"]), range(6)), ("a", "b")),
    "of the first of several": ({}, ConcatDataset([Items(PAIRS, ["a", "b"]), Items(PAIRS)]), ("a", "b")),
    "numbers": ({}, Items(PAIRS), ("0", "1")),
}


@pytest.mark.parametrize(("options", "train", "expected"), NAMES.values(), ids=NAMES)
def test_names_of_classes(options, train, expected):
    assert ImageData.from_datasets(train, Items(PAIRS), size=2, **options).class_names == expected


GOOD = (shade(0), 0)
WRONG = {
    "a dictionary": ({"image": shade(0), "label": 1}, r"not a dictionary with 'image', 'label'"),
    "no pair": (shade(0), "must be .image, label., not Image"),
    "three things": ((shade(0), 1, 2), "not 3 things"),
    "no label": ((shade(0),), "not 1 things"),
    "a label beyond the classes": ((shade(0), 2), r"its label is 2, not in 0\.\.1"),
    "a negative label": ((shade(0), -1), "its label is -1"),
    "one-hot": ((shade(0), torch.tensor([0, 1])), "one number, not 2; of one-hot, take argmax"),
    "a label with a fraction": ((shade(0), 0.5), "a whole number"),
    "a name as label": ((shade(0), "cat"), "a whole number, the place of its class, not 'cat'"),
    "NaN": ((torch.full((3, 2, 2), torch.nan), 1), "NaN"),
    "a normalised image": (
        (torch.linspace(-2, 2, 12).view(3, 2, 2), 1),
        "from -2 to 2: they look normalised",
    ),
    "floats of 0..255": ((torch.full((3, 2, 2), 200.0), 1), "divide by 255"),
    "channels last in a tensor": ((torch.zeros(5, 4, 3), 1), r"\(3, H, W\).*not \(5, 4, 3\)"),
    "a batch": ((torch.zeros(2, 3, 4, 4), 1), "one image is wanted, not 2"),
    "no image": ((None, 1), "a picture is a path, a PIL image"),
}


@pytest.mark.parametrize(("item", "message"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("split", ["train", "test"])
def test_wrong_items_are_named(item, message, split):
    given = {"train": Items(PAIRS), "test": Items(PAIRS)}
    given[split] = Items([GOOD, GOOD, item, GOOD])
    with pytest.raises((ValueError, TypeError), match=f"{split}, item 2.*{message}"):
        ImageData.from_datasets(**given, class_names=("a", "b"), size=2)


def test_what_is_no_data_set_is_refused():
    cases = [
        (DataLoader(Items(PAIRS)), TypeError, "train is a DataLoader, which gives batches; give its dataset"),
        (7, TypeError, r"train must be a data set of \(image, label\), not int"),
        ([], ValueError, "train has no items"),
        (Items(PAIRS, ["a", "c"]), ValueError, "other classes, for instance 'c' and 'b'"),
        (Items(PAIRS, ["a", "b", "c"]), ValueError, "other classes, 3 and 2"),
    ]
    for train, kind, message in cases:
        with pytest.raises(kind, match=message):
            ImageData.from_datasets(train, Items(PAIRS, ["a", "b"]), size=2)


def test_an_error_of_the_data_set_tells_where():
    def items():
        yield GOOD
        raise OSError("disk is gone")

    with pytest.raises(OSError, match="disk is gone") as caught:
        ImageData.from_datasets(items(), Items(PAIRS))
    assert caught.value.__notes__ == ["while reading train, item 1"]


def test_a_data_set_of_pytorch_can_be_registered(tmp_path):
    @DATA_SETS.register("six shades")
    def six_shades(root, size, into):
        return ImageData.from_datasets(Items(PAIRS), Stream(PAIRS), size=size, into=into, name=str(root))

    store = ArtifactStore(tmp_path)
    for _ in range(2):
        data = load_data("six shades", store, "here", size=2, train=4)
        assert (data.name, len(data.train), len(data.test)) == ("here", 4, 6)
        assert torch.bincount(data.train.labels).tolist() == [2, 2]


def test_arrays_have_a_validation_split_and_whole_labels():
    images = np.zeros((2, 4, 4))
    data = ImageData.from_arrays((images, [0, 1]), (images, [0.0, 1.0]), validation=(images > 0, [1, 1]))
    assert data["validation"].labels.tolist() == [1, 1]
    assert data.test.labels.tolist() == [0, 1]
    with pytest.raises(ValueError, match="arrays, test: labels must be whole numbers"):
        ImageData.from_arrays((images, [0, 1]), (images, [0.5, 1]))
