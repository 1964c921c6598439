"""Four runs at once in an empty folder: each ends well, and the work is done once."""

from __future__ import annotations

import pytest
from drill.stage import Command, leftovers, project, results


@pytest.mark.timeout(3600)
def test_four_runs_at_once(tmp_path):
    alone, together = project(tmp_path / "alone"), project(tmp_path / "together")
    assert Command(alone, "run", "--profile", "p").ended() == 0
    crew = [Command(together, "run", "--profile", "p") for _ in range(4)]
    assert [own.ended(1800) for own in crew] == [0] * 4, [own.told()[-2000:] for own in crew]
    assert results(together) == results(alone)
    assert leftovers(together) == []
    made = sum(own.told().count("figures and tables in") for own in crew)
    assert made == 2, "every notebook is run once"
    assert sum(own.told().count("unchanged") for own in crew) == 6
    assert [own.left() for own in crew] == [[]] * 4
