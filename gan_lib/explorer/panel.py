"""The explorer's widgets: they bind :class:`Explorer` and :class:`Inside`, and compute nothing."""

from __future__ import annotations

import html
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import ipywidgets as widgets
from torch import Tensor

from gan_lib.data import ImageSplit
from gan_lib.explainers import GeneratorExplainer
from gan_lib.explorer.inside import Inside, conditions_of
from gan_lib.explorer.models import LAYERED
from gan_lib.explorer.state import Explorer, View
from gan_lib.explorer.tiles import bars, percent, picture
from gan_lib.figures import overlay

AREAS = [
    ("as it is", None),
    *((f"{share} %", share / 100) for share in (1, 2, 5, 10, 15, 20, 30, 40, 50, 75)),
]
OFFSETS = [round(0.25 * step, 2) for step in range(25)]
NONE = "(none)"
Tile = tuple[str, Tensor, float | None]  # title, picture, probability
WIDE = widgets.Layout(width="300px")
LABELS = {"description_width": "90px"}


def interactive() -> bool:
    """Whether somebody is there to use widgets; a headless run shows figures in their place."""
    return "GAN_LIB_HEADLESS" not in os.environ


def explorer_panel(explorer: Explorer, split: ImageSplit, export_dir: Path = Path("exports")) -> widgets.VBox:
    """Everything to look at one image with, in one panel.

    Args:
        explorer: with its models and gallery.
        split: images that concepts and contrasts are learned from.
        export_dir: receives exported views.
    """
    return Panel(explorer, split, export_dir).box


class Panel:
    """Widgets and what connects them.

    Attributes:
        box: the whole panel.
        message: where notices and errors are told.
    """

    def __init__(self, explorer: Explorer, split: ImageSplit, export_dir: Path) -> None:
        self.explorer, self.split, self.export_dir = explorer, split, export_dir
        self._insides: dict[str, Inside] = {}
        self._quiet = False
        self.view: View | None = None
        self.choice = explorer.default()
        self.message = widgets.HTML(layout=widgets.Layout(min_height="24px"))
        self._build_controls()
        self._build_tabs()
        self.box = widgets.VBox(
            [
                self.message,
                widgets.HBox([self.controls, self.output]),
                self.tabs,
            ]
        )
        self.box.add_class("gan-lib-explorer")
        self._new_cnn()

    # -- what there is --------------------------------------------------------------------------------

    def _build_controls(self) -> None:
        drop = lambda label, options: widgets.Dropdown(  # noqa: E731
            description=label, options=options, layout=WIDE, style=LABELS
        )
        self.image = drop("image", list(self.explorer.gallery))
        self.uploader = widgets.FileUpload(
            accept="image/*", multiple=False, description="upload an image", layout=WIDE
        )
        self.cnn = drop("CNN", self.explorer.models.names())
        self.method = drop("method", [])
        self.other = drop("compare with", [NONE])
        self.layer = drop("layer", [("default", "")])
        self.target = drop("class", [("the prediction", -1)])
        self.fill = widgets.ToggleButtons(
            description="hidden is",
            options=["black", "blur", "mean"],
            style={**LABELS, "button_width": "58px"},
        )
        self.area = widgets.SelectionSlider(
            description="area shown",
            options=AREAS,
            index=0,
            layout=WIDE,
            style=LABELS,
            continuous_update=False,
        )
        self.exporter = widgets.Button(description="export PNG + JSON", icon="download", layout=WIDE)
        self.top = widgets.HTML()
        self.controls = widgets.VBox(
            [
                self.image, self.uploader, self.cnn, self.method, self.other, self.layer, self.target,
                self.fill, self.area, self.exporter, self.top,
            ],
            layout=widgets.Layout(min_width="330px"),
        )  # fmt: skip
        self.output = widgets.VBox(layout=widgets.Layout(width="860px"))
        self.output.add_class("gan-lib-view")
        for control in (self.image, self.method, self.other, self.layer, self.target, self.fill, self.area):
            control.observe(lambda _: self._changed(), names="value")
        self.cnn.observe(lambda _: self._new_cnn(), names="value")
        self.uploader.observe(lambda _: self._uploaded(), names="value")
        self.exporter.on_click(lambda _: self._guarded(self._export))

    def _build_tabs(self) -> None:
        self.shown_conditions, self.shown_concepts = widgets.VBox(), widgets.VBox()
        self.one = widgets.Dropdown(description="class", layout=WIDE, style=LABELS)
        self.against = widgets.Dropdown(description="rather than", layout=WIDE, style=LABELS)
        self.offset = widgets.SelectionSlider(
            description="offset", options=OFFSETS, index=0, layout=WIDE, style=LABELS, continuous_update=False
        )
        self.contrast = widgets.HTML()
        for control in (self.one, self.against, self.offset):
            control.observe(lambda _: self._inside_changed(), names="value")
        contrasting = widgets.VBox([self.one, self.against, self.offset, self.contrast])
        self.tabs = widgets.Tab(
            [
                widgets.HTML("Open a tab to look inside the CNN."),
                self.shown_conditions,
                self.shown_concepts,
                contrasting,
            ]
        )
        for number, title in enumerate(("Outside", "Conditions", "Concepts", "Contrasting")):
            self.tabs.set_title(number, title)
        self.tabs.observe(lambda _: self._inside_changed(), names="selected_index")

    # -- what happens ---------------------------------------------------------------------------------

    def tell(self, text: str, wrong: bool = False) -> None:
        """Show a notice, or what went wrong."""
        colour, role = ("#b00020", "alert") if wrong else ("#444", "status")
        self.message.value = f'<span role="{role}" style="color:{colour}">{html.escape(text)}</span>'

    def _guarded(self, work: Callable[[], None], otherwise: Callable[[], None] | None = None) -> None:
        """Run what a person asked for; whatever goes wrong is told in the panel.

        Args:
            work: that may fail.
            otherwise: takes away what is no longer true when it has failed.
        """
        try:
            work()
        except Exception as error:  # the boundary to a person, who is told in words
            if otherwise is not None:
                otherwise()
            reason = error.args[0] if error.args else error
            told = isinstance(error, ValueError | KeyError | IndexError | FileNotFoundError)
            self.tell(f"{reason}" if told else f"{type(error).__name__}: {reason}", wrong=True)

    def _new_cnn(self) -> None:
        self.explorer.models.try_again(self.cnn.value)
        self._guarded(self._offer)
        self._changed()

    def _offer(self) -> None:
        """Fill the menus that depend on the CNN; they stay as they were where its weights are missing."""
        models, name = self.explorer.models, self.cnn.value
        layers, classes, methods = models.layers(name), models.cnn(name).class_names, models.methods(name)
        self._quiet = True
        try:
            for menu, options in ((self.method, methods), (self.other, [NONE, *methods])):
                kept = menu.value
                menu.options = options
                menu.value = kept if kept in options else options[0]
            self.layer.options = [("default", ""), *((layer, layer) for layer in layers)]
            numbered = [(f"{number}: {label}", number) for number, label in enumerate(classes)]
            self.target.options = [("the prediction", -1), *numbered]
            self.layer.value, self.target.value = "", -1
            self.one.options = self.against.options = numbered
            self.one.value, self.against.value = 0, min(1, len(classes) - 1)
        finally:
            self._quiet = False

    def _changed(self) -> None:
        if not self._quiet:
            self._guarded(self._show, self._clear)

    def _clear(self) -> None:
        self.view, self.output.children, self.top.value = None, (), ""
        self._clear_tabs()

    def _clear_tabs(self) -> None:
        self.shown_conditions.children, self.shown_concepts.children, self.contrast.value = (), (), ""

    def _show(self) -> None:
        self.choice = replace(
            self.choice,
            image=self.image.value,
            cnn=self.cnn.value,
            method=self.method.value,
            other=None if self.other.value == NONE else self.other.value,
            layer=self.layer.value or None,
            target=None if self.target.value == -1 else self.target.value,
            fill=self.fill.value,
            area=self.area.value or None,
        )
        self.layer.disabled = not {self.choice.method, self.choice.other} & {*LAYERED}
        self.view = view = self.explorer.view(self.choice)
        name = self.explorer.models.cnn(self.choice.cnn).class_names[view.choice.target or 0]
        rows: list[list[Tile]] = [[("the image", view.image, view.probabilities["image"])]]
        for method, own in view.maps.items():
            rows.append(
                [
                    (method, overlay(view.image[None], own[None])[0], None),
                    ("shown", view.shown[method], view.probabilities[f"{method} shown"]),
                    ("hidden", view.hidden[method], view.probabilities[f"{method} hidden"]),
                ]
            )
        if view.difference is not None:
            rows[0].append(
                ("difference of the maps", overlay(view.image[None], view.difference[None])[0], None)
            )
        self.output.children = [
            widgets.HBox([picture(title, own, percent(name, p)) for title, own, p in row]) for row in rows
        ]
        self.top.value = bars([(label, value) for _, label, value in view.top], "five most probable classes")
        self.tell(f"{1000 * view.seconds:.0f} ms, {'from the cache' if view.cached else 'computed'}")
        self._inside_changed()

    def _uploaded(self) -> None:
        self._guarded(self._take)

    def _take(self) -> None:
        if not self.uploader.value:
            return
        given = self.uploader.value[0]
        called, notice = self.explorer.upload(given["name"], bytes(given["content"]))
        self._quiet = True
        self.image.options = list(self.explorer.gallery)
        self.image.value = called
        self._quiet = False
        self._show()
        self.tell(notice)

    def _export(self) -> None:
        if self.view is None:
            raise ValueError("there is no view to export yet")
        numbers = [
            int(path.stem[5:]) for path in self.export_dir.glob("view-*.json") if path.stem[5:].isdecimal()
        ]
        stem = f"view-{max(numbers, default=0) + 1:03d}"
        picture_path, _ = self.explorer.export(self.view, self.export_dir, stem)
        self.tell(f"written: {picture_path} and .json")

    # -- inside ---------------------------------------------------------------------------------------

    def _inside_changed(self) -> None:
        if not self._quiet and self.view is not None and self.tabs.selected_index:
            shows = (self._conditions, self._concepts, self._contrast)
            self._guarded(partial(self._look_inside, shows[self.tabs.selected_index - 1]), self._clear_tabs)

    def _look_inside(self, show: Callable[[], None]) -> None:
        show()
        self.tell("")

    def inside(self) -> Inside:
        """Concepts and contrasts of the chosen CNN.

        Raises:
            ValueError: the images to learn from are not of its classes, or a layer that will not do.
        """
        name = self.cnn.value
        if name not in self._insides:
            cnn = self.explorer.models.cnn(name)
            if (
                int(self.split.labels.max()) >= len(cnn.class_names)
                or self.explorer.models.size(name) != self.split.image_size
            ):
                raise ValueError(f"the images at hand are not what {name} was trained on")
            self._insides[name] = Inside(cnn, self.split)
        return self._insides[name]

    def _conditions(self) -> None:
        view = self._current()
        explainer = self.explorer.models.explainer(self.choice.cnn, self.choice.method, self.choice.layer)
        if not isinstance(explainer, GeneratorExplainer):
            raise ValueError(f"{self.choice.method} has no conditions: choose a trained generator")
        found = conditions_of(explainer, self.explorer.image(self.choice), view.choice.target or 0)
        tiles = [
            picture(
                own.name,
                overlay(view.image[None], own.picture[None])[0],
                f"{100 * own.share:.0f} % of the relevance",
                120,
            )
            for own in found
        ]
        self.shown_conditions.children = [
            widgets.HTML(
                "What the generator reads, first layer to last, and how much the map moves without it."
            ),
            widgets.HBox(tiles, layout=widgets.Layout(flex_flow="row wrap")),
        ]

    def _concepts(self) -> None:
        view = self._current()
        crops, maps = self.inside().concepts(self.explorer.image(self.choice), view.choice.target or 0)
        rows = []
        for number, (own, where) in enumerate(zip(crops, maps, strict=True)):
            tiles = [picture(f"concept {number + 1}, here", where, "", 120)]
            tiles += [picture(f"prototype {place + 1}", crop, "", 120) for place, crop in enumerate(own)]
            rows.append(widgets.HBox(tiles))
        self.shown_concepts.children = [
            widgets.HTML("Concepts of the chosen class: where they are, and crops that show them."),
            *rows,
        ]

    def _contrast(self) -> None:
        inside, image = self.inside(), self.explorer.image(self.choice)
        names = self.explorer.models.cnn(self.choice.cnn).class_names
        found = inside.shifted(image, self.one.value, self.against.value, self.offset.value)
        title = f"activations moved by {self.offset.value:g} from the first class towards the second"
        self.contrast.value = bars([(names[label], value) for label, value in found.items()], title)

    def _current(self) -> View:
        if self.view is None:
            raise ValueError("there is nothing to look at yet")
        return self.view
