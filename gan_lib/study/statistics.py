"""What answers say: win shares, tests, a ranking with intervals, response times; and simulated answers."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy.stats import binomtest
from scipy.stats import norm as normal
from scipy.stats import t as student
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from gan_lib.core.runtime import quiet
from gan_lib.study.trials import Answer, Trial, answered

LEVEL = 0.05
CLUSTERS = 10  # people, from which they can tell how much people differ


def passed_attention(answers: pd.DataFrame, checks: int) -> pd.DataFrame:
    """Answers of participants who passed all attention checks.

    Args:
        answers: of all.
        checks: how many each is asked; who left before the last has not passed.
    """
    asked = answers[answers["kind"] == "attention"]
    passed = asked["correct"].eq("True").groupby(asked["participant"]).sum()
    return answers[answers["participant"].isin(passed.index[passed >= checks])]


def win_table(answers: pd.DataFrame) -> pd.DataFrame:
    """How often each method won its pairs.

    Returns:
        A row per method: ``method``, ``wins``, ``asked``, ``share`` with its Wilson 95 % interval ``low``,
        ``high``; the most frequent winner first. Answers of one person are alike: intervals are those of
        as many independent answers as theirs are worth (Kish's design effect, 1 or more).
    """
    asked = _preferences(answers)
    rows = []
    for method in sorted({*asked["left"], *asked["right"]}):
        own = asked[(asked["left"] == method) | (asked["right"] == method)]
        rows.append({"method": method, **_share(own["chosen"] == method, own["participant"])})
    columns = ["method", "wins", "asked", "share", "low", "high"]
    table = pd.DataFrame(rows, columns=columns)
    return table.sort_values("share", ascending=False, ignore_index=True)


def pair_shares(answers: pd.DataFrame) -> pd.DataFrame:
    """Every pair of methods: how often the first won, with interval and a two-sided sign test.

    Returns:
        A row per pair: ``method``, ``against``, ``wins``, ``asked``, ``share``, ``low``, ``high`` (Wilson,
        95 %), ``p``, and ``p_holm`` over all pairs.
    """
    asked = _preferences(answers)
    rows = []
    for one, other in itertools.combinations(sorted({*asked["left"], *asked["right"]}), 2):
        own = asked[asked["left"].isin((one, other)) & asked["right"].isin((one, other))]
        if len(own):
            wins = int((own["chosen"] == one).sum())
            p = float(binomtest(wins, len(own)).pvalue)
            share = _share(own["chosen"] == one, own["participant"])
            rows.append({"method": one, "against": other, **share, "p": p})
    table = pd.DataFrame(rows, columns=["method", "against", "wins", "asked", "share", "low", "high", "p"])
    table["p_holm"] = multipletests(table["p"], method="holm")[1] if len(table) else []
    return table


def bradley_terry(answers: pd.DataFrame) -> pd.DataFrame:
    """Abilities of the methods by the model of Bradley and Terry (1952).

    ``P(i beats j) = 1 / (1 + exp(a_j - a_i))``, abilities adding up to zero, by maximum likelihood. The 95 %
    intervals allow for people who differ: the covariance is clustered by participant, Student's t in place
    of the normal; with fewer than ten people it is the model's own. Where a method has won or lost all
    its pairs, which no finite ability explains, half a win is added to both sides of every pair.

    Returns:
        A row per method: ``method``, ``ability``, ``low``, ``high``, ``smoothed``; the highest first.

    Raises:
        ValueError: fewer than two methods, or methods that are not connected by pairs.
    """
    asked = _preferences(answers)
    methods = sorted({*asked["left"], *asked["right"]})
    if len(methods) < 2:
        raise ValueError("a ranking needs answers on two methods")
    one_hot = np.eye(len(methods))
    left, right = (
        one_hot[pd.Categorical(asked[side], methods).codes] for side in ("left", "right")
    )  # (N, M)
    outcome = (asked["chosen"] == asked["left"]).to_numpy(float)  # (N,)
    wins = left.T @ (outcome[:, None] * right) + right.T @ ((1 - outcome)[:, None] * left)  # (M, M)
    met = wins + wins.T > 0
    if not np.linalg.matrix_power(met + one_hot, len(methods)).all():
        raise ValueError("methods that never met, not even through others, cannot be ranked together")
    # A finite maximum exists where every method can be reached from every other along wins.
    smoothed = not np.linalg.matrix_power((wins > 0) + one_hot, len(methods)).all()
    design, weights, groups = left - right, np.ones(len(asked)), asked["participant"].tolist()
    if smoothed:
        added = np.array(
            [one_hot[i] - one_hot[j] for i, j in itertools.permutations(range(len(methods)), 2) if met[i, j]]
        )
        design, outcome = np.concatenate([design, added]), np.concatenate([outcome, np.ones(len(added))])
        weights = np.concatenate([weights, np.full(len(added), 0.5)])
        groups += [""] * len(added)
    people = asked["participant"].nunique()
    clustered = people >= CLUSTERS
    # The first ability is the reference; in the end all are moved so that they add up to zero.
    model = sm.GLM(outcome, design[:, 1:], family=sm.families.Binomial(), freq_weights=weights)
    with quiet():  # where little is left to estimate the fit from, a warning says so
        if clustered:
            codes = pd.factorize(np.array(groups))[0]
            fitted = model.fit(scale=1.0, cov_type="cluster", cov_kwds={"groups": codes})
        else:
            fitted = model.fit(scale=1.0)
    reach = float(student.ppf(1 - LEVEL / 2, people - 1)) if clustered else float(normal.ppf(1 - LEVEL / 2))
    centring = one_hot - 1 / len(methods)
    ability = centring @ np.concatenate([[0.0], fitted.params])
    covariance = np.zeros((len(methods), len(methods)))
    covariance[1:, 1:] = fitted.cov_params()
    half = reach * np.sqrt(np.diag(centring @ covariance @ centring.T))
    table = pd.DataFrame(
        {
            "method": methods,
            "ability": ability,
            "low": ability - half,
            "high": ability + half,
            "smoothed": smoothed,
        }
    )
    return table.sort_values("ability", ascending=False, ignore_index=True)


def forward_accuracy(answers: pd.DataFrame) -> pd.DataFrame:
    """How often the CNN's class was told from a method's map alone, with Wilson 95 % intervals."""
    asked = answers[answers["kind"] == "forward"]
    rows = [
        {"method": method, **_share(own["correct"] == "True", own["participant"])}
        for method, own in asked.groupby("left")
    ]
    table = pd.DataFrame(rows, columns=["method", "wins", "asked", "share", "low", "high"])
    return table.rename(columns={"wins": "right"})


def response_times(answers: pd.DataFrame) -> pd.DataFrame:
    """Seconds per answer: ``kind``, ``asked``, ``median``, and the quartiles ``low`` and ``high``."""
    if answers.empty:
        return pd.DataFrame(columns=["kind", "asked", "median", "low", "high"])
    times = answers.groupby("kind", sort=False)["seconds"]
    quartiles = times.quantile(np.array([0.25, 0.5, 0.75])).unstack()
    quartiles.columns = ["low", "median", "high"]
    return quartiles.assign(asked=times.size()).reset_index()[["kind", "asked", "median", "low", "high"]]


def simulated_answers(
    plans: Mapping[str, Sequence[Trial]],
    abilities: Mapping[str, float],
    seed: int = 0,
    inattentive: Sequence[str] = (),
    taste: float = 0.0,
) -> pd.DataFrame:
    """Answers of people whose preferences follow the model of :func:`bradley_terry`.

    Args:
        plans: per participant the questions.
        abilities: per method.
        seed: of the answers.
        inattentive: participants who answer at random.
        taste: standard deviation of a participant's own abilities about the given ones.
    """
    rng = np.random.default_rng(seed)
    made: list[Answer] = []
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


def _preferences(answers: pd.DataFrame) -> pd.DataFrame:
    return answers[answers["kind"] == "preference"]


def _share(won: pd.Series[bool], participant: pd.Series[str]) -> dict[str, float]:
    """Wins and their share with a Wilson interval, of as many answers as they are worth."""
    wins, asked = int(won.sum()), len(won)
    if not asked:
        return {"wins": 0, "asked": 0, "share": np.nan, "low": np.nan, "high": np.nan}
    share, people = wins / asked, participant.nunique()
    effect = 1.0
    if 0 < wins < asked and people > 1:
        residuals = (won - share).groupby(participant).sum()
        between = float((residuals**2).sum()) * people / (people - 1)
        effect = max(1.0, between / (asked * share * (1 - share)))
    low, high = proportion_confint(wins / effect, asked / effect, LEVEL, "wilson")
    return {"wins": wins, "asked": asked, "share": share, "low": low, "high": high}
