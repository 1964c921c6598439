"""Profiles, the papermill driver, and what a notebook works with."""

from gan_lib.workbench.bench import Workbench
from gan_lib.workbench.driver import Places, Result, run_notebooks
from gan_lib.workbench.jobs import ContrastiveJob, GeneratorJob
from gan_lib.workbench.profiles import Profile, ProfileError, load_profile, parse_override

__all__ = [
    "ContrastiveJob",
    "GeneratorJob",
    "Places",
    "Profile",
    "ProfileError",
    "Result",
    "Workbench",
    "load_profile",
    "parse_override",
    "run_notebooks",
]
