"""Looking, comparing and asking people: what a person does with the workbench in JupyterLab.

State and computation are in plain classes (:class:`Explorer`, :class:`Inside`, :class:`Study`); the
panels of ipywidgets only bind them.
"""

from gan_lib.explorer.inside import Condition, Inside, conditions_of
from gan_lib.explorer.models import Models
from gan_lib.explorer.panel import explorer_panel, interactive
from gan_lib.explorer.pictures import Gallery
from gan_lib.explorer.report import (
    bradley_terry,
    forward_accuracy,
    pair_shares,
    passed_attention,
    response_times,
    simulated_answers,
    win_table,
)
from gan_lib.explorer.state import Choice, Explorer, View
from gan_lib.explorer.study import AnswerFile, Stimuli, Study, Trial, plan_trials
from gan_lib.explorer.study_panel import study_panel

__all__ = [
    "AnswerFile",
    "Choice",
    "Condition",
    "Explorer",
    "Gallery",
    "Inside",
    "Models",
    "Stimuli",
    "Study",
    "Trial",
    "View",
    "bradley_terry",
    "conditions_of",
    "explorer_panel",
    "forward_accuracy",
    "interactive",
    "pair_shares",
    "passed_attention",
    "plan_trials",
    "response_times",
    "simulated_answers",
    "study_panel",
    "win_table",
]
