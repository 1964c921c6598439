"""A CNN with its normalisation inside, so that every caller works in pixel space."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from gan_lib.storage import load_tensors, read_json, save_tensors, write_json

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Recipe:
    """All that is needed to build a classifier again, apart from its weights.

    Attributes:
        architecture: name for :func:`gan_lib.classifiers.make_classifier`.
        class_names: one name per logit.
        head: ``linear`` or ``published``.
        mean, std: normalisation per channel, for images in [0, 1].
    """

    architecture: str
    class_names: tuple[str, ...]
    head: str = "linear"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


class Classifier(nn.Module):
    """A CNN that takes images in [0, 1] and returns logits.

    Args:
        backbone: module from normalised images (B, 3, H, W) to logits (B, K).
        recipe: how it was made; its ``mean`` and ``std`` are applied before the backbone.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, recipe: Recipe) -> None:
        super().__init__()
        self.backbone, self.recipe = backbone, recipe
        self.register_buffer("mean", torch.tensor(recipe.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(recipe.std).view(1, 3, 1, 1), persistent=False)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.recipe.class_names

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of images (B, 3, H, W) in [0, 1]."""
        logits: Tensor = self.backbone((images - self.mean) / self.std)
        return logits


def folded(cnn: nn.Module) -> nn.Module | None:
    """A copy in eval mode with batch normalisation folded into the convolutions: the same logits, faster.

    Layers keep their names; a convolution's activation is then what the normalisation made of it.
    ``None`` for a CNN that torch.fx cannot trace.
    """
    try:
        copied: nn.Module = fuse(copy.deepcopy(cnn).eval(), inplace=True)
    except (torch.fx.proxy.TraceError, NotImplementedError, TypeError, RuntimeError):
        return None
    return copied.to(memory_format=torch.channels_last).eval()


def resolve_target(logits: Tensor, target: int | Sequence[int] | Tensor | None) -> Tensor:
    """The class (B,) that each image is asked about.

    Args:
        logits: (B, K).
        target: ``None`` for the predicted class, one class for all images, or one per image.

    Raises:
        ValueError: a wrong number of targets.
        IndexError: a class outside 0..K-1.
    """
    count, classes = logits.shape
    if target is None:
        return logits.argmax(dim=1)
    chosen = torch.as_tensor(target, device=logits.device)
    if chosen.is_floating_point() or chosen.is_complex() or chosen.dtype == torch.bool:
        raise TypeError(f"targets are class numbers, not {chosen.dtype}")
    chosen = chosen.long()
    if chosen.ndim == 0:
        chosen = chosen.expand(count)
    if tuple(chosen.shape) != (count,):
        raise ValueError(f"{count} images need one target, or {count}; got shape {tuple(chosen.shape)}")
    if count and (int(chosen.min()) < 0 or int(chosen.max()) >= classes):
        wrong = next(t for t in chosen.tolist() if not 0 <= t < classes)
        raise IndexError(f"target {wrong} is outside 0..{classes - 1}")
    return chosen


def save_classifier(classifier: Classifier, folder: Path) -> None:
    """Write weights (safetensors) and recipe (JSON) to a folder."""
    save_tensors(folder / "classifier.safetensors", classifier.state_dict())
    write_json(folder / "classifier.json", asdict(classifier.recipe))


def load_classifier(folder: Path, weights: str | Path | None = None) -> Classifier:
    """Read a classifier written by :func:`save_classifier`, in eval mode.

    Args:
        folder: holds ``classifier.json``, and as a rule ``classifier.safetensors``.
        weights: in place of the latter, a safetensors file or the name of torchvision weights. A
            folder without weights may name torchvision's in ``weights.json``.

    Raises:
        FileNotFoundError: no classifier at ``folder``, or weights that cannot be had.
    """
    from gan_lib.classifiers.zoo import build, with_weights  # the zoo builds on this module

    if not (folder / "classifier.json").is_file():
        raise FileNotFoundError(f"no classifier at {folder}")
    fields = read_json(folder / "classifier.json")
    known: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
    recipe = Recipe(**known)
    if weights is None and (folder / "weights.json").is_file():
        weights = read_json(folder / "weights.json")
    if weights is not None:
        return with_weights(recipe, weights).eval()
    classifier = build(recipe)
    classifier.load_state_dict(load_tensors(folder / "classifier.safetensors"))
    return classifier.eval()
