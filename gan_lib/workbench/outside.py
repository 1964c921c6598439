"""What is registered from outside: methods, metrics, data sets, conditions, generators of one's own.

    gan-lib run --import my_methods.py --import my_package.metrics

The modules are imported at the end of :mod:`gan_lib.workbench`, in this process and in all that it starts
(kernels of notebooks, workers): an environment variable says which.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from gan_lib.core.artifacts import code_version, digest
from gan_lib.core.modules import module_from_file

IMPORT = "GAN_LIB_IMPORT"


def import_outside(names: Sequence[str] = ()) -> list[ModuleType]:
    """Import modules, by name or by the path of their file, and have every process from now on do so.

    Returns:
        All that are imported so, those of the environment variable first.

    Raises:
        FileNotFoundError: no such module or file.
        ValueError: a file whose name is that of another module.
    """
    given = [str(Path(name).resolve()) if name.endswith(".py") else name for name in names]
    known = os.environ.get(IMPORT, "").split(os.pathsep)
    every = [name for name in dict.fromkeys([*known, *given]) if name]
    modules = [_from_file(Path(name)) if name.endswith(".py") else _by_name(name) for name in every]
    os.environ[IMPORT] = os.pathsep.join(every)
    return modules


def _by_name(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # something that the module itself imports
        raise FileNotFoundError(f"there is no module {name!r}: install it, or name a .py file") from None


def _from_file(path: Path) -> ModuleType:
    name = path.stem
    if name in sys.modules:
        if getattr(sys.modules[name], "__file__", None) != str(path):
            raise ValueError(f"{path}: there is another module {name!r}; give the file another name")
        return sys.modules[name]
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path} to be imported")
    return module_from_file(path, name)


def outside_code() -> list[str]:
    """Hashes of the code of all modules from outside, for what may depend on any of them."""
    return [code_version(module.__name__) for module in import_outside()]


def code_of(thing: Any) -> dict[str, str]:
    """``{"code": hash}`` of something registered from outside, for the address of what it makes.

    Empty for what is the library's own: artifacts are addressed by its code anyway.
    """
    if isinstance(thing, partial):
        return {**code_of(thing.func), "given": digest([thing.args, thing.keywords])}
    own = thing
    if own.__module__.startswith("gan_lib."):
        return {}
    in_notebook = own.__module__ == "__main__"
    return {"code": digest(inspect.getsource(own)) if in_notebook else code_version(own.__module__)}
