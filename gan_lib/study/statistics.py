"""What answers say: win shares, tests, a ranking with intervals, response times."""

from __future__ import annotations

import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy.sparse.csgraph import connected_components
from scipy.stats import binomtest
from scipy.stats import t as student
from statsmodels.stats.proportion import proportion_confint

from gan_lib.core.corrections import holm
from gan_lib.core.runtime import quiet

LEVEL = 0.05
RANKING = ("method", "ability", "low", "high", "smoothed")
CLUSTERS = 10  # people, from which they can tell how much people differ


def passed_attention(answers: pd.DataFrame, checks: int) -> pd.DataFrame:
    """Answers of those who passed all of so many attention checks; who left before the last has not."""
    if not checks:
        return answers
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
    sides = pd.concat([asked.assign(method=asked[side]) for side in ("left", "right")])
    table = _shares(sides.assign(won=sides["chosen"] == sides["method"]), ["method"])
    return table.sort_values("share", ascending=False, ignore_index=True)


def pair_shares(answers: pd.DataFrame) -> pd.DataFrame:
    """Every pair of methods: how often the first won, with interval and a two-sided sign test.

    Returns:
        A row per pair: ``method``, ``against``, ``wins``, ``asked``, ``share``, ``low``, ``high`` (Wilson,
        95 %), ``p``, and ``p_holm`` over all pairs.
    """
    asked = _preferences(answers)
    sides = np.sort(asked[["left", "right"]].to_numpy(str), axis=1)  # (N, 2)
    pairs = asked.assign(method=sides[:, 0], against=sides[:, 1])
    table = _shares(pairs.assign(won=pairs["chosen"] == pairs["method"]), ["method", "against"])
    table["p"] = [binomtest(*own).pvalue for own in table[["wins", "asked"]].to_numpy(int).tolist()]
    table["p_holm"] = holm(table["p"])
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
    left, right = (one_hot[pd.Categorical(asked[side], methods).codes] for side in ("left", "right"))
    outcome = (asked["chosen"] == asked["left"]).to_numpy(float)  # (N,)
    wins = left.T @ (outcome[:, None] * right) + right.T @ ((1 - outcome)[:, None] * left)  # (M, M)
    if connected_components(wins, connection="weak", return_labels=False) > 1:
        raise ValueError("methods that never met, not even through others, cannot be ranked together")
    # A finite maximum exists where every method can be reached from every other along wins.
    smoothed = connected_components(wins, connection="strong", return_labels=False) > 1
    one, other = np.nonzero((wins + wins.T > 0) & smoothed)  # pairs that get half a win more, either way
    design = np.concatenate([left - right, one_hot[one] - one_hot[other]])  # (N + 2 P, M)
    outcome, weights = np.append(outcome, np.ones(len(one))), np.repeat([1, 0.5], [len(asked), len(one)])
    people, groups = asked["participant"].nunique(), [*asked["participant"], *[""] * len(one)]
    clustered = {"cov_type": "cluster", "cov_kwds": {"groups": pd.factorize(np.array(groups))[0]}}
    # The first ability is the reference; in the end all are moved so that they add up to zero.
    model = sm.GLM(outcome, design[:, 1:], family=sm.families.Binomial(), freq_weights=weights)
    with quiet():  # where little is left to estimate the fit from, a warning says so
        fitted = model.fit(scale=1.0, **(clustered if people >= CLUSTERS else {}))
    reach = student.ppf(1 - LEVEL / 2, people - 1 if people >= CLUSTERS else np.inf)
    centred = (one_hot - 1 / len(methods))[:, 1:]  # (M, M - 1)
    ability = centred @ fitted.params
    half = reach * np.sqrt(np.diag(centred @ fitted.cov_params() @ centred.T))
    columns = (methods, ability, ability - half, ability + half, smoothed)
    table = pd.DataFrame(dict(zip(RANKING, columns, strict=True)))
    return table.sort_values("ability", ascending=False, ignore_index=True)


def forward_accuracy(answers: pd.DataFrame) -> pd.DataFrame:
    """How often the CNN's class was told from a method's map alone, with Wilson 95 % intervals."""
    asked = answers[answers["kind"] == "forward"]
    known = asked.assign(method=asked["left"], won=asked["correct"] == "True")
    return _shares(known, ["method"]).rename(columns={"wins": "right"})


def response_times(answers: pd.DataFrame) -> pd.DataFrame:
    """Seconds per answer: ``kind``, ``asked``, ``median``, and the quartiles ``low`` and ``high``."""
    times = answers["seconds"].astype(float).groupby(answers["kind"], sort=False)
    table = times.describe()[["count", "50%", "25%", "75%"]]
    table.columns = ["asked", "median", "low", "high"]
    return table.astype({"asked": int}).reset_index()


def summaries(answers: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """All tables: ``wins``, ``pairs``, ``ranking`` (empty while there is none), ``forward``, ``times``."""
    try:
        ranking = bradley_terry(answers)
    except ValueError:
        ranking = pd.DataFrame(columns=RANKING)
    own = {"wins": win_table(answers), "pairs": pair_shares(answers), "ranking": ranking}
    return own | {"forward": forward_accuracy(answers), "times": response_times(answers)}


def _preferences(answers: pd.DataFrame) -> pd.DataFrame:
    return answers[answers["kind"] == "preference"]


def _shares(answers: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Per group how many were ``won``, their share, and its Wilson interval, of as many as they are worth."""
    rows = []
    for key, own in answers.groupby(by):
        wins, asked, people = int(own["won"].sum()), len(own), own["participant"].nunique()
        share, effect = wins / asked, 1.0
        if 0 < wins < asked and people > 1:
            residuals = (own["won"] - share).groupby(own["participant"]).sum()
            between = float((residuals**2).sum()) * people / (people - 1)
            effect = max(1.0, between / (asked * share * (1 - share)))
        low, high = proportion_confint(wins / effect, asked / effect, LEVEL, "wilson")
        rows.append((*key, wins, asked, share, low, high))
    return pd.DataFrame(rows, columns=[*by, "wins", "asked", "share", "low", "high"])
