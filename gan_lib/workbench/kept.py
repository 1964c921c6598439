"""Explainers that one notebook of a profile keeps for later ones, by method and seed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from gan_lib.core.checksums import DamagedError, is_there
from gan_lib.core.leftovers import temporary_name
from gan_lib.core.storage import read_json
from gan_lib.explainers import GeneratorExplainer

CARD = "explainer.json"


@dataclass(frozen=True)
class KeptExplainers:
    """A folder ``METHOD/SEED`` of explainers; runs side by side see a method's either as they were, or new.

    kept = KeptExplainers(Path("data/artifacts/explainers/cpu/slim_vgg"))
    kept.save("lsft", {0: explainer}, {0: {"data": "9c1f"}})   # in place of all others of the method
    for seed, folder in kept.folders("lsft", "9c1f"): ...
    """

    home: Path

    def save(
        self, method: str, explainers: Mapping[int, GeneratorExplainer], about: Mapping[int, dict[str, Any]]
    ) -> None:
        """Keep a method's explainers by seed, each with what it was trained on; earlier ones go."""
        with self.locked():
            made, old = (self.home / temporary_name(f"{method}-{state}") for state in ("new", "old"))
            for seed, explainer in explainers.items():
                explainer.save(made / str(seed), about[seed])
            place = self.home / method
            if os.path.lexists(place):
                os.replace(place, old)
            os.replace(made, place)
            if old.is_dir() and not old.is_symlink():
                shutil.rmtree(old)
            else:
                old.unlink(missing_ok=True)

    def folders(self, method: str, data: str) -> list[tuple[int, Path]]:
        """Seeds and folders of a method's explainers that were trained on the data of this fingerprint.

        Raises:
            DamagedError: one is not as it was kept; the message says how it is made again.
        """
        found = []
        for folder in sorted((self.home / method).glob("[0-9]*")):
            try:
                about = read_json(folder / CARD)["trained_on"] if is_there(folder / CARD) else {}
                if about.get("data") == data:
                    found.append((int(folder.name), folder))
            except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
                raise self.damaged(error) from None
        return found

    def damaged(self, error: Exception) -> DamagedError:
        """What is told of an explainer that is not as it was kept."""
        return DamagedError(f"{error}. The notebook that trained it keeps it again: gan-lib run --force")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Within the block, no other process keeps or reads explainers here."""
        self.home.mkdir(parents=True, exist_ok=True)
        with FileLock(self.home / ".lock"):
            yield
