"""Processes that are left when those that started them are gone."""

import os
import time
from collections.abc import Iterable
from pathlib import Path


def lives(pid: int) -> bool:
    """Whether a process does, and is more than an exit status that nobody has read."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # it has just gone, or there is no /proc
        return not Path("/proc/self").exists()


def left(pids: Iterable[int]) -> list[int]:
    """Which of them live, when all have had the time to notice."""
    pids, deadline = list(pids), time.monotonic() + 60
    while any(map(lives, pids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return [pid for pid in pids if lives(pid)]
