"""Profiles, the papermill driver, and what a notebook works with."""

from gan_lib.pipeline.driver import Places, Result, run_notebooks
from gan_lib.pipeline.jobs import ContrastiveJob, GeneratorJob
from gan_lib.pipeline.profiles import Profile, ProfileError, load_profile, parse_override
from gan_lib.pipeline.workbench import Workbench

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
