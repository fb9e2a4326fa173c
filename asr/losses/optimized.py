"""Optimized RNN-T: every valid node, packed without padding, merged gradient, logits streamed."""

from __future__ import annotations

from torch import nn

from asr.errors import InputError
from asr.losses.base import LossInputs, LossOutput, TransducerLoss
from asr.nodes.base import Topology, all_nodes
from asr.ops.joint.chunked import packed_loss
from asr.ops.lattice.cpu import forward_backward


class OptimizedLoss(TransducerLoss):
    """−log P(y|x) over all alignments, the same as `FullLoss`, from packed nodes (Li et al., ASRU 2019).

    chunk_nodes: nodes whose logits are held at a time; 0 holds those of the whole batch.
    """

    def __init__(
        self,
        vocab_size: int,
        encoder_dim: int,
        predictor_dim: int,
        topology: Topology = "regular",
        chunk_nodes: int = 4096,
    ) -> None:
        super().__init__(vocab_size, encoder_dim, predictor_dim, topology)
        if chunk_nodes < 0:
            raise InputError(f"chunk_nodes={chunk_nodes}: give a number of nodes, or 0 for all at once")
        self.chunk_nodes = chunk_nodes

    def compute(self, inputs: LossInputs) -> LossOutput:
        """See `TransducerLoss.compute`."""
        if not isinstance(inputs.joiner, nn.Module):
            raise InputError(
                "loss optimized: the joiner must be a torch.nn.Module, or its weights would get no gradient"
            )
        nodes = all_nodes(inputs.encoder_frames, inputs.label_lengths)
        per_utterance = packed_loss(
            inputs.joiner,
            nodes,
            inputs.encoder_out,
            inputs.predictor_out,
            inputs.labels,
            forward_backward,
            self.chunk_nodes,
            self.topology,
        )
        return LossOutput(per_utterance, {"transducer": per_utterance.detach()}, len(nodes))
