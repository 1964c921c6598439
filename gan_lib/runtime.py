"""What a computation runs on: device and precision, versions, progress."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any, Literal, TypeVar

import torch
from lightning_fabric import Fabric
from tqdm.auto import tqdm as notebook_tqdm
from tqdm.std import tqdm as plain_tqdm

T = TypeVar("T")

Precision = Literal["auto", "32-true", "16-mixed", "bf16-mixed"]
RECORDED_PACKAGES = ("gan_lib", "torch", "torchvision", "captum", "lightning-fabric", "scikit-learn", "numpy")


def make_fabric(device: str = "auto", precision: Precision = "auto") -> Fabric:
    """Lightning Fabric on one device.

    Args:
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda`` or ``mps``.
        precision: ``auto`` is bf16 mixed precision on a GPU and float32 elsewhere.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if precision == "auto":
        precision = "bf16-mixed" if device == "cuda" else "32-true"
    return Fabric(accelerator=device, devices=1, precision=precision)


def device_name(device: torch.device | str) -> str:
    """What figures and tables call the device, for instance ``NVIDIA H100`` or ``CPU, 2 threads``."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type.upper()} ({platform.machine()}), {torch.get_num_threads()} threads"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide results."""
    return {"python": platform.python_version(), **{name: version(name) for name in RECORDED_PACKAGES}}


def progress(items: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
    """Wrap an iterable in a progress bar: a widget in JupyterLab, a terminal line, or nothing.

    Headless runs (no terminal, no frontend) stay silent: a bar that nobody sees only fills logs.
    """
    options: dict[str, Any] = {"desc": description, "total": total, "leave": False, "mininterval": 0.5}
    if "ipykernel" in sys.modules and not _is_headless():
        return notebook_tqdm(items, **options)
    return plain_tqdm(items, disable=None, **options)


def _is_headless() -> bool:
    import os

    return "GAN_LIB_HEADLESS" in os.environ
