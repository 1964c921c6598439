"""What a person has chosen, and what is to be seen of it."""

from __future__ import annotations

import hashlib
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from pydantic import Field
from torch import Tensor

from gan_lib.core.masking import Fill, blend, filling, top_share
from gan_lib.core.options import options
from gan_lib.core.outputs import probabilities
from gan_lib.core.storage import atomic_path, tensor_bytes, write_json
from gan_lib.core.targets import resolve_target
from gan_lib.data import ImageSplit, load_data
from gan_lib.explainers import GeneratorExplainer
from gan_lib.explorer.inside import Inside
from gan_lib.explorer.models import Models, layered, weights_key
from gan_lib.explorer.pictures import Gallery, spaced
from gan_lib.figures import map_grid, overlay
from gan_lib.metrics import judge
from gan_lib.workbench import Workbench

CACHED = 512  # maps


@options
class Choice:
    """All settings of a view; an unknown fill or an area outside (0, 1] raises a ValueError."""

    image: str  # name in the gallery
    cnn: str
    method: str
    other: str | None = None  # a second method beside it
    layer: str | None = None  # for methods that look at one; None is their default
    target: int | None = None  # class number; None is the prediction
    fill: Fill = "black"  # what stands in place of what is hidden
    area: Annotated[float, Field(gt=0, le=1)] | None = None  # highest pixels shown; None: the map as it is


@dataclass(frozen=True)
class View:
    """What there is to see.

    ``pictures`` are (3, H, W) by title, with the class's probability where there is one: ``image``; per
    method ``METHOD``, the map over the image, ``METHOD: shown``, the image through it, ``METHOD: hidden``,
    its complement; with two methods ``difference of the maps``.
    """

    choice: Choice
    label: int  # the class that is explained
    name: str  # what it is called
    image: Tensor  # (3, H, W) in [0, 1]
    maps: dict[str, Tensor]  # per method, (1, H, W) in [0, 1]
    pictures: dict[str, tuple[Tensor, float | None]]
    top: list[tuple[int, str, float]]  # the five most probable classes: number, name, probability
    seconds: float  # that it took to make
    cached: bool  # all maps were there already

    def over(self, own: Tensor) -> Tensor:
        """A map (1, H, W) in colour over the image, (3, H, W)."""
        return overlay(self.image[None], own[None])[0]

    @property
    def probabilities(self) -> dict[str, float]:
        """Of the explained class, by the titles of the pictures."""
        return {title: value for title, (_, value) in self.pictures.items() if value is not None}

    def figure(self) -> Figure:
        """All pictures in a row, with the explained class's probabilities."""
        columns = {spaced(title): own[None] for title, (own, _) in self.pictures.items()}
        captions = {spaced(title): [value] for title, value in self.probabilities.items()}
        return map_grid(columns, cell=1.7, captions=captions)

    def export(self, folder: Path, stem: str = "view") -> tuple[Path, Path]:
        """Write the view as ``STEM.png`` and all its settings and numbers as ``STEM.json``."""
        figure = self.figure()
        picture, settings = folder / f"{stem}.png", folder / f"{stem}.json"
        with atomic_path(picture) as temporary:
            figure.savefig(temporary, dpi=150, bbox_inches="tight", format="png")
        plt.close(figure)
        top = [{"class": label, "name": name, "probability": value} for label, name, value in self.top]
        choice = asdict(replace(self.choice, target=self.label))
        write_json(settings, {"choice": choice, "top": top, "probabilities": self.probabilities})
        return picture, settings


class Explorer:
    """Turns choices into views; maps are kept, so that sliders answer at once.

        explorer = Explorer(Models(Path("data")), gallery)
        view = explorer.view(Choice("1: 3", "slim_vgg", "contrastive_lsft", area=0.1))
        view.probabilities["contrastive_lsft: shown"]

    A map is found again by the image's pixels and the networks' weights, never by their names.

    Args:
        models: CNNs and their methods.
        gallery: images.
        learned: images that concepts and contrasts are learned from.
    """

    def __init__(self, models: Models, gallery: Gallery, learned: ImageSplit | None = None) -> None:
        self.models, self.gallery, self.learned = models, gallery, learned
        self._maps: dict[Any, Tensor] = {}
        self._insides: dict[str, Inside] = {}

    @classmethod
    def of(cls, bench: Workbench) -> Explorer:
        """What a recipe's explorer starts from: all CNNs at hand, and images of its data set.

        Raises:
            FileNotFoundError: no CNN, or no such data set.
        """
        recipe, own = bench.recipe, bench.recipe.explorer
        models = Models(bench.data_dir, bench.device, bench.places.pretrained)
        size, counts = models.size(own.cnn)[0], (own.learned_images, own.images)
        data = load_data(recipe.data.name, bench.store, bench.data_dir, size, *counts, recipe.seed)
        bench.provenance["data"][recipe.data.name] = data.fingerprint
        return cls(models, Gallery(data.test, data.class_names, own.images), data.train)

    def inside(self, name: str) -> Inside:
        """Concepts and contrasts of a CNN.

        Raises:
            ValueError: no images to learn from, or not what it was trained on, or a layer that will not do.
        """
        cnn, split, size = self.models.cnn(name), self.learned, self.models.size(name)
        if split is None or size != split.image_size or int(split.labels.max()) >= len(cnn.class_names):
            raise ValueError(f"the images at hand are not what {name} was trained on")
        if name not in self._insides or self._insides[name].cnn is not cnn:
            self._insides[name] = Inside(cnn, split)
        return self._insides[name]

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
            before = probabilities(cnn, cnn(image))  # (1, K)
        label, names = int(resolve_target(before, choice.target)), cnn.class_names
        methods = list(dict.fromkeys(name for name in (choice.method, choice.other) if name))
        known = hashlib.sha256(tensor_bytes(image)).hexdigest() + weights_key(cnn)
        found = [self._map(choice, name, image, label, known) for name in methods]
        maps = torch.stack([own for own, _ in found])  # (M, 1, H, W)
        masks = maps if choice.area is None else top_share(maps, choice.area).to(maps.dtype)
        filled = filling(image, choice.fill)
        parts = torch.cat([blend(image, filled, masks), blend(filled, image, masks)])  # (2 M, 3, H, W)
        with torch.no_grad():
            after = probabilities(cnn, cnn(parts))[:, label].tolist()
        image, maps, parts = image.cpu(), maps.cpu(), parts.cpu()
        pictures: dict[str, tuple[Tensor, float | None]] = {"image": (image[0], float(before[0, label]))}
        for number, (name, own) in enumerate(zip(methods, overlay(image, maps), strict=True)):
            pictures[name] = own, None
            for title, place in (("shown", number), ("hidden", number + len(methods))):
                pictures[f"{name}: {title}"] = parts[place], after[place]
        if len(methods) > 1:
            pictures["difference of the maps"] = overlay(image, (maps[:1] - maps[1:]).abs())[0], None
        best = before[0].topk(min(5, len(names)))
        top = [(k, names[k], p) for k, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)]
        by_method, cached = dict(zip(methods, maps, strict=True)), all(there for _, there in found)
        seconds = time.perf_counter() - start
        return View(choice, label, names[label], image[0], by_method, pictures, top, seconds, cached)

    def scores(self, view: View) -> pd.DataFrame:
        """Of a view's maps, every registered measure that needs no more than image, map and CNN.

        Returns:
            A row per measure, a column per method. With an area also the highest pixels are measured.
        """
        cnn, fill, area = self.models.cnn(view.choice.cnn), view.choice.fill, view.choice.area
        maps = {(name, 0): own[None] for name, own in view.maps.items()}
        asked = (view.image[None], maps, torch.tensor([view.label]))
        found = judge(cnn, *asked, fills=[fill], areas=[] if area is None else [area], steps=10)
        return found.scores.drop(columns=["seed", "image"]).set_index("method").T

    def _map(self, choice: Choice, method: str, image: Tensor, label: int, known: str) -> tuple[Tensor, bool]:
        """A method's map (1, H, W), and whether it was there already; ``known`` are image and CNN."""
        layer = choice.layer if layered(method) else None
        explainer = self.models.explainer(choice.cnn, method, layer)
        generators = [explainer.generator] if isinstance(explainer, GeneratorExplainer) else []
        key = (known, weights_key(*generators), choice.cnn, method, layer, label)
        cached = key in self._maps
        if not cached:
            self._maps[key] = explainer.attribute(image, target=label)[0]
            if len(self._maps) > CACHED:
                del self._maps[next(iter(self._maps))]
        return self._maps[key], cached
