"""A CNN with its weights, and pictures at its size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gan_lib.classifiers import Classifier
from gan_lib.classifiers.forms import IMAGENET_SIZE
from gan_lib.classifiers.loading import load_named
from gan_lib.classifiers.published import is_torchvisions, published
from gan_lib.core.runtime import make_fabric
from gan_lib.core.storage import read_json
from gan_lib.data import read_images as pictures_at
from gan_lib.workbench import Places
from gan_lib.workbench.places import comes_with


def load_cnn(
    name: str,
    weights: str | Path | None = None,
    device: str = "cpu",
    pretrained: Path | None = None,
    *,
    class_names: Sequence[str] | None = None,
    image_size: int | tuple[int, int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    output: str | None = None,
    select: str | int | None = None,
    span: tuple[float, float] | None = None,
) -> Classifier:
    """A CNN with its weights, frozen and in eval mode.

        cnn = gan_lib.load_cnn("resnet50")                                       # torchvision's
        cnn = gan_lib.load_cnn("resnet50", "mine.pth", class_names=["cat", "dog"])
        cnn = gan_lib.load_cnn("nets/own.py:make_net", "mine.pth", class_names=["cat", "dog"])

    Args:
        name: of a shipped CNN, the path of a folder that ``save_classifier`` wrote, torchvision's name, or a
            factory, ``package.module:factory`` or ``path/to/file.py:factory``
            (:mod:`gan_lib.classifiers.factories`).
        weights: in place of its own, a file (safetensors, or what ``torch.save`` wrote of tensors), or
            torchvision's by name; with a factory also the folder that ``save_classifier`` wrote of its CNN.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        pretrained: the folder of shipped networks; by default the project's.
        class_names: two or more, no two the same; by default those of the weights, or numbers. A torchvision
            model gets another head where their number is another.
        image_size: side, or height and width, in pixels; by default that of the weights.
        mean, std: with which its images are normalised, per channel; by default those of the weights.
        output: what its outputs mean, as for :func:`wrap`.
        select, span: which of several outputs is meant, and the values of a regression, as for :func:`wrap`.

    Raises:
        FileNotFoundError: no such CNN, those that are there are listed; or weights that cannot be had, with
            the file to be put where.
        KeyError, ValueError: a factory or weights that cannot be used; it is said why.
    """
    place = make_fabric(device).device
    if (mean is None) != (std is None) or any(own is not None and len(own) != 3 for own in (mean, std)):
        raise ValueError(f"mean and std go together and have three values each, not {mean} and {std}")
    if std is not None and min(std) <= 0:
        raise ValueError(f"std is divided by: its values are above 0, not {std}")
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise ValueError(f"image_size is a side, or height and width, in pixels, not {image_size}")
    given: dict[str, Any] = {"class_names": class_names, "output": output, "select": select, "span": span}
    given |= {key: own and tuple(own) for key, own in (("mean", mean), ("std", std), ("image_size", size))}
    told = {key: own for key, own in given.items() if own is not None}
    cnn = load_named(name, weights, pretrained or shipped(), **told)
    return cnn.requires_grad_(False).eval().to(place)


def image_size(cnn: nn.Module, pretrained: Path | None = None) -> tuple[int, int]:
    """Height and width that a CNN was trained at: its own, those of torchvision's weights, those of the
    explainers that are shipped with it; else ImageNet's 224."""
    if not isinstance(cnn, Classifier):
        return IMAGENET_SIZE
    if cnn.card.image_size is not None:
        return cnn.card.image_size
    if is_torchvisions(cnn.card.architecture):
        return published(cnn.card.architecture).image_size
    about = sorted(((pretrained or shipped()) / cnn.card.architecture).glob("*/explainer.json"))
    sizes = ((own[0], own[1]) for own in (read_json(path)["image_size"] for path in about))
    return next(sizes, IMAGENET_SIZE)


def read_images(images: Any, size: nn.Module | int | tuple[int, int], bits: int | None = None) -> Tensor:
    """Pictures as (N, 3, H, W) in [0, 1], at a size or that of a CNN (:func:`gan_lib.data.read_images`, which
    says what ``bits`` of 16-bit files are)."""
    return pictures_at(images, image_size(size) if isinstance(size, nn.Module) else size, bits)


def shipped() -> Path:
    """Shipped networks: the project's around the working directory, else those that come with the library."""
    beside = comes_with() / "data" / "pretrained"
    try:
        own = Places.find().pretrained
    except FileNotFoundError:
        return beside
    return own if own.is_dir() else beside
