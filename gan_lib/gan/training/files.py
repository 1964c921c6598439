"""Trained generators on disk."""

from __future__ import annotations

from pathlib import Path

from gan_lib.core.storage import load_tensors, read_json, save_tensors, write_json
from gan_lib.gan.generators import Generator, generator_recipe, make_generator


def save_generator(generator: Generator, folder: Path) -> None:
    """Write weights (safetensors) and recipe (JSON) to a folder."""
    save_tensors(folder / "generator.safetensors", generator.state_dict())
    write_json(folder / "generator.json", generator_recipe(generator))


def load_generator(folder: Path) -> Generator:
    """Read a generator written by :func:`save_generator`, in eval mode.

    Raises:
        FileNotFoundError: no generator at ``folder``.
    """
    if not (folder / "generator.json").is_file():
        raise FileNotFoundError(f"no generator at {folder}")
    generator = make_generator(**read_json(folder / "generator.json"))
    generator.load_state_dict(load_tensors(folder / "generator.safetensors"))
    return generator.eval()
