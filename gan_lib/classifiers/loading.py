"""A CNN with its weights by what a user calls it: a saved one, a factory's, torchvision's."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gan_lib.classifiers.factories import is_factory
from gan_lib.classifiers.files import CARD, WEIGHTS, load_classifier, read_card
from gan_lib.classifiers.published import is_torchvisions, published
from gan_lib.classifiers.wrap import IMAGENET_MEAN, IMAGENET_STD, Classifier
from gan_lib.classifiers.zoo import classifier_names, make_classifier, settled

KINDS = (
    "Torchvision's names, the folder of a saved CNN, path/to/file.py:factory and gan_lib.wrap(model, ...) "
    "will do as well"
)


def load_named(
    name: str,
    weights: str | Path | None,
    home: Path,
    class_names: Sequence[str] | None = None,
    **about: Any,
) -> Classifier:
    """A CNN by name, with its weights, in eval mode; arguments as for :func:`gan_lib.load_cnn`.

    Args:
        home: the folder of shipped CNNs.
        about: fields of its card in place of the usual ones.

    Raises:
        FileNotFoundError: no such CNN, those that are there are listed; or weights that cannot be had.
        KeyError, ValueError: a factory or weights that cannot be used; it is said why.
    """
    cnn = _loaded(name, weights, home, class_names, **about)
    if {"output", "select"} & about.keys():
        cnn.card = settled(cnn, about.get("output"))
    return cnn


def _loaded(
    name: str, weights: str | Path | None, home: Path, class_names: Sequence[str] | None, **about: Any
) -> Classifier:
    named: dict[str, Any] = {} if class_names is None else {"class_names": class_names}
    saved = next((own for own in (home / name, Path(name)) if (own / CARD).is_file()), None)
    if saved is not None:
        brought = weights is not None and not any(
            (saved / own).is_file() for own in (WEIGHTS, "weights.json")
        )
        if brought and class_names is None:
            first = ", ".join(read_card(saved).class_names[:3])
            told = f"{name}: its classes are taken to be {first}, ...; of others give class_names="
            warnings.warn(told, stacklevel=3)
        return _sized(load_classifier(saved, weights, **named, **about), weights)
    if is_factory(name):
        if weights is not None and (Path(weights) / CARD).is_file():
            return load_classifier(Path(weights), architecture=name, **named, **about)
        cnn = make_classifier(name, class_names, weights, **about).eval()
        if "mean" not in about:
            warnings.warn(
                f"{name}: its images are normalised with ImageNet's mean {IMAGENET_MEAN} and deviation "
                f"{IMAGENET_STD}; if it was trained with others, give mean= and std=",
                stacklevel=3,
            )
        return cnn
    if weights is None and not is_torchvisions(name):
        shipped = sorted(path.parent.name for path in home.glob(f"*/{CARD}"))
        told = _why_not(name, shipped)
        raise FileNotFoundError(
            f"no weights for {name!r}: {told}. In {home}: {', '.join(shipped) or 'nothing'}. {KINDS}"
        )
    return _sized(make_classifier(name, class_names, weights or "DEFAULT", **about).eval(), weights)


def _why_not(name: str, shipped: Sequence[str]) -> str:
    path = Path(name)
    if name in classifier_names():
        return "CNNs of that name are trained here: give weights= and class_names="
    if path.suffix == ".py":
        return f"say which of its functions makes the CNN, {name}:factory"
    if path.is_file():
        return f"it is a file: give it as weights= of a CNN, load_cnn('resnet50', {name!r})"
    if path.is_dir():
        return f"the folder holds no {CARD}"
    near = difflib.get_close_matches(name, [*shipped, *classifier_names()], n=3)
    return f"unknown CNN; did you mean {', '.join(near)}?" if near else "unknown CNN"


def _sized(cnn: Classifier, weights: str | Path | None) -> Classifier:
    """With the size of images that torchvision's weights were trained at, where the card names none."""
    if cnn.card.image_size is None and is_torchvisions(cnn.card.architecture):
        size = published(cnn.card.architecture, weights).image_size
        cnn.card = replace(cnn.card, image_size=size)
    return cnn
