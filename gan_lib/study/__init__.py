"""The user study: blinded questions, their page, what the answers say, and simulated people.

Built on :mod:`gan_lib.explorer`, whose images and maps it shows; the explorer knows nothing of it.
"""

from gan_lib.study.panel import new_participant, study_panel
from gan_lib.study.simulation import Simulation, simulated_answers
from gan_lib.study.statistics import (
    bradley_terry,
    forward_accuracy,
    pair_shares,
    passed_attention,
    response_times,
    summaries,
    win_table,
)
from gan_lib.study.trials import AnswerFile, Stimuli, Study, Trial, plan_trials

__all__ = [
    "AnswerFile",
    "Simulation",
    "Stimuli",
    "Study",
    "Trial",
    "bradley_terry",
    "forward_accuracy",
    "new_participant",
    "pair_shares",
    "passed_attention",
    "plan_trials",
    "response_times",
    "simulated_answers",
    "study_panel",
    "summaries",
    "win_table",
]
