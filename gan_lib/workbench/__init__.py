"""Recipes, subjects and cohorts, jobs, sweeps, claims.

:mod:`gan_lib.workbench.driver` runs notebooks. It is imported where it is needed: papermill takes two
seconds, which kernels and workers can do without.
"""

from gan_lib.core.imports import quick_imports

with quick_imports():
    from gan_lib.workbench.asked import asked_pictures
    from gan_lib.workbench.bench import Workbench
    from gan_lib.workbench.claims import Claim, evaluate, load_claims
    from gan_lib.workbench.cohort import Cohort
    from gan_lib.workbench.held_out import run_prediction_test
    from gan_lib.workbench.jobs import Trained
    from gan_lib.workbench.outside import import_outside
    from gan_lib.workbench.paper import differences_from_paper
    from gan_lib.workbench.places import Places
    from gan_lib.workbench.pools import PoolOptions
    from gan_lib.workbench.recipes import Profile, ProfileError, Recipe, parsed_change
    from gan_lib.workbench.rivals import RivalOptions, run_rivals
    from gan_lib.workbench.samples import Sample
    from gan_lib.workbench.settings import run_settings
    from gan_lib.workbench.subject import Subject
    from gan_lib.workbench.sweeps import EXPERIMENTS, SWEEPS, Sweep, run_sweep, sweep_table
    from gan_lib.workbench.universal import run_universal
    from gan_lib.workbench.unseen import UnseenOptions

__all__ = [
    "EXPERIMENTS",
    "SWEEPS",
    "Claim",
    "Cohort",
    "Places",
    "PoolOptions",
    "Profile",
    "ProfileError",
    "Recipe",
    "RivalOptions",
    "Sample",
    "Subject",
    "Sweep",
    "Trained",
    "UnseenOptions",
    "Workbench",
    "asked_pictures",
    "differences_from_paper",
    "evaluate",
    "import_outside",
    "load_claims",
    "parsed_change",
    "run_sweep",
    "run_prediction_test",
    "run_rivals",
    "run_settings",
    "run_universal",
    "sweep_table",
]

import_outside()
