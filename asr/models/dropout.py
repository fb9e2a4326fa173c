"""Dropout whose random numbers cost little on a CPU."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from asr.ops.packing import pack

LEVELS = 256  # one random byte per element: the probability is rounded to a multiple of 1/256


class Dropout(nn.Module):
    """Zeroes elements with probability `p` in training, and scales the others by 1/(1−p).

    On a CPU torch draws one number per element, serially: a fifth of a training step of a small
    Conformer. Here every 64-bit draw serves eight elements.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.threshold = round(p * LEVELS)

    def forward(self, x: Tensor, sizes: list[int] | None = None) -> Tensor:
        """A tensor of the shape of `x`.

        sizes: frames of the utterances that lie end to end in `x` (1,N,D), see `pack`: the same elements of them are
        dropped as where they are padded.
        """
        if self.training and self.threshold and (x.device.type != "cpu" or torch.compiler.is_compiling()):
            return nn.functional.dropout(x, self.p)
        drawn = self.draw(x.shape if sizes is None else (len(sizes), max(sizes), x.shape[2]))
        return self.keep(x, drawn if drawn is None or sizes is None else pack(drawn, sizes))

    def draw(self, shape: Sequence[int]) -> Tensor | None:
        """A random byte for each element, on the CPU; None where nothing is dropped."""
        if not self.training or self.threshold == 0:
            return None
        count = math.prod(shape)
        words = torch.empty((count + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
        return words.view(torch.uint8)[:count].view(tuple(shape))

    def keep(self, x: Tensor, drawn: Tensor | None) -> Tensor:
        """What is left of `x`, by what was drawn for its elements."""
        if drawn is None:
            return x
        kept = torch.ge(drawn, self.threshold, out=torch.empty_like(x, memory_format=torch.contiguous_format))
        return x * kept.mul_(LEVELS / (LEVELS - self.threshold))
