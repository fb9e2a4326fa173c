"""Processes whose parent is gone: they notice, wherever they are."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

POLL_SECONDS = 1.0  # between two looks at the parent


def when_orphaned(act: Callable[[], object], parent: int | None = None) -> None:
    """Call `act`, in a thread of its own, when the parent of this process is gone; parent: None for the one it has now.

    A look now and then, not PR_SET_PDEATHSIG: that is of Linux alone, and counts the end of the parent's thread, too.
    Windows names a parent for ever; there nothing happens.
    """
    threading.Thread(target=_watch, args=(os.getppid() if parent is None else parent, act), daemon=True).start()


def _watch(parent: int, act: Callable[[], object]) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    act()
