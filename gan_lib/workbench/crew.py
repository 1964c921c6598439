"""Calls side by side: here, in processes of this machine, or on a cluster. One that fails stops no other.

    made = outcomes([partial(train, seed) for seed in (0, 1, 2)], workers=2, description="training")
    [own for own in made if not isinstance(own, Failed)]

Who works is decided in one place, :func:`working`, around whatever makes such calls: the default are joblib's
processes, :mod:`gan_lib.workbench.cluster` has others.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import psutil
from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError
from threadpoolctl import threadpool_limits

from gan_lib.core.imports import leave
from gan_lib.core.runtime import progress, threads

T = TypeVar("T")
Call = Callable[[], T]

BREAKS = 3  # processes that end before calls are made one by one, so that it is seen whose do
WATCH = 0.5  # seconds between two looks for the parent
PR_SET_PDEATHSIG = 1  # of Linux's prctl(2)
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
LARGEST_KEPT = 32 * 2**20  # bytes, up to which glibc's own threshold grows


@dataclass(frozen=True)
class Failed:
    """What became of a call that failed: its error, and the traceback of where it was raised, in words."""

    error: Exception
    trace: str = ""

    @classmethod
    def of(cls, error: Exception) -> Failed:
        """Of an error just caught; one that no other process could be told of is told in words."""
        trace = traceback.format_exc()
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            error = RuntimeError(f"{type(error).__name__}: {error}")
        return cls(error, trace)

    def told(self) -> str:
        """The error in one line."""
        text = " ".join(str(self.error.args[0] if self.error.args else "").split())
        return f"{type(self.error).__name__}: {text}" if text else type(self.error).__name__


class Crew(Protocol):
    """Who makes calls."""

    def run(self, calls: Sequence[Call[T]], keys: Sequence[str]) -> Iterator[tuple[int, T | Failed]]:
        """Places of calls, and what came of them, in the order in which they are done.

        Calls with the same key, and only these, are the same call.
        """
        ...


_CREW: ContextVar[Crew | None] = ContextVar("crew", default=None)


@contextmanager
def working(crew: Crew) -> Iterator[None]:
    """Within the block calls side by side are made by a crew, whatever number of workers is asked for."""
    token = _CREW.set(crew)
    try:
        yield
    finally:
        _CREW.reset(token)


def outcomes(
    calls: Sequence[Call[T]], workers: int, description: str, keys: Sequence[str] | None = None
) -> list[T | Failed]:
    """What comes of every call, in order.

    Args:
        calls: functions without arguments that can be pickled.
        workers: processes of this machine, where no other crew is :func:`working`; with one, calls are
            made here.
        description: of the progress bar.
        keys: by which a cluster knows calls that it has made already; by default every call is a new one.
    """
    crew = _CREW.get() or Processes(workers)
    made: list[Any] = [None] * len(calls)
    chosen = keys or [f"{description}-{place}" for place in range(len(calls))]
    for place, own in progress(crew.run(calls, chosen), description, len(calls)):
        made[place] = own
    return made


def results(
    calls: Sequence[Call[T]], workers: int, description: str, keys: Sequence[str] | None = None
) -> list[T]:
    """What every call gives, in order; arguments as for :func:`outcomes`.

    Raises:
        Exception: that of the first call that failed, once the others are done: what they have put into the
            store is found there the next time.
    """
    made = outcomes(calls, workers, description, keys)
    raise_first(made)
    return cast(list[T], made)


def raise_first(made: Sequence[Any]) -> None:
    """Raise the error of the first call that failed, if one did; a note says how many more."""
    if failed := [own for own in made if isinstance(own, Failed)]:
        if len(failed) > 1:
            failed[0].error.add_note(f"and {len(failed) - 1} more of {len(made)}")
        raise failed[0].error from RuntimeError(f"\n{failed[0].trace}")


def caught(call: Call[T]) -> T | Failed:
    """What a call gives, or how it failed."""
    try:
        return call()
    except Exception as error:
        return Failed.of(error)


@dataclass(frozen=True)
class Processes:
    """Processes of this machine (joblib's); with one worker, calls are made here.

    A process that is killed, or ends in some other way, is replaced, and its call is made again.
    """

    workers: int

    def run(self, calls: Sequence[Call[T]], keys: Sequence[str]) -> Iterator[tuple[int, T | Failed]]:
        """As :meth:`Crew.run`."""
        at_once = min(self.workers, len(calls))
        if at_once <= 1:
            for place, call in enumerate(calls):
                yield place, caught(call)
            return
        waiting, breaks, here = list(range(len(calls))), 0, os.getpid()
        while waiting:
            alone = breaks >= BREAKS
            asked = waiting[:1] if alone else list(waiting)
            watched: Any = {"initializer": _begin, "initargs": (here,)}  # before any call is there
            parallel = Parallel(n_jobs=at_once, return_as="generator_unordered", **watched)
            try:
                for place, own in parallel(delayed(_elsewhere)(here, place, calls[place]) for place in asked):
                    waiting.remove(place)
                    yield place, own
            except TerminatedWorkerError as error:
                breaks += 1
                if alone:
                    waiting.remove(asked[0])
                    told = RuntimeError("its process ended: killed, or out of memory")
                    yield asked[0], Failed(told, str(error))


def _elsewhere(parent: int, place: int, call: Call[T]) -> tuple[int, T | Failed]:
    watch_parent(parent)
    return place, caught(call)


_watched: set[int] = set()


def watch_parent(parent: int) -> None:
    """From now on this process ends soon after its parent does, if that is its parent: a worker that goes on
    when nobody waits for it would compute beside the next run."""
    if parent in _watched:
        return
    if os.getppid() != parent:
        if _is_gone(parent):  # while this process began
            os._exit(1)
        return
    _watched.add(parent)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="watches the parent").start()


def _begin(parent: int) -> None:
    watch_parent(parent)
    if parent in _watched:  # this is a process of its own
        leave_at_once()


def leave_at_once() -> None:
    """Have this process, which its parent will wait for, end without taking down all that torch has made."""
    atexit.register(leave, 0)


def _is_gone(pid: int) -> bool:
    """Whether a process has ended, noted by who had started it or not."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def end_with_parent() -> None:
    """Have the system kill this process as soon as its parent ends (Linux), or shortly after (elsewhere).

    The signal is sent when the *thread* ends that has started this process (prctl(2)): for processes that
    were started by one that stays.
    """
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it has ended meanwhile
            os._exit(1)
    watch_parent(parent)


def keep_freed_memory() -> None:
    """Have glibc's allocator keep what was freed for the next tensor, as it learns to by itself.

    Dask starts its workers with ``MALLOC_TRIM_THRESHOLD_=65536``, by which it never learns: every large
    tensor is asked of the system anew, page by page, and a small network trains half as long again.
    """
    with suppress(OSError, AttributeError, TypeError):  # another C library
        allocator = ctypes.CDLL(None).mallopt
        allocator(M_MMAP_THRESHOLD, LARGEST_KEPT)
        allocator(M_TRIM_THRESHOLD, 2 * LARGEST_KEPT)


def on_threads(count: int, call: Call[T], blas: int | None = None) -> T:
    """What a call gives on so many threads of torch's, and of NumPy's as many or ``blas``: sums depend on
    them, and are the same here and in a worker."""
    with threads(count), threadpool_limits(count if blas is None else blas, "blas"):
        return call()
