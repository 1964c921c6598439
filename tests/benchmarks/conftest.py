"""Benchmarks: ratios of things measured side by side in one run, never seconds.

``make bench`` runs them and writes ``figures/benchmarks.csv``.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from gan_lib.core.runtime import device_name, median_seconds

ROOT = Path(__file__).parent.parent.parent
__all__ = ["median_seconds"]
ROWS: list[dict[str, object]] = []


@pytest.fixture
def record():
    """Record a ratio: ``record(benchmark, what, against, ratio, rounds)``."""

    def add(benchmark: str, what: str, against: str, ratio: float, rounds: int) -> None:
        device = device_name(torch.device("cpu"))
        row = {"benchmark": benchmark, "what": what, "against": against, "ratio": ratio, "rounds": rounds}
        ROWS.append({**row, "device": device, "torch": torch.__version__})

    return add


def pytest_sessionfinish() -> None:
    """Write what was measured; rows of benchmarks that did not run stay as they are."""
    if not ROWS:
        return
    path, key = ROOT / "figures" / "benchmarks.csv", ["benchmark", "what", "against"]
    table = pd.DataFrame(ROWS)
    if path.is_file():
        table = pd.concat([pd.read_csv(path), table]).drop_duplicates(key, keep="last")
    table.to_csv(path, index=False, float_format="%.3g")
