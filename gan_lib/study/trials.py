"""A user study: blinded pairs of maps, forward simulation, attention checks; answers that survive a kill.

The questions are those of the literature: which of two maps shows better why the CNN says a class
(Selvaraju et al., ICCV 2017), and which class the CNN predicted, from the map alone (forward simulation,
Doshi-Velez and Kim, 2017).
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import os
import re
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from torch import Tensor

from gan_lib.core.checksums import is_there
from gan_lib.core.sheets import neutral, restored
from gan_lib.core.storage import atomic_path
from gan_lib.explorer import Choice, Explorer
from gan_lib.workbench.recipes import StudyRecipe

CHOICES = 4  # classes to choose from in forward simulation
NOTHING = "(no map)"  # what an attention check has on its other side
COLUMNS = (  # of the answers' file
    *("participant", "stimuli", "number", "kind", "item", "label", "left", "right"),
    *("answer", "chosen", "correct", "seconds", "time"),
)
CHECK = "check"  # behind them: a hash of the line before it
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")


@dataclass(frozen=True)
class Trial:
    """One question: which of two maps (``preference``, ``attention``), or which class (``forward``)."""

    kind: str
    item: int  # number of the image
    label: int  # the class that the CNN predicts for it
    left: str  # methods of the maps; in forward simulation there is no right one
    right: str = ""
    options: tuple[int, ...] = ()  # class numbers to choose from in forward simulation

    @property
    def answers(self) -> tuple[str, ...]:
        """What can be answered."""
        return tuple(map(str, self.options)) if self.kind == "forward" else ("A", "B")


def answered(
    trial: Trial, participant: str, number: int, answer: str, seconds: float, stimuli: str = ""
) -> dict[str, Any]:
    """An answer by :data:`COLUMNS`, with what it means.

    ``chosen`` is the method, in forward simulation the class; ``correct`` is empty where nothing is right
    or wrong.
    """
    if trial.kind == "forward":
        chosen, correct = answer, str(int(answer) == trial.label)
    else:
        chosen = trial.left if answer == "A" else trial.right
        correct = str(chosen != NOTHING) if trial.kind == "attention" else ""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    about = (trial.kind, trial.item, trial.label, trial.left, trial.right)
    values = (participant, stimuli, number, *about, answer, chosen, correct, round(seconds, 3), now)
    return dict(zip(COLUMNS, values, strict=True))


def plan_trials(
    recipe: StudyRecipe, labels: Sequence[int], participant: int, classes: int = 10, seed: int = 0
) -> list[Trial]:
    """The questions of one participant, in the order in which they are asked.

    Pairs of methods are balanced: over participants each of the M (M - 1) / 2 pairs is asked equally
    often (within one participant as far as ``pairs`` divides), each method stands on either side equally
    often, and images and order are drawn. The images of forward simulation appear in no other question,
    which would give their class away. The same seed and participant give the same questions.

    Args:
        recipe: the methods, and how many questions of each kind.
        labels: per image the class that the CNN predicts, of so many ``classes``.
        participant: number, from 0.
        seed: of the study.

    Raises:
        ValueError: fewer than two methods, or too few images.
    """
    methods, pairs, forward = list(dict.fromkeys(recipe.methods)), recipe.pairs, recipe.forward_questions
    if len(methods) < 2 or len(labels) < 1 + bool(forward):
        told = f"got {methods} and {len(labels)}"
        raise ValueError(f"a study needs two methods and an image for each kind of question, {told}")
    rng = np.random.default_rng([seed, participant])
    every = list(itertools.combinations(methods, 2))
    drawn_items = rng.permutation(len(labels))
    cut = min(forward, len(labels) // 2)  # images that are kept for forward simulation
    alone, compared = drawn_items[:cut], drawn_items[cut:]
    trials = []
    for turn in range(participant * pairs, (participant + 1) * pairs):  # goes on where the one before ended
        pair = every[turn % len(every)]
        left, right = pair if (turn // len(every)) % 2 == 0 else pair[::-1]
        item = int(rng.choice(compared))
        trials.append(Trial("preference", item, labels[item], left, right))
    for asked in range(forward):
        item = int(alone[asked % cut])
        others = [label for label in range(classes) if label != labels[item]]
        drawn = rng.permutation(others)[: min(CHOICES, classes) - 1].tolist()
        options = tuple(rng.permutation([labels[item], *drawn]).tolist())
        method = methods[(participant * forward + asked) % len(methods)]
        trials.append(Trial("forward", item, labels[item], method, options=options))
    for asked in range(recipe.attention_checks):
        item = int(rng.choice(compared))
        sides = (methods[0], NOTHING) if asked % 2 == 0 else (NOTHING, methods[0])
        trials.append(Trial("attention", item, labels[item], *sides))
    return [trials[number] for number in rng.permutation(len(trials))]


def _line(cells: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()


def _check(line: str) -> str:
    """Eight hexadecimal digits that tell a line from what is left of it, or was made of it."""
    return hashlib.sha256(line.encode(errors="surrogateescape")).hexdigest()[:8]


def _whole(line: str, has_checks: bool) -> list[str] | None:
    """The cells of a line, none of a heading; ``None`` of a damaged one, of a file whose lines have hashes
    also of one that has none."""
    if line in (",".join(COLUMNS), ",".join((*COLUMNS, CHECK))):
        return []
    text, _, check = line.rpartition(",")
    checked = check == _check(text)
    cells = next(csv.reader([text if checked else line]), []) if len(line) < csv.field_size_limit() else []
    # Files of before have no hashes: there the time, at the end, must be whole.
    if len(cells) != len(COLUMNS) or not (checked or (not has_checks and TIME.fullmatch(cells[-1]))):
        return None
    try:
        [float(cells[COLUMNS.index(name)]) for name in ("number", "item", "label", "seconds")]
    except ValueError:
        return None
    return [restored(own) for own in cells]


class AnswerFile:
    """Answers in a CSV file, one line each, on the disk before the next question is asked.

    A process that is killed loses at most the line that it was writing. Every line ends with a hash of
    itself: what is cut or changed is not believed, and :meth:`read` puts it aside.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def next_participant(self) -> int:
        """The number of one more participant, from 0; no two get the same, also at once."""
        counter = self.path.with_suffix(".participants")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"), open(counter, "ab") as file:
            file.write(b"\n")
            return file.tell() - 1

    def append(self, answer: Mapping[str, Any]) -> None:
        """Write one answer, from :func:`answered`; several processes may do so at once.

        Raises:
            ValueError: a line break in one of its texts.
        """
        text = _line([neutral(own) for own in answer.values()])
        if len(text.splitlines()) != 1:
            raise ValueError(f"answers are lines: no line breaks in {list(answer.values())}")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"), open(self.path, "ab") as file:
            # The break comes first, so that it also ends what a killed process has left.
            before = "" if file.tell() else ",".join((*COLUMNS, CHECK))
            file.write(f"{before}\n{text},{_check(text)}".encode())
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> pd.DataFrame:
        """All whole answers; empty where there is no file.

        Lines that are cut or changed are copied to a file beside it, ``.damaged`` behind its name, and told
        of in a warning.
        """
        lines = self._lines()
        # Line by line: what is left of a torn one must not swallow those behind it.
        has_checks = lines[:1] == [",".join((*COLUMNS, CHECK))]
        read = {line: _whole(line, has_checks) for line in lines}
        damaged = [line for line in lines if line and read[line] is None]
        if damaged:
            self._aside(damaged)
        whole = [row for line in lines if (row := read[line])]
        table = pd.DataFrame(whole, columns=list(COLUMNS))
        numbers = ["number", "item", "label", "seconds"]
        table[numbers] = table[numbers].apply(pd.to_numeric)
        return table

    def _lines(self) -> list[str]:
        if not is_there(self.path):
            return []
        with ExitStack() as held:
            with suppress(OSError):  # a folder that is only read: nobody writes there
                held.enter_context(FileLock(f"{self.path}.lock"))
            return self.path.read_bytes().decode(errors="surrogateescape").split("\n")

    def _aside(self, lines: Sequence[str]) -> None:
        place = self.path.with_name(f"{self.path.name}.damaged")
        told = f"{len(lines)} damaged lines of {self.path} are left out"
        with suppress(OSError):
            with atomic_path(place) as temporary:
                temporary.write_bytes("\n".join([*lines, ""]).encode(errors="surrogateescape"))
            told += f"; they are in {place.name}"
        warnings.warn(told, stacklevel=3)


class Study:
    """One participant's way through the questions.

        study = Study(trials, AnswerFile(Path("answers.csv")), "p01")
        study.current                # a Trial
        study.answer("A")            # on the disk; the next question is current

    Args:
        trials: from :func:`plan_trials`.
        file: where answers go.
        participant: what the participant is called in it.
        stimuli: what the images and maps are called in it (:attr:`Stimuli.fingerprint`).
    """

    def __init__(
        self, trials: Sequence[Trial], file: AnswerFile, participant: str, stimuli: str = ""
    ) -> None:
        self.trials, self.file, self.participant, self.stimuli = list(trials), file, participant, stimuli
        self.position, self._asked = 0, time.perf_counter()

    @property
    def current(self) -> Trial | None:
        """The question that is being asked; ``None`` after the last."""
        return self.trials[self.position] if self.position < len(self.trials) else None

    def answer(self, answer: str) -> None:
        """Write down an answer and go on.

        Raises:
            ValueError: no question is left, or an answer that it does not have.
        """
        trial = self.current
        if trial is None:
            raise ValueError("all questions are answered")
        if answer not in trial.answers:
            raise ValueError(f"the answer is one of {trial.answers}, not {answer!r}")
        seconds = time.perf_counter() - self._asked
        self.file.append(answered(trial, self.participant, self.position, answer, seconds, self.stimuli))
        self.position, self._asked = self.position + 1, time.perf_counter()


@dataclass(frozen=True)
class Stimuli:
    """What is shown."""

    images: Tensor  # (N, 3, H, W) in [0, 1]
    labels: tuple[int, ...]  # per image the class that the CNN predicts
    maps: Mapping[str, Tensor]  # per method (N, 1, H, W) in [0, 1]
    class_names: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """Hash of images and maps: it tells answers on other stimuli apart."""
        total = hashlib.sha256(self.images.numpy().tobytes())
        for method, own in self.maps.items():
            total.update(method.encode() + own.numpy().tobytes())
        return total.hexdigest()[:12]

    @classmethod
    def of(cls, explorer: Explorer, cnn: str, methods: Sequence[str], count: int, seed: int = 0) -> Stimuli:
        """Maps of images drawn from an explorer's gallery, each for the class that the CNN predicts."""
        names, methods = explorer.gallery.sample(count, seed), list(dict.fromkeys(methods))
        views = {own: [explorer.view(Choice(name, cnn, own)) for name in names] for own in methods}
        maps = {own: torch.stack([view.maps[own] for view in made]) for own, made in views.items()}
        first = views[methods[0]]
        images, labels = torch.stack([view.image for view in first]), tuple(view.label for view in first)
        return cls(images, labels, maps, explorer.models.cnn(cnn).class_names)

    def map(self, method: str, item: int) -> Tensor:
        """One map (1, H, W); of :data:`NOTHING` zeros."""
        return self.images[item, :1] * 0 if method == NOTHING else self.maps[method][item]
