"""Workers that join a cluster while calls are being made, as those of a queue do."""

from __future__ import annotations

import threading
import time
from functools import partial

import pytest

pytest.importorskip("distributed", reason="gan_lib[cluster] is not installed")

from gan_lib.workbench.cluster import cluster
from gan_lib.workbench.crew import outcomes, working
from gan_lib.workbench.places import Places

WORKERS, PATIENCE = 4, 90.0


def meet(folder, number):
    """How many calls have begun, this one waiting until as many have as there will be workers."""
    (folder / str(number)).touch()
    deadline = time.monotonic() + PATIENCE
    while len(list(folder.iterdir())) < WORKERS and time.monotonic() < deadline:
        time.sleep(0.1)
    return len(list(folder.iterdir()))


@pytest.mark.timeout(300)
def test_workers_that_join_later_are_given_calls(tmp_path):
    met = tmp_path / "met"
    met.mkdir()
    with cluster("local:1", Places.of(tmp_path)) as crew, working(crew):
        joining = threading.Timer(2.0, crew.client.cluster.scale, [WORKERS])
        joining.start()
        made = outcomes([partial(meet, met, number) for number in range(WORKERS)], 1, "meeting")
        joining.join()
    assert made == [WORKERS] * WORKERS
