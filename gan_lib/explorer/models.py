"""The CNNs and explainers that are at hand: shipped ones, and what notebooks have trained."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gan_lib.classifiers import Classifier, load_classifier
from gan_lib.classifiers.files import read_card
from gan_lib.classifiers.wrap import ModelCard
from gan_lib.core.capture import layers_in_order
from gan_lib.core.storage import read_json, tensor_bytes
from gan_lib.explainers import METHODS, Explainer, GeneratorExplainer, make_explainer, methods_of
from gan_lib.explainers.gan import universal_home

KEPT = 24  # explainers in memory
PLAIN_SIZE = (64, 64)
WEIGHTS = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")


def layered(method: str | None) -> bool:
    """Whether a method looks at one layer of the CNN."""
    return method is not None and method in METHODS and METHODS[method].takes("layer")


def weights_key(*modules: nn.Module) -> str:
    """Hash of all weights and buffers: what was computed with others is no longer true."""
    total = hashlib.sha256()
    for tensor in itertools.chain.from_iterable((*own.parameters(), *own.buffers()) for own in modules):
        total.update(tensor_bytes(tensor))
    return total.hexdigest()


class Models:
    """CNNs by name, each with its methods, loaded when they are asked for, and again when files have changed.

        models = Models(Path("data"))
        models.names()                                     # ["slim_vgg", "mobilenet_v2"]
        models.explainer("slim_vgg", "contrastive_lsft")

    Args:
        data_dir: its ``artifacts/explainers`` holds what notebooks have kept.
        device: that all run on.
        pretrained: holds shipped CNNs with their explainers; by default ``pretrained`` in ``data_dir``.

    Raises:
        FileNotFoundError: no CNN is there.
    """

    def __init__(
        self, data_dir: Path, device: torch.device | str = "cpu", pretrained: Path | None = None
    ) -> None:
        self.data_dir, self.device = data_dir, torch.device(device)
        self.pretrained = pretrained or data_dir / "pretrained"
        self._cnns: dict[str, tuple[Any, Classifier]] = {}
        self._given: dict[str, Path] = {}
        self._explainers: dict[Any, Explainer] = {}
        if not self.names():
            raise FileNotFoundError(f"no CNN in {self.pretrained}")

    def names(self) -> list[str]:
        """Names of the CNNs, those first whose weights are there."""
        folders = sorted(path.parent for path in self.pretrained.glob("*/classifier.json"))
        lacking = {folder: not (folder / "classifier.safetensors").is_file() for folder in folders}
        return [folder.name for folder in sorted(folders, key=lacking.__getitem__)]

    def cnn(self, name: str) -> Classifier:
        """A CNN, in eval mode.

        Raises:
            FileNotFoundError: no such CNN, or no weights for it; the message says where to put them.
        """
        weights = self._given.get(name)
        files = (_files(self.pretrained / name), weights and _dated(weights))
        if name not in self._cnns or self._cnns[name][0] != files:
            loaded = load_classifier(self.pretrained / name, weights).requires_grad_(False).to(self.device)
            self._cnns[name] = files, loaded
        return self._cnns[name][1]

    def card(self, name: str) -> ModelCard:
        """What is known of a CNN without its weights.

        Raises:
            FileNotFoundError, ValueError: no such CNN, or no card.
        """
        return read_card(self.pretrained / name)

    def take_weights(self, name: str, weights: Path) -> None:
        """From now on a CNN has the weights of a file, for instance where its own cannot be downloaded.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a file of another kind, or weights that do not fit; the CNN keeps those that it had.
        """
        load_classifier(self.pretrained / name, weights)
        self._given[name] = weights

    def weights_files(self) -> list[Path]:
        """Files in the data folder, and in ``weights`` there, that can hold a CNN's weights."""
        found = [*self.data_dir.glob("*.*"), *self.data_dir.glob("weights/*.*")]
        return sorted(path for path in found if path.suffix in WEIGHTS and path.is_file())

    def size(self, name: str) -> tuple[int, int]:
        """Height and width of the images that a CNN, else its explainers, were trained at."""
        if known := self.card(name).image_size:
            return known
        for folder in self._trained(name).values():
            height, width = read_json(folder / "explainer.json")["image_size"]
            return height, width
        return PLAIN_SIZE

    def methods(self, name: str) -> list[str]:
        """What can explain a CNN: trained explainers first, then all registered baselines and controls."""
        return [*self._fitting(name), *methods_of("baseline", "control")]

    def layers(self, name: str) -> list[str]:
        """A CNN's convolutions in the order in which they run."""
        return layers_in_order(self.cnn(name), torch.rand(1, 3, *self.size(name), device=self.device))

    def explainer(self, name: str, method: str, layer: str | None = None) -> Explainer:
        """A method on a CNN; ``layer`` is for those that look at one (:func:`layered`).

        Raises:
            KeyError: an unknown method.
            FileNotFoundError: weights that are not there.
            ValueError: an explainer that does not fit the CNN.
        """
        cnn, folder = self.cnn(name), self._fitting(name).get(method)
        options = {"layer": layer} if layer and layered(method) else {}
        key = (name, method, *options.values(), self._cnns[name][0], folder and _files(folder))
        if key not in self._explainers:
            made = GeneratorExplainer.from_pretrained(folder, cnn) if folder else None
            self._explainers[key] = (made or make_explainer(method, cnn, **options)).to(self.device)
            if len(self._explainers) > KEPT:
                del self._explainers[next(iter(self._explainers))]
        return self._explainers[key]

    def _trained(self, name: str) -> dict[str, Path]:
        """Folders of a CNN's trained explainers by what they are called."""
        shipped = sorted((self.pretrained / name).glob("*/explainer.json"))
        found = {path.parent.name.replace("-", "_"): path.parent for path in reversed(shipped)}
        first = {"contrastive_lsft": found["contrastive_lsft"]} if "contrastive_lsft" in found else {}
        for path in sorted(self.data_dir.glob(f"artifacts/explainers/*/{name}/*/*/explainer.json")):
            seed, method, profile = path.parent, path.parents[1], path.parents[3]
            found[f"{method.name.replace('-', '_')} ({profile.name}, seed {seed.name})"] = path.parent
        return first | found

    def _fitting(self, name: str) -> dict[str, Path]:
        """The same, and behind them those for any CNN."""
        travels = universal_home(self.pretrained, self.size(name)).glob("*/explainer.json")
        by_name = {path.parent.name.replace("-", "_"): path.parent for path in sorted(travels, reverse=True)}
        return self._trained(name) | by_name


def _files(folder: Path) -> tuple[Any, ...]:
    """Names, dates and sizes of a folder's files: others are to be read anew."""
    return tuple(_dated(path) for path in sorted(folder.glob("*.*")) if path.is_file())


def _dated(file: Path) -> tuple[str, int, int]:
    about = file.stat()
    return str(file), about.st_mtime_ns, about.st_size
