"""Full RNN-T: every node of the padded grid, 4-D logits, plain autograd."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from asr.arcs.base import BLANK, LABEL
from asr.arcs.consistency import choices_made, divergence, other_view
from asr.arcs.rules import ArcRules
from asr.losses.base import LossOutput, TransducerLoss
from asr.nodes.base import valid_frames
from asr.ops.joint.reference import LossInputs, grid_logits
from asr.ops.lattice.reference import edge_weights, log_probability


class FullLoss(TransducerLoss):
    """−log P(y|x) over all alignments (Graves, 2012): the readable reference.

    Holds logits, log-probabilities and their gradients of all B·T·(U+1) nodes at once.
    """

    def compute(self, inputs: LossInputs, rules: ArcRules) -> LossOutput:
        """See `TransducerLoss.compute`."""
        arcs = rules.arcs.with_rest() if inputs.consistency else rules.arcs
        inputs = with_lengths(inputs, inputs.encoder_out.device)
        logits = grid_logits(inputs.joiner, inputs.encoder_out, inputs.predictor_out)
        targets = next_labels(inputs).expand(logits.shape[:3])
        log_probs = arcs.log_probs(logits, targets)
        weights = arcs.weights(log_probs)
        per_utterance = loss = -path_sum(weights, inputs, rules)
        parts = {"transducer": loss.detach()}
        if inputs.consistency:
            made = choices_made(arcs, log_probs.detach(), occupation(weights, inputs, rules), targets > 0)
            of_nodes = divergence(other_view(made, 1), log_probs, other_view(log_probs.detach(), 1))
            parts["consistency"] = of_nodes.detach().flatten(1).sum(1)
            per_utterance = loss + inputs.consistency * of_nodes.flatten(1).sum(1)
        nodes = logits.shape[:3].numel()
        return LossOutput(per_utterance, parts, nodes, nodes)


def with_lengths(inputs: LossInputs, device: torch.device) -> LossInputs:
    """The inputs with the lengths on a device."""
    frames_B, labels_B = (lengths.to(device) for lengths in (inputs.encoder_frames, inputs.label_lengths))
    return replace(inputs, encoder_frames=frames_B, label_lengths=labels_B)


def path_sum(weights_ABTU: Tensor, inputs: LossInputs, rules: ArcRules) -> Tensor:
    """log P(y|x), (B,), from the log-weights that the joiner gives to arcs (A,B,T,U+1)."""
    edges = edge_weights(inputs.encoder_frames, weights_ABTU.shape[2], rules.edges)
    lengths = inputs.encoder_frames, inputs.label_lengths
    return log_probability(changed(weights_ABTU, rules, lengths[0]), *lengths, rules.arcs.moves, edges)


def occupation(weights_ABTU: Tensor, inputs: LossInputs, rules: ArcRules) -> Tensor:
    """γ of each node (B,T,U+1): the sum over its arcs of the derivative of log P."""
    with torch.enable_grad():
        weights_ABTU = weights_ABTU.detach().requires_grad_()
        (by_ABTU,) = torch.autograd.grad(path_sum(weights_ABTU, inputs, rules).sum(), weights_ABTU)
    return by_ABTU.sum(0)


def next_labels(inputs: LossInputs) -> Tensor:
    """The label that a node's label arcs emit, (B,1,U+1); 0 where they emit none."""
    labels_BU = torch.nn.functional.pad(inputs.labels, (0, 1))
    return labels_BU.where(valid_frames(inputs.label_lengths, labels_BU.shape[1]), 0)[:, None]


def changed(weights_ABTU: Tensor, rules: ArcRules, frames_B: Tensor) -> Tensor:
    """Weights of arcs (A,B,T,U+1) as `ArcRules` changes them, and with FastEmit their gradients."""
    weights_ABTU = weights_ABTU - rules.sigma
    emits = rules.arcs.emits_A.to(weights_ABTU.device)[:, None, None, None]
    if rules.delay_penalty:
        early_BT1 = earliness(frames_B, weights_ABTU.shape[2])[..., None].to(weights_ABTU.dtype)
        weights_ABTU = weights_ABTU + emits * early_BT1 * rules.delay_penalty
    if rules.fastemit:
        # The value with 1 + λ times its gradient (Yu et al., ICASSP 2021, equation 9).
        raised = (1 + rules.fastemit) * weights_ABTU - rules.fastemit * weights_ABTU.detach()
        weights_ABTU = raised.where(emits, weights_ABTU)
    if rules.topology == "constrained":
        forced = torch.nn.functional.pad(weights_ABTU[BLANK, :, :, 1:], (0, 1))
        by_arc = [w + forced if arc == LABEL else w for arc, w in enumerate(weights_ABTU)]
        weights_ABTU = torch.stack(by_arc)
    return weights_ABTU


def earliness(frames_B: Tensor, frames: int) -> Tensor:
    """(T_b−1)/2 − t, (B,T): what a delay penalty multiplies (Kang et al., ICASSP 2023)."""
    return (frames_B[:, None] - 1) / 2 - torch.arange(frames, device=frames_B.device)
