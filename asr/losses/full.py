"""Full RNN-T: every node of the padded grid, 4-D logits, plain autograd."""

from __future__ import annotations

import torch
from torch import Tensor

from asr.losses.base import LossInputs, LossOutput, TransducerLoss
from asr.ops.joint.reference import grid_logits
from asr.ops.lattice.reference import log_probability


class FullLoss(TransducerLoss):
    """−log P(y|x) over all alignments (Graves, 2012): the readable reference.

    Holds logits, log-probabilities and their gradients of all B·T·(U+1) nodes at once.
    """

    def compute(self, inputs: LossInputs) -> LossOutput:
        """See `TransducerLoss.compute`."""
        logits = grid_logits(inputs.joiner, inputs.encoder_out, inputs.predictor_out)
        blank, label = arc_log_probs(logits, inputs.labels)
        per_utterance = -log_probability(blank, label, inputs.encoder_frames, inputs.label_lengths, self.topology)
        nodes = logits.shape[:3].numel()
        return LossOutput(per_utterance, {"transducer": per_utterance.detach()}, nodes)


def arc_log_probs(logits_BTUV: Tensor, labels_BU: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of blank arcs (B,T,U+1) and label arcs (B,T,U), at least in float32."""
    dtype = torch.promote_types(logits_BTUV.dtype, torch.float32)
    log_probs = logits_BTUV.log_softmax(dim=-1, dtype=dtype)
    index = labels_BU.clamp(0, logits_BTUV.shape[-1] - 1)[:, None, :, None]
    label = log_probs[:, :, :-1].gather(3, index.expand(-1, logits_BTUV.shape[1], -1, 1))
    return log_probs[..., 0], label[..., 0]
