"""Auxiliary CTC on the encoder's output."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asr.initialize import expect_blank


class CtcLoss(nn.Module):
    """−log P(y|x) under CTC (Graves et al., ICML 2006), with a linear layer of its own. Blank is 0."""

    def __init__(self, dim: int, vocab_size: int) -> None:
        super().__init__()
        self.output = nn.Linear(dim, vocab_size)
        expect_blank(self.output.weight, self.output.bias)

    def log_probs(self, encoder_out_BTD: Tensor) -> Tensor:
        """Frame-wise log-probabilities (B,T,V), float32."""
        return self.output(encoder_out_BTD).log_softmax(dim=-1, dtype=torch.float32)

    def forward(self, encoder_out_BTD: Tensor, frames_B: Tensor, labels_BU: Tensor, label_lengths_B: Tensor) -> Tensor:
        """Loss (B,), nats; 0, with no gradient, where the frames are too few for the labels."""
        log_probs = self.log_probs(encoder_out_BTD).transpose(0, 1)
        return nn.functional.ctc_loss(
            log_probs, labels_BU, frames_B, label_lengths_B, blank=0, reduction="none", zero_infinity=True
        )
