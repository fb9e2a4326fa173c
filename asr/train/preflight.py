"""The peak memory of a training step, measured."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from asr.data.batch import Batch, Position
from asr.data.memory import BatchSize
from asr.errors import InputError
from asr.frames import FrameTiming

CLEAR_PEAK = Path("/proc/self/clear_refs")  # writing 5 there sets VmHWM, the peak, to what is resident now
STATUS = Path("/proc/self/status")


def measure_peak_mb(step: Callable[[], None], device: torch.device) -> float:
    """Peak memory while `step` runs: allocated on a GPU, resident on a CPU, of which what was there before is a part.

    Raises InputError on a system that does not tell.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        step()
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # what earlier steps have freed
        CLEAR_PEAK.write_text("5", encoding="utf-8")
    except OSError as error:
        raise InputError(f"peak memory on a CPU is only known on Linux ({error}): use train.device=cuda") from error
    step()
    (line,) = (line for line in STATUS.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def probe_sizes(sizes: Sequence[BatchSize], views: int = 1) -> list[BatchSize]:
    """Sizes from which the weights of a prediction can be told: few and many utterances, short and long, with few and
    many labels, up to about half of what `sizes` have at most; in ascending order. views: of each utterance."""
    frames, labels = max(size.frames for size in sizes), max(size.labels for size in sizes)
    padded = max(size.utterances * size.frames for size in sizes)
    found = set()
    for length in (max(frames // 4, 8), max(frames // 2, 8), frames):
        for share in (0.15, 0.5):
            many = max(round(share * padded / length / views), 1) * views
            for count in (max(labels // 4, 1), labels):
                found.add(BatchSize(many, length, min(count, length // 2)))
    return sorted(found, key=lambda size: (size.utterances * size.frames, size.frames, size.labels))


def noise_batch(size: BatchSize, mel_bins: int, vocab_size: int, timing: FrameTiming, views: int = 1) -> Batch:
    """A batch of this size, without padding, of noise and random labels, as if of some views of each utterance.

    timing: of the encoder's frames.
    """
    generator = torch.Generator().manual_seed(0)
    frames = timing.needed(size.frames)
    full = torch.ones(size.utterances, dtype=torch.long)
    ids = [f"noise-{number}" for number in range(size.utterances)]
    return Batch(
        ids=ids,
        texts=ids,
        features=torch.randn(size.utterances, frames, mel_bins, generator=generator),
        feature_frames=full * frames,
        labels=torch.randint(1, vocab_size, (size.utterances // views, size.labels), generator=generator).repeat(
            views, 1
        ),
        label_lengths=full * size.labels,
        seconds=0.0,
        alignment=torch.full((size.utterances, size.labels), -1),
        frame_labels=torch.full((size.utterances, size.frames), -1),
        position=Position(0, 1),
        views=views,
    )
