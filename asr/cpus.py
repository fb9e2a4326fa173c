"""How many CPUs affinity and a container leave this process of those of the machine, and how its threads use them."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_GROUPS, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_THREADS = "OMP_NUM_THREADS"
_WAITING = "GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME"  # what says how long OpenMP's threads spin
# Turns. GNU's own 300,000 halve the speed beside other work; none at all take a sixth of it alone.
BRIEFLY = "20000"


def available_cpus() -> int:
    """The CPUs that this process may use at a time: by its affinity, and by the quota of its control groups."""
    return min([_by_affinity(), *(max(math.ceil(quota), 1) for quota in _quotas())])


def prepare_threads() -> None:
    """Have OpenMP's threads, in which torch and numba compute, spin but briefly, and be no more than a quota lets run.

    By themselves they spin for long wherever they wait for each other, which takes the CPU from the one that is waited
    for as soon as anything else runs on the machine; those that sleep at once take a while to wake. And there is one
    for each CPU that affinity leaves, of which a quota makes all wait for those that run. To be called before torch is
    loaded, which reads the environment then; workers inherit it. What the environment says already holds.
    """
    if "torch" in sys.modules:
        return
    if not any(name in os.environ for name in _WAITING):
        os.environ[_WAITING[0]] = BRIEFLY
    cpus = available_cpus()
    if cpus < _by_affinity():
        os.environ.setdefault(_THREADS, str(cpus))


def told_waiting() -> str:
    """How OpenMP's threads wait for each other, as far as the environment says."""
    told = [f"{name}={os.environ[name]}" for name in _WAITING if name in os.environ]
    if told == [f"{_WAITING[0]}={BRIEFLY}"]:
        return "asleep after a moment"
    return f"as {' '.join(told)} says" if told else "spinning"


def data_workers(on_gpu: bool, processes: int = 1) -> int:
    """How many processes are to load data for each of the `processes` of this machine that train.

    Beside a GPU the CPUs that these leave, 8 at most; on CPUs, which training itself keeps busy, 2 where there are two.
    """
    cpus = available_cpus() // processes
    return max(min(cpus - 1, 8) if on_gpu else min(cpus, 2), 1)


def _by_affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas() -> Iterator[float]:
    """The CPUs' time that each control group of this process may use a second, of either version; none: no limit."""
    with contextlib.suppress(OSError, ValueError):
        for line in _OWN.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "" or "cpu" in controllers.split(","):
                # In a container the path may be the host's, of which it sees the end alone, as the root.
                for group in (PurePosixPath(path), *PurePosixPath(path).parents):
                    yield from _quota_of(_GROUPS / ("cpu" if controllers else "") / str(group).lstrip("/"))


def _quota_of(group: Path) -> Iterator[float]:
    with contextlib.suppress(OSError, ValueError):
        words = (group / "cpu.max").read_text(encoding="utf-8").split()  # "max 100000", or microseconds of so many
        yield float(words[0]) / float(words[1])
    with contextlib.suppress(OSError, ValueError):
        quota = float((group / "cpu.cfs_quota_us").read_text(encoding="utf-8"))
        period = float((group / "cpu.cfs_period_us").read_text(encoding="utf-8"))
        if quota > 0:
            yield quota / period
