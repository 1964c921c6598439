"""Tensors on disk without pickles: checkpoints, and rows of a data set in memory-mapped shards.

Everything is safetensors with JSON metadata, written beside its final name and moved into place, so
that a kill leaves either the old file or the new one and loading never executes code.
"""

from __future__ import annotations

import difflib
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gan_lib.core.checksums import DamagedError, check_file, is_there
from gan_lib.core.leftovers import temporary_name

FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it into place when the block succeeds.

    Raises:
        OSError: the disk is full; how many bytes are needed at least and how many are free is told.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, written = path.with_name(temporary_name(path.name)), 0
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.errno not in FULL:
            raise
        written = temporary.stat().st_size if temporary.is_file() else 0
        temporary.unlink(missing_ok=True)
        raise full_disk(path, written) from error
    finally:
        temporary.unlink(missing_ok=True)


def full_disk(path: Path, needed: int) -> OSError:
    """The error that says that a disk is full: bytes that a file needs at least, and those that are free."""
    free = shutil.disk_usage(path.parent).free
    told = f"the disk is full: more than {needed} bytes are needed, {free} are free"
    return OSError(errno.ENOSPC, told, str(path))


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        JSONDecodeError, ValueError: it is no JSON, or no UTF-8 text; the message names the file.
        DamagedError: as :func:`gan_lib.core.checksums.check_file`.
    """
    check_file(path)
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text (byte {error.start})") from None
    except RecursionError:
        raise ValueError(f"{path} is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise json.JSONDecodeError(f"{path} is no JSON: {error.msg}", text, error.pos) from None


def told_of(path: Path, error: Exception) -> str:
    """An error about a file, with the file's name, which some errors bring and others do not."""
    return str(error) if str(path) in str(error) else f"{path}: {type(error).__name__}: {error}"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], **metadata: str) -> None:
    """Write named tensors, (N, ...) of any shape, and string metadata as one safetensors file, atomically.

    Raises:
        OSError: it cannot be written; the message names the file.
    """
    # A clone per tensor: safetensors refuses tensors that share memory, as tied weights do.
    own = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        try:
            save_file(own, temporary, metadata=metadata or None)
        except SafetensorError as error:  # it wraps what the system says
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file, (N, ...) of whatever shapes they were written in.

    Raises:
        FileNotFoundError, ValueError: as :func:`first_bytes`; or the file is cut short, or of another kind.
        DamagedError: as :func:`gan_lib.core.checksums.check_file`.
    """
    first_bytes(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"{path} is no whole safetensors file ({error}): copy or download it again"
        ) from None
    check_file(path)
    return tensors


def first_bytes(path: Path, count: int = 512) -> bytes:
    """How a file of weights begins.

    Raises:
        FileNotFoundError: no such file; near misses in its folder are listed.
        ValueError: a folder, an empty file, or what came in place of the file: a pointer to it, a web page.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give the file of the weights; it holds {_listed(path)}")
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}: {_nearest(path)}")
    with path.open("rb") as file:
        start = file.read(count)
    if not start:
        raise ValueError(f"{path} is empty, 0 bytes: copy or download it again")
    if start.startswith(b"version https://git-lfs.github.com/spec"):
        raise ValueError(
            f"{path} is a pointer of Git LFS, not the weights themselves: run `git lfs pull` in its "
            "repository"
        )
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ValueError(
            f"{path} is a web page, not weights: download the file that the page is about, not the page"
        )
    return start


def _nearest(path: Path) -> str:
    """What there is in place of a file that is not there."""
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    near = difflib.get_close_matches(path.name, [own.name for own in path.parent.iterdir()], n=3, cutoff=0.6)
    return f"did you mean {', '.join(near)}?" if near else f"the folder holds {_listed(path.parent)}"


def _listed(folder: Path, count: int = 3) -> str:
    names = sorted(own.name for own in folder.iterdir() if not own.name.startswith("."))
    return (
        ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")
        or "nothing"
    )


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write nested state dictionaries (models, optimisers, counters) as one safetensors file, atomically.

    Of nested dictionaries with strings or integers as keys, lists and tuples, the tensors go into the file's
    tensors, the JSON values into its metadata.
    """
    tensors: dict[str, Tensor] = {}

    def strip(value: Any, address: str) -> Any:
        if isinstance(value, Tensor):
            tensors[address] = value
            return {"tensor": address}
        if isinstance(value, Mapping):
            return {"items": [[key, strip(item, f"{address}.{key}")] for key, item in value.items()]}
        if isinstance(value, list | tuple):
            items = [strip(item, f"{address}.{index}") for index, item in enumerate(value)]
            return {type(value).__name__: items}
        return value

    text = json.dumps(strip(state, ""))
    save_tensors(path, tensors, state=text, sha256=_content(tensors, text))


def _content(tensors: Mapping[str, Tensor], text: str) -> str:
    """Hash of all that a checkpoint holds."""
    total = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        own = tensors[name]
        total.update(f"{name} {own.dtype} {tuple(own.shape)}".encode() + tensor_bytes(own))
    return total.hexdigest()


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what :func:`save_checkpoint` wrote.

    Raises:
        DamagedError: the file is not what was written; a ValueError.
    """
    try:
        tensors = load_tensors(path)
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
        if about.get("sha256") != _content(tensors, about.get("state", "")):
            raise ValueError("its content is not what was written")
        stripped = json.loads(about["state"])
    except (ValueError, OSError, SafetensorError) as error:
        raise DamagedError(f"{path} is damaged: {error}") from error

    def fill(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if "tensor" in value:
            return tensors[value["tensor"]]
        if "items" in value:
            return {key: fill(item) for key, item in value["items"]}
        if "tuple" in value:
            return tuple(fill(item) for item in value["tuple"])
        return [fill(item) for item in value["list"]]

    filled: dict[str, Any] = fill(stripped)
    return filled


class Rows(Protocol):
    """N tensors of one shape, in memory (a plain ``Tensor``) or on disk (:class:`ShardedRows`)."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Tensor: ...

    @property
    def shape(self) -> torch.Size:
        """Of all rows together, (N, ...)."""
        ...


class ShardWriter:
    """Stream batches of named rows to shards; the index, without which nothing counts as written, comes last.

        with ShardWriter(folder) as writer:
            for images, labels in batches:
                writer.write(images=images, labels=labels)
        labels = ShardedRows(folder, "labels")[torch.tensor([5, 3])]

    Args:
        folder: is filled.
        rows_per_shard: in every shard but the last.
    """

    def __init__(self, folder: Path, rows_per_shard: int = 1024) -> None:
        self.folder, self.rows_per_shard = folder, rows_per_shard
        self._pending: dict[str, list[Tensor]] = {}
        self._shards: list[int] = []
        self._digest = hashlib.sha256()

    def write(self, **columns: Tensor) -> None:
        """Append one batch: every column is (B, ...), with the same B, else a ``ValueError``."""
        counts = {len(column) for column in columns.values()}
        if len(counts) != 1 or (self._pending and self._pending.keys() != columns.keys()):
            raise ValueError(f"every batch needs the same columns with equally many rows: {counts}")
        for name, column in columns.items():
            self._pending.setdefault(name, []).append(column.detach().cpu())
        self._flush(at_least=self.rows_per_shard)

    def _flush(self, at_least: int) -> None:
        """Write shards while so many rows are waiting."""
        size = self.rows_per_shard
        while sum(map(len, next(iter(self._pending.values()), []))) >= at_least:
            whole = {name: torch.cat(parts) for name, parts in self._pending.items()}
            shard = {name: column[:size] for name, column in whole.items()}
            self._pending = {name: [column[size:]] for name, column in whole.items()}
            save_tensors(self.folder / f"{len(self._shards):05d}.safetensors", shard)
            for name in sorted(shard):
                self._digest.update(name.encode() + tensor_bytes(shard[name]))
            self._shards.append(len(next(iter(shard.values()))))

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._flush(at_least=1)
            about = {"rows": self._shards, "sha256": self._digest.hexdigest()}
            write_json(self.folder / "index.json", about)


class ShardedRows:
    """One column of a folder of shards, read by memory mapping: only the rows asked for are loaded.

    Raises:
        FileNotFoundError: the folder was never written to its end.
        KeyError: it has no such column.
    """

    def __init__(self, folder: Path, column: str) -> None:
        if not is_there(folder / "index.json"):
            raise FileNotFoundError(f"no complete shards at {folder}")
        self.folder, self.column = folder, column
        index = read_json(folder / "index.json")
        self.fingerprint = f"{index['sha256']}.{column}"
        self._ends = torch.tensor(index["rows"]).cumsum(0)
        self._shards: list[Tensor] = []
        for number in range(len(self._ends)):
            with safe_open(folder / f"{number:05d}.safetensors", framework="pt") as file:
                names = list(file.keys())
                if column not in names:
                    raise KeyError(f"{folder} has the columns {names}, not {column!r}")
                self._shards.append(file.get_tensor(column))  # mapped, not read

    def __reduce__(self) -> tuple[type[ShardedRows], tuple[Path, str]]:
        return ShardedRows, (self.folder, self.column)  # another process maps the files itself

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def shape(self) -> torch.Size:
        """Of all rows together, (N, ...)."""
        return torch.Size([len(self), *self._shards[0].shape[1:]])

    def __getitem__(self, rows: int | slice | Tensor) -> Tensor:
        """Rows by number, slice or index tensor; the result is an ordinary tensor in memory."""
        if isinstance(rows, int):
            return self[torch.tensor([rows])][0]
        wanted = torch.arange(len(self))[rows]  # raises IndexError out of range
        shards = torch.bucketize(wanted, self._ends, right=True)
        result = torch.empty((len(wanted), *self.shape[1:]), dtype=self._shards[0].dtype)
        for shard in shards.unique().tolist():
            here = shards == shard
            first = int(self._ends[shard]) - len(self._shards[shard])
            result[here] = self._shards[shard][wanted[here] - first]
        return result


def tensor_bytes(tensor: Tensor) -> bytes:
    """The values of a tensor (N, ...) as bytes, for hashing."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
