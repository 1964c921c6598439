"""Profiles: YAML files of flat notebook parameters, checked before anything runs."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import papermill
import yaml

PATHS = ("data_dir", "figures_dir")  # where results go
OWN = ("profile", *PATHS)  # set by the driver, not by a profile
UNRECORDED = (*PATHS, "pretrained_dir")  # places, of no influence on a result


class ProfileError(ValueError):
    """A profile or an override that does not fit the notebooks."""


@dataclass(frozen=True)
class Profile:
    """A named set of notebook parameters.

    Attributes:
        name: what results are filed under.
        parameters: values by parameter name.
    """

    name: str
    parameters: Mapping[str, Any]


def find_notebooks(folder: Path, only: Sequence[str] = ()) -> list[Path]:
    """The numbered notebooks of a folder, in order; ``only`` keeps those whose name starts so.

    Raises:
        ProfileError: no notebook, or one of ``only`` that names none.
    """
    found = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    if not found:
        raise ProfileError(f"no numbered notebooks in {folder}")
    unknown = [start for start in only if not any(path.stem.startswith(start) for path in found)]
    if unknown:
        raise ProfileError(
            f"no notebook starts with {', '.join(unknown)}; there are {[p.stem for p in found]}"
        )
    return [path for path in found if not only or path.stem.startswith(tuple(only))]


def declared_parameters(notebook: Path) -> dict[str, Any]:
    """Names and default values of a notebook's parameters, as its tagged cell assigns them."""
    declared = {}
    for name, entry in papermill.inspect_notebook(str(notebook)).items():
        try:
            declared[name] = ast.literal_eval(entry["default"])
        except (ValueError, SyntaxError) as error:
            raise ProfileError(
                f"{notebook.name}: parameter {name} = {entry['default']} is no plain value"
            ) from error
    return declared


def load_profile(name: str, folder: Path) -> Profile:
    """A profile by name (``folder/name.yaml``) or by the path of its file.

    Raises:
        ProfileError: no such profile, or one that is no flat mapping.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if not path.is_file():
        known = sorted(file.stem for file in folder.glob("*.yaml"))
        raise ProfileError(f"no profile at {path}; known: {known}, or the path of a .yaml file")
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise ProfileError(f"{path} is no YAML: {error}") from error
    if not isinstance(values, dict) or any(isinstance(value, dict) for value in values.values()):
        raise ProfileError(f"{path} must map parameter names to plain values or lists")
    return Profile(path.stem, {str(key): value for key, value in values.items()})


def parse_override(text: str) -> tuple[str, Any]:
    """``name=value`` with a YAML value, for instance ``seeds=[0, 1]``.

    Raises:
        ProfileError: no ``=``, or no YAML value.
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ProfileError(f"an override is name=value, not {text!r}")
    try:
        return name.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ProfileError(f"{text!r}: the value is no YAML") from error


def bind(
    profile: Profile, notebooks: Sequence[Path], every_notebook: Sequence[Path]
) -> dict[Path, dict[str, Any]]:
    """The parameters that each notebook gets from a profile: those that it declares.

    Args:
        profile: names and values.
        notebooks: the notebooks that will run.
        every_notebook: all there are; a profile may speak of notebooks that do not run now.

    Raises:
        ProfileError: a name that no notebook declares (near misses are listed), or a value of
            another type than the notebook's default.
    """
    declared = {path: declared_parameters(path) for path in {*notebooks, *every_notebook}}
    known = {name for parameters in declared.values() for name in parameters} - set(OWN)
    for name in profile.parameters:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else f"; known: {', '.join(sorted(known))}"
            raise ProfileError(f"profile {profile.name!r}: no notebook has a parameter {name!r}{hint}")
    bound = {}
    for path in notebooks:
        chosen = {name: value for name, value in profile.parameters.items() if name in declared[path]}
        for name, value in chosen.items():
            _check_type(f"profile {profile.name!r}, {path.stem}", name, value, declared[path][name])
        bound[path] = chosen
    return bound


def _check_type(where: str, name: str, value: Any, default: Any) -> None:
    if default is None or value is None:
        return
    fits = isinstance(value, type(default)) and isinstance(value, bool) == isinstance(default, bool)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        fits = True
    if not fits:
        raise ProfileError(
            f"{where}: {name} must be {type(default).__name__} like {default!r}, not {value!r}"
        )
