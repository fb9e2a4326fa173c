"""What training minimises: a transducer loss plus an auxiliary CTC loss."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from asr.errors import InputError
from asr.losses.base import LossOutput, TransducerLoss
from asr.losses.ctc import CtcLoss, ctc_divergence, ctc_loss
from asr.ops.joint.reference import Joiner


class Objective(nn.Module):
    """transducer + ctc_weight · (CTC + ctc_consistency · divergence from the other view), per utterance.

    Interface of `TransducerLoss.forward`. Raises InputError where there is no CTC whose views could be compared.
    """

    def __init__(
        self,
        transducer: TransducerLoss,
        encoder_dim: int,
        vocab_size: int,
        ctc_weight: float,
        ctc_consistency: float = 0.0,
    ) -> None:
        super().__init__()
        if ctc_consistency and not ctc_weight:
            raise InputError(
                f"train.ctc_consistency={ctc_consistency:g}: it is a share of the CTC loss; set train.ctc_weight, too"
            )
        self.transducer = transducer
        self.ctc = CtcLoss(encoder_dim, vocab_size) if ctc_weight > 0 else None
        self.ctc_weight, self.ctc_consistency = ctc_weight, ctc_consistency

    def forward(
        self,
        joiner: Joiner,
        encoder_out: Tensor,
        encoder_frames: Tensor,
        predictor_out: Tensor,
        labels: Tensor,
        label_lengths: Tensor,
        alignment: Tensor | None = None,
        views: int = 1,
    ) -> LossOutput:
        """See `TransducerLoss.forward`; `parts` also has "ctc", and "ctc_consistency" where views are compared."""
        targets = labels, label_lengths
        out = self.transducer(joiner, encoder_out, encoder_frames, predictor_out, *targets, alignment, views)
        if self.ctc is None:
            return out
        log_probs = self.ctc.log_probs(encoder_out)
        ctc = ctc_loss(log_probs, encoder_frames, *targets)
        parts = {**out.parts, "ctc": ctc.detach()}
        if self.ctc_consistency and views == 2:
            diverging = ctc_divergence(log_probs, encoder_frames)
            parts["ctc_consistency"] = diverging.detach()
            ctc = ctc + self.ctc_consistency * diverging
        return replace(out, per_utterance=out.per_utterance + self.ctc_weight * ctc, parts=parts)
