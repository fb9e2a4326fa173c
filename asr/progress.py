"""Progress of long work: a live bar on a terminal, a plain line now and then elsewhere; a line of what takes long."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 10.0
SLOW_SECONDS = 10.0  # after which somebody wonders

Item = TypeVar("Item")


def progress(items: Iterable[Item], total: int, title: str, unit: str) -> Iterator[Item]:
    """Pass `items` on, and show on stderr how many of `total` are done and how long the rest will take."""
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=title, unit=unit, dynamic_ncols=True)
        return
    started = last = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES and done:
            last, remaining = now, (now - started) / done * (total - done)
            print(f"{title}: {done}/{total} {unit}, {tqdm.format_interval(remaining)} left", file=sys.stderr)
        yield item


@contextlib.contextmanager
def told_if_slow(what: str, tell: Callable[[str], object]) -> Iterator[None]:
    """Tell what is going on where the block takes longer than SLOW_SECONDS, while it does."""
    timer = threading.Timer(SLOW_SECONDS, tell, [what])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
