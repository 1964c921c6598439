"""What explains a CNN, by name: maps, what they are worth, training one's own."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from gan_lib.api.cnns import image_size, read_images, shipped
from gan_lib.classifiers import Classifier, lent_weights
from gan_lib.classifiers.factories import folder_name
from gan_lib.core.capture import evaluation_mode
from gan_lib.core.inputs import as_input
from gan_lib.core.leftovers import OURS, temporary_folder
from gan_lib.core.targets import Target, resolve_target
from gan_lib.data import ImageSplit
from gan_lib.data.values import check_range
from gan_lib.explainers import METHODS, ContrastiveExplainer, Explainer, UniversalExplainer, make_explainer
from gan_lib.explainers.gan import universal_home
from gan_lib.metrics import headings, judge, sanity_checks, stated, summarise
from gan_lib.workbench import Places, Profile, Recipe
from gan_lib.workbench.explain import resolve_class
from gan_lib.workbench.jobs import train_by_contrast

COMPARED = ("drop_black@10", "drop_blur@10")  # drops at 10 % of the image: maps that show all have none


def explainer(method: str, cnn: nn.Module, pretrained: Path | None = None, **options: Any) -> Explainer:
    """A method by name (:data:`gan_lib.METHODS`), with its options; what is trained is shipped.

    Raises:
        KeyError: an unknown method, with near misses, or one not trained for this CNN, with those that are.
        ValueError: one that was trained on other weights.
    """
    return explainer_at(method, cnn, image_size(cnn, pretrained), pretrained, **options)


def explainer_at(
    method: str, cnn: nn.Module, size: tuple[int, int], pretrained: Path | None = None, **options: Any
) -> Explainer:
    """The same, for images of a height and width.

    Raises:
        KeyError, ValueError: as :func:`explainer`.
    """
    networks, own = pretrained or shipped(), METHODS[method]
    home = networks / (folder_name(cnn.card.architecture) if isinstance(cnn, Classifier) else "-")
    if own.travels:
        home = universal_home(networks, size)
    there = sorted(path.parent.name for path in home.glob("*/explainer.json"))
    if own.kind == "trained" and METHODS.name(method).replace("_", "-") not in there:
        trains = "gan.training.train_universal" if own.travels else "train_explainer"
        told = f"trained for it are {', '.join(there)}" if there else f"gan_lib.{trains} trains one"
        raise KeyError(f"no {method} is trained for this CNN; {told}")
    return make_explainer(method, cnn, pretrained=home, **options)


def explain(
    cnn: nn.Module,
    images: Any,
    target: Target = None,
    method: str | Explainer | Sequence[str | Explainer] | None = None,
    **options: Any,
) -> Any:
    """Why a CNN predicts what it predicts: maps of images, with all that belongs to them.

        found = gan_lib.explain(cnn, "photos/*.png")
        found.maps, found.titles, found.probabilities
        found.show(); found.save("out"); found.scores()

    Args:
        cnn: what :func:`wrap` or :func:`load_cnn` gave, or any module from images in [0, 1] to logits.
        images: files, folders, patterns, PIL images, arrays, tensors, or several (:func:`read_images`),
            brought to the size that the CNN takes.
        target: the predicted classes by default; one class, by number or name, or one per image.
        method: one of :data:`gan_lib.METHODS`, with its options, or an explainer. By default the shipped
            universal LSFT, which explains any CNN; where its evidence cannot be had, Grad-CAM.

    Returns:
        A :class:`gan_lib.Explanation`; of several methods a dict of them by name.

    Raises:
        KeyError, ValueError, FileNotFoundError, TypeError: as :func:`read_images`, :func:`explainer` and
        :meth:`gan_lib.Explainer.explain`.
    """
    is_batch = isinstance(images, Tensor) and images.ndim == 4 and not isinstance(cnn, Classifier)
    pictures = read_images(images, (images.shape[2], images.shape[3]) if is_batch else cnn)
    asked = _class_numbers(cnn, target)
    if isinstance(method, Sequence) and not isinstance(method, str):
        return {own.name: own.explain(pictures, asked) for own in made(method, cnn, **options)}
    size = (pictures.shape[-2], pictures.shape[-1])
    (one,) = [usual(cnn, size, **options)] if method is None else made([method], cnn, **options)
    return one.explain(pictures, asked)


def made(methods: Sequence[str | Explainer], cnn: nn.Module, **options: Any) -> list[Explainer]:
    """Explainers of a CNN, of names and of explainers.

    Raises:
        ValueError: none, two of one name, or one of another CNN, whose maps would be taken for this one's.
    """
    every = [explainer(own, cnn, **options) if isinstance(own, str) else own for own in methods]
    names = [own.name for own in every]
    if len(set(names)) < len(names) or not names:
        raise ValueError(f"methods need different names, and at least one, not {names}")
    if others := [own.name for own in every if own.cnn is not cnn]:
        raise ValueError(f"{others[0]} explains another CNN than the one given: make it with this one")
    return every


def usual(cnn: nn.Module, size: tuple[int, int], **options: Any) -> Explainer:
    """The shipped generator for any CNN, else Grad-CAM."""
    try:
        made = explainer_at("universal_lsft", cnn, size, **options)
        return made.prepare(size) if isinstance(made, UniversalExplainer) else made
    except (KeyError, ValueError, FileNotFoundError):
        return explainer("grad_cam", cnn, **options)


def _class_numbers(cnn: Any, target: Any) -> Any:
    """Classes by number, of numbers and names."""
    if isinstance(target, str):
        names = getattr(cnn, "class_names", None)
        if names is None:
            raise ValueError(
                f"this CNN has no class names, so no {target!r}: give a number, or gan_lib.wrap it"
            )
        return resolve_class(cnn, target)
    if isinstance(target, np.ndarray | pd.Series):
        target = target.tolist()
    if isinstance(target, Sequence):
        return [_class_numbers(cnn, own) if isinstance(own, str) else operator.index(own) for own in target]
    return target


def compare(
    cnn: nn.Module,
    images: Tensor,
    methods: Sequence[str | Explainer],
    targets: Target = None,
    evidence: Tensor | None = None,
) -> pd.DataFrame:
    """What several methods' maps are worth: one row each, means over the images with 95 % intervals.

    The table is to be read; :func:`gan_lib.judge` gives the scores image by image.

    Args:
        methods: names, or explainers.
        evidence: (N, 1, H, W) bool, where the evidence is known to be.

    Raises:
        KeyError, ValueError: as :func:`explainer` and :func:`gan_lib.judge`; a name that appears twice.
    """
    named = {(own.name, 0): own for own in made(methods, cnn)}
    check_range(images, "images")
    classes = resolve_target(_logits(cnn, images), _class_numbers(cnn, targets))
    maps = {key: own.attribute(images, classes, batch_size=64) for key, own in named.items()}
    given: Any = {"evidence": evidence, "explain": {key: own.attribute for key, own in named.items()}}
    given |= {"areas": [0.1], "steps": 10, "road": (0.3, 0.7), "first": {"adcc": 60, "sensitivity": 0}}
    results = summarise(judge(cnn, images, maps, classes, **given).scores)
    shown = headings(results["measure"].unique(), COMPARED)
    return stated(results, {name: heading.replace("\n", " ") for name, (heading, _) in shown.items()})


def train_explainer(
    cnn: Classifier, images: ImageSplit | Tensor, recipe: str | Recipe = "cpu", folder: Path | None = None
) -> ContrastiveExplainer:
    """Train a generator that explains a CNN, by contrast: labels, masks and Grad-CAMs are not looked at.

    Args:
        cnn: what is explained; it stays as it is.
        images: (N, 3, H, W) in [0, 1] at its size, or a split; at most ``gan.images`` of them are drawn.
        recipe: the name of a profile, the path of its file, or a recipe; ``"cpu"`` are the defaults.
        folder: where a checkpoint is kept, from which a later call goes on.

    Raises:
        ProfileError: no such profile, or one that does not fit.
        ValueError: fewer images than are held out.
    """
    if isinstance(recipe, str):
        recipe = Recipe() if recipe == "cpu" else Profile.load(recipe, Places.find().profiles).recipe
    with temporary_folder(OURS) as temporary:
        return train_by_contrast(cnn, ImageSplit.of(images), recipe, folder or temporary)


def sanity(explainer: Explainer, images: Tensor, targets: Target = None, stages: int = 4) -> pd.DataFrame:
    """Does the map change when what it explains changes? (Adebayo et al. 2018, Sixt et al. 2020)

    The explainer's CNN gets other weights during the check, its layers drawn anew in ``stages`` from the last
    to the first, and its own back. ``images`` are (N, 3, H, W) in [0, 1].

    Returns:
        One row per ``check`` (``randomised``, with the ``share`` of the layers, and ``another class``): rank
        correlation and SSIM with the first maps, 95 % intervals, number of images. Near 1 is not passed.

    Raises:
        ValueError: no image, no stage, or a CNN of one class.
    """
    cnn = explainer.cnn
    logits = _logits(cnn, images)
    classes = resolve_target(logits, targets)

    def explain(net: nn.Module, pictures: Tensor, target: Tensor) -> Tensor:
        with lent_weights(net, cnn):
            return explainer.attribute(pictures, target, batch_size=64)

    methods: Any = {explainer.name: explain}
    checks = sanity_checks(methods, cnn, images, classes, stages, logits.shape[1])
    named = zip(checks, ("randomised", "another class"), strict=True)
    table = pd.concat([own.assign(check=check) for own, check in named], ignore_index=True)
    return table[["method", "check", *table.columns.difference(["method", "check"], sort=False)]]


def _logits(cnn: nn.Module, images: Tensor) -> Tensor:
    with evaluation_mode(cnn), torch.no_grad():
        return torch.cat([cnn(as_input(cnn, part)).float() for part in images.split(64)])
