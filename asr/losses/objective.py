"""What training minimises: a transducer loss plus auxiliary losses of the encoder's frames."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from asr.errors import InputError
from asr.losses.base import LossOutput, TransducerLoss
from asr.losses.ctc import CtcLoss, ctc_divergence, ctc_loss
from asr.losses.frames import FrameLoss
from asr.ops.joint.reference import Joiner


class Objective(nn.Module):
    """transducer + ctc_weight · (CTC + ctc_consistency · divergence from the other view) + frames, per utterance.

    frames: `FrameLoss`, in training; its weight is frame_weight at first, and 0 after frame_batches.
    Interface of `TransducerLoss.forward`. Raises InputError where there is no CTC whose views could be compared.
    """

    def __init__(
        self,
        transducer: TransducerLoss,
        encoder_dim: int,
        vocab_size: int,
        ctc_weight: float,
        ctc_consistency: float = 0.0,
        frame_weight: float = 0.0,
        frame_batches: int = 1,
    ) -> None:
        super().__init__()
        if ctc_consistency and not ctc_weight:
            raise InputError(
                f"train.ctc_consistency={ctc_consistency:g}: it is a share of the CTC loss; set train.ctc_weight, too"
            )
        self.transducer = transducer
        self.ctc = CtcLoss(encoder_dim, vocab_size) if ctc_weight > 0 else None
        self.ctc_weight, self.ctc_consistency = ctc_weight, ctc_consistency
        self.frames = FrameLoss(encoder_dim, vocab_size, frame_weight, frame_batches) if frame_weight else None

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
        frame_labels: Tensor | None = None,
    ) -> LossOutput:
        """See `TransducerLoss.forward`; `parts` also has "ctc", "ctc_consistency" and "frames", where there are such.

        frame_labels: (B,T), of the encoder's frames, UNKNOWN where they are; needed in training where frames count.
        """
        targets = labels, label_lengths
        out = self.transducer(joiner, encoder_out, encoder_frames, predictor_out, *targets, alignment, views)
        if self.ctc is not None:
            out = added(out, self.ctc_weight, *self.ctc_terms(encoder_out, encoder_frames, targets, views))
        if self.frames is not None and self.training and torch.is_grad_enabled():
            assert frame_labels is not None
            out = self.with_frames(out, self.frames, encoder_out, frame_labels)
        return out

    @staticmethod
    def with_frames(out: LossOutput, frames: FrameLoss, encoder_out: Tensor, frame_labels: Tensor) -> LossOutput:
        """The loss with that of the frames, as long as it has a weight; then its parameters get a gradient of 0."""
        weight = frames.next_weight()
        if not weight:
            return added(
                out, 0.0, sum((p.sum() for p in frames.parameters()), start=out.per_utterance.new_zeros(())), {}
            )
        loss = frames(encoder_out, frame_labels)
        return added(out, weight, loss, {"frames": loss.detach()})

    def ctc_terms(
        self, encoder_out: Tensor, encoder_frames: Tensor, targets: tuple[Tensor, Tensor], views: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """CTC with what its views diverge by, (B,), and both by name."""
        assert self.ctc is not None
        log_probs = self.ctc.log_probs(encoder_out)
        ctc = ctc_loss(log_probs, encoder_frames, *targets)
        if not self.ctc_consistency or views != 2:
            return ctc, {"ctc": ctc.detach()}
        diverging = ctc_divergence(log_probs, encoder_frames)
        parts = {"ctc": ctc.detach(), "ctc_consistency": diverging.detach()}
        return ctc + self.ctc_consistency * diverging, parts


def added(out: LossOutput, weight: float, term: Tensor, parts: dict[str, Tensor]) -> LossOutput:
    """A loss and `weight` times a further one, (B,)."""
    return replace(out, per_utterance=out.per_utterance + weight * term, parts={**out.parts, **parts})
