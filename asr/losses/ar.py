"""Alignment-restricted RNN-T: every label near its aligned frame."""

from __future__ import annotations

from torch import Tensor

from asr.config import ArLossOptions
from asr.losses.base import LossSizes
from asr.losses.packed import AlignedLoss
from asr.nodes.band import band_nodes
from asr.nodes.base import Nodes


class ArLoss(AlignedLoss):
    """−log of the probability of those alignments in which each label u is emitted at a frame of
    [a_u − left_frames, a_u + right_frames] (Mahadeokar et al., SLT 2021).
    """

    def __init__(self, sizes: LossSizes, options: ArLossOptions) -> None:
        super().__init__(sizes, options)
        self.left_frames, self.right_frames = options.left_frames, options.right_frames

    def choose_nodes(self, frames_B: Tensor, label_lengths_B: Tensor, alignment_BU: Tensor) -> tuple[Nodes, Tensor]:
        """See `AlignedLoss`."""
        windows = self.left_frames, self.right_frames
        return band_nodes(frames_B, label_lengths_B, alignment_BU, *windows, self.rules.topology)
