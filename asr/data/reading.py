"""What this process is reading, for a thread that watches over it: a file may never answer."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass
class Read:
    """A cut whose audio or features are being read. since: by `time.monotonic`."""

    cut_id: str
    since: float


held = threading.Lock()  # held by who gives up what is read: if it comes after all, it is too late
current: Read | None = None


@contextlib.contextmanager
def reading(cut_id: str) -> Iterator[None]:
    """Let it be known that a cut is read in the block."""
    global current
    current = Read(cut_id, time.monotonic())
    try:
        yield
    finally:
        with held:
            current = None
