"""A folder of explanations: its table, what they were made with, and how more are added.

outputs/
    explain.json           what all of it was made with: CNN, size, class; and the table's SHA-256
    explanations.csv       a row per image and method
    contact_sheet.png      all of it to be looked at
    inputs/NAME.png        the image as the CNN saw it
    METHOD/NAME.png, NAME_overlay.png, NAME.safetensors
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from torch import Tensor

from gan_lib.core.leftovers import LONGEST
from gan_lib.core.sheets import is_text, neutral_table, restored_table
from gan_lib.core.storage import FULL, atomic_path, full_disk, read_json, told_of, write_json
from gan_lib.workbench.long_table import TableError, parts_of_table

TABLE, SETTINGS, INPUTS = "explanations.csv", "explain.json", "inputs"
OVERLAY = "_overlay"  # behind a map's name
ENDINGS = (".png", f"{OVERLAY}.png", ".safetensors")  # of what a method has of an image
SHEET = re.compile(r"contact_sheet(_\d+)?\.png")
OF_IMAGE = ("image", "name", "method", "prediction", "probability", "target", "target_probability")
COLUMNS = (*OF_IMAGE, "drop", "area")
OTHERWISE = "take another folder (--out), or overwrite it (--overwrite)"


class ExplanationFolder:
    """A folder that receives explanations, or has some already, to which others are added.

        folder = ExplanationFolder(Path("outputs"), {"cnn": "slim_vgg", "target": None}, {"saliency": ""})

    Nothing is written before :meth:`begin`. Rows follow when their files are there: a killed run leaves a
    table that is whole, and the same run again goes on. Text that a spreadsheet would run as a formula stands
    in the table as text (:mod:`gan_lib.core.sheets`).

    Args:
        path: of the folder.
        settings: what everything in it is made with, as JSON values.
        methods: those of this run, each with what tells its version from others.
        overwrite: what such a run has written before is taken away, once something is there to replace it.

    Raises:
        ValueError: the folder holds explanations of other settings, or damaged ones, or files of another
            origin.
    """

    def __init__(
        self, path: Path, settings: Mapping[str, Any], methods: Mapping[str, str], overwrite: bool = False
    ) -> None:
        self.path, self._overwrites, self._is_begun = path, overwrite, False
        self._settings: dict[str, Any] = json.loads(json.dumps(dict(settings)))
        self._methods = dict(methods)
        # Of every image, by a digest of its absolute path: its name, and the methods it has rows of, a bit
        # each. There may be very many, and a path, as text or as a Path, is large.
        self._known: dict[bytes, tuple[str, int]] = {}
        self._bits: dict[str, int] = {}
        self._images = 0  # that have rows
        if not overwrite:
            before = _about(path)
            self._refuse(before)
            given = dict.fromkeys(chain.from_iterable(map(self._count, self._parts())))
            known = {**before.get("methods", {}), **methods}
            order = dict.fromkeys([*given, *methods, *known])  # as they were first asked for
            self._methods = {name: known[name] for name in order if name in known}
        self._taken = {name for name, _ in self._known.values()}

    @property
    def methods(self) -> tuple[str, ...]:
        """Of which there are maps, or will be."""
        return tuple(self._methods)

    @property
    def images(self) -> int:
        """How many images have rows."""
        return self._images

    def rows(self, most: int | None = None) -> pd.DataFrame:
        """The table as words; rows behind those that ``explain.json`` knows, of a killed run, are left out.

        Args:
            most: only so many, the first ones.

        Raises:
            ValueError: it is not what was written, or has other columns.
        """
        return pd.concat([*self._parts(most)], ignore_index=True)

    def _parts(self, most: int | None = None) -> Iterator[pd.DataFrame]:
        """The table's rows some at a time, at least one part; arguments and errors as for :meth:`rows`."""
        try:
            for rows in parts_of_table(self.path / TABLE, COLUMNS, _about(self.path).get("table"), most):
                yield restored_table(rows)
        except TableError as error:
            raise ValueError(f"{error}; {OTHERWISE}") from None

    def missing(self, image: Path, methods: Sequence[str]) -> tuple[str, ...]:
        """Methods whose rows an image does not have."""
        done = self._known.get(_key(image), ("", 0))[1]
        return tuple(method for method in methods if not done & self._bit(method))

    def name_of(self, image: Path, wanted: Path) -> Path:
        """An image's name: its own, or a free one: ``a.jpg`` and ``a.png`` become ``a`` and ``a_png``."""
        key = _key(image)
        if key not in self._known:
            plain, stem = wanted.with_name(wanted.name.replace(".", "_")), wanted.stem
            candidates = [wanted.with_name(stem), plain] if stem.strip(".") else [plain]  # `...png`: no name
            numbered = (wanted.with_name(f"{candidates[0].name}_{number}") for number in count(2))
            free = (own for own in map(Path.as_posix, chain(candidates, numbered)) if self._is_free(own))
            name = next(free)
            self._known[key] = (name, 0)
            self._taken.add(name)
        return Path(self._known[key][0])

    def _is_free(self, name: str) -> bool:
        """Whether no image has that name, and none of both an overlay that is called as the other's map."""
        below = name.removesuffix(OVERLAY) if name.endswith(OVERLAY) else name
        return not {name, f"{name}{OVERLAY}", below} & self._taken

    def is_changed(self, image: Path, pixels: Tensor) -> bool:
        """Whether an image that has rows was another picture then; ``pixels`` are (3, H, W) uint8."""
        path = self.path / INPUTS / f"{self._named(image)}.png"
        if not path.is_file():
            return False
        try:
            with Image.open(path) as before:
                return not np.array_equal(np.asarray(before), pixels.permute(1, 2, 0).numpy())
        except Exception as error:  # damaged files make Pillow raise errors of many kinds
            raise ValueError(f"the picture kept of it, {path}, is damaged ({error}); {OTHERWISE}") from None

    def _named(self, image: Path) -> str:
        """The name that an image has, empty where it has none yet."""
        return self._known.get(_key(image), ("", 0))[0]

    def damaged(self, image: Path, methods: Sequence[str]) -> Path | None:
        """The first file of an image's maps that is empty, or no file."""
        name, lacking = self._named(image), self.missing(image, methods)
        files = [
            self.path / method / f"{name}{ending}"
            for method in methods
            for ending in ENDINGS
            if method not in lacking
        ]
        lost = (own for own in files if os.path.lexists(own) and not (own.is_file() and own.stat().st_size))
        return next(lost, None)

    def begin(self) -> None:
        """Say what the folder is made with, and take away what is to be overwritten; once is enough."""
        if self._is_begun:
            return
        if self._overwrites:
            self._clear()
        with (
            atomic_path(self.path / TABLE) as temporary,  # without a row that is not whole
            temporary.open("w", encoding="utf-8", newline="") as file,
        ):
            for place, rows in enumerate(self._parts()):
                neutral_table(rows).to_csv(file, index=False, header=not place, lineterminator="\n")
        self._size = (self.path / TABLE).stat().st_size
        with (self.path / TABLE).open("rb") as table:
            self._table = hashlib.file_digest(table, "sha256")
        self._note()
        self._is_begun = True

    def _note(self) -> None:
        """Say what the folder is made with, and how far its table goes."""
        table = {"bytes": self._size, "sha256": self._table.hexdigest()}
        own = {"settings": self._settings, "methods": self._methods, "table": table}
        write_json(self.path / SETTINGS, own)

    def append(self, rows: pd.DataFrame) -> None:
        """Add rows, all or none: where the disk is full, the table ends as it did before."""
        table = neutral_table(rows[list(COLUMNS)])
        added = table.to_csv(index=False, header=False, lineterminator="\n").encode()
        text = memoryview(added)
        with (self.path / TABLE).open("ab", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            try:
                while text:
                    text = text[file.write(text) :]
            except OSError as error:
                file.truncate(end)
                raise (full_disk(self.path / TABLE, len(added)) if error.errno in FULL else error) from None
        self._table.update(added)
        self._size += len(added)
        self._note()
        self._count(rows)

    def _count(self, rows: pd.DataFrame) -> dict[str, None]:
        """Note which methods images have rows of; the methods, in the order of the rows."""
        for image, name, method in zip(rows["image"], rows["name"], rows["method"], strict=True):
            key = _key(Path(image))
            known, done = self._known.get(key, (str(name), 0))
            self._images += not done
            self._known[key] = (known, done | self._bit(method))
        return dict.fromkeys(rows["method"])

    def _bit(self, method: str) -> int:
        return self._bits.setdefault(method, 1 << len(self._bits))

    def _refuse(self, before: Mapping[str, Any]) -> None:
        known = before.get("settings", {})
        if before and known != self._settings:
            names = dict.fromkeys([*known, *self._settings])
            told = (
                f"{name} was {_short(known.get(name))}, now {_short(self._settings.get(name))}"
                for name in names
                if known.get(name) != self._settings.get(name)
            )
            raise ValueError(
                f"{self.path} holds explanations of other settings ({'; '.join(told)}): {OTHERWISE}"
            )
        for method, version in before.get("methods", {}).items():
            if self._methods.get(method, version) != version:
                raise ValueError(
                    f"{self.path} holds maps of {method} before it was trained anew: {OTHERWISE}"
                )
        own = {INPUTS, *before.get("methods", {})} if before else set()
        foreign = [self.path / name for name in (INPUTS, *self._methods) if name not in own]
        foreign += [] if before else [self.path / TABLE, *_sheets(self.path)]
        for path in foreign:
            if path.is_file() or (path.is_dir() and any(path.iterdir())):
                raise ValueError(f"{path} is there already, and not from such a run: {OTHERWISE}")

    def _clear(self) -> None:
        """Take away what table and settings tell of, and nothing else."""
        methods, names = set[str](), set[str]()
        with suppress(ValueError):  # damaged ones
            methods = set(_about(self.path).get("methods", ()))
        with suppress(ValueError):
            for rows in self._parts():
                names.update(rows["name"])
        files = [Path(INPUTS, f"{name}.png") for name in names]
        files += [
            Path(method, f"{name}{ending}") for name in names for method in methods for ending in ENDINGS
        ]
        for file in files:
            if ".." not in file.parts and not file.is_absolute():
                (self.path / file).unlink(missing_ok=True)
        for path in (self.path / TABLE, self.path / SETTINGS, *_sheets(self.path)):
            if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
                path.rmdir()
            path.unlink(missing_ok=True)


def name_problem(path: Path, name: Path) -> str:
    """Why results of an image file cannot be called by a name; empty where they can."""
    if not (is_text(path) and is_text(name)):
        return "its name is no UTF-8 text, and no table can hold it: rename it"
    if len(os.fsencode(name.name)) > LONGEST - max(map(len, ENDINGS)):
        return f"its name is too long for names of maps, of at most {LONGEST} bytes: rename it"
    return ""


def written_to(folder: Path) -> frozenset[str]:
    """Names of what runs before have written into a folder: subfolders and contact sheets."""
    if not os.path.lexists(folder / SETTINGS):
        return frozenset()
    try:
        methods = {*_about(folder).get("methods", ())}
    except ValueError:  # damaged: all folders beside it may be of explanations
        methods = {own.name for own in folder.iterdir() if own.is_dir()}
    return frozenset({INPUTS, *methods, *(own.name for own in _sheets(folder))})


def _about(folder: Path) -> dict[str, Any]:
    """What ``explain.json`` says, or nothing where there is none; a damaged one raises ``ValueError``."""
    path = folder / SETTINGS
    if not os.path.lexists(path):
        return {}
    try:
        found: dict[str, Any] = read_json(path)
        table = found.get("table", {"bytes": 0, "sha256": ""})
        is_one = all(isinstance(found[name], dict) for name in ("settings", "methods"))
        is_one &= isinstance(table["bytes"], int) and isinstance(table["sha256"], str)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{told_of(path, error)}: {OTHERWISE}") from None
    if not is_one:
        raise ValueError(f"{path} does not say what is made in its folder: {OTHERWISE}")
    return found


def _sheets(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.png") if SHEET.fullmatch(path.name))


def _key(image: Path) -> bytes:
    return hashlib.blake2b(os.fsencode(image.absolute()), digest_size=16).digest()


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:36]} ..."
