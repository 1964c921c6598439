"""What a notebook works with: its recipe, the artifact store, a folder for its figures, its subjects."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd
import torch

from gan_lib.core.runtime import PINNED, device_name, instructions, make_fabric, versions
from gan_lib.figures import FigureFolder
from gan_lib.workbench.claims import CLAIMS, claims_file, evaluate, load_claims, shown
from gan_lib.workbench.clock import watch_cells
from gan_lib.workbench.cohort import Cohort
from gan_lib.workbench.named import make_importable
from gan_lib.workbench.places import Places
from gan_lib.workbench.recipes import Profile, ProfileError
from gan_lib.workbench.store import Store
from gan_lib.workbench.subject import Subject


class Workbench:
    """The recipe and the places of one notebook's run.

        bench = Workbench("02_gan_training", "cpu", {"supervised.epochs": 1})
        subject = bench.subject()
        bench.figures.save_table(subject.predictions(), "predictions", "What the CNN predicts")

    Args:
        notebook: under which figures are filed.
        profile: its name, or the path of its YAML file; ``changes`` to it by dotted name.
        places: folders; by default those around the working directory.

    Raises:
        ProfileError: no such profile, or values that do not fit the recipe.
        FileNotFoundError: the working directory lies in no project.
    """

    def __init__(
        self,
        notebook: str,
        profile: str = "cpu",
        changes: Mapping[str, Any] | None = None,
        places: Places | None = None,
    ) -> None:
        watch_cells()
        found = places or Places.find()
        self.profile = Profile.load(profile, found.profiles, changes)
        self.places = replace(found, beside=self.profile.folder)
        make_importable(self.places)
        self.recipe = self.profile.recipe
        if self.recipe.machine.reproducible and not PINNED.items() <= os.environ.items():
            asked = " ".join(f"{name}={value}" for name, value in PINNED.items())
            raise ProfileError(f"reproducible: start with `gan-lib run`, or Python with {asked}")
        # Sums depend on the number of threads: it is the recipe's, whatever the machine has.
        torch.set_num_threads(self.recipe.machine.threads)
        self.fabric = make_fabric(self.recipe.machine.device, self.recipe.machine.precision)
        self.device, self.data_dir = self.fabric.device, self.places.data
        self.store = Store(self.data_dir / "artifacts")
        self.provenance: dict[str, Any] = {
            "notebook": notebook,
            "profile": self.profile.name,
            "recipe": self.recipe.flat(),
            "seed": self.recipe.seed,
            "versions": versions(),
            "device": device_name(self.device),
            "threads": self.recipe.machine.threads,
            "instructions": instructions(),
            "data": {},
            "cnns": {},
        }
        self.notebook, run = notebook, f"{self.profile.name}/{notebook}"
        self.figures = FigureFolder(self.places.figures, run, self.provenance)

    def subject(self, changes: Mapping[str, Any] | None = None) -> Subject:
        """What is explained: data and CNN of the recipe, or of the recipe with changes.

        Raises:
            ProfileError: changes that do not fit the recipe.
            FileNotFoundError: a data set or weights that are not there.
        """
        recipe = self.recipe.changed(changes or {})
        subject = Subject(recipe, self.profile.name, self.places, self.store, self.fabric)
        self.provenance["data"][recipe.data.name] = subject.data.fingerprint
        self.provenance["cnns"][f"{subject.name}/{recipe.cnn.seed}"] = subject.trained.key
        return subject

    def cohort(self, changes: Mapping[str, Any] | None = None) -> Cohort:
        """A subject for each of the recipe's seeds: CNN i, and later its generator i.

        A CNN whose weights are given, and that is not trained, is the same for all seeds. Errors as for
        :meth:`subject`.
        """
        seeds = self.recipe.changed(changes or {}).seeds
        return Cohort({seed: self.one_of_cohort(changes or {}, seed) for seed in seeds})

    def one_of_cohort(self, changes: Mapping[str, Any], seed: int) -> Subject:
        """The subject of a seed of :meth:`cohort`."""
        recipe = self.recipe.changed(changes)
        is_given = recipe.cnn.weights is not None and recipe.cnn.epochs == 0
        return self.subject(changes if is_given else {**changes, "cnn.seed": seed})

    def claims(self) -> pd.DataFrame:
        """What the notebook claims, and whether its tables, as written so far, bear it out.

        The claims are those of ``notebooks/claims/NOTEBOOK.yaml``; the table ``claims`` keeps them.

        Raises:
            FileNotFoundError: there is no such file.
            ProfileError: a claim about a column that its table does not have.
        """
        folder = self.figures.root / self.figures.run

        def written(name: str) -> pd.DataFrame | None:
            path = folder / f"{name}.csv"
            return pd.read_csv(path) if path.is_file() else None

        decided = evaluate(load_claims(claims_file(self.places, self.notebook)), written)
        self.figures.save_table(decided, CLAIMS, "What is claimed, and whether this run bears it out")
        return shown(decided)
