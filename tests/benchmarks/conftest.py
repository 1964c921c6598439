"""Benchmarks: ratios of things measured side by side in one run, never seconds.

``make bench`` runs them and writes ``figures/benchmarks.csv``.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from gan_lib.runtime import device_name

ROOT = Path(__file__).parent.parent.parent
ROWS: list[dict[str, object]] = []


def median_seconds(contestants: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of every contestant, run in turn so that all meet the same noise."""
    for run in contestants.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


@pytest.fixture
def record():
    """Record a ratio: ``record(benchmark, what, against, ratio, rounds)``."""

    def add(benchmark: str, what: str, against: str, ratio: float, rounds: int) -> None:
        device = device_name(torch.device("cpu"))
        row = {"benchmark": benchmark, "what": what, "against": against, "ratio": ratio, "rounds": rounds}
        ROWS.append({**row, "device": device, "torch": torch.__version__})

    return add


def pytest_sessionfinish() -> None:
    if ROWS:
        pd.DataFrame(ROWS).to_csv(ROOT / "figures" / "benchmarks.csv", index=False, float_format="%.3g")
