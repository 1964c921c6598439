"""The study's widgets; :class:`Study` does the work."""

from __future__ import annotations

import html
import secrets
from collections.abc import Callable
from functools import partial
from typing import Any

import ipywidgets as widgets

from gan_lib.explorer import Explorer
from gan_lib.explorer.pictures import tile
from gan_lib.figures import overlay
from gan_lib.study.trials import AnswerFile, Stimuli, Study, Trial, plan_trials
from gan_lib.workbench.recipes import Recipe

SIDE = 256
WHICH = "Which map shows better why the network says <b>{name}</b>?"
FORWARD = "This is only the map. Which class did the network predict?"


def new_participant(explorer: Explorer, recipe: Recipe, file: AnswerFile) -> widgets.VBox:
    """The page of one more participant: a recipe's study of a CNN that an explorer has.

    Raises:
        KeyError: an unknown method.
        ValueError: too few images or methods.
    """
    study, cnn = recipe.study, recipe.explorer.cnn
    stimuli = Stimuli.of(explorer, cnn, study.methods, study.images, recipe.seed)
    number, classes = file.next_participant(), len(stimuli.class_names)
    trials = plan_trials(study, stimuli.labels, number, classes, recipe.seed)
    return study_panel(Study(trials, file, secrets.token_hex(4), stimuli.fingerprint), stimuli)


def study_panel(study: Study, stimuli: Stimuli) -> widgets.VBox:
    """A page that asks one question after the other."""
    heading, pictures, buttons = widgets.HTML(), widgets.HBox(), widgets.HBox()
    box = widgets.VBox([heading, pictures, buttons])
    box.add_class("gan-lib-study")

    def ask() -> None:
        trial, position = study.current, study.position
        if trial is None:
            buttons.children = pictures.children = ()
            heading.value = "<h3>Thank you. All answers are saved.</h3>"
            return
        pictures.children = _tiles(trial, stimuli)
        buttons.children = [
            _button(answer, trial, stimuli, partial(take, answer, position)) for answer in trial.answers
        ]
        name = html.escape(stimuli.class_names[trial.label])
        question = FORWARD if trial.kind == "forward" else WHICH.format(name=name)
        heading.value = f"<p>Question {position + 1} of {len(study.trials)}</p><h3>{question}</h3>"

    def take(answer: str, position: int, _: Any) -> None:
        try:
            if position == study.position:  # else a second click on a question that has been answered
                study.answer(answer)
            ask()
        except Exception as error:  # the disk is full, a map cannot be drawn: told, and the buttons stay
            what = "Your answer could not be saved" if position == study.position else "No further question"
            why = html.escape(f"{type(error).__name__}: {error}")
            heading.value = f'<p role="alert">{what}, please try again: {why}</p>'

    ask()
    return box


def _tiles(trial: Trial, stimuli: Stimuli) -> list[widgets.VBox]:
    image = stimuli.images[trial.item]
    if trial.kind == "forward":
        alone = overlay(image[None] * 0, stimuli.map(trial.left, trial.item)[None], opacity=1.0)[0]
        return [tile("the map", alone, side=SIDE)]
    maps = [stimuli.map(method, trial.item)[None] for method in (trial.left, trial.right)]
    shown = [image, *(overlay(image[None], own)[0] for own in maps)]
    return [tile(title, own, side=SIDE) for title, own in zip(("image", "A", "B"), shown, strict=True)]


def _button(answer: str, trial: Trial, stimuli: Stimuli, clicked: Callable[[Any], None]) -> widgets.Button:
    text = stimuli.class_names[int(answer)] if trial.kind == "forward" else answer
    made = widgets.Button(description=text, button_style="primary")
    made.add_class("gan-lib-answer")
    made.on_click(clicked)
    return made
