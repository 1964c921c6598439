"""What the reference says of every public function: shapes of tensors, errors, and where a method is from.

Public is what has no leading underscore, in modules and in classes; commands are left out, whose docstrings
are their help. An override has its base's docstring.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from torch import Tensor

import gan_lib
from gan_lib.explainers import METHODS
from gan_lib.metrics import MEASURES

# (B, 3, H, W), (N,), (classes * k, C), (..., C): sizes in brackets, one of them a letter or a number.
SHAPE = re.compile(r"\((?=[^()]*\b(?:[A-Za-z]|\d+)\b)[\w.'*+/ -]+(?:,[\w.'*+/ -]*)+\)")
SOURCE = re.compile(r"arXiv|https?://|\b(?:19|20)\d\d\b|et al\.")
OF_THIS_PROJECT = {"edges", "random", "uniform", "evidence_projection", "distinct_values"}


def modules() -> Iterator[ModuleType]:
    """All of the library but its commands."""
    for found in pkgutil.walk_packages(gan_lib.__path__, "gan_lib."):
        if not found.name.startswith(("gan_lib.cli", "gan_lib.__main__")):
            yield importlib.import_module(found.name)


def functions() -> Iterator[tuple[str, Callable, str]]:
    """Name, function, and the docstring of it and of its class, of all that is public."""
    for module in modules():
        for name, thing in vars(module).items():
            if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
                continue
            if inspect.isfunction(thing):
                yield f"{module.__name__}.{name}", thing, inspect.getdoc(thing) or ""
            elif inspect.isclass(thing):
                yield from methods(thing, f"{module.__name__}.{name}")


def methods(cls: type, path: str) -> Iterator[tuple[str, Callable, str]]:
    about = inspect.getdoc(cls) or ""
    for name, own in vars(cls).items():
        function = own.fget if isinstance(own, property) else getattr(own, "__func__", own)
        if name.startswith("_") or not inspect.isfunction(function):
            continue
        told = inspect.getdoc(getattr(cls, name)) or ""
        yield f"{path}.{name}", function, f"{told}\n{about}" if told else ""


@cache
def definitions(path: str) -> dict[int, ast.AST]:
    """A file's functions by the line in which they begin, decorators included."""
    found = (own for own in ast.walk(ast.parse(Path(path).read_text())) if isinstance(own, ast.FunctionDef))
    return {min([own.lineno, *(made.lineno for made in own.decorator_list)]): own for own in found}


def body(function: Callable) -> ast.AST:
    code = inspect.unwrap(function).__code__
    return definitions(code.co_filename)[code.co_firstlineno]


def takes_tensors(function: Callable) -> bool:
    hints = [
        own if isinstance(own, str) else getattr(own, "__name__", "")
        for own in inspect.get_annotations(function).values()
    ]
    return any(re.search(r"\bTensor\b", own) for own in hints)


def raised(function: Callable) -> set[str]:
    """Names of the exceptions that a function raises itself, in no function within it."""
    names, pending = set(), list(ast.iter_child_nodes(body(function)))
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Raise) and node.exc is not None:
            made = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            names.add(ast.unparse(made).rpartition(".")[2])
        pending += ast.iter_child_nodes(node)
    return {name for name in names if name[:1].isupper()} - {"NotImplementedError", "AssertionError"}


def kinds(name: str, function: Callable) -> set[str]:
    """An exception's name, and those of what it is a kind of."""
    known = inspect.unwrap(function).__globals__.get(name)
    return {own.__name__ for own in known.__mro__} - {"Exception"} if inspect.isclass(known) else {name}


def lacking(function: Callable, told: str) -> list[str]:
    """What a docstring does not say."""
    if not told:
        return ["a docstring"]
    shapes = ["a shape"] if takes_tensors(function) and not SHAPE.search(told) else []
    words = set(re.findall(r"\w+", told))
    return shapes + [name for name in sorted(raised(function)) if not words & kinds(name, function)]


def test_every_public_function_says_what_it_takes_and_raises():
    found = {name: lacking(function, told) for name, function, told in functions()}
    assert len(found) > 900
    assert {name: missing for name, missing in found.items() if missing} == {}


def without_words(images: Tensor) -> Tensor:
    """An image of three colours."""
    if images.ndim != 4:
        raise ValueError("not four")
    return images


def with_words(images: Tensor) -> Tensor:
    """The images (B, 3, H, W).

    Raises:
        ValueError: another number of dimensions.
    """
    if images.ndim != 4:
        raise ValueError("not four")
    return images


def of_a_function_within(count: int) -> int:
    """One more."""

    def within() -> None:
        raise KeyError("not its own")

    within()
    return count + 1


def test_what_would_be_found():
    assert lacking(without_words, without_words.__doc__) == ["a shape", "ValueError"]
    assert lacking(with_words, with_words.__doc__) == []
    assert lacking(of_a_function_within, of_a_function_within.__doc__) == []
    assert lacking(with_words, "") == ["a docstring"]


@pytest.mark.parametrize(
    ("text", "is_shape"),
    [
        ("(B, 3, H, W) in [0, 1]", True),
        ("maps (N,)", True),
        ("(2 M, 3, H, W)", True),
        ("(..., C)", True),
        ("(see below)", False),
        ("(black, blur)", False),
        ("(A)", False),
    ],
)
def test_shapes(text, is_shape):
    assert bool(re.search(SHAPE, text)) == is_shape


@pytest.mark.parametrize("kind", ["methods", "measures"])
def test_published_methods_and_measures_name_their_source(kind):
    made = {"methods": METHODS, "measures": MEASURES}[kind]
    things = {name: getattr(own, "make", None) or own.score for name, own in made.items()}
    silent = []
    for name, thing in things.items():
        if getattr(thing, "__module__", "").startswith("gan_lib") and name not in OF_THIS_PROJECT:
            own = inspect.getdoc(inspect.unwrap(thing)) or ""
            about = inspect.getdoc(inspect.getmodule(thing)) or ""
            if not SOURCE.search(f"{own}\n{about}"):
                silent.append(name)
    assert silent == []
