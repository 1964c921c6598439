"""Pictures that are asked for one class and for another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gan_lib.core.capture import evaluation_mode
from gan_lib.data import read_images
from gan_lib.workbench.explain import resolve_class
from gan_lib.workbench.named import asked_files
from gan_lib.workbench.samples import Sample
from gan_lib.workbench.subject import Subject


def asked_pictures(subject: Subject, sample: Sample) -> tuple[Tensor, Tensor, list[str]]:
    """The recipe's own pictures and classes; where it names none, the sample's, two classes each.

        pictures, classes, titles = asked_pictures(subject, sample[:3])
        maps = explainer.attribute(pictures, target=classes)

    Those of the sample are asked for the two classes that the CNN holds to be the most probable: what does
    an explainer show of a class that is not there? What a recipe asks for twice, the same picture in two
    files among it, comes once; questions about one picture follow each other.

    Returns:
        Pictures (N, 3, H, W) in [0, 1], the class (N,) that each is asked for, and both in words.

    Raises:
        FileNotFoundError: a picture that is neither beside the profile nor in ``data/``.
        KeyError: a class that the CNN does not have; near misses are listed.
    """
    if files := asked_files(subject.recipe, subject.places):
        pictures = read_images(files, subject.image_size)
        classes = torch.tensor([resolve_class(subject.cnn, name) for _, name in subject.recipe.asked])
        rows = each_question_once(pictures, classes.tolist())
        pictures, classes = pictures[rows].to(subject.device), classes[rows]
        shown = [files[row].stem for row in rows]
    else:
        with evaluation_mode(subject.cnn), torch.no_grad():
            classes = subject.cnn(sample.images).topk(2).indices.flatten()  # (2 N,)
        pictures = sample.images.repeat_interleave(2, 0)  # (2 N, 3, H, W)
        shown = [f"test image {row}" for row in sample.rows.repeat_interleave(2).tolist()]
    names = [subject.names[number] for number in classes.tolist()]
    titles = [f"{own}, asked: {name}" for own, name in zip(shown, names, strict=True)]
    return pictures, classes.to(subject.device), titles


def each_question_once(pictures: Tensor, classes: Sequence[int]) -> list[int]:
    """Which of pictures (N, 3, H, W) and classes to keep: none twice, those of one picture together."""
    questions: dict[bytes, dict[int, int]] = {}  # rows by class and picture, in the order in which they came
    for row, label in enumerate(classes):
        questions.setdefault(pictures[row].cpu().numpy().tobytes(), {}).setdefault(label, row)
    return [row for own in questions.values() for row in own.values()]
