"""What a person has chosen, and what is to be seen of it."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from gan_lib.core.masking import FILLS, blend, filling, top_share
from gan_lib.core.storage import atomic_path, tensor_bytes, write_json
from gan_lib.explainers import GeneratorExplainer
from gan_lib.explorer.models import LAYERED, Models, weights_key
from gan_lib.explorer.pictures import Gallery
from gan_lib.figures import map_grid, overlay

CACHED = 512  # maps
Shown = tuple[Tensor, float | None]  # a picture (3, H, W), and the explained class's probability for it


@dataclass(frozen=True)
class Choice:
    """All settings of a view.

    Attributes:
        image: name in the gallery.
        cnn: name of the CNN.
        method: that explains.
        other: a second method beside it, or ``None``.
        layer: for methods that look at one; ``None`` for their default.
        target: class number; ``None`` for the prediction.
        fill: what stands in place of what is hidden: ``black``, ``blur`` or ``mean``.
        area: share of the image that is shown, the map's highest pixels; ``None`` for the map as it is.

    Raises:
        ValueError: an unknown fill, or an area outside (0, 1].
    """

    image: str
    cnn: str
    method: str
    other: str | None = None
    layer: str | None = None
    target: int | None = None
    fill: str = "black"
    area: float | None = None

    def __post_init__(self) -> None:
        if self.fill not in FILLS:
            raise ValueError(f"fill is one of {FILLS}, not {self.fill!r}")
        if self.area is not None and not 0 < self.area <= 1:
            raise ValueError(f"area is a share of the image in (0, 1], not {self.area}")


@dataclass(frozen=True)
class View:
    """What there is to see.

    Attributes:
        choice: with the class filled in that was explained.
        label: that class's number; name: what it is called.
        image: (3, H, W) in [0, 1].
        maps: per method, (1, H, W) in [0, 1].
        shown: per method, the image through the map, (3, H, W).
        hidden: per method, its complement.
        top: the five most probable classes of the image with their probabilities.
        probabilities: of the explained class: ``image``, and per method ``METHOD shown`` and
            ``METHOD hidden``.
        seconds: that it took to make.
        cached: whether all maps were there already.
    """

    choice: Choice
    label: int
    name: str
    image: Tensor
    maps: dict[str, Tensor]
    shown: dict[str, Tensor]
    hidden: dict[str, Tensor]
    top: list[tuple[int, str, float]]
    probabilities: dict[str, float]
    seconds: float
    cached: bool

    @property
    def difference(self) -> Tensor | None:
        """The absolute difference (1, H, W) of both methods' maps, where there are two."""
        if len(self.maps) < 2:
            return None
        one, other = self.maps.values()
        return (one - other).abs()

    def over(self, own: Tensor) -> Tensor:
        """A map (1, H, W) in colour over the image, (3, H, W)."""
        return overlay(self.image[None], own[None])[0]

    def pictures(self) -> dict[str, Shown]:
        """By title: the image; per method its map, what it shows and what it hides; the maps' difference."""
        made: dict[str, Shown] = {"image": (self.image, self.probabilities["image"])}
        for method, own in self.maps.items():
            title = method.replace("_", " ")
            made[title] = self.over(own), None
            made[f"{title}: shown"] = self.shown[method], self.probabilities[f"{method} shown"]
            made[f"{title}: hidden"] = self.hidden[method], self.probabilities[f"{method} hidden"]
        if self.difference is not None:
            made["difference of the maps"] = self.over(self.difference), None
        return made

    def figure(self) -> Figure:
        """All pictures in a row, with the explained class's probabilities."""
        pictures = self.pictures()
        captions = {title: [value] for title, (_, value) in pictures.items() if value is not None}
        return map_grid(
            {title: own[None] for title, (own, _) in pictures.items()}, (), 1.7, captions=captions
        )

    def export(self, folder: Path, stem: str = "view") -> tuple[Path, Path]:
        """Write the view as ``STEM.png`` and all its settings and numbers as ``STEM.json``."""
        figure = self.figure()
        picture, settings = folder / f"{stem}.png", folder / f"{stem}.json"
        with atomic_path(picture) as temporary:
            figure.savefig(temporary, dpi=150, bbox_inches="tight", format="png")
        plt.close(figure)
        top = [{"class": label, "name": name, "probability": value} for label, name, value in self.top]
        write_json(settings, {"choice": asdict(self.choice), "top": top, "probabilities": self.probabilities})
        return picture, settings


class Explorer:
    """Turns choices into views; maps are kept, so that sliders answer at once.

        explorer = Explorer(Models(Path("data")), gallery)
        view = explorer.view(Choice("1: 3", "slim_vgg", "contrastive_lsft", area=0.1))
        view.probabilities["contrastive_lsft shown"]

    A map is found again by the image's pixels and the networks' weights, never by their names.

    Args:
        models: CNNs and their methods.
        gallery: images.
    """

    def __init__(self, models: Models, gallery: Gallery) -> None:
        self.models, self.gallery = models, gallery
        self._maps: OrderedDict[tuple[Any, ...], Tensor] = OrderedDict()

    def default(self) -> Choice:
        """The first image, CNN and method.

        Raises:
            ValueError: there is no image.
        """
        image = next(iter(self.gallery), None)
        if image is None:
            raise ValueError("there is no image to look at")
        name = self.models.names()[0]
        return Choice(image, name, self.models.methods(name)[0])

    def image(self, choice: Choice) -> Tensor:
        """The chosen image (1, 3, H, W) at the CNN's size, on the CNN's device."""
        return self.gallery.image(choice.image, self.models.size(choice.cnn)).to(self.models.device)

    def view(self, choice: Choice) -> View:
        """What is to be seen of a choice.

        Raises:
            KeyError: an unknown image, method or layer.
            FileNotFoundError: weights that are not there.
            ValueError: an explainer that does not fit.
            IndexError: a class that the CNN does not have.
        """
        start = time.perf_counter()
        cnn, image = self.models.cnn(choice.cnn), self.image(choice)
        with torch.no_grad():
            before = cnn(image).softmax(1)[0]  # (K,)
        label = int(before.argmax()) if choice.target is None else choice.target
        if not 0 <= label < len(before):
            raise IndexError(f"class {label} is outside 0..{len(before) - 1}")
        choice = replace(choice, target=label)
        methods = list(dict.fromkeys(name for name in (choice.method, choice.other) if name))
        known = hashlib.sha256(tensor_bytes(image)).hexdigest() + weights_key(cnn)
        found = [self._map(choice, name, image, known) for name in methods]
        maps = torch.stack([own for own, _ in found])  # (M, 1, H, W)
        masks = maps if choice.area is None else top_share(maps, choice.area).to(maps.dtype)
        hidden = filling(image, choice.fill)
        shown, rest = blend(image, hidden, masks), blend(hidden, image, masks)  # (M, 3, H, W)
        with torch.no_grad():
            after = cnn(torch.cat([shown, rest])).softmax(1)[:, label].tolist()
        parts = [f"{name} {part}" for part in ("shown", "hidden") for name in methods]
        best, names = before.topk(min(5, len(before))), cnn.class_names

        def by_method(pictures: Tensor) -> dict[str, Tensor]:
            return dict(zip(methods, pictures.cpu(), strict=True))

        return View(
            choice,
            label,
            names[label],
            image[0].cpu(),
            by_method(maps),
            by_method(shown),
            by_method(rest),
            [(k, names[k], p) for k, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)],
            {"image": float(before[label]), **dict(zip(parts, after, strict=True))},
            time.perf_counter() - start,
            all(cached for _, cached in found),
        )

    def _map(self, choice: Choice, method: str, image: Tensor, known: str) -> tuple[Tensor, bool]:
        """A method's map (1, H, W), and whether it was there already; ``known`` are image and CNN."""
        layer = choice.layer if method in LAYERED else None
        explainer = self.models.explainer(choice.cnn, method, layer)
        generators = [explainer.generator] if isinstance(explainer, GeneratorExplainer) else []
        key = (known, weights_key(*generators), choice.cnn, method, layer, choice.target)
        cached = key in self._maps
        if not cached:
            self._maps[key] = explainer.attribute(image, target=choice.target)[0]
        self._maps.move_to_end(key)
        while len(self._maps) > CACHED:
            self._maps.popitem(last=False)
        return self._maps[key], cached
