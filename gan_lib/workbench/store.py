"""The workbench's artifact store: what a kill in the middle of writing has left is taken away."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gan_lib.core.artifacts import ArtifactStore


class Store(ArtifactStore):
    """:class:`gan_lib.core.artifacts.ArtifactStore`, whose artifacts hold no file that a killed process has
    only begun to write (:func:`gan_lib.core.storage.atomic_path`): the next one resumes from whole files."""

    def on(self, machine: Mapping[str, Any]) -> Store:
        """As :meth:`ArtifactStore.on`."""
        return Store(self.root, machine)

    def get(self, kind: str, module: str, made_from: Mapping[str, Any], make: Callable[[Path], None]) -> Path:
        """As :meth:`ArtifactStore.get`."""

        def from_whole_files(folder: Path) -> None:  # nobody else is at work in it: it is locked
            for path in folder.rglob(".*.tmp"):
                path.unlink()
            make(folder)

        return super().get(kind, module, made_from, from_whole_files)
