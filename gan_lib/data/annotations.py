"""Boxes around objects, as Pascal VOC and ImageNet annotate them: an XML file per picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree
from xml.parsers import expat

import torch
from torch import Tensor

from gan_lib.core.storage import atomic_path

LARGEST = 64 * 2**20  # bytes of a file; the largest of Pascal VOC have some thousand
CORNERS = ("xmin", "ymin", "xmax", "ymax")


class AnnotationError(ValueError):
    """A file of boxes that cannot be read: which, and why."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"cannot read {path} as boxes: {reason}")


@dataclass(frozen=True)
class Annotation:
    """The objects of one picture.

    Attributes:
        boxes: (N, 4) left, top, right, bottom in pixels of the picture; right and bottom exclusive.
        names: N, as the file has them: ImageNet's are ``n02108422``, Pascal's ``dog``.
        size: height and width of the annotated picture; ``None`` where the file does not say.
    """

    boxes: Tensor
    names: tuple[str, ...]
    size: tuple[int, int] | None = None

    def fitted(self, size: tuple[int, int], picture: tuple[int, int] | None = None) -> Tensor:
        """Boxes (N, 4) after the picture was cropped and resized as :func:`gan_lib.data.read_image` does it.

            annotation.fitted((224, 224), picture=(375, 500))

        Args:
            size: height and width that the picture was read at.
            picture: height and width of its file, upright; by default as annotated.

        Returns:
            Within the cropped picture; NaN for an object that is cropped away.

        Raises:
            ValueError: neither file nor caller say how large the picture is, or they say different things.
        """
        known = picture or self.size
        if known is None:
            raise ValueError("the annotation does not say how large its picture is")
        if self.size not in (None, known):
            theirs, ours = ("x".join(map(str, own[::-1])) for own in (self.size or known, known))
            raise ValueError(f"the annotation is of a picture of {theirs} pixels, the picture has {ours}")
        return fit_boxes(self.boxes, known, size)


def read_boxes(path: str | Path) -> Annotation:
    """The objects of a Pascal VOC or ImageNet annotation.

        annotation = read_boxes("Annotation/n02108422/n02108422_1.xml")
        annotation.boxes  # (N, 4)

    Corners in files count from 1 and are inclusive: 1, 1, 10, 10 are the first ten pixels of ten rows, here
    0, 0, 10, 10; a box that begins at 0, as some tools write it, begins at the border. No entity is ever
    expanded and nothing outside is read: a file with a document type declaration, which alone can declare
    entities, is refused.

    Raises:
        AnnotationError: no such file, one that is no XML or no annotation, a corner that is missing or no
            number, a box without a pixel or outside of its picture. The message names file and object.
    """
    root = _parsed(Path(path))
    if root.tag != "annotation":
        raise AnnotationError(path, f"its outermost element is <{root.tag}>, not <annotation>")
    size = _size(path, root.find("size"))
    found = root.findall("object")
    boxes = [_box(path, f"object {number}", own, size) for number, own in enumerate(found, 1)]
    names = tuple((own.findtext("name") or "").strip() for own in found)
    return Annotation(torch.tensor(boxes, dtype=torch.float32).view(-1, 4), names, size)


def save_boxes(path: Path, annotation: Annotation, picture: str = "") -> None:
    """Write an annotation as :func:`read_boxes` reads it; ``picture`` is the name of its file.

    Raises:
        ValueError: boxes that are not of whole pixels, or without a size.
    """
    if annotation.size is None:
        raise ValueError("an annotation to be written must say how large its picture is")
    if not torch.equal(annotation.boxes, annotation.boxes.round()):  # NaN too
        raise ValueError("boxes to be written must be of whole pixels")
    root = ElementTree.Element("annotation")
    _child(root, "filename", picture)
    size = _child(root, "size")
    for name, length in zip(("width", "height", "depth"), (*annotation.size[::-1], 3), strict=True):
        _child(size, name, length)
    for name, (left, top, right, bottom) in zip(annotation.names, annotation.boxes.tolist(), strict=True):
        own = _child(root, "object")
        _child(own, "name", name)
        box = _child(own, "bndbox")
        for corner, value in zip(CORNERS, (left + 1, top + 1, right, bottom), strict=True):
            _child(box, corner, int(value))
    ElementTree.indent(root)
    with atomic_path(path) as temporary:
        ElementTree.ElementTree(root).write(temporary, encoding="utf-8", xml_declaration=True)


def fit_boxes(boxes: Tensor, picture: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Boxes (N, 4) of a picture that is cropped about its centre to the aspect of a size, and resized to it.

    ``picture`` and ``size`` are height and width. What the crop cuts off is cut off; NaN where nothing is
    left.
    """
    scale = max(size[0] / picture[0], size[1] / picture[1])
    height, width = size
    offset = boxes.new_tensor([(picture[1] * scale - width) / 2, (picture[0] * scale - height) / 2])
    moved = boxes * scale - offset.repeat(2)  # (N, 4)
    inside = torch.minimum(moved.clamp(min=0), boxes.new_tensor([width, height, width, height]))
    is_left = (inside[:, 2:] > inside[:, :2]).all(1, keepdim=True)
    return inside.where(is_left, torch.nan)


def _parsed(path: Path) -> ElementTree.Element:
    """The outermost element of a file, read by a parser that stops at a document type declaration."""
    builder, parser = ElementTree.TreeBuilder(), expat.ParserCreate()

    def refuse(*_: object) -> NoReturn:
        raise AnnotationError(path, "it has a document type declaration, which annotations do without")

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = lambda tag, attributes: builder.start(tag, attributes)
    parser.EndElementHandler = lambda tag: builder.end(tag)
    parser.CharacterDataHandler = lambda text: builder.data(text)
    try:
        if path.stat().st_size > LARGEST:
            raise AnnotationError(path, f"it has more than {LARGEST >> 20} MiB")
        parser.Parse(path.read_bytes(), True)
    except OSError as error:
        raise AnnotationError(path, error.strerror or str(error)) from error
    except (expat.ExpatError, LookupError, ValueError) as error:  # an unknown encoding among them
        if isinstance(error, AnnotationError):
            raise
        raise AnnotationError(path, f"it is no XML ({error})") from error
    return builder.close()


def _size(path: str | Path, given: ElementTree.Element | None) -> tuple[int, int] | None:
    """Height and width; of none, or of zeros, as some files have them, ``None``."""
    if given is None:
        return None
    width, height = (_number(path, "size", given, name) for name in ("width", "height"))
    return (int(height), int(width)) if height > 0 and width > 0 else None


def _box(
    path: str | Path, where: str, given: ElementTree.Element, size: tuple[int, int] | None
) -> list[float]:
    box = given.find("bndbox")
    if box is None:
        raise AnnotationError(path, f"{where} has no <bndbox>")
    left, top, right, bottom = (_number(path, where, box, name) for name in CORNERS)
    if right < left or bottom < top:
        raise AnnotationError(
            path, f"{where} ends before it begins: {left:g}, {top:g}, {right:g}, {bottom:g}"
        )
    height, width = size or (bottom, right)
    if left < 0 or top < 0 or right > width or bottom > height:
        told = f"{left:g}, {top:g}, {right:g}, {bottom:g}"
        raise AnnotationError(path, f"{where} lies outside of its picture of {width:g}x{height:g}: {told}")
    return [max(left, 1) - 1, max(top, 1) - 1, right, bottom]  # some tools count from 0


def _number(path: str | Path, where: str, given: ElementTree.Element, name: str) -> float:
    text = (given.findtext(name) or "").strip()
    try:
        value = float(text)
    except ValueError:
        raise AnnotationError(path, f"{where}: <{name}> is {text!r}, no number") from None
    if not abs(value) < 2**24:  # NaN and infinite ones too
        raise AnnotationError(path, f"{where}: <{name}> is {text!r}, no number of pixels")
    return value


def _child(parent: ElementTree.Element, tag: str, text: object = None) -> ElementTree.Element:
    made = ElementTree.SubElement(parent, tag)
    made.text = None if text is None else str(text)
    return made


def boxes_of(folder: Path, names: Sequence[Path]) -> dict[Path, Path]:
    """Annotations of pictures, by the pictures' names: ``a/b.jpg`` has ``a/b.xml``, or ``b.xml`` anywhere.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: several files that may be meant.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder")
    by_stem: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*.xml")):
        by_stem.setdefault(path.stem, []).append(path)
    found = {}
    for name in names:
        own, others = folder / name.with_suffix(".xml"), by_stem.get(name.stem, [])
        if not own.is_file() and len(others) > 1:
            raise ValueError(f"{name} may be annotated by {others[0]} or {others[1]}")
        if own.is_file() or others:
            found[name] = own if own.is_file() else others[0]
    return found
