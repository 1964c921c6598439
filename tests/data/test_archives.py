"""Images in tar and Parquet shards: what is read, in which order, and what is refused."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gan_lib.data import ImageData
from gan_lib.data.archives import ParquetImages, TarImages, ahead


def picture(shade, size=(6, 4)):
    buffer = io.BytesIO()
    Image.new("RGB", size, (shade, 10, 20)).save(buffer, format="PNG")
    return buffer.getvalue()


def write_tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            about = tarfile.TarInfo(name)
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    return path


@pytest.fixture
def shards(tmp_path):
    pairs = [
        [("a/01.png", picture(10)), ("a/01.cls", b"1\n")],
        [("a/02.cls", b"0"), ("a/02.png", picture(20))],
    ]
    first = write_tar(tmp_path / "0.tar", [*pairs[0], *pairs[1], ("a/about.json", b"{}")])
    return [first, write_tar(tmp_path / "1.tar", [("03.jpeg", picture(30)), ("03.cls", b"1")])]


def shades(dataset):
    return [(int(image[0, 0, 0]), label) for image, label in (dataset[i] for i in range(len(dataset)))]


def test_pictures_beside_their_labels_in_the_order_of_the_shards(shards):
    images = TarImages(shards, size=4)
    assert shades(images) == [(10, 1), (20, 0), (30, 1)]
    assert images[0][0].shape == (3, 4, 4), "a square about the centre"
    assert TarImages(shards, size=(2, 3))[2][0].shape == (3, 2, 3)


def test_class_folders(tmp_path):
    shard = write_tar(tmp_path / "x.tar", [("train/dog/1.png", picture(1)), ("train/cat/2.png", picture(2))])
    images = TarImages([shard], 4)
    assert images.classes == ["cat", "dog"]
    assert shades(images) == [(1, 1), (2, 0)]
    assert shades(TarImages([shard], 4, ["dog", "bird", "cat"])) == [(1, 0), (2, 2)]
    with pytest.raises(ValueError, match="'dog' is none of the classes"):
        TarImages([shard], 4, ["cat"])


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("1.png", b"")], r"bad.tar: 1.png has neither a .cls beside it nor a class folder"),
        ([("a/readme.txt", b"")], "no pictures in .*bad.tar"),
    ],
)
def test_what_is_refused(tmp_path, members, message):
    with pytest.raises(ValueError, match=message):
        TarImages([write_tar(tmp_path / "bad.tar", members)], 4)


def test_a_broken_picture_is_named(tmp_path):
    images = TarImages([write_tar(tmp_path / "x.tar", [("a/1.png", b"no picture")])], 4)
    with pytest.raises(ValueError, match=r"x\.tar, image 0: cannot identify"):
        images[0]


@pytest.mark.parametrize("as_structs", [False, True])
def test_parquet(tmp_path, as_structs):
    for number, of in enumerate(([10, 20, 30], [40])):
        pictures = [{"bytes": picture(own), "path": "x"} if as_structs else picture(own) for own in of]
        table = pa.table({"label": [own // 10 for own in of], "image": pictures})
        pq.write_table(table, tmp_path / f"{number}.parquet", row_group_size=2)
    images = ParquetImages(sorted(tmp_path.glob("*.parquet")), 4)
    assert shades(images) == [(10, 1), (20, 2), (30, 3), (40, 4)]
    assert images[3][1] == 4
    assert images[1][1] == 2, "another row group, backwards"
    with pytest.raises(IndexError, match="image 4 of 4"):
        images[4]
    with pytest.raises(ValueError, match="no column 'target'"):
        ParquetImages([tmp_path / "0.parquet"], 4, label="target")


def test_read_ahead_into_shards_on_disk(shards, tmp_path):
    train, test = TarImages(shards, 4), TarImages(shards[:1], 4)
    data = ImageData.from_datasets(ahead(train, workers=1), test, ["zero", "one"], 4, into=tmp_path / "data")
    assert data.train.labels.tolist() == [1, 0, 1]
    assert data.train.images[:][:, 0, 0, 0].tolist() == [10, 20, 30]
    assert np.array_equal(ImageData.load(tmp_path / "data").test.images[:], stacked(test))


def stacked(dataset):
    return np.stack([dataset[place][0] for place in range(len(dataset))])
