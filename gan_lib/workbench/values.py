"""Plain values: what a profile, a sweep or a change may hold, and how YAML is read into them.

Text, numbers, booleans, nothing, and lists and mappings of these: no more is handed on, to a recipe or to a
notebook. What stands in a file never makes an object of another kind, and is refused before anything runs.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

DEEPEST = 20  # lists and mappings inside of each other
MOST = 100_000  # values in all, whatever a file's aliases make of it
TAGS = ("map", "seq", "str", "int", "float", "bool", "null", "merge")
HINTS = {"timestamp": "a date is no value: put it in quotes"}


class ProfileError(ValueError):
    """A profile, a change or a sweep that does not fit the recipe."""


def plain(value: Any, where: str) -> Any:
    """A copy of a value that holds text, finite numbers, booleans, ``None``, lists and mappings of these.

        plain({"seeds": (0, 1)}, "changes")    # {"seeds": [0, 1]}

    Raises:
        ProfileError: anything else, a name that is no text, values nested deeper than 20 or more than 100000.
    """
    return _plain(value, where, "", 0, itertools.count(1))


def _plain(value: Any, where: str, name: str, depth: int, numbers: Iterator[int]) -> Any:
    label = f"{where}: {name}" if name else where
    if depth > DEEPEST or next(numbers) > MOST:
        raise ProfileError(f"{where}: more than {DEEPEST} levels or {MOST} values; a recipe needs far fewer")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):  # of a subclass the plain value: what it prints itself as might be anything
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ProfileError(f"{label}: {value} is no finite number")
        return float.__float__(value)
    if isinstance(value, list | tuple):
        return [
            _plain(own, where, f"{name}.{place}".lstrip("."), depth + 1, numbers)
            for place, own in enumerate(value)
        ]
    if isinstance(value, Mapping):
        if wrong := [own for own in value if not isinstance(own, str)]:
            raise ProfileError(f"{label}: {wrong[0]!r} is no name: names are text, so put it in quotes")
        return {
            str.__str__(key): _plain(own, where, f"{name}.{key}".lstrip("."), depth + 1, numbers)
            for key, own in value.items()
        }
    raise ProfileError(
        f"{label}: {type(value).__name__} is no plain value; those are text, numbers, true, false, null, and "
        "lists and mappings of them"
    )


class _Loader(yaml.SafeLoader):
    """YAML's plain values: ``1e-3`` is a number, a name stands once, no other tag makes anything."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                problem = f"{key.value!r} stands there twice: leave one of them out"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return super().construct_mapping(node, deep)

    def refuse(self, node: Any) -> Any:
        tag = node.tag.removeprefix("tag:yaml.org,2002:")
        problem = HINTS.get(tag, f"the tag {tag!r} is refused: values are text, numbers, lists and mappings")
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


_known = yaml.SafeLoader.yaml_constructors
_Loader.yaml_constructors = {
    f"tag:yaml.org,2002:{tag}": _known[f"tag:yaml.org,2002:{tag}"] for tag in TAGS[:-1]
}
_Loader.add_constructor(None, _Loader.refuse)
# PyYAML follows YAML 1.1, where a number with an exponent needs a point and a sign: 1e-3 would be text.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def parsed(text: str, what: str) -> Any:
    """The plain values of a YAML text; ``what`` it is, messages begin with.

    Raises:
        ProfileError: no YAML, a name twice, or anything but plain values.
    """
    try:
        value = yaml.load(text, _Loader)
    except RecursionError:
        raise ProfileError(f"{what} is nested too deeply: a recipe has two levels") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise ProfileError(f"{what}{line}: {error.problem or error.context}") from None
    except (yaml.YAMLError, LookupError, ValueError, OverflowError, TypeError, AttributeError) as error:
        raise ProfileError(f"{what} is no YAML: {' '.join(str(error).split())}") from None
    return plain(value, what)


def read_yaml(path: Path, folder: Path) -> dict[str, Any]:
    """A YAML file's mapping; empty for an empty file.

    Raises:
        ProfileError: no such file, those in ``folder`` are listed; one that cannot be read; or no mapping.
    """
    if not path.is_file():
        known = sorted(file.stem for file in folder.glob("*.yaml"))
        what = f"{path} is a folder" if path.is_dir() else f"there is no {path}"
        raise ProfileError(f"{what}; known: {known}, or the path of a .yaml file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ProfileError(f"{path} is no UTF-8 text (byte {error.start}): save it as UTF-8") from None
    except OSError as error:
        raise ProfileError(f"{path} cannot be read: {error.strerror}") from None
    values = parsed(text, str(path))
    if not isinstance(values, dict | None):
        raise ProfileError(f"{path} must map names to values, not hold {_called(values)}")
    return values or {}


def _called(value: Any) -> str:
    return "a list" if isinstance(value, list) else f"{str(value)[:40]!r} alone"
