"""The study's widgets; :class:`Study` does the work."""

from __future__ import annotations

import html
from collections.abc import Callable
from functools import partial

import ipywidgets as widgets
from torch import Tensor

from gan_lib.explorer.pictures import tile
from gan_lib.figures import overlay
from gan_lib.study.trials import Stimuli, Study, Trial

SIDE = 256
WHICH = "Which map shows better why the network says <b>{name}</b>?"
FORWARD = "This is only the map. Which class did the network predict?"


def study_panel(study: Study, stimuli: Stimuli) -> widgets.VBox:
    """A page that asks one question after the other.

    Args:
        study: questions and where answers go.
        stimuli: images and maps.
    """
    heading, pictures, buttons = widgets.HTML(), widgets.HBox(), widgets.HBox()
    box = widgets.VBox([heading, pictures, buttons])
    box.add_class("gan-lib-study")

    def ask() -> None:
        trial, position = study.current, study.position
        buttons.children = ()
        if trial is None:
            pictures.children = ()
            heading.value = "<h3>Thank you. All answers are saved.</h3>"
            return
        pictures.children = [tile(title, own, side=SIDE) for title, own in _pictures(trial, stimuli)]
        buttons.children = [
            _button(_text(answer, trial, stimuli), partial(take, answer, position))
            for answer in trial.answers
        ]
        counted = f"Question {position + 1} of {len(study.trials)}"
        heading.value = f"<p>{counted}</p><h3>{_question(trial, stimuli)}</h3>"

    def take(answer: str, position: int) -> None:
        if position != study.position:  # a second click on a question that has been answered
            return
        try:
            study.answer(answer)
        except OSError as error:  # the disk is full, the folder is gone: the question stays
            why = html.escape(str(error))
            heading.value = f'<p role="alert">Your answer could not be saved, please try again: {why}</p>'
            return
        ask()

    ask()
    return box


def _question(trial: Trial, stimuli: Stimuli) -> str:
    name = html.escape(stimuli.class_names[trial.label])
    return FORWARD if trial.kind == "forward" else WHICH.format(name=name)


def _pictures(trial: Trial, stimuli: Stimuli) -> list[tuple[str, Tensor]]:
    image = stimuli.images[trial.item]
    if trial.kind == "forward":
        alone = overlay(image[None] * 0, stimuli.map(trial.left, trial.item)[None], opacity=1.0)[0]
        return [("the map", alone)]
    sides = {"A": trial.left, "B": trial.right}
    maps = [
        (side, overlay(image[None], stimuli.map(method, trial.item)[None])[0])
        for side, method in sides.items()
    ]
    return [("image", image), *maps]


def _text(answer: str, trial: Trial, stimuli: Stimuli) -> str:
    return stimuli.class_names[int(answer)] if trial.kind == "forward" else answer


def _button(text: str, clicked: Callable[[], None]) -> widgets.Button:
    made = widgets.Button(description=text, button_style="primary")
    made.add_class("gan-lib-answer")
    made.on_click(lambda _: clicked())
    return made
