"""Auxiliary cross entropy of frames with known labels, for the first part of a training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asr.frames import UNALIGNED
from asr.losses.count import BatchCount


class FrameLoss(nn.Module):
    """−Σ_t log P(label of frame t | x), with a linear layer of its own.

    The labels are those of a forced alignment, 0 between words. An encoder that has learnt them first makes a better
    transducer, and an earlier one (Hu et al., ICASSP 2020, arXiv 2005.00572). Its weight falls from `weight` to 0 over
    the first `until` training batches, so that what is learnt last is not where another model heard the pieces.
    """

    def __init__(self, dim: int, vocab_size: int, weight: float, until: int) -> None:
        super().__init__()
        self.output = nn.Linear(dim, vocab_size)
        self.weight, self.until = weight, until
        self.batch_count = BatchCount(self)

    def forward(self, encoder_out_BTD: Tensor, labels_BT: Tensor) -> Tensor:
        """Loss (B,), nats, of the frames whose labels are not UNALIGNED; 0, with no gradient, where none is."""
        log_probs = self.output(encoder_out_BTD).log_softmax(dim=-1, dtype=torch.float32).transpose(1, 2)
        return nn.functional.nll_loss(log_probs, labels_BT, ignore_index=UNALIGNED, reduction="none").sum(1)

    def next_weight(self) -> float:
        """The weight of this training batch, which is counted."""
        return self.weight * max(1 - self.batch_count.next() / self.until, 0.0)
