"""Calls on a Dask cluster: of this machine, of others that wait at an address, or of SLURM.

    with cluster("local:4", places, limit=3600) as crew, working(crew):
        run_sweep(sweep, places)

Workers may die and may hang: their calls are made again by others. What they make is in the artifact store,
which all of them must see; results and errors alone travel. ``pip install gan_lib[cluster]`` installs Dask.
"""

from __future__ import annotations

import faulthandler
import math
import os
import pickle
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from gan_lib.core.artifacts import code_version, digest
from gan_lib.core.runtime import PINNED
from gan_lib.core.storage import read_json
from gan_lib.workbench.crew import (
    Call,
    Failed,
    caught,
    end_with_parent,
    keep_freed_memory,
    leave_at_once,
)
from gan_lib.workbench.order import LongestFirst
from gan_lib.workbench.outside import IMPORT, import_outside
from gan_lib.workbench.places import Places
from gan_lib.workbench.recipes import ProfileError, read_yaml

if TYPE_CHECKING:
    from distributed import Client, Future

T = TypeVar("T")

FORMS = "local:N, tcp://HOST:PORT, the path of a scheduler's JSON file, or slurm:FILE.yaml"
DEATHS = 10  # of workers that a call may cost before it counts as failed
HANGS = 2  # times that a call may take longer than its limit
LOOK = 2.0  # seconds after which it is looked whether workers have joined
SETTINGS = {
    "distributed.scheduler.allowed-failures": DEATHS,
    "distributed.scheduler.worker-saturation": 1.0,  # who waits on the scheduler does not die with a worker
    "distributed.comm.timeouts.connect": "30s",
    "distributed.admin.large-graph-warning-threshold": "1GB",
    "distributed.worker.daemon": False,  # a worker may start processes of its own, to train together
    "distributed.admin.tick.limit": "60s",  # a call may hold the interpreter for long ...
    "distributed.admin.tick.interval": "1s",  # ... and is not to be asked for it fifty times a second,
    "distributed.worker.profile.enabled": False,  # nor a hundred times
}
GONE = "the scheduler is gone: run the command again, what is done is in the store"
WORKER = "gan_lib.workbench"  # whose code must be the same on workers


class SchedulerGoneError(ConnectionError):
    """The scheduler went away while calls were waiting."""


@contextmanager
def cluster(
    asked: str, places: Places, limit: float | None = None, tell: Callable[[str], None] = lambda _: None
) -> Iterator[OnDask]:
    """A crew on a Dask cluster, which is started and ended with the block unless it is somebody else's.

    Args:
        asked: ``local:N``, N processes of this machine; ``tcp://HOST:PORT``, or a scheduler's file; or
            ``slurm:FILE``, arguments of ``dask_jobqueue.SLURMCluster`` and ``jobs``, how many are asked for.
        places: whose data folder all workers see.
        limit: seconds that a call may take; a worker that takes longer is killed, and the call is made once
            more.
        tell: receives the address of the dashboard.

    Raises:
        ProfileError: another form, a file that does not fit, or Dask is not installed.
        OSError: no scheduler at an address.
    """
    try:
        import dask.config
        from distributed import Client
    except ImportError:
        raise ProfileError("--cluster needs Dask: pip install 'gan_lib[cluster]'") from None
    scratch = places.data / "runs" / "dask"
    with ExitStack() as stack:
        stack.enter_context(dask.config.set({**SETTINGS, "temporary-directory": str(scratch)}))
        address = _address(asked, places, scratch, stack)
        client = stack.enter_context(Client(address, timeout="30s", set_as_default=False))
        prepare_workers(client)
        tell(f"dashboard: {client.dashboard_link}")
        yield OnDask(client, limit, places.data / "runs" / "hangs")


def _address(asked: str, places: Places, scratch: Path, stack: ExitStack) -> Any:
    """What a client connects to: a cluster that ends with the stack, or an address."""
    if found := re.fullmatch(r"local:([1-9]\d*)", asked):
        from distributed import LocalCluster

        return stack.enter_context(
            LocalCluster(
                n_workers=int(found[1]),
                threads_per_worker=1,
                memory_limit=0,  # the system's own limit is the one that counts
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                local_directory=str(scratch),
                silence_logs=50,
            )
        )
    if asked.startswith("slurm:"):
        return stack.enter_context(slurm_cluster(Path(asked.removeprefix("slurm:"))))
    if asked.endswith(".json"):
        return read_json(Path(asked))["address"]
    if re.fullmatch(r"(tcp|tls)://[^\s/]+:\d+", asked):
        return asked
    raise ProfileError(f"--cluster is {FORMS}; not {asked!r}")


def slurm_cluster(path: Path) -> Any:
    """A cluster of SLURM jobs as a YAML file says: arguments of ``dask_jobqueue.SLURMCluster`` by name, and
    ``jobs``, how many are asked for.

    Raises:
        ProfileError: no such file, or arguments that do not fit.
    """
    from dask_jobqueue import SLURMCluster

    values = {"cores": 1, "processes": 1, "memory": "4GB", **read_yaml(path, path.parent)}
    jobs = values.pop("jobs", 1)
    if type(jobs) is not int or jobs < 1:
        raise ProfileError(f"{path}: jobs is how many SLURM jobs are asked for, not {jobs!r}")
    try:
        made = SLURMCluster(**values)
    except (TypeError, ValueError) as error:
        raise ProfileError(f"{path}: {error}") from None
    made.scale(jobs=jobs)
    return made


def prepare_workers(client: Client) -> None:
    """Have all workers, those that join later too, do first what :func:`prepared` says.

    The scheduler notes it, then tells its workers. When one of them dies before it has answered, the client
    hears of a closed connection: the others are told once more.

    Raises:
        OSError: no scheduler answers.
    """
    for deaths in range(DEATHS + 1):
        try:
            client.register_plugin(prepared())
            return
        except OSError:
            if deaths == DEATHS:
                raise


def prepared() -> Any:
    """What every worker does first, now or when it joins: it ends with who started it, and imports what is
    registered from outside."""
    from distributed import WorkerPlugin

    class Prepared(WorkerPlugin):
        name = "gan_lib"

        def __init__(self) -> None:
            self.outside = os.environ.get(IMPORT, "")

        def setup(self, worker: Any) -> None:
            os.environ[IMPORT] = self.outside
            end_with_parent()
            keep_freed_memory()
            import_outside()
            if worker.nanny:  # this is a process that its nanny waits for
                leave_at_once()

    return Prepared()


@dataclass(frozen=True)
class OnDask:
    """Workers of a Dask cluster (:func:`cluster`)."""

    client: Client
    limit: float | None  # seconds that a call may take
    hangs: Path  # folder of what calls were doing that took longer

    def run(self, calls: Sequence[Call[T]], keys: Sequence[str]) -> Iterator[tuple[int, T | Failed]]:
        """As :meth:`gan_lib.workbench.crew.Crew.run`.

        Raises:
            SchedulerGoneError: it did; what is done is in the store.
        """
        code = code_version(WORKER)
        names = {key: f"{_plain(key)}-{digest([key, code])}" for key in keys}
        places: dict[str, list[int]] = {}
        for place, key in enumerate(keys):
            places.setdefault(names[key], []).append(place)
        order = LongestFirst({names[key]: key.rpartition("-")[0] for key in keys})
        running: dict[str, Future[Any]] = {}
        finished: SimpleQueue[Future[Any]] = SimpleQueue()
        workers, looked = 1, -math.inf

        def hand_out() -> None:
            # One a worker: what waits at one would not go to another that joins, and may carry megabytes.
            for _ in range(min(workers - len(running), len(order))):
                name = order.next()
                running[name] = self._submit(name, calls[places[name][0]], code)
                running[name].add_done_callback(finished.put)

        while order or running:
            if time.monotonic() - looked > LOOK:
                workers, looked = self.at_once(), time.monotonic()
            hand_out()
            with suppress(Empty):
                future = finished.get(timeout=LOOK)
                name = str(future.key)
                own, seconds = _result(future)
                order.took(name, seconds)
                running.pop(name).release()
                hand_out()  # before what the result is used for
                for place in places[name]:
                    yield place, own

    def at_once(self) -> int:
        """How many calls are made at once: at least one, which waits for the first worker. Who is known but
        still preparing gets none: its calls would go to the others.

        Raises:
            SchedulerGoneError: no scheduler answers.
        """
        scheduler: Any = self.client.scheduler
        try:
            told = self.client.sync(scheduler.identity, n_workers=-1)
        except (OSError, AttributeError) as error:  # a client that lost it has none
            raise SchedulerGoneError(GONE) from error
        known = told["workers"].values()
        return max(1, sum(own["nthreads"] for own in known if own["status"] == "running"))

    def _submit(self, name: str, call: Call[Any], code: str) -> Future[Any]:
        import cloudpickle  # which Dask brings

        pinned = {name: os.environ[name] for name in PINNED if name in os.environ}
        # Pickled here and read within the call: what a worker cannot read fails the cell alone.
        given = (cloudpickle.dumps(call), code, pinned, self._limited(name))
        return self.client.submit(_on_worker, *given, key=name, pure=True)

    def _limited(self, name: str) -> Limited | None:
        if self.limit is None:
            return None
        made = Limited(self.hangs / f"{digest(name)}.txt", self.limit)
        made.file.unlink(missing_ok=True)  # of an earlier run
        return made


def _plain(key: str) -> str:
    """A key as a name on the dashboard, where what follows the last hyphen tells calls of a kind apart."""
    return re.sub(r"[^\w.]+", "_", key)[:60]


def _result(future: Future[Any]) -> tuple[Any, float]:
    """What came of a call, or how it failed, and the seconds that it took, 0 where no worker could tell."""
    from distributed import CancelledError, KilledWorker

    try:
        made: tuple[Any, float] = future.result()
    except CancelledError as error:
        raise SchedulerGoneError(GONE) from error
    except KilledWorker as error:
        told = f"{DEATHS + 1} workers ended while they made this call: killed, or out of memory"
        return Failed(RuntimeError(told), str(error)), 0.0
    except Exception as error:  # it could not be sent, or not be read there
        return Failed.of(error), 0.0
    return made


def _on_worker(call: bytes, code: str, pinned: dict[str, str], limited: Limited | None) -> tuple[Any, float]:
    """What comes of a pickled call, made by a worker, and the seconds that it took."""
    begun = time.monotonic()
    if code_version(WORKER) != code:
        return Failed(ProfileError("the worker has another version of gan_lib")), 0.0
    if missing := [name for name, value in pinned.items() if os.environ.get(name) != value]:
        told = f"reproducible: start the worker with {missing[0]}={pinned[missing[0]]}"
        return Failed(ProfileError(told)), 0.0
    with limited.block() if limited else nullcontext():
        made = caught(partial(_in_time, limited, call))
    return made, time.monotonic() - begun


def _in_time(limited: Limited | None, call: bytes) -> Any:
    if limited:
        limited.check()
    return pickle.loads(call)()  # of this very run: no file


@dataclass(frozen=True)
class Limited:
    """How long a call may take, and the file that tells other workers where it was when it took longer."""

    file: Path
    seconds: float

    def check(self) -> None:
        """Raise ``TimeoutError`` when the call has been too long before, and where it was then."""
        text = self.file.read_text() if self.file.is_file() else ""
        if text.count("Timeout (") >= HANGS:
            stacks = [own for own in text.split("\nThread ") if f" in {caught.__name__}\n" in f"{own}\n"]
            lines = [line.strip() for own in stacks[-1:] for line in own.splitlines() if "File " in line]
            where = f"; at last in {lines[0]}" if lines else ""
            raise TimeoutError(f"it took longer than {self.seconds:g} s, {HANGS} times{where}")

    @contextmanager
    def block(self) -> Iterator[None]:
        """Within the block this process has so long: then it ends, whatever it is doing, and says where it
        was. The clock is one of C, which a computation that keeps the interpreter does not stop."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a") as told:
            faulthandler.dump_traceback_later(self.seconds, exit=True, file=told)
            try:
                yield
            finally:
                faulthandler.cancel_dump_traceback_later()
        self.file.unlink(missing_ok=True)
