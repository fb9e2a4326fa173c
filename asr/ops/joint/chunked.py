"""The joiner on packed nodes, a slice at a time: the logits of one slice are all that is ever held.

The forward keeps two numbers per node, log p(blank) and log p(label). The backward evaluates a slice's
logits once more and turns them into gradients at once, by the merged gradient (Li et al., ASRU 2019)

    ∂L/∂z_k = γ·softmax(z)_k − γ_blank·[k = blank] − γ_label·[k = y_{u+1}],   γ = γ_blank + γ_label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asr.nodes.base import Nodes, Topology
from asr.ops.joint.reference import Joiner

ForwardBackward = Callable[[Nodes, Tensor, Tensor, Topology], tuple[Tensor, Tensor, Tensor]]


@dataclass(frozen=True)
class PackedIndex:
    """Where each node's inputs are.

    utterance_N: b. encoder_row_N: row of encoder_out.flatten(0, 1). predictor_row_N: row of
    predictor_out.flatten(0, 1). target_N: the label that the node's label arc emits; 0 where it has none.
    """

    utterance_N: Tensor
    encoder_row_N: Tensor
    predictor_row_N: Tensor
    target_N: Tensor


def index_nodes(nodes: Nodes, frames: int, labels_BU: Tensor) -> PackedIndex:
    """The index of `nodes` in a batch padded to `frames` frames with labels (B,U)."""
    utterance, frame, position = nodes.coordinates()
    positions = labels_BU.shape[1] + 1
    targets = nn.functional.pad(labels_BU, (0, 1))
    has_label = position < nodes.label_lengths_B[utterance]
    target = targets[utterance, position].where(has_label, 0)
    return PackedIndex(utterance, utterance * frames + frame, utterance * positions + position, target)


class PackedLoss(torch.autograd.Function):
    """−log P of each utterance (B,) over a node set; see `packed_loss`."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        joiner: Joiner,
        nodes: Nodes,
        index: PackedIndex,
        chunk_nodes: int,
        forward_backward: ForwardBackward,
        topology: Topology,
        encoder_rows: Tensor,
        predictor_rows: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        blank, label = [], []
        for part in slices(len(nodes), chunk_nodes):
            logits = joiner(encoder_rows[index.encoder_row_N[part]], predictor_rows[index.predictor_row_N[part]])
            log_probs = arc_log_probs(logits, index.target_N[part])
            blank.append(log_probs[0])
            label.append(log_probs[1])
        log_p, by_blank, by_label = forward_backward(nodes, torch.cat(blank), torch.cat(label), topology)
        device = encoder_rows.device.type
        precision = torch.autocast(  # as it is now: the backward runs outside of the caller's autocast
            device, torch.get_autocast_dtype(device), enabled=torch.is_autocast_enabled(device)
        )
        ctx.settings = joiner, index, chunk_nodes, parameters, precision  # type: ignore[attr-defined]
        ctx.save_for_backward(encoder_rows, predictor_rows, by_blank, by_label)
        return -log_p.to(blank[0].dtype)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        joiner, index, chunk_nodes, parameters, precision = ctx.settings  # type: ignore[attr-defined]
        encoder_rows, predictor_rows, by_blank, by_label = ctx.saved_tensors  # type: ignore[attr-defined]
        scale = grad_outputs[0].double()[index.utterance_N]
        encoder_grad, predictor_grad = torch.zeros_like(encoder_rows), torch.zeros_like(predictor_rows)
        parameter_grads = [torch.zeros_like(p) for p in parameters]
        for part in slices(len(index.utterance_N), chunk_nodes):
            encoder_part, predictor_part = index.encoder_row_N[part], index.predictor_row_N[part]
            inputs = [encoder_rows[encoder_part].requires_grad_(), predictor_rows[predictor_part].requires_grad_()]
            with torch.enable_grad(), precision:
                logits = joiner(*inputs)
            grad = merged_gradient(
                logits.detach(), index.target_N[part], scale[part] * by_blank[part], scale[part] * by_label[part]
            )
            grads = torch.autograd.grad(logits, [*inputs, *parameters], grad, materialize_grads=True)
            encoder_grad.index_add_(0, encoder_part, grads[0])
            predictor_grad.index_add_(0, predictor_part, grads[1])
            for total, part_grad in zip(parameter_grads, grads[2:]):
                total += part_grad
        return None, None, None, None, None, None, encoder_grad, predictor_grad, *parameter_grads


def packed_loss(
    joiner: nn.Module,
    nodes: Nodes,
    encoder_out: Tensor,
    predictor_out: Tensor,
    labels: Tensor,
    forward_backward: ForwardBackward,
    chunk_nodes: int,
    topology: Topology = "regular",
) -> Tensor:
    """−log P(y|x) over the paths inside `nodes`, (B,), nats; exact, and differentiable once.

    encoder_out: (B,T,D); predictor_out: (B,U+1,D); labels: (B,U). joiner: (rows (N,D), rows (N,D)) →
    logits (N,V), a module, so that its parameters are known and get gradients, and without randomness, since
    it is evaluated twice. chunk_nodes: nodes whose logits are held at a time; 0: all.
    """
    index = index_nodes(nodes, encoder_out.shape[1], labels)
    parameters = [p for p in joiner.parameters() if p.requires_grad]
    rows = encoder_out.flatten(0, 1), predictor_out.flatten(0, 1)
    loss: Tensor = PackedLoss.apply(joiner, nodes, index, chunk_nodes, forward_backward, topology, *rows, *parameters)  # type: ignore[no-untyped-call]
    return loss


def slices(size: int, chunk: int) -> Iterator[slice]:
    """Slices of `chunk` that cover range(size); one slice if chunk is 0."""
    step = chunk or max(size, 1)
    for begin in range(0, size, step):
        yield slice(begin, min(begin + step, size))


def arc_log_probs(logits_NV: Tensor, target_N: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability of blank and of the target (N,) each, at least in float32."""
    logits = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
    normaliser = logits.logsumexp(dim=1)
    return logits[:, 0] - normaliser, logits.gather(1, target_N[:, None])[:, 0] - normaliser


def merged_gradient(logits_NV: Tensor, target_N: Tensor, by_blank_N: Tensor, by_label_N: Tensor) -> Tensor:
    """∂L/∂logits (N,V) from the occupations of the nodes' arcs."""
    dtype = torch.promote_types(logits_NV.dtype, torch.float32)
    by_blank, by_label = by_blank_N.to(dtype), by_label_N.to(dtype)
    grad = logits_NV.softmax(dim=1, dtype=dtype).mul_((by_blank + by_label)[:, None])
    grad[:, 0] -= by_blank
    grad.scatter_add_(1, target_N[:, None], -by_label[:, None])
    return grad.to(logits_NV.dtype)
