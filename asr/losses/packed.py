"""What the losses on packed nodes have in common: they differ in their nodes alone."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from asr.arcs.rules import ArcRules
from asr.config import PackedLossOptions
from asr.errors import InputError
from asr.losses.base import LossOutput, LossSizes, TransducerLoss
from asr.nodes.band import unaligned
from asr.nodes.base import Nodes
from asr.ops.joint.chunked import PackedSettings, joint_on, packed_loss
from asr.ops.joint.reference import Joiner, LossInputs
from asr.ops.lattice.paths import backend_on, check_installed


class PackedLoss(TransducerLoss):
    """A loss over a set of nodes, whose logits are evaluated `chunk_nodes` at a time."""

    def __init__(self, sizes: LossSizes, options: PackedLossOptions) -> None:
        super().__init__(sizes, options)
        check_installed(options.backend)
        outputs = sizes.vocab_size + options.arcs.extra_outputs
        self.settings = PackedSettings(
            options.chunk_nodes, options.gradient_tolerance, self.rules, outputs, options.joint
        )

    def backends(self, joiner: Joiner, device: torch.device) -> str:
        """See `TransducerLoss.backends`."""
        settings = replace(self.settings, consistency=self.options.consistency)
        joint = joint_on(joiner, settings, device)
        return f"{joint} joiner, lattice by {backend_on(self.rules.backend, device)}"

    def settings_for(self, inputs: LossInputs, rules: ArcRules) -> PackedSettings:
        """How the loss of this batch is computed."""
        return replace(self.settings, rules=rules, consistency=inputs.consistency)

    def packed_loss(
        self,
        inputs: LossInputs,
        nodes: Nodes,
        rules: ArcRules,
        watched_B: Tensor | None = None,
        known_CN: Tensor | None = None,
    ) -> LossOutput:
        """−log P over the paths inside `nodes`, "transducer", and where there are views their "consistency".

        watched_B: what is to be finite, too. known_CN: log-probabilities of choices, NaN where they are not known.
        """
        if not isinstance(inputs.joiner, nn.Module):
            raise InputError(
                f"loss {self.options.name}: the joiner must be a torch.nn.Module, or its weights would get no gradient"
            )
        if inputs.consistency:
            check_nodes_of_views(nodes, self.options.name)
        settings = self.settings_for(inputs, rules)
        per_utterance, diverging, kept, finite = packed_loss(
            inputs.joiner, nodes, inputs.encoder_out, inputs.predictor_out, inputs.labels, settings, watched_B, known_CN
        )
        parts = {"transducer": per_utterance.detach()}
        if inputs.consistency:
            parts = {"transducer": per_utterance.detach() - inputs.consistency * diverging, "consistency": diverging}
        return LossOutput(per_utterance, parts, len(nodes), int(kept), finite=finite)


class AlignedLoss(PackedLoss):
    """A loss over nodes around an alignment. Subclasses choose them.

    An utterance whose alignment is unknown (a negative frame) is not restricted, and counted in
    `LossOutput.unaligned`; one whose nodes allow no path gets more, and is counted in `LossOutput.widened`.
    """

    def compute(self, inputs: LossInputs, rules: ArcRules) -> LossOutput:
        """See `TransducerLoss.compute`. Raises InputError where there is no alignment."""
        if inputs.alignment is None:
            raise InputError(
                f"loss {self.options.name} needs `alignment`, the frame of each label (B,U); -1 where it is unknown"
            )
        nodes, widened_B = self.choose_nodes(inputs.encoder_frames, inputs.label_lengths, inputs.alignment)
        unaligned_B = unaligned(inputs.alignment, inputs.label_lengths)
        out = self.packed_loss(inputs, nodes, rules)
        return replace(out, widened=int(widened_B.sum()), unaligned=int(unaligned_B.sum()))

    def choose_nodes(self, frames_B: Tensor, label_lengths_B: Tensor, alignment_BU: Tensor) -> tuple[Nodes, Tensor]:
        """The nodes, and whose had to be widened for want of a complete path (B,)."""
        raise NotImplementedError


def check_nodes_of_views(nodes: Nodes, loss: str) -> None:
    """Raise InputError where the views of an utterance, in the first and second half, have different nodes."""
    first_R, count_R = nodes.first_R.view(2, -1), nodes.count_R.view(2, -1)
    if not (torch.equal(*first_R) and torch.equal(*count_R)):
        raise InputError(
            f"loss {loss}: two views of an utterance must have the same nodes: do their alignments differ?"
        )
