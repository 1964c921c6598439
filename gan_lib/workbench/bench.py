"""What a notebook works with: its recipe, the artifact store, a folder for its figures, its subjects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gan_lib.core.artifacts import ArtifactStore
from gan_lib.core.runtime import device_name, make_fabric, versions
from gan_lib.figures import FigureFolder
from gan_lib.workbench.places import Places
from gan_lib.workbench.recipes import Profile
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
        self.places = places or Places.find()
        self.profile = Profile.load(profile, self.places.profiles, changes)
        self.recipe = self.profile.recipe
        self.fabric = make_fabric(self.recipe.machine.device, self.recipe.machine.precision)
        self.device, self.data_dir = self.fabric.device, self.places.data
        self.store = ArtifactStore(self.data_dir / "artifacts")
        self.provenance: dict[str, Any] = {
            "notebook": notebook,
            "profile": self.profile.name,
            "recipe": self.recipe.flat(),
            "seed": self.recipe.seed,
            "versions": versions(),
            "device": device_name(self.device),
            "data": {},
        }
        run = f"{self.profile.name}/{notebook}"
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
        return subject
