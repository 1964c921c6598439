"""The CNNs and explainers that are at hand: shipped ones, and what notebooks have trained."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import torch

from gan_lib.classifiers import Classifier, load_classifier
from gan_lib.core.capture import layers_in_order
from gan_lib.core.storage import read_json
from gan_lib.explainers import BASELINES, CONTROLS, Explainer, GeneratorExplainer, make_explainer

LAYERED = ("grad_cam", "guided_grad_cam", "guided_feature_inversion", "guided_feature_inversion_step_1")
KEPT = 24  # explainers in memory
PLAIN_SIZE = (64, 64)


class Models:
    """CNNs by name, each with its methods, loaded when they are asked for.

        models = Models(Path("data"))
        models.names()                                     # ["mobilenet_v2", "slim_vgg"]
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
        self._cnns: dict[str, Classifier] = {}
        self._failed: dict[str, Exception] = {}
        self._explainers: OrderedDict[tuple[str, str, str | None], Explainer] = OrderedDict()
        self._layers: dict[str, list[str]] = {}
        if not self.names():
            raise FileNotFoundError(f"no CNN in {self.pretrained}")

    def names(self) -> list[str]:
        """Names of the CNNs, those first whose weights are there."""
        folders = sorted(path.parent for path in self.pretrained.glob("*/classifier.json"))
        ready = [folder.name for folder in folders if (folder / "classifier.safetensors").is_file()]
        return ready + [folder.name for folder in folders if folder.name not in ready]

    def cnn(self, name: str) -> Classifier:
        """A CNN, in eval mode.

        Raises:
            FileNotFoundError: no such CNN, or no weights for it; the message says where to put them.
        """
        if name in self._failed:
            raise self._failed[name]
        if name not in self._cnns:
            try:
                loaded = load_classifier(self.pretrained / name)
            except (OSError, ValueError, KeyError) as error:
                self._failed[name] = error  # a download is not tried again at every touch of a slider
                raise
            self._cnns[name] = loaded.requires_grad_(False).to(self.device)
        return self._cnns[name]

    def try_again(self, name: str) -> None:
        """Forget that a CNN could not be loaded."""
        self._failed.pop(name, None)

    def size(self, name: str) -> tuple[int, int]:
        """Height and width of the images that a CNN's explainers were trained at."""
        for path in self._trained(name).values():
            height, width = read_json(path / "explainer.json")["image_size"]
            return height, width
        return PLAIN_SIZE

    def methods(self, name: str) -> list[str]:
        """What can explain a CNN: trained explainers first, then baselines and controls."""
        return [*self._trained(name), *BASELINES, *CONTROLS]

    def layers(self, name: str) -> list[str]:
        """A CNN's convolutions in the order in which they run."""
        if name not in self._layers:
            example = torch.rand(1, 3, *self.size(name), device=self.device)
            self._layers[name] = layers_in_order(self.cnn(name), example)
        return self._layers[name]

    def explainer(self, name: str, method: str, layer: str | None = None) -> Explainer:
        """A method on a CNN; ``layer`` is for those that look at one (:data:`LAYERED`).

        Raises:
            KeyError: an unknown method.
            FileNotFoundError: weights that are not there.
            ValueError: an explainer that does not fit the CNN.
        """
        key = (name, method, layer if method in LAYERED else None)
        if key not in self._explainers:
            trained = self._trained(name)
            if method in trained:
                made: Explainer = GeneratorExplainer.from_pretrained(trained[method], self.cnn(name))
            else:
                made = make_explainer(method, self.cnn(name), **({"layer": key[2]} if key[2] else {}))
            self._explainers[key] = made.to(self.device)
        self._explainers.move_to_end(key)
        while len(self._explainers) > KEPT:
            self._explainers.popitem(last=False)
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
