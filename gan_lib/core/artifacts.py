"""The artifact store: costly results, addressed by what they were made from.

An artifact is a folder ``<root>/<kind>/<hash>``; the hash covers the kind, the parameters, the data and the
code of the module that makes it. Work in progress lives in ``<hash>.partial`` and is moved into place at the
end: a kill leaves nothing that looks finished, and the next run resumes from the checkpoints it finds there.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock

from gan_lib.core.checksums import DamagedError, check_folder, write_checksums
from gan_lib.core.storage import read_json, write_json

# They move bytes and modules: no number depends on them, so that their code is in no address.
PLUMBING = tuple(
    f"gan_lib.core.{name}" for name in ("artifacts", "checksums", "imports", "leftovers", "storage")
)


def digest(value: Any) -> str:
    """First 16 hexadecimal digits of the SHA-256 of ``value`` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def code_version(module: str) -> str:
    """Hash of a module's code and of all it imports, directly or not, of its own package and ``gan_lib``.

    Comments, docstrings and formatting do not count: correcting a text does not retrain a network. Nor do
    modules that only move bytes (:data:`PLUMBING`).

    Args:
        module: dotted name, for instance ``"gan_lib.gan.training"``.
    """
    sources: dict[str, str] = {}
    pending = [module]
    while pending:
        name = pending.pop()
        if name in sources or (name in PLUMBING and name != module):
            continue
        try:
            spec = importlib.util.find_spec(name)
        except ModuleNotFoundError:  # `from module import name`: no module
            continue
        if spec is None or spec.origin is None:
            continue
        within = name if spec.submodule_search_locations is not None else name.rpartition(".")[0]
        sources[name], found = _parsed(Path(spec.origin).read_text(), within)
        pending += [own for own in found if own.split(".")[0] in ("gan_lib", module.split(".")[0])]
    return digest(sources)


@cache
def _parsed(source: str, package: str) -> tuple[str, list[str]]:
    """A module's code without docstrings, and the names that it imports."""
    tree = ast.parse(source)
    found = _imported(tree, package)
    return ast.dump(_without_docstrings(tree)), found


def _imported(tree: ast.AST, package: str) -> list[str]:
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or package):
            # `from gan_lib import capture` imports a module, `from gan_lib.core.capture import x` does not.
            source = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            names += [source, *(f"{source}.{alias.name}" for alias in node.names)]
    return names


def _without_docstrings(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            node.body = node.body[1:]
    return tree


class ArtifactStore:
    """Costly results on disk, found again by what they were made from.

        store = ArtifactStore("data/artifacts")
        folder = store.get("classifier", "gan_lib.classifiers.fit", {"epochs": 8}, make)

    Args:
        root: folder of the store; created when first written to.
        machine: kind of device, precision, threads: what results are computed on, if that decides them.
    """

    def __init__(self, root: str | Path, machine: Mapping[str, Any] | None = None) -> None:
        self.root, self.machine = Path(root), dict(machine or {})

    def on(self, machine: Mapping[str, Any]) -> ArtifactStore:
        """The same store for results that depend on what they were computed on, which is in their address."""
        return ArtifactStore(self.root, machine)

    def address(self, kind: str, module: str, made_from: Mapping[str, Any]) -> Path:
        """Folder of the artifact, whether or not it exists."""
        key = {"kind": kind, "code": code_version(module), "made_from": made_from}
        if self.machine:
            key["machine"] = self.machine
        return self.root / kind / digest(key)

    def get(
        self,
        kind: str,
        module: str,
        made_from: Mapping[str, Any],
        make: Callable[[Path], None],
    ) -> Path:
        """The artifact's folder, made first when it is not there, or not as it was written
        (:mod:`gan_lib.core.checksums`): this is told as a warning.

        Args:
            kind: what it is; names the sub-folder.
            module: dotted name of the module whose code decides the result.
            made_from: parameters, seeds and data fingerprints; JSON values, kept in ``made_from.json``.
            make: fills the folder it is given, which keeps what an interrupted call left in it, so that it
                can resume; files named ``checkpoint*`` are dropped at the end.
        """
        folder = self.address(kind, module, made_from)
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = folder.with_name(folder.name + ".partial")
        about = {"kind": kind, "module": module, "machine": self.machine, **made_from}
        about["address"] = folder.name
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            if not self._whole(folder, about):
                _ready(partial)
                make(partial)
                for checkpoint in partial.glob("checkpoint*"):
                    checkpoint.unlink()
                write_json(partial / "made_from.json", about)
                write_checksums(partial)
                os.replace(partial, folder)
        return folder

    def _whole(self, folder: Path, about: Mapping[str, Any]) -> bool:
        """Whether an artifact is there as it was written, and the one asked for; what is not goes."""
        if not folder.is_dir():
            folder.unlink(missing_ok=True)  # a file, or a link to nothing, in its place
            return False
        try:
            check_folder(folder)
            found = {"address": folder.name, **read_json(folder / "made_from.json")}
            if digest(found) != digest(about):
                raise DamagedError(f"{folder} holds another artifact, {found['address']}")
        except DamagedError as error:
            warnings.warn(f"made again: {error}", stacklevel=3)
            shutil.rmtree(folder) if not folder.is_symlink() else folder.unlink()
            return False
        return True


def _ready(partial: Path) -> None:
    """A folder to work in, with what an interrupted call has left there and nothing in the way."""
    if partial.is_symlink() or not partial.is_dir():
        partial.unlink(missing_ok=True)
    partial.mkdir(exist_ok=True)
    for path in partial.iterdir():
        if path.is_symlink():
            path.unlink()
        elif path.is_dir() and path.suffix:  # in the place of a file
            shutil.rmtree(path)
