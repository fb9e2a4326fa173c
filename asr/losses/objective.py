"""What training minimises: a transducer loss plus an auxiliary CTC loss."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from asr.losses.base import LossOutput, TransducerLoss
from asr.losses.ctc import CtcLoss
from asr.ops.joint.reference import Joiner


class Objective(nn.Module):
    """transducer + ctc_weight · CTC, per utterance. Interface of `TransducerLoss.forward`."""

    def __init__(self, transducer: TransducerLoss, encoder_dim: int, vocab_size: int, ctc_weight: float) -> None:
        super().__init__()
        self.transducer = transducer
        self.ctc = CtcLoss(encoder_dim, vocab_size) if ctc_weight > 0 else None
        self.ctc_weight = ctc_weight

    def forward(
        self,
        joiner: Joiner,
        encoder_out: Tensor,
        encoder_frames: Tensor,
        predictor_out: Tensor,
        labels: Tensor,
        label_lengths: Tensor,
        alignment: Tensor | None = None,
    ) -> LossOutput:
        """See `TransducerLoss.forward`; `parts` also has "ctc"."""
        out = self.transducer(joiner, encoder_out, encoder_frames, predictor_out, labels, label_lengths, alignment)
        if self.ctc is None:
            return out
        ctc = self.ctc(encoder_out, encoder_frames, labels, label_lengths)
        parts = {**out.parts, "ctc": ctc.detach()}
        return replace(out, per_utterance=out.per_utterance + self.ctc_weight * ctc, parts=parts)
