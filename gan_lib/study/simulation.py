"""Studies of simulated people, whose preferences are known: would a study of this size find the truth?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gan_lib.figures import interval_bars
from gan_lib.study.statistics import bradley_terry, passed_attention
from gan_lib.study.trials import Trial, answered, plan_trials
from gan_lib.workbench.recipes import StudyRecipe

LABELS = tuple(range(10))  # the predicted classes of ten images
CARELESS = 2  # participants who answer at random
POPULATION = 2000  # people, whose answers are the truth where tastes differ


class Simulation:
    """Studies of a recipe's size; each method's ability is ``spacing`` above that of the next in its list.

        simulation = Simulation(recipe.study)
        ranking = bradley_terry(simulation.answers(study=0))
        simulation.table()

    ``abilities`` are the planted ones, which add up to zero; ``plans`` the questions of each participant,
    which ``seed`` decides.
    """

    def __init__(self, recipe: StudyRecipe, seed: int = 0) -> None:
        self.recipe, self.seed = recipe, seed
        planted = recipe.spacing * (np.arange(len(recipe.methods))[::-1] - (len(recipe.methods) - 1) / 2)
        self.abilities = dict(zip(recipe.methods, planted.tolist(), strict=True))
        people = range(recipe.participants)
        self.plans = {f"p{number:02d}": plan_trials(recipe, LABELS, number, seed=seed) for number in people}

    def answers(self, study: int, taste: float = 0.0) -> pd.DataFrame:
        """What the attentive participants of one study answer; ``study`` is the seed of their answers."""
        every = simulated_answers(self.plans, self.abilities, study, list(self.plans)[:CARELESS], taste)
        return passed_attention(every, self.recipe.attention_checks)

    def truth(self, taste: float) -> pd.Series[float]:
        """Per method what a study estimates: the planted ability; with a taste, that of a large population.

        People who differ agree less than their mean abilities say, so what all of them would answer lies
        closer together than what was planted.
        """
        if not taste:
            return pd.Series(self.abilities)
        copies = range(max(1, POPULATION // len(self.plans)))
        population = {f"{name}/{copy}": own for name, own in self.plans.items() for copy in copies}
        everybody = simulated_answers(population, self.abilities, 1000 + self.seed, taste=taste)
        return bradley_terry(everybody).set_index("method")["ability"]

    def table(self) -> pd.DataFrame:
        """How often the recipe's ``studies`` find the planted order, and their 95 % intervals the truth.

        Returns:
            A row per taste: ``taste``, ``studies``, ``order found`` (number of studies), ``intervals that
            hold the truth [%]``.
        """
        rows = []
        for taste in self.recipe.tastes:
            truth, found, held = self.truth(taste), 0, []
            for study in range(self.recipe.studies):
                ranking = bradley_terry(self.answers(study, taste))
                found += ranking["method"].tolist() == list(self.abilities)
                held += ranking["method"].map(truth).between(ranking["low"], ranking["high"]).tolist()
            rows.append((taste, self.recipe.studies, found, 100 * sum(held) / len(held)))
        columns = ["taste", "studies", "order found", "intervals that hold the truth [%]"]
        return pd.DataFrame(rows, columns=columns)

    def ranking(self, study: int = 0) -> tuple[Figure, pd.DataFrame]:
        """One study's abilities with their intervals, the planted ones as black marks; and their table."""
        found = bradley_terry(self.answers(study)).rename(columns={"ability": "mean"})
        planted = list(self.abilities)
        table = found.assign(measure="ability").sort_values("method", key=lambda own: own.map(planted.index))
        figure = interval_bars(table, {"ability": "ability, with 95 % interval"})
        for place, method in enumerate(table["method"]):
            figure.axes[0].plot(self.abilities[method], place, marker="|", markersize=16, color="black")
        return figure, table


def simulated_answers(
    plans: Mapping[str, Sequence[Trial]],
    abilities: Mapping[str, float],
    seed: int = 0,
    inattentive: Sequence[str] = (),
    taste: float = 0.0,
) -> pd.DataFrame:
    """Answers of people whose preferences follow the model of :func:`bradley_terry`.

    Those who are inattentive answer at random; ``taste`` is the standard deviation of a participant's own
    abilities about the given ones.
    """
    rng = np.random.default_rng(seed)
    made = []
    for participant, trials in plans.items():
        own = {method: ability + taste * rng.normal() for method, ability in abilities.items()}
        for number, trial in enumerate(trials):
            if participant in inattentive:
                answer = str(rng.choice(trial.answers))
            elif trial.kind == "preference":
                better = 1 / (1 + np.exp(own[trial.right] - own[trial.left]))
                answer = "A" if rng.random() < better else "B"
            elif trial.kind == "attention":
                answer = "A" if trial.left in abilities else "B"
            else:  # forward simulation: better maps are understood more often, chance at worst
                chance = 1 / len(trial.options)
                known = rng.random() < chance + (1 - chance) / (1 + np.exp(-own[trial.left]))
                answer = str(trial.label if known else rng.choice(trial.options))
            made.append(answered(trial, participant, number, answer, float(rng.lognormal(1.2, 0.5))))
    return pd.DataFrame(made)
