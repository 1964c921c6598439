"""What a computation runs on: device and precision, versions, progress."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import statistics
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from typing import Any, Literal, TypeVar

import numpy as np
import psutil
import torch
from lightning_fabric import Fabric
from torch import Tensor
from tqdm.auto import tqdm as notebook_tqdm
from tqdm.std import tqdm as plain_tqdm

T = TypeVar("T")

Precision = Literal["auto", "32-true", "bf16-mixed"]
# Environment variables under which all x86-64 processors with AVX2 round alike (oneDNN, ATen and MKL read
# them when they are first used): set for the processes of a reproducible run.
PINNED = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "COMPATIBLE"}
# Threads that wait sleep: where they spin, as is the default, one other process on a core makes all wait.
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE"}
RECORDED_PACKAGES = ("gan_lib", "torch", "torchvision", "captum", "lightning-fabric", "scikit-learn", "numpy")


def make_fabric(device: str = "auto", precision: Precision = "auto") -> Fabric:
    """Lightning Fabric on one device.

    Args:
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda`` or ``mps``.
        precision: ``auto`` is bf16 mixed precision on a GPU and float32 elsewhere.

    Raises:
        ValueError: another device, or one that this machine does not have.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = "cuda" if there["cuda"] else "cpu"
    if device not in there:
        raise ValueError(f"a device is auto, {', '.join(there)}, not {device!r}")
    if not there[device]:
        raise ValueError(
            f"device {device!r} is asked for, but torch {torch.__version__} finds none on this machine: "
            "take 'cpu', or 'auto'"
        )
    if precision == "auto":
        precision = "bf16-mixed" if device == "cuda" else "32-true"
    return Fabric(accelerator=device, devices=1, precision=precision)


def device_name(device: torch.device | str) -> str:
    """What figures and tables call the device, for instance ``NVIDIA H100`` or ``CPU, 2 threads``."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type.upper()} ({platform.machine()}), {torch.get_num_threads()} threads"


def instructions() -> dict[str, str]:
    """What decides how sums are rounded on a CPU: the instruction set that torch chose, and what pins it."""
    pinned = {name: os.environ[name] for name in PINNED if name in os.environ}
    return {"cpu": torch.backends.cpu.get_cpu_capability(), **pinned}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide results."""
    return {"python": platform.python_version(), **{name: version(name) for name in RECORDED_PACKAGES}}


class PeakMemory:
    """The memory of this process and of all that it started, watched within a block: ``peak.gib`` at its end.

    It is the highest sum of proportional set sizes seen, every four seconds (asking costs some time): memory
    that several processes share counts once. Where the system does not tell them, resident sizes are added
    up.
    """

    gib = 0.0

    def __enter__(self) -> PeakMemory:
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        own, over = psutil.Process(), False
        while not over:
            self.gib = max(self.gib, sum(map(_memory, [own, *own.children(recursive=True)])) / 2**30)
            over = self._end.wait(4.0)


def _memory(process: psutil.Process) -> int:
    try:
        if sys.platform == "linux":
            return process.memory_full_info().pss
        return process.memory_info().rss
    except (psutil.NoSuchProcess, psutil.AccessDenied):  # it ended between the listing and the question
        return 0


def release_memory() -> None:
    """Give memory that is free again back to the system, where the C library has a call for it, as glibc."""
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def median_seconds(contestants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of every contestant, run in turn so that all meet the same noise."""
    for run in contestants.values():
        run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Within the block torch works with so many threads: sums, and so weights, depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within the block, torch's and NumPy's global generators start from a seed; after it, they go on."""
    state = np.random.get_state()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(state)


def image_generators(images: Tensor, seed: int) -> list[torch.Generator]:
    """A generator for each image (B, 3, H, W) in [0, 1], seeded by the sum of its pixels and by a seed: it
    draws the same for an image alone, in any batch and in any order."""
    sums = (255 * images.double()).round().sum((1, 2, 3)).long().tolist()
    return [torch.Generator().manual_seed(1_000_003 * own + seed) for own in sums]


def quiet() -> warnings.catch_warnings[None]:
    """Within the block, no warnings: Captum's say that it sets hooks, and that it removes them."""
    return warnings.catch_warnings(action="ignore")


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook that somebody looks at, and no headless run.

    That ipykernel has been imported says little: whatever starts a Jupyter server does that too.
    """
    if "ipykernel" not in sys.modules or "GAN_LIB_HEADLESS" in os.environ:
        return False
    from IPython.core.getipython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


def progress(items: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
    """Wrap an iterable in a progress bar: a widget in JupyterLab, a terminal line, or nothing.

    Headless runs (no terminal, no frontend) stay silent: a bar that nobody sees only fills logs.
    """
    options: dict[str, Any] = {"desc": description, "total": total, "leave": False, "mininterval": 0.5}
    if in_notebook():
        return notebook_tqdm(items, **options)
    return plain_tqdm(items, disable=None, **options)
