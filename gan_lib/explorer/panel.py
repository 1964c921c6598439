"""The explorer's widgets: they bind :class:`Explorer` and :class:`Inside`, and compute nothing."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from gan_lib.core.masking import FILLS
from gan_lib.explainers import GeneratorExplainer
from gan_lib.explorer.inside import conditions_of
from gan_lib.explorer.models import layered
from gan_lib.explorer.pictures import bars, tile
from gan_lib.explorer.state import Choice, Explorer, View

# Values of menus are never None, which for a widget means that nothing is chosen.
AREAS = [("as it is", 0.0), *((f"{part} %", part / 100) for part in (1, 2, 5, 10, 15, 20, 30, 40, 50, 75))]
OFFSETS = [round(0.25 * step, 2) for step in range(25)]
NONE = "(none)"
DEFAULT = ("default", "")  # the layer that a method takes by itself
WORKING = {
    "Conditions": "asking the generator without each of its conditions ...",
    "Concepts": "learning the concepts of this class from images; the first of a CNN takes longest ...",
    "Contrasting": "learning the hyperplanes between the classes; the first of a CNN takes longest ...",
    "Scores": "asking the CNN about what the maps show and hide ...",
}
WIDE = widgets.Layout(width="300px")
LABELS = {"description_width": "90px"}
TOLD = (ValueError, KeyError, IndexError, FileNotFoundError)  # whose messages are for people


class ExplorerPanel(widgets.VBox):
    """Everything to look at one image with, in one panel.

    Args:
        explorer: with its models, its gallery, and images to learn concepts and contrasts from.
        export_dir: receives exported views.

    Attributes:
        message: where notices and errors are told.
        view: what is shown; ``None`` where there is nothing to show.
        found: what each tab shows.
    """

    def __init__(self, explorer: Explorer, export_dir: Path = Path("exports")) -> None:
        self.explorer, self.export_dir = explorer, export_dir
        self.view: View | None = None
        self._quiet = False
        self.message = widgets.HTML(layout=widgets.Layout(min_height="24px"))
        controls, tabs = self._controls(), self._tabs()
        super().__init__([self.message, widgets.HBox([controls, self.output]), tabs])
        self.add_class("gan-lib-explorer")
        self._new_cnn()

    # -- what there is --------------------------------------------------------------------------------

    def _controls(self) -> widgets.VBox:
        self.image = _menu("image", list(self.explorer.gallery))
        self.uploader = widgets.FileUpload(accept="image/*", description="upload an image", layout=WIDE)
        self.cnn = _menu("CNN", self.explorer.models.names())
        self.lacking = self._weights()
        self.method, self.other = _menu("method"), _menu("compare with", [NONE])
        self.layer, self.target = _menu("layer"), _menu("class")
        self.fill = widgets.ToggleButtons(
            description="hidden is", options=list(FILLS), style={**LABELS, "button_width": "58px"}
        )
        self.area = _slider("area shown", AREAS)
        self.exporter = widgets.Button(description="export PNG + JSON", icon="download", layout=WIDE)
        self.top, self.output = widgets.HTML(), widgets.VBox(layout=widgets.Layout(width="860px"))
        self.output.add_class("gan-lib-view")
        chosen = (self.method, self.other, self.layer, self.target, self.fill, self.area)
        for control in (self.image, *chosen):
            control.observe(lambda _: self._changed(), names="value")
        self.cnn.observe(lambda _: self._new_cnn(), names="value")
        self.uploader.observe(lambda _: self._guarded(self._take), names="value")
        self.exporter.on_click(lambda _: self._guarded(self._export))
        parts = [self.image, self.uploader, self.cnn, self.lacking, *chosen, self.exporter, self.top]
        return widgets.VBox(parts, layout=widgets.Layout(min_width="330px"))

    def _weights(self) -> widgets.VBox:
        """Where a file of weights is named, shown while a CNN lacks its own."""
        self.weights = widgets.Combobox(
            description="weights", placeholder="path of a file", layout=WIDE, style=LABELS
        )
        self.taker = widgets.Button(description="use these weights", icon="check", layout=WIDE)
        self.taker.on_click(lambda _: self._guarded(self._take_weights, self._clear))
        words = "A file of this CNN's weights, .safetensors or .pth, on the machine that runs the notebook:"
        return widgets.VBox([widgets.HTML(words, layout=WIDE), self.weights, self.taker])

    def _tabs(self) -> widgets.Tab:
        self.one, self.against = _menu("class"), _menu("rather than")
        self.offset = _slider("offset", OFFSETS)
        for control in (self.one, self.against, self.offset):
            control.observe(lambda _: self._look(), names="value")
        self._looks: dict[str, Callable[[View], list[widgets.Widget]]] = {
            "Conditions": self._conditions,
            "Concepts": self._concepts,
            "Contrasting": self._contrast,
            "Scores": self._scores,
        }
        self.found = {title: widgets.VBox() for title in self._looks}
        contrasting = widgets.VBox([self.one, self.against, self.offset, self.found["Contrasting"]])
        pages = {"Outside": widgets.HTML("Open a tab to look inside the CNN.")} | self.found
        pages["Contrasting"] = contrasting
        self.tabs = widgets.Tab(list(pages.values()), titles=list(pages))
        self.tabs.observe(lambda _: self._look(), names="selected_index")
        return self.tabs

    # -- what happens ---------------------------------------------------------------------------------

    def tell(self, text: str, wrong: bool = False) -> None:
        """Show a notice, or what went wrong."""
        colour, role = ("#b00020", "alert") if wrong else ("#444", "status")
        self.message.value = f'<span role="{role}" style="color:{colour}">{html.escape(text)}</span>'

    def _guarded(self, work: Callable[[], None], otherwise: Callable[[], None] = lambda: None) -> None:
        """Run what a person asked for; when it fails, take away what is no longer true, and say why."""
        try:
            work()
        except Exception as error:  # the boundary to a person, who is told in words
            otherwise()
            kind = "" if isinstance(error, TOLD) else f"{type(error).__name__}: "
            self.tell(f"{kind}{error.args[0] if error.args else error}", wrong=True)

    @contextmanager
    def _silence(self) -> Iterator[None]:
        """Within the block, changed menus are no wish of a person's; whatever happens, the next one is."""
        self._quiet = True
        try:
            yield
        finally:
            self._quiet = False

    def _new_cnn(self) -> None:
        self._guarded(self._offer, self._clear)

    def _offer(self) -> None:
        """Fill the menus that depend on the CNN, those first that need no weights of it, and show it."""
        models, name = self.explorer.models, self.cnn.value
        classes, methods = models.card(name).class_names, models.methods(name)
        numbered = [(f"{number}: {label}", number) for number, label in enumerate(classes)]
        with self._silence():
            for menu, options in (
                (self.method, methods),
                (self.other, [NONE, *methods]),
                (self.target, [("the prediction", -1), *numbered]),
                (self.one, numbered),
                (self.against, numbered),
            ):
                _fill(menu, options)
            self.against.index = min(1, len(classes) - 1)
        self.weights.options = [str(path) for path in models.weights_files()]
        self.lacking.layout.display, layers = "", []  # until the weights are there
        try:
            layers = models.layers(name)
            self.lacking.layout.display = "none"
        finally:
            with self._silence():
                _fill(self.layer, [DEFAULT, *((layer, layer) for layer in layers)])
        self._show()

    def _take_weights(self) -> None:
        """Go on with the weights of the file that was named."""
        path = self.weights.value.strip()
        if not path:
            raise ValueError("name a file of weights first")
        self.tell("reading the weights ...")
        self.explorer.models.take_weights(self.cnn.value, Path(path).expanduser())
        self._offer()

    def _changed(self) -> None:
        if not self._quiet:
            self._guarded(self._show, self._clear)

    def _clear(self) -> None:
        self.view, self.output.children, self.top.value = None, (), ""
        self._clear_tabs()

    def _clear_tabs(self) -> None:
        for box in self.found.values():
            box.children = ()

    def _choice(self) -> Choice:
        names = (self.image.value, self.cnn.value, self.method.value)
        other, layer = None if self.other.value == NONE else self.other.value, self.layer.value or None
        target = None if self.target.value == -1 else self.target.value
        return Choice(*names, other, layer, target, self.fill.value, self.area.value or None)

    def _show(self) -> None:
        choice = self._choice()
        self.layer.disabled = not (layered(choice.method) or layered(choice.other))
        self.view = view = self.explorer.view(choice)
        tiles = [
            tile(title, own, "" if value is None else f"{view.name}: {100 * value:.1f} %")
            for title, (own, value) in view.pictures.items()
        ]
        end = 1 + 3 * len(view.maps)  # the image, three of each method, perhaps a difference
        rows = [[tiles[0], *tiles[end:]], *(tiles[start : start + 3] for start in range(1, end, 3))]
        self.output.children = [widgets.HBox(row) for row in rows]
        self.top.value = bars([(label, value) for _, label, value in view.top], "five most probable classes")
        self.tell(f"{1000 * view.seconds:.0f} ms, {'from the cache' if view.cached else 'computed'}")
        self._look()

    def _take(self) -> None:
        """Show what was uploaded."""
        if not self.uploader.value:
            return
        given = self.uploader.value[0]
        self.uploader.value = ()  # so that the same file can be tried again
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

    def _look(self) -> None:
        """Fill the open tab."""
        if not self._quiet and self.view is not None and self.tabs.selected_index:
            title = self.tabs.titles[self.tabs.selected_index]
            self.tell(WORKING.get(title, ""))  # shown while the kernel is at it
            self._guarded(partial(self._fill_tab, title, self.view), self._clear_tabs)

    def _fill_tab(self, title: str, view: View) -> None:
        self.found[title].children = self._looks[title](view)
        self.tell("")

    def _conditions(self, view: View) -> list[widgets.Widget]:
        choice = view.choice
        explainer = self.explorer.models.explainer(choice.cnn, choice.method, choice.layer)
        if not isinstance(explainer, GeneratorExplainer):
            raise ValueError(f"{choice.method} has no conditions: choose a trained generator")
        found = conditions_of(explainer, self.explorer.image(choice), view.label)
        tiles = [
            tile(name, view.over(picture), f"{100 * share:.0f} % of the relevance", 120)
            for name, (picture, share) in found.items()
        ]
        words = "What the generator reads, first layer to last, and how much the map moves without it."
        return [widgets.HTML(words), widgets.HBox(tiles, layout=widgets.Layout(flex_flow="row wrap"))]

    def _concepts(self, view: View) -> list[widgets.Widget]:
        inside, image = self.explorer.inside(view.choice.cnn), self.explorer.image(view.choice)
        rows = [widgets.HTML("Concepts of the chosen class: where they are, and crops that show them.")]
        for number, (own, where) in enumerate(zip(*inside.concepts(image, view.label), strict=True), 1):
            tiles = [tile(f"concept {number}, here", where, side=120)]
            tiles += [tile(f"prototype {place}", crop, side=120) for place, crop in enumerate(own, 1)]
            rows.append(widgets.HBox(tiles))
        return rows

    def _contrast(self, view: View) -> list[widgets.Widget]:
        inside, image = self.explorer.inside(view.choice.cnn), self.explorer.image(view.choice)
        offset = self.offset.value
        found = inside.shifted(image, self.one.value, self.against.value, [offset])
        title = f"activations moved by {offset:g} from the first class towards the second"
        return [widgets.HTML(bars(list(zip(found["method"], found["probability"], strict=True)), title))]

    def _scores(self, view: View) -> list[widgets.Widget]:
        return [widgets.HTML(self.explorer.scores(view).to_html(float_format="{:.3g}".format, border=0))]


def _menu(label: str, options: Sequence[Any] = ()) -> Any:
    return widgets.Dropdown(description=label, options=options, layout=WIDE, style=LABELS)


def _fill(menu: Any, options: Sequence[Any]) -> None:
    """Other options for a menu; what was chosen stays where it is still among them."""
    kept, menu.options = menu.value, options
    menu.index = options.index(kept) if kept in options else 0  # a method stays, a class does not


def _slider(label: str, options: Sequence[Any]) -> Any:
    return widgets.SelectionSlider(
        description=label, options=options, index=0, layout=WIDE, style=LABELS, continuous_update=False
    )
