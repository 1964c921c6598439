"""Trained explainers on disk: kept for later notebooks of a profile, and those that are shipped."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gan_lib.classifiers import Classifier, make_classifier, save_classifier
from gan_lib.core.storage import read_json, write_json
from gan_lib.explainers import GeneratorExplainer

Explainers = dict[int, GeneratorExplainer]


def keep_explainers(
    data_dir: Path,
    profile: str,
    cnn: Classifier,
    explainers: Mapping[tuple[str, int], GeneratorExplainer],
    about: Mapping[str, Any],
) -> None:
    """Keep explainers, by method and seed, with what they were trained on.

    They replace what an earlier run of the profile left for these methods.
    """
    home = _home(data_dir, profile, cnn)
    for method in {method for method, _ in explainers}:
        shutil.rmtree(home / method, ignore_errors=True)
    for (method, seed), explainer in explainers.items():
        explainer.save(home / method / str(seed), about)


def kept_explainers(
    data_dir: Path, profile: str, cnn: Classifier, method: str, data: str
) -> tuple[Explainers, str]:
    """A method's explainers by seed, as an earlier notebook kept them; else the shipped one, seed 0.

    Args:
        data_dir: the project's data.
        profile: under which they were kept.
        cnn: that they shall explain; those of another one are left out.
        method: for instance ``contrastive_lsft``.
        data: fingerprint of the images that they must have been trained on.

    Returns:
        The explainers, none where there are none that fit, and in words where they come from.
    """
    folder_name = method.replace("_", "-")
    paths = sorted((_home(data_dir, profile, cnn) / folder_name).glob("*/explainer.json"))
    paths = [path for path in paths if read_json(path)["trained_on"].get("data") == data]
    kept = {int(path.parent.name): _fitting(path.parent, cnn) for path in paths}
    found = {seed: explainer for seed, explainer in kept.items() if explainer is not None}
    if found:
        return found, f"trained by this profile, seeds {', '.join(map(str, found))}"
    shipped = _fitting(data_dir / "pretrained" / cnn.card.architecture / folder_name, cnn)
    return ({0: shipped}, "shipped") if shipped is not None else ({}, "not there for this CNN")


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


def _home(data_dir: Path, profile: str, cnn: Classifier) -> Path:
    return data_dir / "artifacts" / "explainers" / profile / cnn.card.architecture


def _fitting(folder: Path, cnn: Classifier) -> GeneratorExplainer | None:
    """The explainer in a folder, if there is one that fits the CNN."""
    try:
        return GeneratorExplainer.from_pretrained(folder, cnn)
    except (FileNotFoundError, ValueError):
        return None
