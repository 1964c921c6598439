"""Pools of CNNs: what universal explainers are trained on, and which architectures are left out of it.

One architecture after the other is left out: generators are trained on the others, and its CNNs are explained
with zero steps. Another generator, trained on all, is what is shipped (``gan-lib ship --sweep``).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Literal

import pandas as pd
import torch
from pydantic import TypeAdapter, ValidationError

from gan_lib.core.capture import find_layer
from gan_lib.core.options import options
from gan_lib.explainers import EvidenceProjection, Explainer, GradCAM, UniversalExplainer
from gan_lib.workbench.bench import Workbench
from gan_lib.workbench.cohort import side_by_side
from gan_lib.workbench.jobs import TrainedGenerator, UniversalJob, train_all
from gan_lib.workbench.parts import Generators
from gan_lib.workbench.recipes import ProfileError, Recipe
from gan_lib.workbench.subject import Subject, subject_again
from gan_lib.workbench.sweeps import Sweep

Explainers = Mapping[tuple[str, int], Explainer]  # by method and seed
Judged = Mapping[tuple[str, int, int], Subject]  # by left-out architecture, number of the cell and seed
Changes = dict[str, Any]  # of the recipe, by dotted name; a list of values stands for each of them


@options
class PoolOptions:
    """``options`` of the sweep's file.

    Attributes:
        pool: CNNs that generators are trained on, each with the images of its own data set: changes of the
            recipe, in which lists are combined, all with all.
        cuts: layers of an architecture after which it ends to be one more CNN of the pool
            (:func:`gan_lib.classifiers.shortened`), which goes where the architecture goes.
        left_out: architectures that are left out in turn, each with others that are too much like it.
        judged: on which CNNs of such an architecture its explainers are judged; likewise changes.
        cheating: those that rely on a mark, on whose ``conflict`` images it must be found.
        variants: of the generators.
        images, test_images: for training, of each CNN; for the judgement, dealt out over an architecture's.
        split: of the data that is judged.
        sanity_images, wrong_images, marked_images: of each CNN for these checks.
        areas: at which maps are compared; steps: of insertion and deletion curves.
        measures: reported ones; tested: those of them in which differences are tested.
        numbers: of training CNNs, each with what is cut from it, whose effect is measured with the first
            architecture that is left out.
        least_accuracy: what a CNN gets right of its training images, or it leaves the pool.
        shipped: variants that are trained on the whole pool to be shipped; kept_as: for which kind of images.
    """

    pool: tuple[Changes, ...]
    left_out: dict[str, tuple[str, ...]]
    cuts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    judged: tuple[Changes, ...] = ({},)
    cheating: tuple[Changes, ...] = ()
    variants: tuple[str, ...] = ("lsft", "gsft")
    images: int = 1000
    test_images: int = 150
    split: str = "test"
    sanity_images: int = 15
    wrong_images: int = 20
    marked_images: int = 40
    areas: tuple[float, ...] = (0.1, 0.2)
    steps: int = 20
    measures: tuple[str, ...] = (
        *("drop_black", "won", "lost", "drop_black@10", "won@10", "insertion - deletion", "area"),
    )
    tested: tuple[str, ...] = ("insertion - deletion", "drop_black@10")
    numbers: tuple[int, ...] = ()
    least_accuracy: float = 0.5
    shipped: tuple[str, ...] = ("lsft", "gsft")
    kept_as: Literal["small", "photographs"] = "small"


_OPTIONS = TypeAdapter(PoolOptions)


@dataclass(frozen=True)
class Pool:
    """What a sweep trains on, and how."""

    asked: PoolOptions
    bench: Workbench
    seeds: Sequence[int]
    subjects: Sequence[Subject]
    report: pd.DataFrame = field(repr=False)

    @classmethod
    def of(cls, sweep: Sweep, bench: Workbench) -> Pool:
        """The pool of a sweep: its CNNs are trained, where they are not there.

        Raises:
            ProfileError: options that do not fit.
        """
        try:
            asked = _OPTIONS.validate_json(json.dumps(sweep.options))
        except ValidationError as error:
            raise ProfileError(f"sweep {sweep.name!r}: {error}") from None
        kept, rows = [], []
        for own in subjects_of(bench, list(cells(asked.pool))):
            if isinstance(own, str):
                raise ProfileError(f"sweep {sweep.name!r}: a CNN of its pool cannot be had: {own}")
            history, cnn = own.trained.history, own.recipe.cnn
            right = float(history["accuracy"].iloc[-1]) if len(history) else None  # of given weights
            is_used = right is None or right >= asked.least_accuracy
            row = {"cnn": cnn.architecture, "seed": cnn.seed, "data set": own.recipe.data.name}
            if asked.cuts:
                row["also cut after"] = ", ".join(asked.cuts.get(cnn.architecture, ()))
            rows.append({**row, "training accuracy": right, "test accuracy": own.accuracy, "used": is_used})
            kept += [own] if is_used else []
        made = cls(asked, bench, sweep.seeds or bench.recipe.seeds, kept, pd.DataFrame(rows))
        made.check(f"sweep {sweep.name!r}")
        return made

    def check(self, where: str) -> None:
        """Whether there is a pool for everybody, and what is left out or cut short was in it.

        Raises:
            ProfileError: there is not, it was not, or it has no such layer; the message begins with
                ``where``.
        """
        there = set(self.report["cnn"]) if len(self.report) else set()
        left_out = {*self.asked.left_out, *itertools.chain(*self.asked.left_out.values())}
        for what, every in (("left out", left_out), ("cut short", {*self.asked.cuts})):
            if unknown := sorted(every - there):
                raise ProfileError(f"{where}: {what} are {', '.join(unknown)}, which the pool does not have")
        for own in self.subjects:
            for layer in self.asked.cuts.get(own.recipe.cnn.architecture, ()):
                try:
                    find_layer(own.cnn, layer)
                except (KeyError, ValueError) as error:
                    told = f"{own.recipe.cnn.architecture} cannot be cut short: {error.args[0]}"
                    raise ProfileError(f"{where}: {told}") from None
        for name in ("", *self.asked.left_out):
            if not self.without(name):
                told = f"without {name} and what is like it " if name else ""
                raise ProfileError(f"{where}: {told}no CNN is left to train on")

    def without(self, architecture: str) -> list[Subject]:
        """The CNNs that remain when an architecture, and what is much like it, is left out."""
        out = {architecture, *self.asked.left_out.get(architecture, ())}
        return [own for own in self.subjects if own.recipe.cnn.architecture not in out]

    def changes(self, architecture: str, seed: int, changes: Changes | None = None) -> Changes:
        """What makes a CNN of an architecture, as the pool has it but for changes; of a seed where it is
        trained."""
        known = (own for own in cells(self.asked.pool) if own.get("cnn.architecture") == architecture)
        base = {name: value for name, value in next(known, {}).items() if not name.startswith("data.")}
        base |= {"cnn.architecture": architecture, **(changes or {})}
        base.pop("cnn.seed", None)
        return base if "cnn.weights" in base else {**base, "cnn.seed": seed}

    def judged(self) -> tuple[Judged, pd.DataFrame]:
        """The CNNs that are judged, and a row about each whose data are not at hand, with ``why``.

        What is not trained yet is trained side by side.
        """
        asked = [
            ((name, number, seed), self.changes(name, seed, changes))
            for name in self.asked.left_out
            for number, changes in enumerate(cells(self.asked.judged))
            for seed in self.seeds
        ]
        made = subjects_of(self.bench, [changes for _, changes in asked])
        there = {key: own for (key, _), own in zip(asked, made, strict=True) if isinstance(own, Subject)}
        lacking = [
            {"unseen": key[0], **changes, "why": own}
            for (key, changes), own in zip(asked, made, strict=True)
            if isinstance(own, str)
        ]
        return there, pd.DataFrame(lacking, columns=None if lacking else ["unseen", "why"])

    def job(self, variant: str, subjects: Sequence[Subject], seed: int) -> UniversalJob:
        """A generator to be trained on some of the CNNs."""
        recipe = self.bench.recipe
        sizes = asdict(recipe.evidence)
        members = []
        for own in subjects:
            images = own.data["train"]  # what the CNN predicts for them, training finds out
            members.append((own.trained, images.subset(images.sample(self.asked.images, recipe.seed))))
        options = replace(recipe.universal, seed=seed)
        cuts = [self.asked.cuts.get(own.recipe.cnn.architecture, ()) for own in subjects]
        return UniversalJob(variant, sizes, sizes.pop("layers"), recipe.critic, members, options, cuts)

    def trained(self, jobs: Sequence[UniversalJob]) -> list[TrainedGenerator]:
        """Generators, trained side by side or from the store."""
        return train_all(jobs, self.subjects[0].jobs_store, self.subjects[0].machine)


def subjects_of(bench: Workbench, every: Sequence[Changes]) -> list[Subject | str]:
    """Subjects by changes of the recipe, or why one cannot be had, where its data are not at hand; CNNs are
    trained in processes side by side."""
    reasons = why_not(bench, every)
    return [why or bench.subject(own) for own, why in zip(every, reasons, strict=True)]


def why_not(bench: Workbench, every: Sequence[Changes]) -> list[str]:
    """Why subjects, by changes of the recipe, cannot be had; an empty text where one can, whose CNN is then
    in the store."""
    root = bench.store.root
    given = [(bench.recipe.changed(own), bench.profile.name, bench.places, root) for own in every]
    return side_by_side(bench.recipe.machine, [partial(_why_not, *own) for own in given])


def _why_not(*given: Any) -> str:
    try:
        subject_again(*given)
    except FileNotFoundError as error:
        return str(error).split("):")[0]
    return ""


def cells(grids: Sequence[Changes]) -> Iterator[Changes]:
    """Every combination of the values that are lists, of each of some grids in turn.

    ``[{"a": [1, 2], "b": 3}]`` gives ``{"a": 1, "b": 3}`` and ``{"a": 2, "b": 3}``.
    """
    for grid in grids:
        values = [own if isinstance(own, list | tuple) else [own] for own in grid.values()]
        for chosen in itertools.product(*values):
            yield dict(zip(grid, chosen, strict=True))


def explainers_of(
    subject: Subject, generators: Generators, seeds: Sequence[int]
) -> dict[tuple[str, int], Explainer]:
    """Grad-CAM and the untrained projection, under the first of some seeds, and these seeds' universal
    explainers of a subject's CNN, by method and seed; ``generators`` are by variant and seed.

    Where generators begin with an emphasis, or a product, so does one more untrained projection.
    """
    layers, projections = subject.recipe.evidence.layers, projections_of(subject.recipe)
    made: dict[tuple[str, int], Explainer] = {
        ("Grad-CAM", seeds[0]): GradCAM(subject.cnn, subject.target_layer),
        **{(name, seeds[0]): EvidenceProjection(subject.cnn, **own) for name, own in projections.items()},
    }
    for (variant, trained), own in generators.items():
        if trained in seeds:
            explainer = UniversalExplainer(subject.cnn, subject.image_size, own.generator, layers)
            made[f"universal_{variant}", trained] = explainer.to(subject.device)
    return made


def projections_of(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """Arguments of the untrained projections beside a recipe's universal explainers, by name."""
    own = recipe.evidence
    made: dict[str, dict[str, Any]] = {"evidence_projection": {"layers": own.layers}}
    begins: dict[str, Any] = {}
    named = ["evidence_projection,"]
    if own.emphasis is not None:
        begins["emphasis"] = own.emphasis
        named.append("emphasised")
    if own.joint != "mean":
        begins["joint"] = own.joint
        named.append(own.joint)
    if begins:
        made[" ".join(named)] = {"layers": own.layers, **begins}
    return made


def order(count: int, seed: int) -> list[int]:
    """An order of so many things, by a seed."""
    own: list[int] = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    return own
