"""What a recipe names: data sets and files, beside the profile or in ``data/``, modules, weights."""

from __future__ import annotations

import difflib
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

from torchvision import models

from gan_lib.classifiers.factories import code_of_factory, is_factory, located
from gan_lib.core.checksums import sha256
from gan_lib.data import DATA_SETS
from gan_lib.workbench.places import Places
from gan_lib.workbench.recipes import Recipe


def data_root(recipe: Recipe, places: Places) -> Path:
    """The folder in which the recipe's data set is looked for.

    Raises:
        FileNotFoundError: its name is neither a data set's nor a folder's.
    """
    name = recipe.data.name
    if name in DATA_SETS:
        return places.data
    root = places.base(name)
    if (root / name).is_dir():
        return root
    near = difflib.get_close_matches(name.lower(), DATA_SETS, n=3)
    told = f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(DATA_SETS)}"
    raise FileNotFoundError(
        f"data.name: {name!r} is neither a data set nor a folder in {_folders(places)}; {told}"
    )


def weights_of(recipe: Recipe, places: Places) -> str | None:
    """The CNN's weights: the path of a file, torchvision's name, or ``None`` for none.

    Raises:
        FileNotFoundError: a file that is not there. ValueError: torchvision has none of this name.
    """
    name, architecture = recipe.cnn.weights, recipe.cnn.architecture
    if name is None or (file := places.base(name) / name).is_file():
        return name and str(file)
    if not re.fullmatch(r"\w+", name):
        raise FileNotFoundError(f"cnn.weights: there is no file {name!r} in {_folders(places)}")
    known = ["DEFAULT"]
    if architecture in models.list_models(module=models):
        known += [*models.get_model_weights(architecture).__members__]
    if name not in known:
        near = difflib.get_close_matches(name.upper(), known, n=3) or known
        raise ValueError(
            f"cnn.weights: {architecture} has no weights {name!r}, there is no such file in "
            f"{_folders(places)} either; torchvision's are {', '.join(near)}"
        )
    return name


def asked_files(recipe: Recipe, places: Places) -> list[Path]:
    """The pictures that the recipe asks for.

    Raises:
        FileNotFoundError: one that is not there.
    """
    files = [places.base(name) / name for name, _ in recipe.asked]
    if missing := [name for (name, _), file in zip(recipe.asked, files, strict=True) if not file.is_file()]:
        raise FileNotFoundError(f"asked: there is no file {missing[0]!r} in {_folders(places)}")
    return files


def architecture_of(recipe: Recipe, places: Places) -> str:
    """The CNN's architecture; of a factory in a file with the file's whole path.

    Raises:
        FileNotFoundError: no such file or module, where the profile lies, in the project, or installed.
    """
    name = located(recipe.cnn.architecture, *importable(places), places.data.resolve())
    module = name.rpartition(":")[0]
    if not is_factory(name):
        return name
    if module.endswith(".py"):
        if not Path(module).is_file():
            folders = ", ".join(dict.fromkeys(map(str, importable(places))))
            raise FileNotFoundError(f"cnn.architecture: no file {recipe.cnn.architecture!r} in {folders}")
        return name
    try:
        spec = importlib.util.find_spec(module)
    except (ModuleNotFoundError, ValueError):  # of the package; or a module that was made by hand
        spec = None
    if spec is None and module not in sys.modules:
        folders = ", ".join(dict.fromkeys(map(str, importable(places))))
        raise FileNotFoundError(f"cnn.architecture: no module {module!r} in {folders}, and none is installed")
    return name


def importable(places: Places) -> list[Path]:
    """Folders from which modules can be imported: the profile's, the project's, the current one."""
    return [*([places.beside] if places.beside else []), places.root.resolve(), Path.cwd()]


def make_importable(places: Places) -> None:
    """Let this process import modules from those folders, behind all that is installed."""
    sys.path += [path for path in map(str, importable(places)) if path not in sys.path]


def fingerprints(recipe: Recipe, places: Places) -> dict[str, Any]:
    """What decides results of a recipe beside its values: the CNN's factory and weights, by their content.

    Raises:
        FileNotFoundError, ValueError: as :func:`weights_of` and :func:`architecture_of`.
    """
    made: dict[str, Any] = {}
    if is_factory(architecture := architecture_of(recipe, places)):
        made["factory"] = code_of_factory(architecture)
    if (weights := weights_of(recipe, places)) is not None and Path(weights).is_file():
        made["weights"] = sha256(Path(weights))
    return made


def check_named(recipe: Recipe, places: Places) -> None:
    """Look whether all is there that a recipe names.

    Raises:
        FileNotFoundError, ValueError: something is not; the message says where it was looked for.
    """
    data_root(recipe, places)
    weights_of(recipe, places)
    asked_files(recipe, places)
    architecture_of(recipe, places)


def _folders(places: Places) -> str:
    return " or ".join(str(folder) for folder in dict.fromkeys(own.resolve() for own in places.searched))
