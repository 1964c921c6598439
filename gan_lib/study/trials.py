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
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from torch import Tensor

from gan_lib.explorer.state import Choice, Explorer

KINDS = ("preference", "forward", "attention")
CHOICES = 4  # classes to choose from in forward simulation
NOTHING = "(no map)"  # what an attention check has on its other side


@dataclass(frozen=True)
class Trial:
    """One question.

    Attributes:
        kind: ``preference`` and ``attention``: which of two maps; ``forward``: which class.
        item: number of the image.
        label: the class that the CNN predicts for it.
        left, right: methods of the maps; in forward simulation ``right`` is empty.
        options: class numbers to choose from in forward simulation.
    """

    kind: str
    item: int
    label: int
    left: str
    right: str = ""
    options: tuple[int, ...] = ()

    @property
    def answers(self) -> tuple[str, ...]:
        """What can be answered."""
        return tuple(map(str, self.options)) if self.kind == "forward" else ("A", "B")


@dataclass(frozen=True)
class Answer:
    """One answered question: the columns of the answers' file."""

    participant: str
    stimuli: str
    number: int
    kind: str
    item: int
    label: int
    left: str
    right: str
    answer: str
    chosen: str
    correct: str
    seconds: float
    time: str


def plan_trials(
    labels: Sequence[int],
    methods: Sequence[str],
    participant: int,
    pairs: int = 20,
    forward: int = 5,
    attention: int = 2,
    classes: int = 10,
    seed: int = 0,
) -> list[Trial]:
    """The questions of one participant, in the order in which they are asked.

    Pairs of methods are balanced: over participants each of the M (M - 1) / 2 pairs is asked equally
    often (within one participant as far as ``pairs`` divides), each method stands on either side equally
    often, and images and order are drawn. The images of forward simulation appear in no other question,
    which would give their class away. The same seed and participant give the same questions.

    Args:
        labels: per image the class that the CNN predicts.
        methods: at least two.
        participant: number, from 0.
        pairs, forward, attention: questions of each kind.
        classes: number of classes.
        seed: of the study.

    Raises:
        ValueError: fewer than two methods, or too few images.
    """
    if len(set(methods)) < 2 or len(labels) < 1 + bool(forward):
        raise ValueError(
            f"a study needs two methods and an image for each kind of question, got {list(methods)} and "
            f"{len(labels)}"
        )
    rng = np.random.default_rng([seed, participant])
    every = list(itertools.combinations(dict.fromkeys(methods), 2))
    drawn_items = rng.permutation(len(labels))
    cut = min(forward, len(labels) // 2)  # images that are kept for forward simulation
    alone, compared = drawn_items[:cut], drawn_items[cut:]
    trials = []
    for asked in range(pairs):
        turn = participant * pairs + asked  # goes on where the participant before has ended
        pair = every[turn % len(every)]
        left, right = pair if (turn // len(every)) % 2 == 0 else pair[::-1]
        item = int(rng.choice(compared))
        trials.append(Trial("preference", item, labels[item], left, right))
    for asked in range(forward):
        item = int(alone[asked % cut])
        others = [label for label in range(classes) if label != labels[item]]
        drawn = rng.permutation(others)[: min(CHOICES, classes) - 1].tolist()
        options = rng.permutation([labels[item], *drawn]).tolist()
        method = list(dict.fromkeys(methods))[(participant * forward + asked) % len(set(methods))]
        trials.append(Trial("forward", item, labels[item], method, options=tuple(options)))
    for asked in range(attention):
        item = int(rng.choice(compared))
        sides = (methods[0], NOTHING) if asked % 2 == 0 else (NOTHING, methods[0])
        trials.append(Trial("attention", item, labels[item], *sides))
    return [trials[number] for number in rng.permutation(len(trials))]


class AnswerFile:
    """Answers in a CSV file, one line each, on the disk before the next question is asked.

    A process that is killed loses at most the line that it was writing; what is left of such a line is
    put aside when the next one is written, and not read.

    Args:
        path: of the file; made when the first answer comes.
    """

    columns = tuple(field.name for field in fields(Answer))

    def __init__(self, path: Path) -> None:
        self.path = path

    def next_participant(self) -> int:
        """The number of one more participant, from 0; no two get the same, also at once."""
        counter = self.path.with_suffix(".participants")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"), open(counter, "a+") as file:
            file.seek(0)
            number = len(file.readlines())
            file.write(f"{number}\n")
        return number

    def append(self, answer: Answer) -> None:
        """Write one answer; several processes may do so at once.

        Raises:
            ValueError: a line break in one of its texts.
        """
        texts = [value for value in asdict(answer).values() if isinstance(value, str)]
        if any(len(text.splitlines()) > 1 or text.endswith(("\n", "\r")) for text in texts):
            raise ValueError(f"answers are lines: no line breaks in {texts}")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"), open(self.path, "ab+") as file:
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            if file.seek(0, os.SEEK_END) == 0:
                writer.writerow(self.columns)
            else:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # what a killed process has left
                    text.write("\n")
            writer.writerow(asdict(answer).values())
            file.write(text.getvalue().encode())
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> pd.DataFrame:
        """All whole answers; empty where there is no file."""
        if not self.path.is_file():
            return pd.DataFrame(columns=list(self.columns))
        lines = self.path.read_bytes().decode(errors="replace").split("\n")
        # Line by line: what is left of a torn one must not swallow those behind it.
        rows = [next(csv.reader([line]), []) for line in lines if len(line) < csv.field_size_limit()]
        whole = [row for row in rows if len(row) == len(self.columns) and tuple(row) != self.columns]
        table = pd.DataFrame(whole, columns=list(self.columns))
        for name in ("number", "item", "label", "seconds"):
            table[name] = pd.to_numeric(table[name], errors="coerce")
        return table.dropna(subset=["number", "seconds"]).reset_index(drop=True)


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
        self.trials, self.file = list(trials), file
        self.participant, self.stimuli = participant, stimuli
        self.position = 0
        self._asked = time.perf_counter()

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
        self.position += 1
        self._asked = time.perf_counter()


def answered(
    trial: Trial, participant: str, number: int, answer: str, seconds: float, stimuli: str = ""
) -> Answer:
    """An answer with what it means: the chosen method, and whether it is right where there is a right one."""
    if trial.kind == "forward":
        chosen, correct = answer, str(int(answer) == trial.label)
    else:
        chosen = trial.left if answer == "A" else trial.right
        correct = str(chosen != NOTHING) if trial.kind == "attention" else ""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    values = (trial.kind, trial.item, trial.label, trial.left, trial.right, answer, chosen, correct)
    return Answer(participant, stimuli, number, *values, round(seconds, 3), now)


@dataclass(frozen=True)
class Stimuli:
    """What is shown.

    Attributes:
        images: (N, 3, H, W) in [0, 1].
        labels: per image the class that the CNN predicts.
        maps: per method (N, 1, H, W) in [0, 1].
        class_names: of all classes.
    """

    images: Tensor
    labels: tuple[int, ...]
    maps: Mapping[str, Tensor]
    class_names: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """Hash of images and maps: it tells answers on other stimuli apart."""
        total = hashlib.sha256(self.images.numpy().tobytes())
        for method, own in self.maps.items():
            total.update(method.encode() + own.numpy().tobytes())
        return total.hexdigest()[:12]

    @classmethod
    def of(cls, explorer: Explorer, cnn: str, methods: Sequence[str], count: int) -> Stimuli:
        """Maps of the first images of an explorer's gallery, each for the class that the CNN predicts."""
        names = list(explorer.gallery)[:count]
        views = {
            method: [explorer.view(Choice(name, cnn, method)) for name in names]
            for method in dict.fromkeys(methods)
        }
        first = next(iter(views.values()))
        return cls(
            torch.stack([view.image for view in first]),
            tuple(int(view.choice.target or 0) for view in first),
            {method: torch.stack([view.maps[method] for view in own]) for method, own in views.items()},
            explorer.models.cnn(cnn).class_names,
        )

    def map(self, method: str, item: int) -> Tensor:
        """One map (1, H, W); of :data:`NOTHING` zeros."""
        if method == NOTHING:
            return self.images.new_zeros((1, *self.images.shape[-2:]))
        return self.maps[method][item]
