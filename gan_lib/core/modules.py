"""Python modules from files that lie in no package."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType


def module_from_file(path: Path, name: str) -> ModuleType:
    """A file as a module of a name, run and known to Python from then on; not where it fails.

    Raises:
        ImportError: no Python file; or whatever the file itself raises.
    """
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = sys.modules[name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
