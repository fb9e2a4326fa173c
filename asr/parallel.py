"""Work on many items in several processes."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from itertools import islice
from typing import Any, TypeVar

from asr.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 2  # tasks for each process that have been handed out and not been collected


def process_pool(jobs: int, start: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()) -> Executor:
    """`jobs` processes, each of which calls `start(*arguments)` first.

    They are spawned: forking after torch has started threads can hang.
    """
    return ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), start, arguments)


def map_in_order(
    executor: Executor, function: Callable[[Item], Result], items: Iterable[Item], jobs: int
) -> Iterator[Result]:
    """Like `executor.map`, but reads the items as they are needed, for `jobs` processes, however many items there are.

    Raises InputError where a process dies. Tasks that have not begun are given up where the caller stops early.
    """
    rest = iter(items)
    waiting = deque(executor.submit(function, item) for item in islice(rest, AHEAD * jobs))
    try:
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(executor.submit(function, item) for item in islice(rest, 1))
    except BrokenExecutor as error:
        raise InputError(f"a worker process died ({error}): is there memory for jobs={jobs}? Run again") from error
    finally:
        for task in waiting:
            task.cancel()


def chunked(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items, the last of which may be shorter."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
