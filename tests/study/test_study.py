"""The user study: balanced plans, answers that survive a kill, statistics that find what was planted."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import multiprocessing
import os
import signal
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binomtest
from statsmodels.stats.proportion import proportion_confint

from gan_lib.data import digits_in_scenes
from gan_lib.explorer import Choice, Explorer, Gallery, Models
from gan_lib.study import (
    AnswerFile,
    Simulation,
    Stimuli,
    Study,
    bradley_terry,
    forward_accuracy,
    new_participant,
    pair_shares,
    passed_attention,
    plan_trials,
    response_times,
    simulated_answers,
    study_panel,
    summaries,
    win_table,
)
from gan_lib.study.trials import NOTHING, answered
from gan_lib.workbench.recipes import Recipe, StudyRecipe

DATA = Path(__file__).parent.parent.parent / "data"
METHODS = ("lsft", "grad_cam", "saliency", "edges", "random")
ABILITIES = dict(zip(METHODS, (1.0, 0.5, 0.0, -0.5, -1.0), strict=True))
LABELS = [3, 1, 4, 1, 5, 9, 2, 6]


def asked(participant=0, methods=METHODS, labels=LABELS, pairs=20, forward=5, attention=2, seed=0):
    """The questions of one participant."""
    recipe = StudyRecipe(
        methods=tuple(methods), pairs=pairs, forward_questions=forward, attention_checks=attention
    )
    return plan_trials(recipe, labels, participant, seed=seed)


def plans(participants=40, **options):
    return {f"p{n:02d}": asked(n, **options) for n in range(participants)}


# -- plans --------------------------------------------------------------------------------------------


def test_plans_are_balanced_seeded_and_shuffled():
    every = [trial for own in plans().values() for trial in own]
    preferences = [trial for trial in every if trial.kind == "preference"]
    pairs = Counter(frozenset((trial.left, trial.right)) for trial in preferences)
    assert set(pairs.values()) == {len(preferences) // 10}
    sides = Counter((trial.left, trial.right) for trial in preferences)
    assert set(sides.values()) == {len(preferences) // 20}
    assert asked(7, seed=1) == asked(7, seed=1)
    assert asked(7, seed=1) != asked(8, seed=1)
    kinds = [trial.kind for trial in asked()]
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
    with pytest.raises(ValueError, match="'lsft' stands there twice"):
        asked(methods=["lsft", "lsft"])
    with pytest.raises(ValueError, match="at least 2"):
        asked(methods=["lsft"])
    for few in ([], [3]):
        with pytest.raises(ValueError, match="an image"):
            asked(labels=few)
    assert len(asked(labels=[3], forward=0)) == 22


# -- answers ------------------------------------------------------------------------------------------


def test_answers_are_on_the_disk_at_once(tmp_path):
    file = AnswerFile(tmp_path / "study/answers.csv")
    assert file.read().empty
    study = Study(asked(), file, 'p,"1"')
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
    trial = asked()[0]
    file.append(answered(trial, "a", 0, trial.answers[0], 1.0))
    with open(file.path, "a") as stream:
        stream.write("\nb,1,preference,2")  # what a killed process leaves
    assert len(file.read()) == 1
    file.append(answered(trial, "c", 2, trial.answers[0], 1.0))
    assert file.read()["participant"].tolist() == ["a", "c"]


def test_odd_answers(tmp_path):
    file = AnswerFile(tmp_path / "answers.csv")
    trial = asked()[0]
    for name in ("a\nb", "a\x85b", "b\n"):
        with pytest.raises(ValueError, match="line breaks"):
            file.append(answered(trial, name, 0, trial.answers[0], 1.0))
    file.append(answered(trial, "a", 0, trial.answers[0], 1.0))
    with open(file.path, "ab") as stream:
        stream.write(b'\nb,,1,preference,2,3,"contrastive (cpu, se\n\xff\xfe,1\n')  # torn in a quoted field
    for number in range(3):
        file.append(answered(trial, "c", number, trial.answers[0], 1.0, "abc"))
    assert file.read()["participant"].tolist() == ["a", "c", "c", "c"]
    assert file.read()["stimuli"].tolist()[-1] == "abc"
    assert [file.next_participant() for _ in range(3)] == [0, 1, 2]


def write_forever(path):
    trial = asked()[0]
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


def test_planted_ranking_is_recovered_and_intervals_cover(monkeypatch):
    """40 participants, 20 pairs each, 100 simulated studies."""
    monkeypatch.setattr(gc, "collect", lambda: 0)  # statsmodels does it at every correction, half a second
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
    trials = asked(methods=METHODS[:2], pairs=100, forward=0, attention=0)
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
    trials = asked(methods=METHODS[:3], pairs=60, forward=0, attention=0)
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
    apart = asked(methods=METHODS[:2], pairs=10, forward=0, attention=0) + asked(
        methods=METHODS[2:4], pairs=10, forward=0, attention=0
    )
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


def answer_table(rows):
    """Answers of ``(participant, kind, left, right, chosen, correct)`` each."""
    names = ("participant", "kind", "left", "right", "chosen", "correct")
    return pd.DataFrame([{**dict(zip(names, row, strict=True)), "seconds": 1.0} for row in rows])


def test_shares_by_hand():
    """Two people, four pairs each: a wins 3 of the first's and 1 of the second's against b."""
    chosen = ["a", "a", "a", "b"], ["b", "b", "b", "a"]
    rows = [(p, "preference", "b", "a", c, "") for p, own in zip("xy", chosen, strict=True) for c in own]
    table = answer_table(rows)
    wins = win_table(table).set_index("method")
    assert wins.loc["a", ["wins", "asked", "share"]].tolist() == [4, 8, 0.5]
    # Residuals add up to +1 and -1: (1 + 1) * 2 / 1 = 4, over 8 * 0.5 * 0.5 = 2, so answers count half.
    low, high = proportion_confint(2, 4, 0.05, "wilson")
    assert wins.loc["a", ["low", "high"]].tolist() == pytest.approx([low, high])
    pair = pair_shares(table).iloc[0]
    assert pair[["method", "against", "wins", "asked", "share"]].tolist() == ["a", "b", 4, 8, 0.5]
    assert pair[["low", "high", "p", "p_holm"]].tolist() == pytest.approx([low, high, 1.0, 1.0])


def test_a_pair_counts_whichever_side_it_was_asked_on():
    rows = [("x", "preference", *sides, "c", "") for sides in (("c", "a"), ("a", "c"), ("c", "b"))]
    table = pair_shares(answer_table([*rows, ("x", "preference", "b", "a", "a", "")]))
    assert table[["method", "against", "wins", "asked"]].to_numpy().tolist() == [
        ["a", "b", 1, 1],
        ["a", "c", 0, 2],
        ["b", "c", 0, 1],
    ]
    assert (table["low"] <= table["share"] + 1e-9).all()
    assert (table["share"] <= table["high"] + 1e-9).all()
    assert (table["p"] <= table["p_holm"]).all()


def test_forward_accuracy_counts_who_told_the_class():
    rows = [("x", "forward", "a", "", "3", str(known)) for known in (True, True, False, True)]
    table = forward_accuracy(answer_table([*rows, ("x", "preference", "a", "b", "b", "")]))
    assert table[["method", "right", "asked", "share"]].to_numpy().tolist() == [["a", 3, 4, 0.75]]


def test_response_times_by_hand():
    rows = [("x", kind, "a", "b", "a", "") for kind in ("preference",) * 4 + ("forward",)]
    table = response_times(answer_table(rows).assign(seconds=[4.0, 1.0, 3.0, 2.0, 7.0]))
    assert table["kind"].tolist() == ["preference", "forward"]
    assert table["asked"].tolist() == [4, 1]
    assert table[["median", "low", "high"]].to_numpy().tolist() == [[2.5, 1.75, 3.25], [7.0, 7.0, 7.0]]


def test_summaries_are_all_tables_and_a_ranking_where_there_can_be_one():
    answers = simulated_answers(plans(12), ABILITIES, 3)
    found = summaries(answers)
    assert list(found) == ["wins", "pairs", "ranking", "forward", "times"]
    assert found["ranking"].equals(bradley_terry(answers))
    assert found["wins"].equals(win_table(answers))
    assert found["pairs"].equals(pair_shares(answers))
    assert found["forward"].equals(forward_accuracy(answers))
    assert found["times"].equals(response_times(answers))
    nothing = summaries(answers[:0])
    assert all(table.empty for table in nothing.values())
    assert list(nothing["ranking"]) == list(found["ranking"])


# -- simulated studies --------------------------------------------------------------------------------


SMALL = StudyRecipe(
    methods=("saliency", "edges", "random"), participants=12, studies=3, tastes=(0.0, 0.7), spacing=1.0
)


def test_planted_abilities_follow_the_list_and_add_up_to_zero():
    assert Simulation(SMALL).abilities == {"saliency": 1.0, "edges": 0.0, "random": -1.0}
    even = Simulation(StudyRecipe(methods=("saliency", "edges"), participants=1, spacing=0.5)).abilities
    assert even == {"saliency": 0.25, "edges": -0.25}


def test_simulated_people_who_answer_at_random_do_not_count():
    simulation = Simulation(SMALL, seed=4)
    plan = plan_trials(SMALL, range(10), 7, seed=4)
    assert simulation.plans["p07"] == plan
    answers = simulation.answers(study=0)
    whole = simulated_answers(simulation.plans, simulation.abilities, 0, ["p00", "p01"])
    assert answers.drop(columns="time").equals(passed_attention(whole, 2).drop(columns="time"))
    assert {*simulation.plans} - {*answers["participant"]} <= {"p00", "p01"}


def test_the_simulations_table_counts_what_it_says():
    simulation = Simulation(SMALL)
    table = simulation.table()
    assert list(table) == ["taste", "studies", "order found", "intervals that hold the truth [%]"]
    for row in table.itertuples(index=False):
        truth, found, held = simulation.truth(row.taste), 0, 0
        for study in range(3):
            ranking = bradley_terry(simulation.answers(study, row.taste)).set_index("method")
            found += list(ranking.index) == ["saliency", "edges", "random"]
            held += sum(ranking["low"][m] <= truth[m] <= ranking["high"][m] for m in truth.index)
        assert row[1:3] == (3, found)
        assert row[3] == pytest.approx(100 * held / 9)


def test_people_who_differ_agree_less_than_their_mean_abilities_say():
    simulation = Simulation(SMALL)
    assert simulation.truth(0.0).to_dict() == simulation.abilities
    spread = simulation.truth(2.0)
    assert 0 < spread["saliency"] < 0.8
    assert spread["saliency"] == pytest.approx(-spread["random"], abs=0.1)


def test_simulated_people_tell_a_class_as_often_as_they_should():
    """At ability 0 they know it with 1/4 + 3/4 * 1/2, and guess one of four else: 0.625 + 0.375 / 4."""
    known = simulated_answers(plans(20, pairs=1, forward=100), dict.fromkeys(METHODS, 0.0), 1)
    table = forward_accuracy(known)
    assert (table["share"] * table["asked"]).sum() / table["asked"].sum() == pytest.approx(0.719, abs=0.02)


def test_the_committed_study_is_found_again():
    """A tenth of the notebook's studies; the whole table is ``figures/.../simulated_studies.csv``."""
    figure, table = Simulation(StudyRecipe()).ranking()
    assert table["method"].tolist() == list(StudyRecipe().methods)
    assert table["mean"].tolist() == pytest.approx(
        [1.13778, 0.391988, -0.0171027, -0.487375, -1.02529], abs=1e-5
    )
    assert table["low"].tolist() == pytest.approx(
        [0.902084, 0.212036, -0.244073, -0.74693, -1.24107], abs=1e-5
    )
    assert table["high"].tolist() == pytest.approx(
        [1.37348, 0.571941, 0.209868, -0.22782, -0.809516], abs=1e-5
    )
    marks = [
        line.get_xdata()[0]
        for line in figure.axes[0].lines
        if line.get_marker() == "|" and line.get_markersize() == 16
    ]
    assert marks == [1.0, 0.5, 0.0, -0.5, -1.0]


# -- the panel ----------------------------------------------------------------------------------------


@pytest.fixture
def stimuli():
    maps = {name: torch.rand(8, 1, 16, 16) for name in METHODS}
    return Stimuli(torch.rand(8, 3, 16, 16), tuple(LABELS), maps, tuple("0123456789"))


def test_panel_asks_all_questions_blindly(stimuli, tmp_path):
    study = Study(asked(pairs=6, forward=2, attention=1), AnswerFile(tmp_path / "answers.csv"), "p")
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
    study = Study(asked(), AnswerFile(tmp_path / "answers.csv"), "p")
    button = study_panel(study, stimuli).children[2].children[0]
    button.click()
    button.click()
    assert study.position == len(study.file.read()) == 1


def test_an_answer_that_cannot_be_saved_is_told(stimuli, tmp_path):
    (tmp_path / "file").write_text("")
    study = Study(asked(), AnswerFile(tmp_path / "file/answers.csv"), "p")
    box = study_panel(study, stimuli)
    box.children[2].children[0].click()
    assert "could not be saved" in box.children[0].value
    assert study.position == 0


def test_a_question_that_cannot_be_drawn_is_told_and_can_be_tried_again(stimuli, tmp_path, monkeypatch):
    study = Study(asked(pairs=3, forward=0, attention=0), AnswerFile(tmp_path / "answers.csv"), "p")
    box = study_panel(study, stimuli)
    with monkeypatch.context() as broken:
        broken.setattr(Stimuli, "map", lambda *_: 1 / 0)
        box.children[2].children[0].click()
        assert "No further question" in box.children[0].value
        assert "ZeroDivisionError" in box.children[0].value
    assert study.position == len(study.file.read()) == 1  # the answer itself is saved
    box.children[2].children[0].click()
    assert "Question 2 of 3" in box.children[0].value
    assert study.position == len(study.file.read()) == 1
    box.children[2].children[1].click()
    assert len(study.file.read()) == 2


def test_any_error_while_saving_is_told(stimuli, tmp_path, monkeypatch):
    study = Study(asked(), AnswerFile(tmp_path / "answers.csv"), "a\nb")  # a line break in the name
    box = study_panel(study, stimuli)
    box.children[2].children[0].click()
    assert "could not be saved" in box.children[0].value
    assert "line breaks" in box.children[0].value
    assert study.position == 0


def test_every_new_participant_gets_questions_of_their_own_on_images_that_are_drawn(tmp_path):
    data = digits_in_scenes(train=10, test=12, size=64, seed=0)
    order = data.test.labels.argsort()  # sorted by class, as folders are
    gallery = Gallery(data.test.subset(order), data.class_names)
    explorer = Explorer(Models(DATA), gallery)
    study = StudyRecipe(
        methods=("edges", "random"), images=4, pairs=2, forward_questions=1, attention_checks=0
    )
    recipe = dataclasses.replace(Recipe(), study=study)
    stimuli = Stimuli.of(explorer, "slim_vgg", study.methods, 4, seed=0)
    names = gallery.sample(4, 0)
    assert len({name.split(": ")[1] for name in names}) == 4  # not the first class alone
    for number, name in enumerate(names):
        view = explorer.view(Choice(name, "slim_vgg", "edges"))
        assert torch.equal(stimuli.images[number], view.image)
        assert torch.equal(stimuli.maps["edges"][number], view.maps["edges"])
        assert stimuli.labels[number] == view.label
    file = AnswerFile(tmp_path / "answers.csv")
    for _ in range(2):
        page = new_participant(explorer, recipe, file)
        while page.children[2].children:
            page.children[2].children[0].click()
    answers = file.read()
    assert answers["participant"].nunique() == 2
    assert set(answers["stimuli"]) == {stimuli.fingerprint}
    expected = [trial.kind for n in range(2) for trial in plan_trials(study, stimuli.labels, n)]
    assert answers["kind"].tolist() == expected


def test_without_attention_checks_all_have_passed():
    answers = pd.DataFrame({"participant": ["a", "b"], "kind": "pair", "correct": ""})
    assert passed_attention(answers, 0).equals(answers)
