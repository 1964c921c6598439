"""The user study: balanced plans, answers that survive a kill, statistics that find what was planted."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import time
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binomtest

from gan_lib.study import (
    AnswerFile,
    Stimuli,
    Study,
    bradley_terry,
    forward_accuracy,
    pair_shares,
    passed_attention,
    plan_trials,
    response_times,
    simulated_answers,
    study_panel,
    win_table,
)
from gan_lib.study.trials import NOTHING, answered

METHODS = ("lsft", "grad_cam", "saliency", "edges", "random")
ABILITIES = dict(zip(METHODS, (1.0, 0.5, 0.0, -0.5, -1.0), strict=True))
LABELS = [3, 1, 4, 1, 5, 9, 2, 6]


def plans(participants=40, **options):
    return {f"p{n:02d}": plan_trials(LABELS, METHODS, n, **options) for n in range(participants)}


# -- plans --------------------------------------------------------------------------------------------


def test_plans_are_balanced_seeded_and_shuffled():
    every = [trial for own in plans().values() for trial in own]
    preferences = [trial for trial in every if trial.kind == "preference"]
    pairs = Counter(frozenset((trial.left, trial.right)) for trial in preferences)
    assert set(pairs.values()) == {len(preferences) // 10}
    sides = Counter((trial.left, trial.right) for trial in preferences)
    assert set(sides.values()) == {len(preferences) // 20}
    assert plan_trials(LABELS, METHODS, 7, seed=1) == plan_trials(LABELS, METHODS, 7, seed=1)
    assert plan_trials(LABELS, METHODS, 7, seed=1) != plan_trials(LABELS, METHODS, 8, seed=1)
    kinds = [trial.kind for trial in plan_trials(LABELS, METHODS, 0)]
    assert kinds != sorted(kinds)
    assert Counter(kinds) == {"preference": 20, "forward": 5, "attention": 2}


def test_forward_options_hold_the_answer():
    for trial in itertools.chain.from_iterable(plans(10).values()):
        if trial.kind == "forward":
            assert trial.label in trial.options
            assert len(set(trial.options)) == 4


def test_forward_images_are_named_nowhere():
    for own in plans(20).values():
        asked = {
            kind: {trial.item for trial in own if (trial.kind == "forward") == kind} for kind in (True, False)
        }
        assert not asked[True] & asked[False]


def test_bad_studies():
    with pytest.raises(ValueError, match="two methods"):
        plan_trials(LABELS, ["lsft", "lsft"], 0)
    for few in ([], [3]):
        with pytest.raises(ValueError, match="an image"):
            plan_trials(few, METHODS, 0)
    assert len(plan_trials([3], METHODS, 0, forward=0)) == 22


# -- answers ------------------------------------------------------------------------------------------


def test_answers_are_on_the_disk_at_once(tmp_path):
    file = AnswerFile(tmp_path / "study/answers.csv")
    assert file.read().empty
    study = Study(plan_trials(LABELS, METHODS, 0), file, 'p,"1"')
    trial = study.current
    with pytest.raises(ValueError, match="answer is one of"):
        study.answer("C")
    study.answer(trial.answers[0])
    table = file.read()
    assert table["participant"].tolist() == ['p,"1"']
    assert table["answer"].tolist() == [trial.answers[0]]
    assert table["seconds"][0] >= 0
    while study.current:
        study.answer(study.current.answers[0])
    assert len(file.read()) == 27
    with pytest.raises(ValueError, match="all questions"):
        study.answer("A")


def test_torn_lines_are_put_aside(tmp_path):
    file = AnswerFile(tmp_path / "answers.csv")
    trial = plan_trials(LABELS, METHODS, 0)[0]
    file.append(answered(trial, "a", 0, trial.answers[0], 1.0))
    with open(file.path, "a") as stream:
        stream.write("b,1,preference,2")  # what a killed process leaves
    assert len(file.read()) == 1
    file.append(answered(trial, "c", 2, trial.answers[0], 1.0))
    assert file.read()["participant"].tolist() == ["a", "c"]


def test_odd_answers(tmp_path):
    file = AnswerFile(tmp_path / "answers.csv")
    trial = plan_trials(LABELS, METHODS, 0)[0]
    for name in ("a\nb", "a\x85b", "b\n"):
        with pytest.raises(ValueError, match="line breaks"):
            file.append(answered(trial, name, 0, trial.answers[0], 1.0))
    file.append(answered(trial, "a", 0, trial.answers[0], 1.0))
    with open(file.path, "ab") as stream:
        stream.write(b'b,,1,preference,2,3,"contrastive (cpu, se\n\xff\xfe,1\n')  # torn in a quoted field
    for number in range(3):
        file.append(answered(trial, "c", number, trial.answers[0], 1.0, "abc"))
    assert file.read()["participant"].tolist() == ["a", "c", "c", "c"]
    assert file.read()["stimuli"].tolist()[-1] == "abc"
    assert [file.next_participant() for _ in range(3)] == [0, 1, 2]


def write_forever(path):
    trial = plan_trials(LABELS, METHODS, 0)[0]
    for number in itertools.count():
        AnswerFile(path).append(answered(trial, str(os.getpid()), number, trial.answers[0], 1.0))


def test_killed_writers_lose_nothing(tmp_path):
    file = AnswerFile(tmp_path / "answers.csv")
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_forever, args=(file.path,)) for _ in range(2)]
    for writer in writers:
        writer.start()
    deadline = time.monotonic() + 30
    while len(file.read()) < 20 and time.monotonic() < deadline:
        time.sleep(0.05)
    for writer in writers:
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
    table = file.read()
    assert len(table) >= 20
    for _, own in table.groupby("participant"):
        assert own["number"].tolist() == list(range(len(own)))


# -- what they say ------------------------------------------------------------------------------------


def test_planted_ranking_is_recovered_and_intervals_cover():
    """40 participants, 20 pairs each, 100 simulated studies."""
    recovered, abilities, shares = 0, [], []
    truth = pd.Series(ABILITIES)
    planned = plans(forward=0, attention=0)
    for seed in range(100):
        answers = simulated_answers(planned, ABILITIES, seed)
        ranking = bradley_terry(answers)
        recovered += ranking["method"].tolist() == list(METHODS)
        true = truth[ranking["method"]].to_numpy()
        abilities += ((ranking["low"] <= true) & (true <= ranking["high"])).tolist()
        for row in pair_shares(answers).itertuples():
            wins = 1 / (1 + np.exp(ABILITIES[row.against] - ABILITIES[row.method]))
            shares.append(row.low <= wins <= row.high)
    assert recovered >= 95
    assert 0.93 <= np.mean(abilities) <= 0.97
    assert 0.93 <= np.mean(shares) <= 0.97


def test_intervals_cover_where_people_differ():
    """Everybody has a taste of their own: intervals that took all answers as independent would be too short."""
    planned, taste = plans(forward=0, attention=0), 1.0
    # What is estimated then is what the whole population would answer.
    many = {f"{name}/{copy}": own for name, own in planned.items() for copy in range(150)}
    everybody = simulated_answers(many, ABILITIES, 1000, taste=taste)
    truth = bradley_terry(everybody).set_index("method")["ability"]
    share = win_table(everybody).set_index("method")["share"]
    abilities, shares = [], []
    for seed in range(60):
        answers = simulated_answers(planned, ABILITIES, seed, taste=taste)
        ranking, wins = bradley_terry(answers), win_table(answers)
        abilities += (ranking["method"].map(truth).between(ranking["low"], ranking["high"])).tolist()
        shares += (wins["method"].map(share).between(wins["low"], wins["high"])).tolist()
    assert 0.92 <= np.mean(abilities) <= 0.98
    assert 0.92 <= np.mean(shares) <= 0.98


def test_bradley_terry_of_two_methods_is_the_log_odds():
    trials = plan_trials(LABELS, METHODS[:2], 0, 100, 0, 0)
    answers = pd.DataFrame(
        [
            answered(t, "p", n, "A" if (t.left == "lsft") == (n % 4 > 0) else "B", 1.0)
            for n, t in enumerate(trials)
        ]
    )
    ranking = bradley_terry(answers).set_index("method")
    assert ranking.loc["lsft", "ability"] - ranking.loc["grad_cam", "ability"] == pytest.approx(
        np.log(3), abs=1e-4
    )
    shares = pair_shares(answers).iloc[0]
    assert shares["p"] == pytest.approx(binomtest(25, 100).pvalue)
    assert win_table(answers).iloc[0]["share"] == 0.75


def test_a_method_that_always_wins_is_smoothed_and_strangers_are_refused():
    trials = plan_trials(LABELS, METHODS[:3], 0, 60, 0, 0)
    order = {name: number for number, name in enumerate(METHODS)}
    answers = pd.DataFrame(
        [
            answered(t, "p", n, "A" if order[t.left] < order[t.right] else "B", 1.0)
            for n, t in enumerate(trials)
        ]
    )
    ranking = bradley_terry(answers)
    assert ranking["smoothed"].all()
    assert ranking["method"].tolist() == list(METHODS[:3])
    assert np.isfinite(ranking[["ability", "low", "high"]].to_numpy()).all()
    with pytest.raises(ValueError, match="two methods"):
        bradley_terry(answers[:0])
    apart = plan_trials(LABELS, METHODS[:2], 0, 10, 0, 0) + plan_trials(LABELS, METHODS[2:4], 0, 10, 0, 0)
    with pytest.raises(ValueError, match="never met"):
        bradley_terry(pd.DataFrame([answered(t, "p", n, "A", 1.0) for n, t in enumerate(apart)]))


def test_inattentive_participants_are_found():
    planned = plans(20, attention=6)
    careless = [f"p{n:02d}" for n in range(5)]
    kept = passed_attention(simulated_answers(planned, ABILITIES, 0, careless), checks=6)
    assert not set(kept["participant"]) & set(careless)
    assert kept["participant"].nunique() == 15
    assert forward_accuracy(kept)["asked"].sum() == 75
    times = response_times(kept).set_index("kind")
    assert (times["low"] <= times["median"]).all()
    assert (times["median"] <= times["high"]).all()


def test_reports_of_no_answers(tmp_path):
    nothing = AnswerFile(tmp_path / "none.csv").read()
    assert win_table(nothing).empty
    assert pair_shares(nothing).empty
    assert forward_accuracy(nothing).empty
    assert passed_attention(nothing, 2).empty
    assert response_times(nothing).empty


# -- the panel ----------------------------------------------------------------------------------------


@pytest.fixture
def stimuli():
    maps = {name: torch.rand(8, 1, 16, 16) for name in METHODS}
    return Stimuli(torch.rand(8, 3, 16, 16), tuple(LABELS), maps, tuple("0123456789"))


def test_panel_asks_all_questions_blindly(stimuli, tmp_path):
    study = Study(plan_trials(LABELS, METHODS, 0, 6, 2, 1), AnswerFile(tmp_path / "answers.csv"), "p")
    box = study_panel(study, stimuli)
    for _ in range(9):
        heading, _, buttons = box.children
        assert not any(method in heading.value for method in METHODS)
        assert [button.description for button in buttons.children] == [
            option if study.current.kind != "forward" else stimuli.class_names[int(option)]
            for option in study.current.answers
        ]
        buttons.children[0].click()
    assert "Thank you" in box.children[0].value
    assert len(study.file.read()) == 9
    assert stimuli.map(NOTHING, 0).abs().max() == 0


def test_a_second_click_answers_nothing(stimuli, tmp_path):
    study = Study(plan_trials(LABELS, METHODS, 0), AnswerFile(tmp_path / "answers.csv"), "p")
    button = study_panel(study, stimuli).children[2].children[0]
    button.click()
    button.click()
    assert study.position == len(study.file.read()) == 1


def test_an_answer_that_cannot_be_saved_is_told(stimuli, tmp_path):
    (tmp_path / "file").write_text("")
    study = Study(plan_trials(LABELS, METHODS, 0), AnswerFile(tmp_path / "file/answers.csv"), "p")
    box = study_panel(study, stimuli)
    box.children[2].children[0].click()
    assert "could not be saved" in box.children[0].value
    assert study.position == 0
