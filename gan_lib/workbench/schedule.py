"""Tasks that run side by side, each after those that it needs; and the kernels that they use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import contextmanager
from threading import Lock
from typing import Protocol, TypeVar

from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync


class Named(Protocol):
    """What has a name."""

    @property
    def name(self) -> str:
        """What it is called by those that wait for it."""
        ...


Task = TypeVar("Task", bound=Named)
T = TypeVar("T")


def in_turn(
    tasks: Sequence[Task],
    after: Mapping[str, frozenset[str]],
    run: Callable[[Task], T],
    is_failed: Callable[[T], bool],
    pool: Executor,
    at_once: int,
) -> Iterator[T]:
    """What tasks give, in their order, while at most so many run; a failure is the last.

        list(in_turn(tasks, {"a": frozenset(), "b": frozenset("a")}, run, is_failed, pool, at_once=2))

    The next to start is the first whose needs are met. Once one has failed no other starts; those before it
    that run are waited for.

    Args:
        tasks: in an order in which they could run one by one.
        after: names of the tasks before it that each needs to be done.
        run: gives a task's result, in the pool; ``is_failed`` says of one that nothing may follow it.
        pool: for ``at_once`` tasks.
    """
    waiting, running = [*tasks], dict[Future[T], str]()
    done, failed = dict[str, T](), list[T]()
    for task in tasks:
        while task.name not in done:
            ready = [] if failed else [own for own in waiting if after[own.name] <= done.keys()]
            for own in ready[: at_once - len(running)]:
                waiting.remove(own)
                running[pool.submit(run, own)] = own.name
            if task in waiting and failed:
                yield failed[0]
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                made = done[running.pop(future)] = future.result()
                failed += [made] if is_failed(made) else []
        yield done[task.name]
        if is_failed(done[task.name]):
            return


class Kernels:
    """Kernels that run in a pool: those that still run when the block is left, by a failure or an interrupt,
    end with it."""

    def __init__(self) -> None:
        self._running: list[AsyncKernelManager] = []
        self._lock, self._is_over = Lock(), False

    def __enter__(self) -> Kernels:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._is_over = True
            for kernel in self._running:
                if kernel.provisioner is not None:
                    run_sync(kernel.provisioner.kill)()

    def check(self) -> None:
        """Raise ``RuntimeError`` once the block has been left: a kernel that was only starting then."""
        if self._is_over:
            raise RuntimeError("the run has ended")

    @contextmanager
    def running(self, kernel: AsyncKernelManager) -> Iterator[None]:
        """Within this block the kernel runs."""
        with self._lock:
            self.check()
            self._running.append(kernel)
        try:
            yield
        finally:
            with self._lock:
                self._running.remove(kernel)
