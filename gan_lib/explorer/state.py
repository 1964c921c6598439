"""What a person has chosen, and what is to be seen of it."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from matplotlib import pyplot as plt
from torch import Tensor

from gan_lib.core.masking import FILLS, blend, filling, top_share
from gan_lib.core.storage import atomic_path, write_json
from gan_lib.explorer.models import LAYERED, Models
from gan_lib.explorer.pictures import Gallery
from gan_lib.figures import map_grid, overlay

CACHED = 512  # maps


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

    def pictures(self) -> dict[str, Tensor]:
        """All pictures (3, H, W) of the view by title."""
        made = {"image": self.image}
        for method, own in self.maps.items():
            made[method] = overlay(self.image[None], own[None])[0]
            made[f"{method}: shown"] = self.shown[method]
            made[f"{method}: hidden"] = self.hidden[method]
        if self.difference is not None:
            made["difference of the maps"] = overlay(self.image[None], self.difference[None])[0]
        return made


class Explorer:
    """Turns choices into views; maps are kept, so that sliders answer at once.

        explorer = Explorer(Models(Path("data")), gallery)
        view = explorer.view(Choice("1: 3", "slim_vgg", "contrastive_lsft", area=0.1))
        view.probabilities["contrastive_lsft shown"]

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
        if choice.target is None:
            choice = replace(choice, target=int(before.argmax()))
        elif not 0 <= choice.target < len(before):
            raise IndexError(f"class {choice.target} is outside 0..{len(before) - 1}")
        methods = list(dict.fromkeys(name for name in (choice.method, choice.other) if name))
        found = {name: self._map(choice, name, image) for name in methods}
        maps = {name: own for name, (own, _) in found.items()}
        masks = torch.stack([self.mask(own, choice.area) for own in maps.values()])  # (M, 1, H, W)
        hidden = filling(image, choice.fill)
        shown, rest = blend(image, hidden, masks), blend(hidden, image, masks)  # (M, 3, H, W)
        with torch.no_grad():
            after = cnn(torch.cat([shown, rest])).softmax(1)[:, choice.target].tolist()
        probabilities = {"image": float(before[choice.target])}
        for number, name in enumerate(methods):
            probabilities |= {f"{name} shown": after[number], f"{name} hidden": after[number + len(methods)]}
        best = before.topk(min(5, len(before)))
        return View(
            choice,
            image[0].cpu(),
            {name: own.cpu() for name, own in maps.items()},
            dict(zip(methods, shown.cpu(), strict=True)),
            dict(zip(methods, rest.cpu(), strict=True)),
            [
                (label, cnn.class_names[label], value)
                for label, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)
            ],
            probabilities,
            time.perf_counter() - start,
            all(cached for _, cached in found.values()),
        )

    @staticmethod
    def mask(own: Tensor, area: float | None) -> Tensor:
        """A map (1, H, W), or its highest pixels as 0 and 1."""
        return own if area is None else top_share(own[None], area)[0].to(own.dtype)

    def _map(self, choice: Choice, method: str, image: Tensor) -> tuple[Tensor, bool]:
        """A method's map (1, H, W), and whether it was there already."""
        layer = choice.layer if method in LAYERED else None
        key = (choice.image, choice.cnn, method, layer, choice.target)
        if key in self._maps:
            self._maps.move_to_end(key)
            return self._maps[key], True
        explainer = self.models.explainer(choice.cnn, method, layer)
        self._maps[key] = explainer.attribute(image, target=choice.target)[0]
        while len(self._maps) > CACHED:
            self._maps.popitem(last=False)
        return self._maps[key], False

    def upload(self, name: str, content: bytes) -> tuple[str, str]:
        """Add an image to the gallery; returns what it is called there, and what there is to say about it.

        Raises:
            ValueError: no readable image.
        """
        called, notice = self.gallery.upload(name, content)
        self._maps = OrderedDict((key, own) for key, own in self._maps.items() if key[0] != called)
        return called, notice

    def export(self, view: View, folder: Path, stem: str = "view") -> tuple[Path, Path]:
        """Write a view as ``STEM.png`` and all its settings and numbers as ``STEM.json``."""
        columns = {title: picture[None] for title, picture in view.pictures().items()}
        captions = {"image": [view.probabilities["image"]]}
        for method in view.maps:
            for part in ("shown", "hidden"):
                captions[f"{method}: {part}"] = [view.probabilities[f"{method} {part}"]]
        figure = map_grid(columns, cell=1.6, captions=captions)
        picture, settings = folder / f"{stem}.png", folder / f"{stem}.json"
        with atomic_path(picture) as temporary:
            figure.savefig(temporary, dpi=150, bbox_inches="tight", format="png")
        plt.close(figure)
        top = [{"class": label, "name": name, "probability": value} for label, name, value in view.top]
        write_json(settings, {"choice": asdict(view.choice), "top": top, "probabilities": view.probabilities})
        return picture, settings
