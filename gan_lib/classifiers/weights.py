"""Weights from files of every usual form: read without running code, or refused in one sentence.

    states = read_weights("net.pth")    # {"state_dict": {"conv1.weight": ..., ...}}

What a file is, its content tells and not its ending.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gan_lib.core.runtime import quiet
from gan_lib.core.storage import first_bytes, load_tensors

State = dict[str, Tensor]
DEEPEST = 4  # dictionaries within dictionaries that are searched for tensors
OTHERS = {  # how files begin that often lie about beside weights
    b"\x89HDF": "an HDF5 file, as Keras writes them",
    b"\x93NUMPY": "a NumPy array",
    b"GGUF": "a GGUF file",
    b"\x1f\x8b": "compressed with gzip",
    b"Rar!": "a RAR archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
}
WANTED = "a safetensors file, or what torch.save wrote of model.state_dict(), is wanted"
SAVE = "save its state_dict, torch.save(model.state_dict(), ...), or a safetensors file"


def read_weights(path: str | Path) -> dict[str, State]:
    """All named tensors of a file on the CPU, by the keys under which they stand in it, ``""`` at the top.

    safetensors, and what ``torch.save`` wrote (``.pth``, ``.pt``, ``.bin``, ``.ckpt``), which is read with
    ``weights_only=True``: nothing in the file is run. A training checkpoint may give several, for instance
    ``{"model": ..., "ema": ...}``.

    Raises:
        FileNotFoundError: no such file; near misses in its folder are listed.
        ValueError: a file of another kind, a damaged one, or one that holds more than tensors; it is said
            what to do.
    """
    path = Path(path)
    start = first_bytes(path)
    if start[8:9] == b"{":  # behind the eight bytes of its length: the header of safetensors
        return {"": load_tensors(path)}
    for beginning, kind in OTHERS.items():
        if start.startswith(beginning):
            raise ValueError(f"{path} is {kind}: {WANTED}")
    if start.startswith(b"PK"):
        _check_archive(path)
    elif not start.startswith(b"\x80"):
        _refuse_unknown(path, start)
    return _named_tensors(_loaded(path), path)


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        raise ValueError(f"{path} is cut short: copy or download it again") from None
    if any(name.endswith("/constants.pkl") for name in names):
        raise ValueError(
            f"{path} is TorchScript, a program with its weights: load it where it is trusted and {SAVE}"
        )
    if not any(name.endswith("data.pkl") for name in names):
        raise ValueError(f"{path} is an archive of {', '.join(names[:3])}: {WANTED}")


def _refuse_unknown(path: Path, start: bytes) -> None:
    """Neither safetensors nor PyTorch's: text is quoted."""
    try:
        text = start[:40].decode("ascii")
    except UnicodeDecodeError:
        text = ""
    told = (
        f"text, {' '.join(text.split())!r} ..."
        if text.replace("\n", " ").isprintable() and text
        else "neither"
    )
    raise ValueError(f"{path} is {told}: {WANTED}")


def _loaded(path: Path) -> Any:
    try:
        # An open file, for torch.load goes by the ending of a path; quiet about how the file was pickled.
        with path.open("rb") as file, quiet():
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"(?:GLOBAL|global|class|function):? ([\w.]+\.\w+)", str(error))
        what = f"Python objects ({named[1]})" if named else "more than tensors"
        raise ValueError(f"{path} holds {what}, and to read those is to run code: {SAVE}") from None
    except Exception as error:  # a damaged file raises whatever its bytes lead to
        told = f"{type(error).__name__} {error}".strip().partition("\n")[0]
        raise ValueError(f"{path} is damaged or cut short ({told}): copy or download it again") from error


def _named_tensors(loaded: Any, path: Path) -> dict[str, State]:
    if isinstance(loaded, nn.Module):
        raise ValueError(f"{path} holds a whole {type(loaded).__name__}: {SAVE}")
    if not isinstance(loaded, Mapping):
        raise ValueError(f"{path} holds a {type(loaded).__name__}, not tensors by name: {SAVE}")
    found: dict[str, State] = {}
    _collect(loaded, "", found, DEEPEST)
    if not found:
        raise ValueError(
            f"{path} holds no tensors by name, but {', '.join(map(str, loaded)) or 'nothing'}: {SAVE}"
        )
    return found


def _collect(value: Mapping[Any, Any], address: str, found: dict[str, State], deeper: int) -> None:
    own = {
        key: item.detach() for key, item in value.items() if isinstance(key, str) and isinstance(item, Tensor)
    }
    if own:
        found[address] = own
    for key, item in value.items():
        if isinstance(item, Mapping) and deeper:
            _collect(item, f"{address}.{key}".lstrip("."), found, deeper - 1)
