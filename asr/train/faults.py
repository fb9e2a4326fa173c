"""What an exception in the midst of a training means, in a line."""

from __future__ import annotations

import re

from asr.data.batch import Batch
from asr.device import is_out_of_memory
from asr.errors import InputError

# The libraries through which processes talk, and their words for a lost one.
_PEER_GONE = re.compile(r"\bgloo\b|\bNCCL\b|Connection (closed|reset) by peer|ProcessGroup", re.I)


def explained(error: Exception, step: int, group: list[Batch]) -> Exception:
    """`error`, met in a step on the batches of `group`, as an InputError if it is no fault of the program."""
    if is_out_of_memory(error):
        return InputError(
            f"out of memory in step {step}{_size(group)}: lower data.max_seconds or data.max_duration, raise "
            "train.accumulate instead, or set data.max_memory_mb as `asr preflight` says"
        )
    if isinstance(error, RuntimeError) and _PEER_GONE.search(str(error)):
        return InputError(f"another training process has ended: see its message ({str(error).splitlines()[0]})")
    return error


def _size(group: list[Batch]) -> str:
    if not any(map(len, group)):
        return ""
    largest = max(group, key=lambda batch: batch.features.numel())
    each = f" in {largest.views} views each" * (largest.views > 1)
    return (
        f", of a batch of {len(largest) // largest.views} utterances{each}, {largest.features.shape[1]} feature "
        f"frames, {largest.labels.shape[1]} labels "
        f"({largest.ids[int(largest.feature_frames.argmax())]} is the longest)"
    )
