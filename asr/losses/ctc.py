"""Auxiliary CTC on the encoder's output."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asr.arcs.consistency import other_view
from asr.initialize import expect_blank
from asr.nodes.base import valid_frames


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
        """`ctc_loss` of the encoder's output."""
        return ctc_loss(self.log_probs(encoder_out_BTD), frames_B, labels_BU, label_lengths_B)


def ctc_loss(log_probs_BTV: Tensor, frames_B: Tensor, labels_BU: Tensor, label_lengths_B: Tensor) -> Tensor:
    """Loss (B,), nats; 0, with no gradient, where the frames are too few for the labels."""
    log_probs = log_probs_BTV.transpose(0, 1)
    labels_BU = labels_BU.to(log_probs.device, non_blocking=True)
    return nn.functional.ctc_loss(
        log_probs, labels_BU, frames_B, label_lengths_B, blank=0, reduction="none", zero_infinity=True
    )


def ctc_divergence(log_probs_BTV: Tensor, frames_B: Tensor) -> Tensor:
    """Σ_t KL(q_t ‖ p_t), (B,), nats: q is that of row b + B/2, the other view of row b's utterance, and taken as it is.

    CR-CTC (Yao et al., ICLR 2025, arXiv 2410.05101).
    """
    other = other_view(log_probs_BTV, 0).detach()
    of_frames = nn.functional.kl_div(log_probs_BTV, other, reduction="none", log_target=True).sum(2)
    frames_B = frames_B.to(of_frames.device, non_blocking=True)
    return of_frames.where(valid_frames(frames_B, of_frames.shape[1]), 0.0).sum(1)
