"""Dropout whose random numbers cost little on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

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

    def forward(self, x: Tensor) -> Tensor:
        """A tensor of the shape of `x`."""
        if not self.training or self.threshold == 0:
            return x
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return nn.functional.dropout(x, self.p)
        words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
        drawn = words.view(torch.uint8)[: x.numel()].view(x.shape)
        keep = torch.ge(drawn, self.threshold, out=torch.empty_like(x, memory_format=torch.contiguous_format))
        return x * keep.mul_(LEVELS / (LEVELS - self.threshold))
