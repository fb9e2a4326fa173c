"""Which frames are speech, and which frames attention may look at."""

from __future__ import annotations

import torch
from torch import Tensor


def valid_frames(lengths_B: Tensor, frames: int) -> Tensor:
    """True (B,T) where frame t belongs to the utterance: t < lengths_B."""
    return torch.arange(frames, device=lengths_B.device) < lengths_B[:, None]


def unless_all(mask: Tensor) -> Tensor | None:
    """The mask, or None where it is true everywhere: then nobody need apply it.

    A GPU is not asked, for the answer would take a wait, nor is a graph that is traced, which is of other input too.
    """
    known = mask.device.type == "cpu" and not torch.compiler.is_compiling()
    return None if known and bool(mask.all()) else mask


def attention_mask(
    lengths_B: Tensor, frames: int, left_context: int = -1, right_context: int = -1, chunk: int = 0
) -> Tensor:
    """True (B,T,T) where query frame i may look at key frame j.

    j must be a valid frame with i − left_context ≤ j ≤ i + right_context, in frames; −1 means no bound. With
    chunks, all frames of one see the same: i's chunk, and left_context frames before it; right_context is not read.
    Queries beyond an utterance's end see every valid frame, so that no softmax runs over nothing.
    """
    key_is_valid = valid_frames(lengths_B, frames)[:, None, :]
    position = torch.arange(frames, device=lengths_B.device)
    start = position - position % chunk if chunk else position
    future = chunk - 1 if chunk else right_context
    if left_context < 0 and future < 0:
        return key_is_valid.expand(-1, frames, -1)
    near = torch.ones(frames, frames, dtype=torch.bool, device=lengths_B.device)
    if left_context >= 0:
        near &= position >= start[:, None] - left_context
    if future >= 0:
        near &= position <= start[:, None] + future
    return key_is_valid & (near | ~key_is_valid.transpose(1, 2))
