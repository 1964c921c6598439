"""What tests of whole reports have in common."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gan_lib.reporting import case, run, trust
from gan_lib.reporting.parts import Part


@pytest.fixture(autouse=True, scope="module")
def _fast() -> Iterator[None]:
    """Collecting garbage after every step takes longer than tiny steps do."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (run, case, trust):
            patch.setattr(module, "release_memory", lambda: None)
        yield


@pytest.fixture
def only_classes(monkeypatch):
    """Reports of the first two parts, where the others do not matter."""
    monkeypatch.setattr(run, "Learned", lambda *_: None)
    for name in ("trust", "concepts", "relies", "shown_concepts"):
        part = {"relies": "beside", "shown_concepts": "shown"}.get(name, name)
        monkeypatch.setattr(run, name, lambda *_, part=part: Part(part, f"Not made: {part}"))
