"""The explorer's widgets: they bind :class:`Explorer` and :class:`Inside`, and compute nothing."""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from gan_lib.data import ImageSplit
from gan_lib.explainers import GeneratorExplainer
from gan_lib.explorer.inside import Inside, conditions_of
from gan_lib.explorer.models import LAYERED
from gan_lib.explorer.pictures import bars, tile
from gan_lib.explorer.state import Choice, Explorer, View

AREAS = [
    ("as it is", None),
    *((f"{share} %", share / 100) for share in (1, 2, 5, 10, 15, 20, 30, 40, 50, 75)),
]
OFFSETS = [round(0.25 * step, 2) for step in range(25)]
NONE = "(none)"
WIDE = widgets.Layout(width="300px")
LABELS = {"description_width": "90px"}
TOLD = (ValueError, KeyError, IndexError, FileNotFoundError)  # whose messages are for people


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
        view: what is shown; ``None`` where there is nothing to show.
    """

    def __init__(self, explorer: Explorer, split: ImageSplit, export_dir: Path) -> None:
        self.explorer, self.split, self.export_dir = explorer, split, export_dir
        self.view: View | None = None
        self._quiet = False
        self._insides: dict[str, Inside] = {}
        self.message = widgets.HTML(layout=widgets.Layout(min_height="24px"))
        self._build_controls()
        self._build_tabs()
        self.box = widgets.VBox([self.message, widgets.HBox([self.controls, self.output]), self.tabs])
        self.box.add_class("gan-lib-explorer")
        self._new_cnn()

    # -- what there is --------------------------------------------------------------------------------

    def _build_controls(self) -> None:
        self.image = _menu("image", list(self.explorer.gallery))
        self.uploader = widgets.FileUpload(
            accept="image/*", multiple=False, description="upload an image", layout=WIDE
        )
        self.cnn = _menu("CNN", self.explorer.models.names())
        self.method, self.other = _menu("method"), _menu("compare with", [NONE])
        self.layer, self.target = _menu("layer", [("default", "")]), _menu("class", [("the prediction", -1)])
        self.fill = widgets.ToggleButtons(
            description="hidden is",
            options=["black", "blur", "mean"],
            style={**LABELS, "button_width": "58px"},
        )
        self.area = _slider("area shown", AREAS)
        self.exporter = widgets.Button(description="export PNG + JSON", icon="download", layout=WIDE)
        self.top = widgets.HTML()
        chosen = (self.method, self.other, self.layer, self.target, self.fill, self.area)
        self.controls = widgets.VBox(
            [self.image, self.uploader, self.cnn, *chosen, self.exporter, self.top],
            layout=widgets.Layout(min_width="330px"),
        )
        self.output = widgets.VBox(layout=widgets.Layout(width="860px"))
        self.output.add_class("gan-lib-view")
        for control in (self.image, *chosen):
            control.observe(lambda _: self._changed(), names="value")
        self.cnn.observe(lambda _: self._new_cnn(), names="value")
        self.uploader.observe(lambda _: self._guarded(self._take), names="value")
        self.exporter.on_click(lambda _: self._guarded(self._export))

    def _build_tabs(self) -> None:
        self.shown_conditions, self.shown_concepts = widgets.VBox(), widgets.VBox()
        self.one, self.against = _menu("class"), _menu("rather than")
        self.offset, self.contrast = _slider("offset", OFFSETS), widgets.HTML()
        for control in (self.one, self.against, self.offset):
            control.observe(lambda _: self._inside_changed(), names="value")
        pages = {
            "Outside": widgets.HTML("Open a tab to look inside the CNN."),
            "Conditions": self.shown_conditions,
            "Concepts": self.shown_concepts,
            "Contrasting": widgets.VBox([self.one, self.against, self.offset, self.contrast]),
        }
        self.tabs = widgets.Tab(list(pages.values()), titles=list(pages))
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
            self.tell(
                f"{reason}" if isinstance(error, TOLD) else f"{type(error).__name__}: {reason}", wrong=True
            )

    @contextmanager
    def _silence(self) -> Iterator[None]:
        """Within the block, changed menus are no wish of a person's; whatever happens, the next one is."""
        self._quiet = True
        try:
            yield
        finally:
            self._quiet = False

    def _new_cnn(self) -> None:
        self.explorer.models.try_again(self.cnn.value)
        self._guarded(self._offer)
        self._changed()

    def _offer(self) -> None:
        """Fill the menus that depend on the CNN; they stay as they were where its weights are missing."""
        models, name = self.explorer.models, self.cnn.value
        layers, classes, methods = models.layers(name), models.cnn(name).class_names, models.methods(name)
        numbered = [(f"{number}: {label}", number) for number, label in enumerate(classes)]
        with self._silence():
            for menu, options in ((self.method, methods), (self.other, [NONE, *methods])):
                kept = menu.value
                menu.options = options
                menu.value = kept if kept in options else options[0]
            self.layer.options = [("default", ""), *((layer, layer) for layer in layers)]
            self.target.options = [("the prediction", -1), *numbered]
            self.layer.value, self.target.value = "", -1
            self.one.options = self.against.options = numbered
            self.one.value, self.against.value = 0, min(1, len(classes) - 1)

    def _changed(self) -> None:
        if not self._quiet:
            self._guarded(self._show, self._clear)

    def _clear(self) -> None:
        self.view, self.output.children, self.top.value = None, (), ""
        self._clear_tabs()

    def _clear_tabs(self) -> None:
        self.shown_conditions.children, self.shown_concepts.children, self.contrast.value = (), (), ""

    def _choice(self) -> Choice:
        return Choice(
            image=self.image.value,
            cnn=self.cnn.value,
            method=self.method.value,
            other=None if self.other.value == NONE else self.other.value,
            layer=self.layer.value or None,
            target=None if self.target.value == -1 else self.target.value,
            fill=self.fill.value,
            area=self.area.value,
        )

    def _show(self) -> None:
        choice = self._choice()
        self.layer.disabled = not {choice.method, choice.other} & {*LAYERED}
        self.view = view = self.explorer.view(choice)
        tiles = [
            tile(title, own, "" if value is None else f"{view.name}: {100 * value:.1f} %")
            for title, (own, value) in view.pictures().items()
        ]
        image, per_method, difference = (
            tiles[:1],
            tiles[1 : 1 + 3 * len(view.maps)],
            tiles[1 + 3 * len(view.maps) :],
        )
        rows = [
            image + difference,
            *(per_method[start : start + 3] for start in range(0, len(per_method), 3)),
        ]
        self.output.children = [widgets.HBox(row) for row in rows]
        self.top.value = bars([(label, value) for _, label, value in view.top], "five most probable classes")
        self.tell(f"{1000 * view.seconds:.0f} ms, {'from the cache' if view.cached else 'computed'}")
        self._inside_changed()

    def _take(self) -> None:
        """Show what was uploaded."""
        if not self.uploader.value:
            return
        given = self.uploader.value[0]
        called, notice = self.explorer.gallery.upload(given["name"], bytes(given["content"]))
        with self._silence():
            self.image.options = list(self.explorer.gallery)
            self.image.value = called
        self._changed()
        if self.view is not None:
            self.tell(notice)

    def _export(self) -> None:
        if self.view is None:
            raise ValueError("there is no view to export yet")
        written = (path.stem[5:] for path in self.export_dir.glob("view-*.json"))
        number = max((int(own) for own in written if own.isdecimal()), default=0) + 1
        picture, _ = self.view.export(self.export_dir, f"view-{number:03d}")
        self.tell(f"written: {picture} and .json")

    # -- inside ---------------------------------------------------------------------------------------

    def _inside_changed(self) -> None:
        if not self._quiet and self.view is not None and self.tabs.selected_index:
            show = (self._conditions, self._concepts, self._contrast)[self.tabs.selected_index - 1]
            self._guarded(partial(self._look_inside, show, self.view), self._clear_tabs)

    def _look_inside(self, show: Callable[[View], None], view: View) -> None:
        show(view)
        self.tell("")

    def inside(self) -> Inside:
        """Concepts and contrasts of the chosen CNN.

        Raises:
            ValueError: the images to learn from are not of its classes, or a layer that will not do.
        """
        name = self.cnn.value
        cnn = self.explorer.models.cnn(name)
        if name not in self._insides or self._insides[name].cnn is not cnn:
            outside = int(self.split.labels.max()) >= len(cnn.class_names)
            if outside or self.explorer.models.size(name) != self.split.image_size:
                raise ValueError(f"the images at hand are not what {name} was trained on")
            self._insides[name] = Inside(cnn, self.split)
        return self._insides[name]

    def _conditions(self, view: View) -> None:
        choice = view.choice
        explainer = self.explorer.models.explainer(choice.cnn, choice.method, choice.layer)
        if not isinstance(explainer, GeneratorExplainer):
            raise ValueError(f"{choice.method} has no conditions: choose a trained generator")
        found = conditions_of(explainer, self.explorer.image(choice), view.label)
        words = "What the generator reads, first layer to last, and how much the map moves without it."
        self.shown_conditions.children = [
            widgets.HTML(words),
            widgets.HBox(
                [
                    tile(own.name, view.over(own.picture), f"{100 * own.share:.0f} % of the relevance", 120)
                    for own in found
                ],
                layout=widgets.Layout(flex_flow="row wrap"),
            ),
        ]

    def _concepts(self, view: View) -> None:
        crops, maps = self.inside().concepts(self.explorer.image(view.choice), view.label)
        rows = [widgets.HTML("Concepts of the chosen class: where they are, and crops that show them.")]
        for number, (own, where) in enumerate(zip(crops, maps, strict=True)):
            tiles = [tile(f"concept {number + 1}, here", where, side=120)]
            tiles += [tile(f"prototype {place + 1}", crop, side=120) for place, crop in enumerate(own)]
            rows.append(widgets.HBox(tiles))
        self.shown_concepts.children = rows

    def _contrast(self, view: View) -> None:
        image, offset = self.explorer.image(view.choice), self.offset.value
        found = self.inside().shifted(image, self.one.value, self.against.value, [offset])
        title = f"activations moved by {offset:g} from the first class towards the second"
        self.contrast.value = bars(list(zip(found["method"], found["probability"], strict=True)), title)


def _menu(label: str, options: Sequence[Any] = ()) -> Any:
    return widgets.Dropdown(description=label, options=options, layout=WIDE, style=LABELS)


def _slider(label: str, options: Sequence[Any]) -> Any:
    return widgets.SelectionSlider(
        description=label, options=options, index=0, layout=WIDE, style=LABELS, continuous_update=False
    )
