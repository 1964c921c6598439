"""Classifiers on disk: weights as safetensors, the card as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from json import JSONDecodeError
from pathlib import Path
from typing import Any

import torch

from gan_lib.classifiers.factories import is_factory, located
from gan_lib.classifiers.wrap import Classifier, ModelCard
from gan_lib.classifiers.zoo import checked_names, filled, with_weights
from gan_lib.core.checksums import is_there, write_checksums
from gan_lib.core.storage import load_tensors, read_json, save_tensors, write_json

CARD, WEIGHTS = "classifier.json", "classifier.safetensors"
LARGEST = 8192  # pixels of a side


def save_classifier(classifier: Classifier, folder: Path, number_format: torch.dtype | None = None) -> None:
    """Write weights (safetensors), in another number format if one is given, and card (JSON) to a folder."""
    weights = classifier.state_dict()
    if number_format is not None:
        weights = {
            name: own.to(number_format) if own.is_floating_point() else own for name, own in weights.items()
        }
    save_tensors(folder / WEIGHTS, weights)
    write_json(folder / CARD, asdict(classifier.card))
    write_checksums(folder, [WEIGHTS, CARD])


def load_classifier(
    folder: Path, weights: str | Path | None = None, architecture: str | None = None, **about: Any
) -> Classifier:
    """Read a classifier written by :func:`save_classifier`, in eval mode.

    Args:
        folder: holds ``classifier.json``, and as a rule ``classifier.safetensors``.
        weights: in place of the latter, a file or the name of torchvision weights. A folder without weights
            may name torchvision's in ``weights.json``.
        architecture: the factory, where a factory made the CNN, as the caller knows it: code is not run
            because a file names it. Of any other CNN, what it must be.
        about: fields of the card in place of the folder's.

    Raises:
        FileNotFoundError: no classifier there, or no weights that can be had.
        ValueError: a factory that the caller has not named, another architecture, weights that do not fit, no
            card.
    """
    folder = Path(folder)
    if not is_there(folder / CARD):
        raise FileNotFoundError(f"no classifier at {folder}")
    card = read_card(folder, architecture, **about)
    if weights is None and is_there(folder / "weights.json"):
        weights = read_json(folder / "weights.json")
    if weights is not None:
        return with_weights(card, weights).eval()
    own = folder / WEIGHTS
    if not is_there(own):
        told = f"give a file of them, or put it there as {own}"
        raise FileNotFoundError(f"{folder.name} comes without its weights: {told}")
    return filled(card, {"": load_tensors(own)}, own).eval()


def _check(known: Mapping[str, Any]) -> None:
    """Whether a card's fields are of the kinds that they should be; ``TypeError`` where one is not."""
    names = known["class_names"]
    is_one = {
        "architecture": isinstance(known["architecture"], str),
        "class_names": isinstance(names, tuple) and all(isinstance(name, str) for name in names),
        "head": isinstance(known["head"], str),
        "mean": _numbers(known["mean"], 3, -math.inf),
        "std": _numbers(known["std"], 3, 0),
        "select": isinstance(known["select"], str | int | None),
        "span": known["span"] is None or _numbers(known["span"], 2, -math.inf),
        "output": isinstance(known["output"], str),
        **{
            name: known[name] is None or (_numbers(known[name], 2, 0, LARGEST) and _are_whole(known[name]))
            for name in ("image_size", "input_size")
        },
    }
    if wrong := [name for name, is_right in is_one.items() if not is_right]:
        raise TypeError(f"{wrong[0]} is {str(known[wrong[0]])[:80]}")


def _numbers(value: Any, count: int, above: float, most: float = 1e9) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == count
        and all(isinstance(own, int | float) and above < own <= most for own in value)
    )


def _are_whole(value: tuple[Any, ...]) -> bool:
    return all(isinstance(own, int) for own in value)


def read_card(folder: Path, architecture: str | None = None, **about: Any) -> ModelCard:
    """What a folder's ``classifier.json`` says of its CNN, which needs no weights.

    Args:
        architecture: the factory, where a factory made the CNN: a card does not choose what code is run.
        about: fields in place of the card's.

    Raises:
        FileNotFoundError: no card there.
        ValueError: no card, another architecture, or a factory that the caller has not named.
    """
    path = folder / CARD
    try:
        known = {name: tuple(v) if isinstance(v, list) else v for name, v in read_json(path).items()}
        _check({**asdict(ModelCard("", ())), **known})
        card = ModelCard(**known | dict(about))
        named = str(card.architecture)
    except (TypeError, AttributeError, JSONDecodeError) as error:
        raise ValueError(f"{path} is not what save_classifier writes: {error}") from None
    if "class_names" in about:
        checked_names(card.class_names, named, card.output)
    if architecture is None:
        if is_factory(named):
            raise ValueError(
                f"{path} names its own factory {named}: code is not run because a file names it. "
                f"If you trust it, load_classifier({str(folder)!r}, architecture={named!r}), or "
                f"load_cnn({named!r}, weights={str(folder)!r})"
            )
        return card
    given = located(architecture)
    if is_factory(given) != is_factory(named) or (given != named and not is_factory(given)):
        raise ValueError(f"{path} is of a {named}, not of a {given}")
    return replace(card, architecture=given)
