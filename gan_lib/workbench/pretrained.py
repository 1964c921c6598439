"""Explainers to be shipped: ``FOLDER/ARCHITECTURE/METHOD``, beside the CNN that they explain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gan_lib.classifiers import Classifier, make_classifier, save_classifier
from gan_lib.core.storage import write_json
from gan_lib.explainers import GeneratorExplainer


def ship(
    cnn: Classifier,
    explainers: Mapping[str, GeneratorExplainer],
    folder: Path,
    trained_on: Mapping[str, Any],
    torchvision_weights: str | None = None,
) -> Path:
    """Write a CNN and its explainers where ``gan-lib explain`` looks for them.

    Args:
        cnn: the CNN that they were trained on.
        explainers: by method.
        folder: receives ``ARCHITECTURE/METHOD``.
        trained_on: what is worth knowing about the training, as JSON values.
        torchvision_weights: name of torchvision's weights, for an ImageNet CNN that a user downloads
            instead of getting it from here; its classes get torchvision's names.

    Returns:
        The CNN's folder.
    """
    home = folder / cnn.card.architecture
    if torchvision_weights is None:
        save_classifier(cnn, home)
        (home / "weights.json").unlink(missing_ok=True)
    else:
        names = make_classifier(cnn.card.architecture).class_names
        save_classifier(Classifier(cnn.backbone, replace(cnn.card, class_names=names)), home)
        (home / "classifier.safetensors").unlink()
        write_json(home / "weights.json", torchvision_weights)
    for method, explainer in explainers.items():
        explainer.save(home / method, trained_on)
    return home
