"""Work on many items in several processes: of this machine, or of several that Dask brings together."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from asr.errors import InputError, not_installed
from asr.orphans import when_orphaned

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 2  # tasks for each worker that have been handed out and not been collected
CONNECT_SECONDS = 10


@dataclass(frozen=True)
class Workers:
    """`count` workers behind an executor of any kind."""

    executor: Executor
    count: int

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Like `executor.map`, but reads the items as they are needed, however many there are.

        Raises InputError where a worker dies. Tasks that have not begun are given up where the caller stops early.
        """
        rest = iter(items)
        waiting = deque(self.executor.submit(function, item) for item in islice(rest, AHEAD * self.count))
        try:
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(self.executor.submit(function, item) for item in islice(rest, 1))
        except Exception as error:
            if is_death(error):
                what = f"a worker process died ({error}): is there memory for {self.count} at a time? Run again"
                raise InputError(" ".join(what.split())) from error
            raise
        finally:
            for task in waiting:
                task.cancel()


def start_workers(jobs: int, scheduler: str = "") -> contextlib.AbstractContextManager[Workers]:
    """`jobs` processes on this machine or, where a Dask scheduler is named, its workers.

    What they work on must be picklable; Dask's workers need this package, and the same files under the same paths.
    Raises InputError where there is no Dask, no such scheduler, or no worker.
    """
    return dask_workers(scheduler) if scheduler else local_workers(jobs)


@contextlib.contextmanager
def local_workers(jobs: int) -> Iterator[Workers]:
    """`jobs` processes, which are spawned: forking after torch has started threads can hang.

    They end with this one, however it ends. Raises InputError where the system lets them share nothing.
    """
    try:
        executor = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _start_worker, (os.getpid(),))
    except OSError as error:  # in /dev/shm, which may be full, or beyond a limit on the size of files
        raise InputError(f"jobs={jobs}: processes cannot share memory ({error}); make room, or allow it") from error
    with executor:
        yield Workers(executor, jobs)


def _start_worker(parent: int) -> None:
    # It waits for work without end, and would not hear that nobody is left to give it any.
    when_orphaned(lambda: os._exit(1), parent)


@contextlib.contextmanager
def start_threads(count: int) -> Iterator[Workers]:
    """`count` threads, for work that waits for files, or for libraries that leave Python alone meanwhile."""
    with ThreadPoolExecutor(count) as executor:
        yield Workers(executor, count)


@contextlib.contextmanager
def dask_workers(address: str) -> Iterator[Workers]:
    """The workers of the Dask scheduler at `address`, "tcp://HOST:PORT"; a task at a time for each of their threads."""
    with connected(address) as client:
        count = sum(client.nthreads().values())
        if not count:
            raise InputError(f"scheduler={address}: it has no workers; start some with `dask worker {address}`")
        print(f"{count} workers of {address}", file=sys.stderr)
        # Not pure: Dask would take two tasks with equal arguments for one, whatever they write.
        with client.get_executor(pure=False) as executor:
            yield Workers(executor, count)


def connected(address: str) -> Any:
    """A client of a Dask scheduler, to be closed. Raises InputError where there is none."""
    try:
        from distributed import Client
    except ModuleNotFoundError:
        raise not_installed("scheduler=: Dask", "dask") from None
    try:
        return Client(address, timeout=CONNECT_SECONDS, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise InputError(
            f"scheduler={address}: no Dask scheduler there ({error}); start one with `dask scheduler`, and name it as tcp://HOST:PORT"
        ) from error


def is_death(error: Exception) -> bool:
    """Whether an executor reports with this that a worker, or Dask's scheduler, died; Dask may not be installed."""
    return isinstance(error, (BrokenExecutor, CancelledError)) or type(error).__name__ == "KilledWorker"


def chunked(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items, the last of which may be shorter."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
