"""Alignment-restricted RNN-T: every label near its aligned frame."""

from __future__ import annotations

from asr.config import ArLossOptions
from asr.losses.base import LossOutput, LossSizes
from asr.losses.packed import PackedLoss
from asr.nodes.band import band_nodes, unaligned
from asr.ops.joint.reference import LossInputs


class ArLoss(PackedLoss):
    """−log of the probability of those alignments in which each label u is emitted at a frame of
    [a_u − left_frames, a_u + right_frames] (Mahadeokar et al., SLT 2021).

    An utterance whose alignment is unknown (a negative frame) is not restricted, and counted in
    `LossOutput.unaligned`; one whose windows allow no path in `LossOutput.widened`.
    """

    def __init__(self, sizes: LossSizes, options: ArLossOptions) -> None:
        super().__init__(sizes, options)
        self.left_frames, self.right_frames = options.left_frames, options.right_frames

    def compute(self, inputs: LossInputs) -> LossOutput:
        """See `TransducerLoss.compute`. Raises InputError where there is no alignment."""
        alignment = inputs.required_alignment("loss ar")
        nodes, widened_B = band_nodes(
            inputs.encoder_frames,
            inputs.label_lengths,
            alignment,
            self.left_frames,
            self.right_frames,
            self.rules.topology,
        )
        per_utterance, kept = self.packed_loss(inputs, nodes)
        return LossOutput(
            per_utterance,
            {"transducer": per_utterance.detach()},
            len(nodes),
            kept,
            widened=int(widened_B.sum()),
            unaligned=int(unaligned(alignment, inputs.label_lengths).sum()),
        )
