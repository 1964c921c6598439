"""The folders of a project."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

DATA, FIGURES, SWEPT = "GAN_LIB_DATA", "GAN_LIB_FIGURES", "GAN_LIB_SWEPT"  # environment variables
LIBRARY = Path(__file__).resolve().parent.parent  # the package's own folder


@dataclass(frozen=True)
class Places:
    """The folders of a project."""

    notebooks: Path  # numbered ones, ``studies/`` and ``profiles/``
    data: Path  # data sets, pretrained networks, artifacts and executed notebooks
    figures: Path  # figures, tables and their manifest
    beside: Path | None = None  # that of the profile, where what it names by a relative path may lie

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
    def root(self) -> Path:
        """The project's own folder."""
        return self.notebooks.parent

    @property
    def profiles(self) -> Path:
        """The folder of the profiles."""
        return self.notebooks / "profiles"

    @property
    def pretrained(self) -> Path:
        """Shipped networks: those of the project where data that lie elsewhere hold none."""
        own = self.data / "pretrained"
        return own if own.is_dir() else self.root / "data" / "pretrained"

    @property
    def searched(self) -> tuple[Path, ...]:
        """The folders that a profile's relative paths are looked for in, the first one first."""
        return (self.data,) if self.beside is None else (self.beside, self.data)

    def base(self, name: str) -> Path:
        """The folder that a profile's relative path starts from: the first that holds it, else ``data``.

        places.base("photographs") / "photographs"    # beside the profile, or in data/
        """
        return next((folder for folder in self.searched if (folder / name).exists()), self.data)


def comes_with() -> Path:
    """The folder of the ``notebooks`` and ``data/pretrained`` that come with the library.

    An installed one holds them in itself; else they are those of the checkout that it lies in.
    """
    inside = LIBRARY / "_workbench"
    return inside if inside.is_dir() else LIBRARY.parent


def python_path(folders: Iterable[Path]) -> str:
    """``PYTHONPATH`` for processes that are started elsewhere: they can import what lies in the folders, and
    import this very library."""
    given = [Path(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    own = [] if LIBRARY.parent == Path(sysconfig.get_path("purelib")).resolve() else [LIBRARY.parent]
    return os.pathsep.join(dict.fromkeys(str(path.resolve()) for path in (*folders, *given, *own)))
