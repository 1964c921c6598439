"""Classifiers on disk: weights as safetensors, the card as JSON."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from gan_lib.classifiers.wrap import Classifier, ModelCard
from gan_lib.classifiers.zoo import filled, with_weights
from gan_lib.core.storage import load_tensors, read_json, save_tensors, write_json


def save_classifier(classifier: Classifier, folder: Path, number_format: torch.dtype | None = None) -> None:
    """Write weights (safetensors), in another number format if one is given, and card (JSON) to a folder."""
    weights = classifier.state_dict()
    if number_format is not None:
        weights = {
            name: own.to(number_format) if own.is_floating_point() else own for name, own in weights.items()
        }
    save_tensors(folder / "classifier.safetensors", weights)
    write_json(folder / "classifier.json", asdict(classifier.card))


def load_classifier(folder: Path, weights: str | Path | None = None) -> Classifier:
    """Read a classifier written by :func:`save_classifier`, in eval mode.

    Args:
        folder: holds ``classifier.json``, and as a rule ``classifier.safetensors``; without them, and without
            weights that can be had, ``FileNotFoundError`` is raised.
        weights: in place of the latter, a safetensors file or the name of torchvision weights. A
            folder without weights may name torchvision's in ``weights.json``.
    """
    if not (folder / "classifier.json").is_file():
        raise FileNotFoundError(f"no classifier at {folder}")
    fields = read_json(folder / "classifier.json")
    known: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
    card = ModelCard(**known)
    if weights is None and (folder / "weights.json").is_file():
        weights = read_json(folder / "weights.json")
    if weights is not None:
        return with_weights(card, weights).eval()
    return filled(card, load_tensors(folder / "classifier.safetensors")).eval()
