"""Work on many items in several processes."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from itertools import islice
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 32  # tasks that wait for a process, at most


def process_pool(jobs: int, start: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()) -> Executor:
    """`jobs` processes, each of which calls `start(*arguments)` first.

    They are spawned: forking after torch has started threads can hang.
    """
    return ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), start, arguments)


def map_in_order(executor: Executor, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Like `executor.map`, but reads the items as they are needed, however many there are."""
    rest = iter(items)
    waiting = deque(executor.submit(function, item) for item in islice(rest, AHEAD))
    while waiting:
        yield waiting.popleft().result()
        waiting.extend(executor.submit(function, item) for item in islice(rest, 1))


def chunked(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items, the last of which may be shorter."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
