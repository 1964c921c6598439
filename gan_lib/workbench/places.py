"""The folders of a project."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

DATA, FIGURES, SWEPT = "GAN_LIB_DATA", "GAN_LIB_FIGURES", "GAN_LIB_SWEPT"  # environment variables


@dataclass(frozen=True)
class Places:
    """The folders of a project."""

    notebooks: Path  # numbered ones, ``studies/`` and ``profiles/``
    data: Path  # data sets, pretrained networks, artifacts and executed notebooks
    figures: Path  # figures, tables and their manifest

    @classmethod
    def of(cls, root: Path, figures: Path | None = None, data: Path | None = None) -> Places:
        """The usual places under a project's root, two of which can lie elsewhere."""
        return cls(root / "notebooks", data or root / "data", figures or root / "figures")

    @classmethod
    def find(cls) -> Places:
        """Those of the project around the working directory; the environment may move two of them.

        Raises:
            FileNotFoundError: no folder above holds ``notebooks/profiles``.
        """
        here = Path.cwd()
        root = next((path for path in (here, *here.parents) if (path / "notebooks/profiles").is_dir()), None)
        if root is None:
            raise FileNotFoundError(f"no project around {here}: no folder above it holds notebooks/profiles")
        moved = [Path(os.environ[name]) if name in os.environ else None for name in (FIGURES, DATA)]
        return cls.of(root, *moved)

    @property
    def profiles(self) -> Path:
        """The folder of the profiles."""
        return self.notebooks / "profiles"

    @property
    def pretrained(self) -> Path:
        """Shipped networks: those of the project where data that lie elsewhere hold none."""
        own = self.data / "pretrained"
        return own if own.is_dir() else self.notebooks.parent / "data" / "pretrained"
