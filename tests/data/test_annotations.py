"""Boxes of Pascal VOC and ImageNet: by hand, along with the picture, broken files, XML that attacks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from gan_lib.data import Annotation, AnnotationError, read_boxes, read_image, save_boxes
from gan_lib.data.annotations import boxes_of, fit_boxes
from gan_lib.data.reading import picture_size
from gan_lib.metrics import box_scores, evidence_boxes

OBJECT = "<object><name>{}</name><bndbox>{}</bndbox></object>"
CORNERS = "<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax>"
SIZE = "<size><width>20</width><height>10</height><depth>3</depth></size>"


def written(folder, *objects, size=SIZE, before=""):
    made = "".join(OBJECT.format(name, CORNERS.format(*corners)) for name, *corners in objects)
    path = folder / "a.xml"
    path.write_text(f"{before}<annotation><filename>a</filename>{size}{made}</annotation>")
    return path


def test_corners_count_from_one_and_are_inclusive(tmp_path):
    made = read_boxes(written(tmp_path, ("dog", 1, 1, 10, 10), (" n02123159 ", 3, 2, 20, 2)))
    assert made.boxes.tolist() == [[0, 0, 10, 10], [2, 1, 20, 2]]  # 10 x 10 pixels, 18 x 1
    assert made.names == ("dog", "n02123159")
    assert made.size == (10, 20)
    assert read_boxes(written(tmp_path, ("dog", 0, 0, 4, 5))).boxes.tolist() == [[0, 0, 4, 5]]
    bare = read_boxes(written(tmp_path, size=""))
    assert bare.boxes.shape == (0, 4)
    assert bare.size is None
    zeros = "<size><width>0</width><height>0</height></size>"
    assert read_boxes(written(tmp_path, ("dog", 5, 5, 900, 900), size=zeros)).size is None


def test_writing_and_reading(tmp_path):
    one = Annotation(torch.tensor([[0.0, 0, 10, 10], [2, 1, 20, 2]]), ("dog & cat", ""), (10, 20))
    save_boxes(tmp_path / "deep/a.xml", one, "a.png")
    again = read_boxes(tmp_path / "deep/a.xml")
    assert torch.equal(again.boxes, one.boxes)
    assert (again.names, again.size) == (one.names, one.size)
    text = (tmp_path / "deep/a.xml").read_text()
    assert "<filename>a.png</filename>" in text
    assert "<xmin>3</xmin>" in text
    assert "<ymax>2</ymax>" in text
    with pytest.raises(ValueError, match="whole pixels"):
        save_boxes(tmp_path / "b.xml", Annotation(torch.tensor([[0, 0, 1.5, 2]]), ("a",), (10, 20)))
    with pytest.raises(ValueError, match="how large"):
        save_boxes(tmp_path / "b.xml", Annotation(one.boxes, one.names))
    assert not (tmp_path / "b.xml").exists()


def test_boxes_along_with_the_picture():
    """Of 20 x 10 (width x height) the middle 10 x 10 is seen, from column 5 on; at twice the size."""
    boxes = torch.tensor([[5.0, 0, 15, 10], [7, 2, 9, 3], [0, 0, 6, 4], [0, 0, 5, 10], [16, 0, 20, 10]])
    made = fit_boxes(boxes, (10, 20), (20, 20))
    assert made[:3].tolist() == [[0, 0, 20, 20], [4, 4, 8, 6], [0, 0, 2, 8]]
    assert made[3:].isnan().all()  # cropped away, one ends where the crop begins
    # 10 x 40 at 20 x 20: rows 15 to 25 of a high picture.
    assert fit_boxes(torch.tensor([[1.0, 15, 3, 20]]), (40, 10), (20, 20)).tolist() == [[2, 0, 6, 10]]
    named = Annotation(boxes[:1], ("dog",), (10, 20))
    assert named.fitted((20, 20)).tolist() == [[0, 0, 20, 20]]
    with pytest.raises(ValueError, match="of a picture of 20x10 pixels, the picture has 40x20"):
        named.fitted((20, 20), picture=(20, 40))
    with pytest.raises(ValueError, match="does not say how large"):
        Annotation(boxes, ("",) * 5).fitted((20, 20))


@pytest.mark.parametrize(
    ("size", "picture"), [((48, 48), (60, 100)), ((40, 60), (90, 64)), ((30, 30), (30, 30))]
)
def test_a_drawn_box_is_where_the_reading_puts_it(tmp_path, size, picture):
    height, width = picture
    box = [width // 3, height // 3, width // 3 + 21, height // 3 + 15]
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    seen = read_image(tmp_path / "a.png", size)[:1] > 127
    (moved,) = fit_boxes(torch.tensor([box], dtype=torch.float32), picture_size(tmp_path / "a.png"), size)
    assert (evidence_boxes(seen[None])[0] - moved).abs().max() <= 1


def test_pictures_that_are_turned_upright(tmp_path):
    exif = Image.Exif()
    for orientation, size in ((1, (10, 20)), (3, (10, 20)), (6, (20, 10)), (8, (20, 10))):
        exif[0x0112] = orientation
        Image.new("RGB", (20, 10)).save(tmp_path / "a.jpg", exif=exif)
        assert picture_size(tmp_path / "a.jpg") == size
    (tmp_path / "b.jpg").write_text("no picture")
    with pytest.raises(ValueError, match=r"b\.jpg"):
        picture_size(tmp_path / "b.jpg")


BROKEN = [
    ("", "it is no XML"),
    ("<annotation><object>", "it is no XML"),
    ('<?xml version="1.0" encoding="klingon"?><annotation/>', "it is no XML"),
    ("<html></html>", "outermost element is <html>, not <annotation>"),
    ("<annotation><object><name>a</name></object></annotation>", "object 1 has no <bndbox>"),
    (f"<annotation>{OBJECT.format('a', '<xmin>1</xmin>')}</annotation>", "<ymin> is '', no number"),
]
OUTSIDE = [
    ((1, 1, "ten", 10), "object 1: <xmax> is 'ten', no number"),
    ((1, 1, "nan", 10), "<xmax> is 'nan', no number of pixels"),
    ((1, 1, "1e99", 10), "no number of pixels"),
    ((5, 1, 4, 10), "ends before it begins: 5, 1, 4, 10"),
    ((1, 5, 4, 4), "ends before it begins"),
    ((1, 1, 21, 10), "outside of its picture of 20x10: 1, 1, 21, 10"),
    ((1, 1, 20, 11), "outside of its picture"),
    ((-1, 1, 20, 10), "outside of its picture"),
]


@pytest.mark.parametrize(("text", "told"), BROKEN)
def test_broken_files(tmp_path, text, told):
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(AnnotationError, match=told) as error:
        read_boxes(tmp_path / "a.xml")
    assert str(tmp_path / "a.xml") in str(error.value)


@pytest.mark.parametrize(("corners", "told"), OUTSIDE)
def test_wrong_corners(tmp_path, corners, told):
    with pytest.raises(AnnotationError, match=told):
        read_boxes(written(tmp_path, ("dog", *corners)))


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(AnnotationError, match="No such file"):
        read_boxes(tmp_path / "nowhere.xml")
    with pytest.raises(AnnotationError, match="Is a directory"):
        read_boxes(tmp_path)


LAUGHS = "<!DOCTYPE a [<!ENTITY b0 'ha'>{}]>".format(
    "".join(f"<!ENTITY b{n + 1} '{f'&b{n};' * 10}'>" for n in range(12))
)
SECRET = '<!DOCTYPE a [<!ENTITY b SYSTEM "file://{}">]>'
OUTER = '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd">'


@pytest.mark.parametrize("before", [LAUGHS, SECRET, OUTER, "<!DOCTYPE annotation>"])
def test_no_entity_is_expanded_and_nothing_else_is_read(tmp_path, before):
    secret = tmp_path / "secret.txt"
    secret.write_text("7")
    inside = ("&b12;" if before is LAUGHS else "&b;", 1, 1, 4, 4)
    path = written(tmp_path, inside, before=before.replace("{}", str(secret)))
    with pytest.raises(AnnotationError, match="document type declaration"):
        read_boxes(path)
    with pytest.raises(AnnotationError, match="it is no XML"):  # an entity that nobody has declared
        read_boxes(written(tmp_path, ("&b;", 1, 1, 4, 4)))
    assert read_boxes(written(tmp_path, ("a &lt; b &#38; c", 1, 1, 4, 4))).names == ("a < b & c",)


def test_annotations_of_pictures(tmp_path):
    for name in ("a.xml", "n01/b.xml", "n01/c.xml", "n02/c.xml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("<annotation/>")
    from pathlib import Path

    wanted = [Path("a.png"), Path("b.jpg"), Path("n02/c.png"), Path("d.png")]
    found = boxes_of(tmp_path, wanted)
    assert found == {
        wanted[0]: tmp_path / "a.xml",
        wanted[1]: tmp_path / "n01/b.xml",
        wanted[2]: tmp_path / "n02/c.xml",
    }
    with pytest.raises(ValueError, match=r"c.png may be annotated by .*n01.c\.xml or .*n02.c\.xml"):
        boxes_of(tmp_path, [Path("c.png")])
    with pytest.raises(FileNotFoundError, match="no folder"):
        boxes_of(tmp_path / "nowhere", wanted)


def test_the_embedded_sets_boxes_as_files(tmp_path, scenes):
    """Boxes around the digits, written and read again, are found by maps that are the digits: an IoU of 1."""
    batch = scenes.test.batch(range(5))
    boxes = evidence_boxes(batch.masks)
    for row, own in enumerate(boxes):
        save_boxes(tmp_path / f"{row}.xml", Annotation(own[None], ("digit",), (32, 32)))
    read = torch.cat([read_boxes(tmp_path / f"{row}.xml").fitted((32, 32)) for row in range(5)])
    assert torch.equal(read, boxes)
    filled = torch.zeros(5, 1, 32, 32)
    for row, (left, top, right, bottom) in enumerate(boxes.int().tolist()):
        filled[row, :, top:bottom, left:right] = 1
    scores = box_scores({("ours", 0): filled}, read, [1.0])
    assert scores["iou"].tolist() == [1.0] * 5
    assert scores["error"].tolist() == [0.0] * 5
