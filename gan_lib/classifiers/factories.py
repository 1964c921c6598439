"""CNNs that somebody else's code makes: ``package.module:factory`` or ``path/to/file.py:factory``.

    make_classifier("my_nets.py:make_net", ["cat", "dog"])

A factory is a function or a class. It is given the number of classes

- by keyword, if it has a parameter ``num_classes``, ``n_classes`` or ``classes``;
- else by position, if it has one parameter without a default, whatever that is called;
- else as ``num_classes``, if it takes any keyword (``**options``);
- else not at all: what it returns must have that many outputs by itself.

The folder of a file is searched for what the file imports, first while it is imported and last afterwards.

Only what a caller names is imported, never what a file of a saved CNN names.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from gan_lib.core.artifacts import code_version, digest
from gan_lib.core.modules import module_from_file

COUNT = ("num_classes", "n_classes", "classes")  # what the number of classes is called


def is_factory(architecture: str) -> bool:
    """Whether it is code of somebody else's that makes the CNN."""
    return ":" in architecture


def located(architecture: str, *folders: Path) -> str:
    """The same factory with the whole path of its file; any other architecture as it is.

    Args:
        folders: that a relative path may start from, the first in which it is; by default the working
            directory.
    """
    where, _, name = architecture.rpartition(":")
    if not _is_file(where):
        return architecture
    path = Path(where).expanduser()
    there = (own / path for own in (*folders, Path.cwd()) if (own / path).is_file())
    return f"{next(there, Path.cwd() / path).resolve()}:{name}"


def folder_name(architecture: str) -> str:
    """What a folder for an architecture's results is called: the path of a factory's file is left out."""
    where, _, name = architecture.rpartition(":")
    return f"{_unique_name(Path(where))}:{name}" if _is_file(where) else architecture


def made_by_factory(architecture: str, classes: int | None) -> nn.Module:
    """What a factory makes for so many classes; ``None`` where it is to tell their number itself.

    Raises:
        FileNotFoundError: no such file or module; near misses are listed.
        KeyError: it holds no such name; near misses are listed.
        ValueError: code that cannot be imported or raises, which is said with file and line; no factory; one
            that needs something else; one that returns something else than a module.
    """
    factory = factory_called(architecture)
    arguments, options = _arguments(factory, classes, architecture)
    try:
        made = factory(*arguments, **options)
    except Exception as error:
        raise ValueError(f"{architecture} raises {_raised(error)}") from error
    if not isinstance(made, nn.Module):
        raise ValueError(f"{architecture} returns a {type(made).__name__}, not a torch.nn.Module")
    return made


def factory_called(architecture: str) -> Callable[..., Any]:
    """The function or class itself.

    Raises:
        KeyError, ValueError: as :func:`made_by_factory`.
    """
    where, _, name = architecture.rpartition(":")
    if not where or not name:
        raise ValueError(
            f"{architecture!r} names no factory: package.module:factory or path/to/file.py:factory does"
        )
    module = _imported(where)
    factory = getattr(module, name, None)
    if not hasattr(module, name):
        own = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise KeyError(f"{where} holds no {name!r}; {_hint(name, own)}")
    if isinstance(factory, nn.Module):
        raise ValueError(
            f"{architecture} is a ready-made {type(factory).__name__}, not what makes one: name a function "
            "that returns it, or use gan_lib.wrap(model)"
        )
    if not callable(factory):
        raise ValueError(
            f"{architecture} is a {type(factory).__name__}, which cannot be called to make a CNN"
        )
    return factory


def _arguments(
    factory: Callable[..., Any], classes: int | None, architecture: str
) -> tuple[tuple[int, ...], dict[str, int]]:
    """What a factory is called with, as the rule at the top of this module says."""
    kinds, parameters = inspect.Parameter, _parameters(factory)
    plain = [own for own in parameters if own.kind not in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD)]
    required = [own for own in plain if own.default is kinds.empty]
    by_keyword = [own.name for own in plain if own.kind is not kinds.POSITIONAL_ONLY]
    named = next((name for name in by_keyword if name in COUNT), None)
    if named is None and not required and any(own.kind is kinds.VAR_KEYWORD for own in parameters):
        named = COUNT[0]
    others = [own.name for own in required if own.name != named]
    if named is None and required and required[0].kind is not kinds.KEYWORD_ONLY:
        others = others[1:]  # the first is the number of classes
    if others:
        raise ValueError(
            f"{architecture} needs {', '.join(others)} as well as the number of classes: give them defaults"
        )
    if classes is None:
        if required:
            raise ValueError(f"{architecture} is to be told the number of classes: give class_names=")
        return (), {}
    if named is not None:
        return (), {named: classes}
    return ((classes,) if required else ()), {}


def _parameters(factory: Callable[..., Any]) -> list[inspect.Parameter]:
    if inspect.isclass(factory) and factory.__init__ is nn.Module.__init__:
        return []  # its signature would be that of any module, which takes no keyword in truth
    try:
        return list(inspect.signature(factory).parameters.values())
    except (ValueError, TypeError):  # compiled code has none
        return []


def code_of_factory(architecture: str) -> dict[str, str]:
    """``{"code": hash}`` of a factory's code, for the address of what is made with it; else nothing.

    Of a file, what it imports from its folder counts as well; comments do not.
    """
    where = architecture.rpartition(":")[0]
    if not is_factory(architecture):
        return {}
    if not _is_file(where):
        return {"code": code_version(_imported(where).__name__)}
    files = [Path(where), *_beside(Path(where))]
    return {"code": digest({own.name: ast.dump(ast.parse(own.read_text())) for own in files})}


@dataclass(frozen=True)
class Imported:
    """A factory whose code is imported where this is unpickled, so that a CNN of its classes can be as well.

    Pickles hold classes by the names of their modules, and another process does not know a file's.
    """

    architecture: str

    def __reduce__(self) -> tuple[Any, ...]:
        where = self.architecture.rpartition(":")[0]
        if not _is_file(where):
            return Imported, (self.architecture,)
        return _imported_as, (self.architecture, _from_file(Path(where)).__name__)


def _imported_as(architecture: str, module: str) -> Imported:
    _from_file(Path(architecture.rpartition(":")[0]), module)
    return Imported(architecture)


def _is_file(where: str) -> bool:
    return where.endswith(".py") or "/" in where or "\\" in where


def _imported(where: str) -> ModuleType:
    """A module by name or file; what its code raises is told with the place."""
    if _is_file(where):
        _check_file(Path(where))
    try:
        return _from_file(Path(where)) if _is_file(where) else importlib.import_module(where)
    except SyntaxError as error:
        place = f"{error.filename}:{error.lineno}"
        raise ValueError(f"{where} cannot be imported: {error.msg} ({place})") from error
    except ModuleNotFoundError as error:
        if not _is_file(where) and error.name and f"{where}.".startswith(f"{error.name}."):
            raise FileNotFoundError(
                f"there is no module {error.name!r}; {_near_module(error.name)}"
            ) from None
        raise ValueError(f"{where} cannot be imported: {_raised(error)}") from error
    except (Exception, SystemExit) as error:
        raise ValueError(f"{where} cannot be imported: it raises {_raised(error)}") from error


def _check_file(path: Path) -> None:
    """There is such a file, and what it imports from its folder is not another module already."""
    if not path.is_file():
        near = [own.name for own in path.parent.glob("*.py")] if path.parent.is_dir() else []
        where = _hint(path.name, near) if path.parent.is_dir() else f"there is no folder {path.parent}"
        raise FileNotFoundError(f"there is no file {path}; {where}")
    for own in _beside(path):
        other = getattr(sys.modules.get(own.stem), "__file__", None)
        if other and Path(other).resolve() != own and Path(other).resolve().parent in _folders:
            raise ValueError(
                f"{path} imports {own.stem!r}, and another module of that name is imported already, {other}: "
                "give one of them another name"
            )


_folders: set[Path] = set()  # of the files that were imported here


def _from_file(path: Path, name: str | None = None) -> ModuleType:
    """A file as a module, imported once: under its own name where that is free, for pickles name it."""
    path = path.resolve()
    for known in list(sys.modules.values()):
        file = getattr(known, "__file__", None) or ""
        if file.endswith(path.name) and Path(file).resolve() == path:
            return known
    with _searched(path.parent):
        return module_from_file(path, name or (path.stem if _is_found(path) else _unique_name(path)))


@contextmanager
def _searched(folder: Path) -> Iterator[None]:
    """A folder is searched first for modules within the block, and last from then on."""
    importlib.invalidate_caches()  # its files may be new
    before = str(folder) in sys.path
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        if not before:
            sys.path.append(str(folder))
        _folders.add(folder)


def _is_found(path: Path) -> bool:
    """Whether its plain name means this file, and no other module, here and in another process."""
    if not path.stem.isidentifier() or path.stem in sys.modules:
        return False
    spec = find_spec(path.stem)
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve() == path


def _unique_name(path: Path) -> str:
    return f"{path.stem.replace('.', '_')}_{digest(str(path.resolve()))[:8]}"


def _beside(path: Path) -> list[Path]:
    """Files of its folder that a file imports, directly or not."""
    found: list[Path] = []
    pending = [path.resolve()]
    while pending:
        file = pending.pop()
        for name in _imports(file):
            package = path.resolve().parent / name
            own = (
                sorted(package.rglob("*.py"))
                if (package / "__init__.py").is_file()
                else [package.with_suffix(".py")]
            )
            new = [each for each in own if each.is_file() and each != path.resolve() and each not in found]
            found += new
            pending += new
    return sorted(found)


def _imports(file: Path) -> set[str]:
    """First parts of the names of the modules that a file imports."""
    try:
        nodes = list(ast.walk(ast.parse(file.read_text())))
    except (SyntaxError, UnicodeDecodeError):  # told where the file is imported
        return set()
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    of = {
        node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level
    }
    return {name.partition(".")[0] for name in plain | of}


def _near_module(name: str) -> str:
    parent, _, last = name.rpartition(".")
    if not parent and Path(f"{name}.py").is_file():
        return f"there is a file {name}.py here: say {name}.py:factory"
    searched = sys.modules[parent].__path__ if parent in sys.modules else None
    known = [own.name for own in pkgutil.iter_modules(searched)]
    near = difflib.get_close_matches(last, known, n=3, cutoff=0.6)
    if near:
        return f"did you mean {', '.join(f'{parent}.{own}'.lstrip('.') for own in near)}?"
    return (
        "Python searches "
        + ", ".join(own or "." for own in sys.path[:3])
        + ", ...: a file.py:factory will do"
    )


def _hint(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return f"did you mean {', '.join(near)}?"
    return f"there are {', '.join(known[:5])}" if known else "there is none"


def _raised(error: BaseException) -> str:
    """An exception in one line: kind, message, file and line of the raise."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    first = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {first} ({place.filename}:{place.lineno})"
