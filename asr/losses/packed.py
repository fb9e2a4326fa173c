"""What the losses on packed nodes have in common: they differ in their nodes alone."""

from __future__ import annotations

from torch import Tensor, nn

from asr.config import PackedLossOptions
from asr.errors import InputError
from asr.losses.base import LossSizes, TransducerLoss
from asr.nodes.base import Nodes
from asr.ops.joint.chunked import PackedSettings, packed_loss
from asr.ops.joint.reference import LossInputs
from asr.ops.lattice.arcs import ArcRules, check_installed


class PackedLoss(TransducerLoss):
    """A loss over a set of nodes, whose logits are evaluated `chunk_nodes` at a time."""

    def __init__(self, sizes: LossSizes, options: PackedLossOptions) -> None:
        super().__init__(sizes, options)
        check_installed(options.backend)
        self.rules = ArcRules(options.topology, options.fastemit, options.delay_penalty, options.backend)  # type: ignore[arg-type]
        self.settings = PackedSettings(options.chunk_nodes, options.gradient_tolerance, self.rules, sizes.vocab_size)

    def packed_loss(self, inputs: LossInputs, nodes: Nodes) -> tuple[Tensor, int]:
        """−log P over the paths inside `nodes`, (B,), and of how many nodes the gradient is evaluated."""
        if not isinstance(inputs.joiner, nn.Module):
            raise InputError(
                f"loss {self.options.name}: the joiner must be a torch.nn.Module, or its weights would get no gradient"
            )
        per_utterance, kept = packed_loss(
            inputs.joiner, nodes, inputs.encoder_out, inputs.predictor_out, inputs.labels, self.settings
        )
        return per_utterance, int(kept)
