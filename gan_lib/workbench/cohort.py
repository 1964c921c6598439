"""A cohort: several trainings of the same CNN, each with generators of its own, judged together.

What is true of one training may not be of the next. So seed i stands for CNN i and the generators trained for
it, images are dealt out over the CNNs, and every interval covers CNNs, generators and images at the cost of
one CNN: as many generators are trained, and as many maps made, as for one CNN with as many seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

import pandas as pd
from torch import Tensor, nn

from gan_lib.explainers import Explainer, GeneratorExplainer
from gan_lib.metrics import judge
from gan_lib.workbench.crew import on_threads, results
from gan_lib.workbench.jobs import Run, Trained, TrainingPlan, train_all, workers
from gan_lib.workbench.samples import Sample
from gan_lib.workbench.sections import MachineRecipe
from gan_lib.workbench.subject import Subject

T = TypeVar("T")
P = ParamSpec("P")
Explainers = Mapping[Run, Explainer]  # by method and seed

AT_ONCE = 32  # images explained in one pass


class Judged(NamedTuple):
    """What comes of judging several methods on the images of all CNNs."""

    scores: pd.DataFrame  # a row per ``method``, ``seed`` and ``image``, a column for each measure
    curves: pd.DataFrame  # ``method``, ``seed``, ``share`` of the pixels, ``insertion``, ``deletion``
    maps: dict[Run, Tensor]  # (N, 1, H, W) by method and seed, of that seed's images


class Cohort(Mapping[int, Subject]):
    """Subjects by the seed of their CNN, on the same data.

        cohort = bench.cohort()
        subject = cohort.first  # that pictures show
        samples = cohort.deal(500)
        scores, curves, maps = cohort.judge(explainers, samples, areas=[0.1])
        results = summarise(scores)

    Seeds whose CNN is the same, as a given one with its weights is, count as one CNN.
    """

    def __init__(self, subjects: Mapping[int, Subject]) -> None:
        self._by_seed = dict(subjects)

    def __getitem__(self, seed: int) -> Subject:
        return self._by_seed[seed]

    def __iter__(self) -> Iterator[int]:
        return iter(self._by_seed)

    def __len__(self) -> int:
        return len(self._by_seed)

    @property
    def first(self) -> Subject:
        """The subject of the first seed."""
        return next(iter(self._by_seed.values()))

    def accuracies(self) -> pd.DataFrame:
        """What every CNN gets right: ``cnn``, ``seed``, and the share of the ``test`` images, 0..1."""
        rows = [(own.recipe.cnn.architecture, seed, own.accuracy) for seed, own in self.items()]
        return pd.DataFrame(rows, columns=["cnn", "seed", "test accuracy"])

    def deal(self, count: int | None, split: str = "test") -> dict[int, Sample]:
        """Images dealt out over the CNNs, by seed: each gets as many as the others, give or take one, the
        classes in proportion, and none that another has.

        Args:
            count: how many in all; ``None`` for all there are.
            split: name of the split.
        """
        there = len(self.first.data[split])
        total, drawn, dealt = there if count is None else min(count, there), 0, {}
        for place, (seed, own) in enumerate(self.items()):
            part = total // len(self) + (place < total % len(self))
            dealt[seed] = own.draw(part, split, skip=drawn)
            drawn += part
        return dealt

    def each(
        self, function: Callable[Concatenate[Subject, P], T], *given: P.args, **named: P.kwargs
    ) -> dict[int, T]:
        """What a function gives for every subject, by seed; in processes side by side, one thread each.

        cohort.each(concept_scores, relevance="deep_lift")  # concept_scores(subject, relevance)
        """
        calls = [partial(function, own, *given, **named) for own in self.values()]
        return dict(zip(self, side_by_side(self.first.machine, calls), strict=True))

    def _trained(self, plans: Sequence[TrainingPlan]) -> dict[Run, Trained]:
        """All jobs of all CNNs side by side."""
        first = self.first
        jobs = [job for plan in plans for job in plan.jobs]
        made = iter(train_all(jobs, first.jobs_store, first.machine))
        return {run: own for plan in plans for run, own in plan.trained(made).items()}

    def supervised(
        self, variants: Sequence[str] | None = None, conditions: str | None = None
    ) -> dict[Run, Trained]:
        """Generators trained with Grad-CAM as their target, by variant and seed: those of
        :meth:`Subject.supervised` for every CNN, one seed each."""
        self.each(Subject.training_targets, conditions)  # side by side: plans find them in the store
        plans = [own.supervised_plan(variants, [seed], conditions) for seed, own in self.items()]
        return self._trained(plans)

    def contrastive(self, variants: Sequence[str] | None = None, **named: Any) -> dict[Run, Trained]:
        """Generators trained by contrast, likewise (:meth:`Subject.contrastive`)."""
        plans = [own.contrastive_plan(variants, [seed], **named) for seed, own in self.items()]
        return self._trained(plans)

    def keep(self, explainers: Mapping[Run, GeneratorExplainer]) -> None:
        """Keep explainers, by method and seed, for later notebooks; the profile's earlier ones go."""
        for method in dict.fromkeys(method for method, _ in explainers):
            own = {seed: explainer for (name, seed), explainer in explainers.items() if name == method}
            self.first.kept.save(method, own, {seed: self[seed].about() for seed in own})

    def kept(self, method: str) -> tuple[dict[int, GeneratorExplainer], str]:
        """A method's explainers by seed, each of its CNN, as an earlier notebook kept them; else the shipped
        ones; and where they come from, in words."""
        found: dict[int, GeneratorExplainer] = {}
        for seed, own in self.items():
            found |= own.kept_by_profile(method, [seed])
        if found:
            return found, f"trained by this profile, seeds {', '.join(map(str, found))}"
        shipped = {seed: own.shipped(method) for seed, own in self.items()}
        fitting = {seed: own for seed, own in shipped.items() if own is not None}
        words = f"shipped, for CNN {', '.join(map(str, fitting))}" if fitting else "not there for these CNNs"
        return fitting, words

    def judge(self, explainers: Explainers, samples: Mapping[int, Sample], **settings: Any) -> Judged:
        """Maps of every CNN's images by its explainers, and all measures of them.

        Args:
            explainers: by method and seed; those of a seed explain its CNN.
            samples: by seed, as :meth:`deal` gives them.
            settings: of :func:`gan_lib.metrics.judge`: ``fills``, ``areas``, ``steps``, ``road``, ``first``
                (split over the CNNs as images are). ``reference`` names the method whose maps are the
                reference, ``again=True`` lets methods explain again.

        Returns:
            The scores, with ``seed``, ``cnn`` and an ``image`` of its own for every image; mean curves, by
            seed; and the maps (N, 1, H, W) by method and seed.
        """
        first = {name: -(-count // len(self)) for name, count in settings.pop("first", {}).items()}
        made = self.asked(judge_sample, samples, explainers, first=first, **settings)
        scores, curves = [], []
        maps: dict[Run, Tensor] = {}
        for seed, (table, lines, own_maps) in made.items():
            scores.append(self.labelled(table, seed))
            curves.append(lines)
            maps |= own_maps
        return Judged(pd.concat(scores, ignore_index=True), pd.concat(curves, ignore_index=True), maps)

    def scored(
        self,
        function: Callable[..., pd.DataFrame],
        samples: Mapping[int, Sample],
        explainers: Explainers,
        **settings: Any,
    ) -> pd.DataFrame:
        """What a function of :mod:`gan_lib.workbench.checks` gives for every CNN, its images and its
        explainers, in one table, to be summarised."""
        return self.scores(self.asked(function, samples, explainers, **settings))

    def asked(
        self,
        function: Callable[..., T],
        samples: Mapping[int, Sample],
        explainers: Explainers,
        **settings: Any,
    ) -> dict[int, T]:
        """The same by seed, whatever it is."""
        calls = []
        for seed, own in self.items():
            mine = {run: explainer for run, explainer in explainers.items() if run[1] == seed}
            calls.append(partial(function, own.cnn, samples[seed], mine, **settings))
        return dict(zip(self, side_by_side(self.first.machine, calls), strict=True))

    def labelled(self, scores: pd.DataFrame, seed: int, dealt: bool = True) -> pd.DataFrame:
        """Scores of a seed's images, with ``seed``, ``cnn`` and an ``image`` that no other seed has; or as it
        is where images are not dealt out, but the same for all."""
        image = f"{seed}/" + scores["image"].astype(str) if dealt else scores["image"]
        return scores.assign(seed=seed, cnn=self[seed].trained.key, image=image)

    def scores(self, tables: Mapping[int, pd.DataFrame], dealt: bool = True) -> pd.DataFrame:
        """Scores of every seed in one table, to be summarised."""
        made = [self.labelled(own, seed, dealt) for seed, own in tables.items()]
        return pd.concat(made, ignore_index=True)


def judge_sample(
    cnn: nn.Module,
    sample: Sample,
    explainers: Explainers,
    *,
    reference: str | None = None,
    again: bool = False,
    **settings: Any,
) -> Judged:
    """Maps of a CNN's images by its explainers, and all measures of them (:meth:`Cohort.judge`)."""
    maps = {
        run: own.attribute(sample.images, target=sample.explained, batch_size=AT_ONCE)
        for run, own in explainers.items()
    }
    compared = {run[0]: own for run, own in maps.items()}
    given: Any = {"evidence": sample.masks, "reference": compared[reference] if reference else None}
    if again:
        settings["explain"] = {run: own.attribute for run, own in explainers.items()}
    scores, curves = judge(cnn, sample.images, maps, sample.explained, **given, **settings)
    return Judged(scores, curves, maps)


def side_by_side(machine: MachineRecipe, calls: Sequence[Callable[[], T]]) -> list[T]:
    """What calls give, in order; in processes side by side, as many threads each as the recipe says. One that
    fails raises its error when the others are done."""
    return results([partial(on_threads, machine.job_threads, own) for own in calls], workers(machine), "CNNs")
