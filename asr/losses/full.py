"""Full RNN-T: every node of the padded grid, 4-D logits, plain autograd."""

from __future__ import annotations

import torch
from torch import Tensor

from asr.losses.base import LossOutput, TransducerLoss
from asr.nodes.base import Topology
from asr.ops.joint.reference import LossInputs, grid_logits
from asr.ops.lattice.reference import log_probability


class FullLoss(TransducerLoss):
    """−log P(y|x) over all alignments (Graves, 2012): the readable reference.

    Holds logits, log-probabilities and their gradients of all B·T·(U+1) nodes at once.
    """

    def compute(self, inputs: LossInputs) -> LossOutput:
        """See `TransducerLoss.compute`."""
        logits = grid_logits(inputs.joiner, inputs.encoder_out, inputs.predictor_out)
        blank, label = arc_log_probs(logits, inputs.labels)
        if self.options.delay_penalty:
            early_BT1 = earliness(inputs.encoder_frames, label.shape[1])[..., None].to(label.dtype)
            label = label + self.options.delay_penalty * early_BT1
        if self.options.fastemit:
            # The value of `label` with 1 + λ times its gradient (Yu et al., ICASSP 2021, equation 9).
            label = (1 + self.options.fastemit) * label - self.options.fastemit * label.detach()
        topology: Topology = "regular" if self.options.topology == "regular" else "modified"
        if self.options.topology == "constrained":
            label = label + blank[:, :, 1:]
        per_utterance = -log_probability(blank, label, inputs.encoder_frames, inputs.label_lengths, topology)
        nodes = logits.shape[:3].numel()
        return LossOutput(per_utterance, {"transducer": per_utterance.detach()}, nodes, nodes)


def earliness(frames_B: Tensor, frames: int) -> Tensor:
    """(T_b−1)/2 − t, (B,T): what a delay penalty multiplies (Kang et al., ICASSP 2023)."""
    return (frames_B[:, None] - 1) / 2 - torch.arange(frames, device=frames_B.device)


def arc_log_probs(logits_BTUV: Tensor, labels_BU: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of blank arcs (B,T,U+1) and label arcs (B,T,U), at least in float32."""
    dtype = torch.promote_types(logits_BTUV.dtype, torch.float32)
    log_probs = logits_BTUV.log_softmax(dim=-1, dtype=dtype)
    index = labels_BU.clamp(0, logits_BTUV.shape[-1] - 1)[:, None, :, None]
    label = log_probs[:, :, :-1].gather(3, index.expand(-1, logits_BTUV.shape[1], -1, 1))
    return log_probs[..., 0], label[..., 0]
