"""The user study: blinded trials, their page, and what the answers say."""

from gan_lib.study.panel import study_panel
from gan_lib.study.statistics import (
    bradley_terry,
    forward_accuracy,
    pair_shares,
    passed_attention,
    response_times,
    simulated_answers,
    win_table,
)
from gan_lib.study.trials import AnswerFile, Stimuli, Study, Trial, plan_trials

__all__ = [
    "AnswerFile",
    "Stimuli",
    "Study",
    "Trial",
    "bradley_terry",
    "forward_accuracy",
    "pair_shares",
    "passed_attention",
    "plan_trials",
    "response_times",
    "simulated_answers",
    "study_panel",
    "win_table",
]
