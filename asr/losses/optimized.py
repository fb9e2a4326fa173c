"""Optimized RNN-T: every valid node, packed without padding, merged gradient, logits streamed."""

from __future__ import annotations

import math

from torch import Tensor

from asr.arcs.rules import ArcRules
from asr.losses.base import LossOutput
from asr.losses.packed import PackedLoss
from asr.nodes.base import Nodes, all_nodes
from asr.ops.joint.live import live_nodes
from asr.ops.joint.reference import LossInputs


class OptimizedLoss(PackedLoss):
    """−log P(y|x) over all alignments, the same as `FullLoss`, from packed nodes (Li et al., ASRU 2019).

    With a `gradient_tolerance`, nodes that no path of any weight passes are found and left out in the forward too. Not
    on a GPU: there the search is dozens of small kernels and two waits for every four frames, and the forward is cheap.
    """

    def compute(self, inputs: LossInputs, rules: ArcRules) -> LossOutput:
        """See `TransducerLoss.compute`."""
        nodes, known_CN = self.choose_nodes(inputs, rules)
        return self.packed_loss(inputs, nodes, rules, known_CN=known_CN)

    def choose_nodes(self, inputs: LossInputs, rules: ArcRules) -> tuple[Nodes, Tensor | None]:
        """All nodes, but for those that are certain not to matter; and what is known of them, see `packed_loss`."""
        # A delay penalty makes log-probabilities positive, edges let mass in at every frame, and with sigma a small
        # loss no longer says that gradients are.
        unbounded = rules.delay_penalty or rules.sigma or math.isfinite(rules.edges)
        if not self.settings.gradient_tolerance or unbounded or inputs.encoder_out.device.type != "cpu":
            return all_nodes(inputs.encoder_frames, inputs.label_lengths), None
        return live_nodes(inputs, self.settings_for(inputs, rules))
