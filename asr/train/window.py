"""What is logged of the steps since the last line: sums that become means."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping

import torch

try:
    import resource
except ModuleNotFoundError:  # on Windows
    resource = None  # type: ignore[assignment]

CLOCK = "seconds", "cpu_seconds", "audio", "waited"
# Metrics that the same training would not have again.
UNREPEATABLE = "audio_seconds_per_second", "waiting_share", "step_seconds", "step_cpu_seconds", "peak_mb"
COUNTED = ("skipped",)  # sums that stay sums


def add(window: dict[str, float], sums: Mapping[str, float]) -> None:
    """Add `sums` to those of the window, by name."""
    for name, value in sums.items():
        window[name] = window.get(name, 0.0) + value


def means(window: Mapping[str, float]) -> dict[str, float]:
    """The metrics of a window that holds "audio", the clock's "seconds" and "waited" (seconds), the "cpu_seconds" of
    this process, and the number of "steps" that were taken, over which the other sums but those of COUNTED are
    averaged; "loss" is NaN if there were none, and so is what depends on the clock where it was not read."""
    steps, seconds = max(window.get("steps", 0), 1), window.get("seconds", math.nan)
    averaged = window.keys() - {"steps", *CLOCK, *COUNTED}
    return {
        "loss": math.nan,
        **{name: value / steps for name, value in window.items() if name in averaged},
        **{name: window.get(name, 0.0) for name in COUNTED},
        "audio_seconds_per_second": window.get("audio", 0.0) / seconds,
        "waiting_share": window.get("waited", 0.0) / seconds,
        "step_seconds": seconds / steps,
        "step_cpu_seconds": window.get("cpu_seconds", math.nan) / steps,
    }


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory so far: allocated on a GPU, resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resident_mb(sys.platform)


def resident_mb(system: str) -> float:
    """Peak memory of this process, which macOS counts in bytes and Linux in kB; NaN on Windows."""
    if resource is None:
        return math.nan
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if system == "darwin" else 2**10)
