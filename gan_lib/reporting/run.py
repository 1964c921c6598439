"""Write a report: part after part, each kept when it is made, and a page of all of them.

OUT/
    report.html      the page: one file, pictures inside
    report.json      settings, findings and failures, for machines
    tables/*.csv     all tables
    parts/NAME/      what each part is made of; a run that was interrupted goes on from them
    kept/            predictions and maps
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from gan_lib.classifiers import Classifier
from gan_lib.concepts import HiddenLayer
from gan_lib.core.artifacts import code_version
from gan_lib.core.runtime import quiet, release_memory
from gan_lib.core.sheets import neutral_table
from gan_lib.core.storage import atomic_path, tensor_bytes, write_json
from gan_lib.data import ImageSplit
from gan_lib.explainers import Explainer
from gan_lib.reporting.about import explained, made
from gan_lib.reporting.case import UNKNOWN, Case, see
from gan_lib.reporting.classes import classes, title
from gan_lib.reporting.folder import ABOUT, FINDINGS, KEPT, TRAINING, about_of, clear, prepare, refuse
from gan_lib.reporting.page import PAGE, PARTS, write_page
from gan_lib.reporting.parts import COLUMNS, TABLES, Part, load_part
from gan_lib.reporting.relies import relies
from gan_lib.reporting.speaking import Learned, concepts, shown_concepts
from gan_lib.reporting.trust import trust
from gan_lib.workbench.explain import settings_of, version_of

NAMES = ("explained", "classes", "trust", "concepts", "beside", "shown", "made")  # of the parts, in order
LEAD = ("found", "candidates", "reading", "right", "reached")  # tables whose findings open the page, in order


@dataclass(frozen=True)
class Report:
    """A report that was written.

    Attributes:
        folder: that holds it; ``page`` is its HTML file.
        findings: a row per sentence: ``part``, ``sentence``, ``claim``, ``table``, ``where``, ``condition``,
            ``value``, ``low``, ``high``, ``n`` and ``verdict``.
        failed: parts that could not be made, with the reason.
    """

    folder: Path
    findings: pd.DataFrame = field(repr=False)
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def lead(self) -> list[str]:
        """The sentences that open the page."""
        sentences = self.findings["sentence"].tolist()
        return [sentences[place] for place in _order(self.findings.to_dict("records"))]

    @property
    def page(self) -> Path:
        """The HTML file."""
        return self.folder / PAGE


SEEING = "predictions and maps"  # what comes before the parts


class _Parts:
    """The parts by name, made when they are asked for; what two of them need is made once."""

    def __init__(self, case: Case, said: bool) -> None:
        self.case, self.said = case, said

    @cached_property
    def hidden(self) -> HiddenLayer:
        return HiddenLayer(self.case.cnn, None, self.case.split.image_size)

    @cached_property
    def learned(self) -> Learned:
        return Learned(self.case, self.hidden)

    def makers(self) -> dict[str, tuple[str, Callable[[], Part]]]:
        """Title, and what makes the part."""
        case = self.case
        return {
            "explained": ("What was explained", lambda: explained(case, self.said)),
            "classes": ("Images of each class, explained", lambda: classes(case)),
            "trust": ("Can these maps be trusted?", lambda: trust(case)),
            "concepts": (
                "What speaks for a class: concepts",
                lambda: self._of_layer("concepts", concepts),
            ),
            "beside": ("Does it rely on something beside the object?", lambda: relies(case)),
            "shown": (
                f"What {title(case.main)} ever shows",
                lambda: self._of_layer("shown", shown_concepts),
            ),
        }

    def _of_layer(self, name: str, make: Callable[[Case, Learned], Part]) -> Part:
        """A part about concepts; of a CNN without a layer for them, why there are none."""
        try:
            _ = self.hidden
        except ValueError as error:
            part = Part(name, self.makers()[name][0])
            part.words(
                "There are no concepts of this CNN: they are factors of what its last layer with places "
                "holds, and there is none that its scores depend on."
            )
            part.table(f"why_no_{name}", pd.DataFrame({"reason": [str(error)]}), "Why not.")
            return part
        return make(self.case, self.learned)


def write_report(
    cnn: Classifier,
    split: ImageSplit,
    explainers: Mapping[str, Explainer],
    out: Path,
    skipped: Sequence[tuple[str, str]] = (),
    *,
    said: bool = False,
    command: str = "",
    overwrite: bool = False,
    seed: int = 0,
    tell: Callable[[str], None] = lambda _: None,
) -> Report:
    """Write what a CNN relies on, and whether the maps that say so can be trusted, as one page.

    Parts that the folder has, of the same settings, are not made again. One that fails is reported in its
    place, and the others are written.

    Args:
        cnn: what is explained.
        split: images at its size (:func:`gan_lib.reporting.case.read_split`).
        explainers: by method; the report is about the first one.
        out: folder that receives the report.
        skipped: files that could not be read, with the reason.
        said: whether somebody said what the CNN's outputs mean.
        command: that makes the report again.
        overwrite: whether a report of other settings in the folder is replaced.
        seed: of every choice.
        tell: is told what is being done.

    Raises:
        ValueError: the folder holds a report of other settings, there is no image with finite probabilities
            and maps, a label of no class, or a seed that is none.
    """
    if not 0 <= seed < 2**63:
        raise ValueError(f"a seed is a number from 0 to 2^63 - 1, not {seed}")
    _check_labels(cnn, split)
    explained_by = {name: version_of(own) or _options(own) for name, own in explainers.items()}
    settings = _settings(cnn, split, skipped, said, seed)
    settings |= {"explainers": explained_by, "method": next(iter(explainers))}
    prepare(out, settings, NAMES, overwrite)
    seconds: dict[str, float] = dict(about_of(out).get("seconds", {}))
    start = time.perf_counter()
    try:
        case = see(cnn, split, explainers, skipped, out / KEPT, seed, tell)
    except ValueError:  # there will be no report: nothing is left that would be in the way of another
        clear(out, NAMES)
        raise
    seconds.setdefault(SEEING, time.perf_counter() - start)
    makers = _Parts(case, said).makers()
    failed: dict[str, str] = {}
    for number, (name, (heading, make)) in enumerate(makers.items(), start=1):
        if load_part(out / PARTS / name) is None:
            tell(f"{number}/{len(makers) + 1} {heading}")
            start = time.perf_counter()
            try:
                with quiet():
                    part = make()
                part.save(out / PARTS / name)
            except Exception as error:  # the other parts are worth having
                failed[name] = " ".join(f"{type(error).__name__}: {error}".split())
                tell(f"{heading} could not be made: {failed[name]}")
            release_memory()
            seconds[name] = time.perf_counter() - start
            _assemble(out, makers, settings, failed, seconds, command)
    seconds = {name: seconds[name] for name in (SEEING, *makers) if name in seconds}
    made(settings, command, seconds).save(out / PARTS / "made")
    return _assemble(out, makers, settings, failed, seconds, command)


def _order(findings: Sequence[Mapping[Any, Any]]) -> list[int]:
    """Places of the findings that open the page, in that order."""
    return [place for table in LEAD for place, own in enumerate(findings) if own["table"] == table]


def check_folder(
    cnn: Classifier,
    split: ImageSplit,
    out: Path,
    skipped: Sequence[tuple[str, str]] = (),
    *,
    said: bool = False,
    seed: int = 0,
) -> None:
    """Whether a folder can receive a report for which something is yet to be trained.

    Raises:
        ValueError: it holds a report of other settings, or for which nothing was trained; or a label is of no
            class.
    """
    _check_labels(cnn, split)
    settings = _settings(cnn, split, skipped, said, seed)
    known = about_of(out).get("settings", {})
    wanted = {**known, **settings}
    if wanted == known and not (out / KEPT / TRAINING).is_dir():
        wanted["explainers"] = {}
    if wanted != known:
        refuse(out, wanted, NAMES)


def _check_labels(cnn: Classifier, split: ImageSplit) -> None:
    count = len(cnn.class_names)
    strange = split.labels[(split.labels < UNKNOWN) | (split.labels >= count)]
    if len(strange):
        raise ValueError(f"the images have a label {int(strange[0])}, the CNN the classes 0 to {count - 1}")


def _settings(
    cnn: Classifier, split: ImageSplit, skipped: Sequence[tuple[str, str]], said: bool, seed: int
) -> dict[str, Any]:
    """What decides a report beside its explainers, as JSON values."""
    about = hashlib.sha256(tensor_bytes(split.images[:]) + tensor_bytes(split.labels))
    about.update("\n".join([*split.paths, *(path for path, _ in skipped)]).encode(errors="replace"))
    own = {
        **settings_of(cnn, split.image_size),
        "images": f"{len(split)}, SHA-256 {about.hexdigest()[:16]}",
        "output_given": said,
        "seed": seed,
        "code": code_version("gan_lib.reporting.run"),
    }
    kept: dict[str, Any] = json.loads(json.dumps(own))
    return kept


def _options(explainer: Explainer) -> dict[str, Any]:
    """Options of an explainer, as JSON values."""
    plain = (bool, int, float, str)
    return {name: own for name, own in vars(explainer).items() if name != "name" and isinstance(own, plain)}


def _assemble(
    out: Path,
    makers: Mapping[str, tuple[str, Callable[[], Part]]],
    settings: Mapping[str, Any],
    failed: Mapping[str, str],
    seconds: Mapping[str, float],
    command: str,
) -> Report:
    """Page, tables and ``report.json`` of the parts that are there."""
    parts: list[Mapping[str, Any]] = []
    headings = {name: heading for name, (heading, _) in makers.items()} | {"made": "How it was made"}
    for name, heading in headings.items():
        own = load_part(out / PARTS / name)
        parts.append(own if own else {"name": name, "title": heading, "error": failed.get(name)})
        for table in own["tables"] if own else ():
            with atomic_path(out / TABLES / f"{table}.csv") as temporary:
                shutil.copyfile(out / PARTS / name / TABLES / f"{table}.csv", temporary)
    findings = [own for part in parts for own in part.get("findings", ())]
    lead = [findings[place] for place in _order(findings)]
    architecture = Path(str(settings["architecture"])).name
    about = {
        "images": settings["images"],
        "code": settings["code"],
        "command": command or "gan_lib.report",
    }
    write_page(out, f"What {architecture} relies on", lead, parts, about)
    told = {"settings": settings, "command": command, "seconds": seconds, "failed": failed}
    write_json(out / ABOUT, {**told, "findings": findings})
    rows = pd.DataFrame(findings, columns=COLUMNS)
    with atomic_path(out / FINDINGS) as temporary:
        neutral_table(rows).to_csv(temporary, index=False, lineterminator="\n")
    return Report(out, rows, dict(failed))
