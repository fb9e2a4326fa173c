"""Which precision a training computes in, where that is left to the machine: found out once, and kept with the run."""

from __future__ import annotations

import time

import torch

from asr.config import TrainConfig
from asr.device import has_bfloat16
from asr.runs import state
from asr.runs.directory import RunDirectory
from asr.runs.trained import load_config
from asr.train.distributed import Ranks

DEFAULT, AUTO = "default", "auto"
LEFT = DEFAULT, AUTO  # to the machine
SIZES = 256, 1024, 2048  # of the square matrices that are multiplied; no larger ones where bfloat16 is hopeless
REPEATS = 5
WORTH = 1.3  # times as fast a product must be in bfloat16: casts to it and back take some of a step
HOPELESS = 0.5  # a CPU without instructions for bfloat16 is at a hundredth, and a large product takes minutes


def settle_precision(config: TrainConfig, run: RunDirectory, device: torch.device, ranks: Ranks) -> str:
    """Put a precision in the place of one that is left to the machine: a run's own, where it goes on, or what its first
    process finds.

    Returns what to say of it; "" where one was given.
    """
    asked = config.train.precision
    if asked not in LEFT:
        return ""
    if state.resumable(run.checkpoints):
        config.train.precision, reason = load_config(run).train.precision, "as the run was begun"
    else:
        config.train.precision, reason = ranks.share(best_precision(asked, device) if ranks.leads else ("", ""))[0]
    return f"computing in {config.train.precision}, {reason} (train.precision={asked})"


def best_precision(asked: str, device: torch.device) -> tuple[str, str]:
    """The precision on a device, and why: a GPU has bfloat16 in its hardware, or it has not; a CPU, if it is to be
    `auto`, is timed.

    Both kinds of CPU may list the instructions, and yet be faster with them or slower.
    """
    if device.type == "cuda":
        if has_bfloat16(device):
            return "bfloat16", "which the GPU computes in"
        return "float32", "since the GPU has no bfloat16"
    if asked == DEFAULT:
        return "float32", "as on every CPU"
    size, single, half = 0, 1.0, 1.0
    for size in SIZES:
        single, half = speed(size, torch.float32), speed(size, torch.bfloat16)
        if half < HOPELESS * single:
            break
    precision = "bfloat16" if half >= WORTH * single else "float32"
    return precision, f"since a product of {size}³ runs at {half:.3g} GFLOP/s in bfloat16, {single:.3g} in float32"


def speed(size: int, dtype: torch.dtype) -> float:
    """The best GFLOP/s of several products of (size,size) matrices on this CPU; the first one does not count."""
    matrix = torch.ones(size, size, dtype=dtype)
    taken = []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        torch.mm(matrix, matrix)
        taken.append(time.perf_counter() - started)
    return 2e-9 * size**3 / min(taken[1:])
