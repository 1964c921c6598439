"""What torchvision says about its weights: their classes, and the images that they were trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchvision import models

# Their weights take images normalised by these: torchvision's metadata say ImageNet's mean and deviation,
# from which its models, where they are made with their weights, convert (``transform_input``).
HALVES = dict.fromkeys(("inception_v3", "googlenet"), ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Published:
    """Of weights: names of the classes, mean and deviation of the images, their height and width."""

    class_names: tuple[str, ...]
    mean: Triple
    std: Triple
    image_size: tuple[int, int]

    def needed(self, architecture: str) -> dict[str, Any]:
        """Fields of a card without which the weights would mean something else."""
        sized = {"image_size": self.image_size} if architecture.startswith("vit_") else {}
        return {"mean": self.mean, "std": self.std, **sized}


def is_torchvisions(architecture: str) -> bool:
    """Whether torchvision has a classification model of that name."""
    return architecture in models.list_models(module=models)


def names_torchvisions(architecture: str, weights: str | Path) -> bool:
    """Whether weights are named (``DEFAULT``, ``IMAGENET1K_V1``), and not a file.

    Raises:
        ValueError: what is neither a file nor the name of weights that torchvision has of this model.
    """
    if not is_torchvisions(architecture) or isinstance(weights, Path):
        return False
    known = [*models.get_model_weights(architecture).__members__]
    if weights in known:
        return True
    if Path(weights).exists() or Path(weights).suffix or len(Path(weights).parts) > 1:
        return False
    raise ValueError(
        f"{architecture} has no weights {weights!r}, and no file is called so; there are {known}"
    )


def published(architecture: str, weights: str | Path | None = None) -> Published:
    """Of torchvision's weights by name; of a file, or where none are named, of the usual ones."""
    named = weights is not None and names_torchvisions(architecture, weights)
    entry = models.get_model_weights(architecture)[str(weights) if named else "DEFAULT"]
    prepared = entry.transforms()
    mean, std = HALVES.get(architecture, (tuple(prepared.mean), tuple(prepared.std)))
    side = prepared.crop_size[0]
    names = entry.meta["categories"] or models.get_model_weights(architecture).DEFAULT.meta["categories"]
    return Published(tuple(names), mean, std, (side, side))
