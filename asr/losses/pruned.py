"""Pruned RNN-T: a few label positions per frame, chosen by a simple joiner that is trained along, or an alignment."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from asr.arcs.consistency import other_view
from asr.arcs.rules import ArcRules
from asr.arcs.standard import standard_arcs
from asr.config import PrunedLossOptions
from asr.errors import InputError
from asr.losses.base import LossOutput, LossSizes, TransducerLoss
from asr.losses.count import BatchCount
from asr.losses.packed import AlignedLoss, PackedLoss
from asr.losses.simple import SimpleJoiner
from asr.nodes.band import unaligned
from asr.nodes.base import Nodes, all_nodes
from asr.nodes.pruned import aligned_nodes, fixed_width_nodes, massive_nodes, occupation_near
from asr.ops.joint.reference import LossInputs
from asr.ops.lattice.paths import lattice_loss

WARMUP_START = 1.0, 0.1  # weights of the simple and of the pruned loss at the first batch


def make_pruned(sizes: LossSizes, options: PrunedLossOptions) -> TransducerLoss:
    """The pruned loss whose nodes come from where `options.bounds` says."""
    return AlignedPrunedLoss(sizes, options) if options.bounds == "alignment" else PrunedLoss(sizes, options)


class AlignedPrunedLoss(AlignedLoss):
    """The loss on the `prune_range` label positions around an alignment; there is no simple joiner to train."""

    def __init__(self, sizes: LossSizes, options: PrunedLossOptions) -> None:
        super().__init__(sizes, options)
        if options.prune_mass is not None:
            raise InputError(f"loss.prune_mass={options.prune_mass}: an alignment has no mass; use loss.bounds=simple")
        self.prune_range = options.prune_range

    def choose_nodes(self, frames_B: Tensor, label_lengths_B: Tensor, alignment_BU: Tensor) -> tuple[Nodes, Tensor]:
        """See `AlignedLoss`."""
        return aligned_nodes(frames_B, label_lengths_B, alignment_BU, self.prune_range, self.rules.topology)


class PrunedLoss(PackedLoss):
    """simple_scale · simple loss + pruned_scale · pruned loss (Kuang et al., Interspeech 2022).

    The simple loss is that of `SimpleJoiner` over all nodes; where its paths pass decides which nodes the
    pruned loss is computed on. Both weights move to their final values over the first `warmup_batches` training
    batches, since the choice is poor at first; outside of training they are final. The simple joiner's arcs are the
    standard ones, whatever the others are.

    In the first `aligned_batches` training batches nodes are those around the alignment instead, where it is known: a
    schedule of two losses, of which the restricted one learns where labels are, and the other that they may move.
    """

    def __init__(self, sizes: LossSizes, options: PrunedLossOptions) -> None:
        super().__init__(sizes, options)
        if options.lm_scale + options.am_scale > 1:
            raise InputError(f"loss.lm_scale={options.lm_scale}: with loss.am_scale={options.am_scale} it exceeds 1")
        widths = sizes.widths(options.name)
        self.simple = SimpleJoiner(sizes.vocab_size, *widths, options.lm_scale, options.am_scale)
        self.simple_rules = replace(self.rules, arcs=standard_arcs(self.rules.topology))
        self.prune_range, self.prune_mass = options.prune_range, options.prune_mass
        self.scales, self.warmup_batches = (options.simple_scale, options.pruned_scale), options.warmup_batches
        self.aligned_batches = options.aligned_batches
        self.batch_count = BatchCount(self)

    def compute(self, inputs: LossInputs, rules: ArcRules) -> LossOutput:
        """See `TransducerLoss.compute`. Raises InputError where an alignment is to be used, and there is none."""
        counted = self.training and torch.is_grad_enabled()
        done = self.batch_count.next() if counted else None
        simple, occupation_BTU = self.simple_loss(inputs)
        if inputs.consistency:  # both views have the same nodes
            occupation_BTU = (occupation_BTU + other_view(occupation_BTU, 0)) / 2
        unaligned_B = None
        if done is not None and done < self.aligned_batches:
            occupation_BTU, unaligned_B = self.aligned_occupation(inputs, occupation_BTU)
        nodes, widened_B = self.choose_nodes(inputs, occupation_BTU)
        out = self.packed_loss(inputs, nodes, rules, simple.detach())
        simple_scale, pruned_scale = self.scales_after(done)
        return replace(
            out,
            per_utterance=simple_scale * simple + pruned_scale * out.per_utterance,
            parts={**out.parts, "simple": simple.detach()},
            widened=int(widened_B.sum()),
            unaligned=0 if unaligned_B is None else int(unaligned_B.sum()),
        )

    def simple_loss(self, inputs: LossInputs) -> tuple[Tensor, Tensor]:
        """The simple joiner's loss (B,), and γ of every node of the grid (B,T,U+1)."""
        nodes = all_nodes(inputs.encoder_frames, inputs.label_lengths).to(inputs.encoder_out.device)
        utterance, frame, position = nodes.coordinates()
        arcs = self.simple(inputs)
        frames, positions = arcs[0].shape[1:]
        place_N = (utterance * frames + frame) * positions + position
        weights_AN = torch.stack([weights_BTU.flatten().index_select(0, place_N) for weights_BTU in arcs])
        per_utterance, occupation_N = lattice_loss(nodes, weights_AN, self.simple_rules)
        occupation = torch.zeros_like(arcs[0]).flatten().scatter(0, place_N, occupation_N.to(arcs[0].dtype))
        return per_utterance, occupation.view_as(arcs[0]).detach()

    def choose_nodes(self, inputs: LossInputs, occupation_BTU: Tensor) -> tuple[Nodes, Tensor]:
        """The nodes of the pruned loss, and whose intervals had to be widened (B,)."""
        lengths, topology = (inputs.encoder_frames, inputs.label_lengths), self.rules.topology
        if self.prune_mass is None:
            return fixed_width_nodes(*lengths, occupation_BTU, self.prune_range, topology)
        return massive_nodes(*lengths, occupation_BTU, self.prune_mass, topology)

    def aligned_occupation(self, inputs: LossInputs, occupation_BTU: Tensor) -> tuple[Tensor, Tensor]:
        """The occupation, or where an alignment is known one that is around it; and where it is not (B,)."""
        if inputs.alignment is None:
            raise InputError(f"loss.aligned_batches={self.aligned_batches} needs `alignment`, (B,U); -1 where unknown")
        near_BTU = occupation_near(inputs.label_lengths, inputs.alignment, *occupation_BTU.shape[1:])
        unaligned_B = unaligned(inputs.alignment, inputs.label_lengths)
        near_BTU, known_B11 = (
            values.to(occupation_BTU.device, non_blocking=True) for values in (near_BTU, ~unaligned_B[:, None, None])
        )
        return near_BTU.to(occupation_BTU.dtype).where(known_B11, occupation_BTU), unaligned_B

    def scales_after(self, batches: int | None) -> tuple[float, float]:
        """Weights of the simple and of the pruned loss after so many training batches; None: outside of training."""
        done = 1.0 if batches is None or not self.warmup_batches else min(batches / self.warmup_batches, 1.0)
        simple, pruned = (start + done * (end - start) for start, end in zip(WARMUP_START, self.scales))
        return simple, pruned
