"""The joiner on packed nodes, a slice at a time: the logits of one slice are all that is ever held.

The forward keeps a few numbers per node, the log-probabilities of what its arcs choose: log p(blank) and log p(label)
of the standard ones. The backward evaluates a slice's logits once more and turns them into gradients at once, by the
merged gradient (Li et al., ASRU 2019; `asr.arcs.base`), which for the standard arcs is

    ∂L/∂z_k = γ·softmax(z)_k − γ_blank·[k = blank] − γ_label·[k = y_{u+1}],   γ = γ_blank + γ_label.

The L1 norm of that gradient is known before any logit is evaluated again, so the backward can leave out the nodes
with the least of it, up to a share of an utterance's total. Gradients of different nodes cancel, so an error of that
share in the logits' gradient can be a larger one in the gradient of what they come from: up to 4 times as large on
random lattices and on those trained to a loss of 0.01. `SAFETY` is for that. A share that rounding would change as
much is left out of exact gradients, too: on a random lattice that is half of the nodes, with occupations of 1e-10 and
less, and where these are multiplied by probabilities as small, denormal numbers slow a CPU down many times. Two views
of an utterance that are drawn together pull the joiner into opposite directions: there the share is of what is left of
both (`common_gradient`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from asr.arcs.base import ArcSet
from asr.arcs.consistency import choices_made, divergence, other_view
from asr.arcs.rules import ArcRules
from asr.errors import InputError
from asr.nodes.base import Nodes
from asr.ops.joint.reference import Joiner, LossInputs, linear_after_tanh
from asr.ops.lattice.paths import check_triton, occupations

SAFETY = 8  # of the gradient tolerance
SAFETY_OF_VIEWS = 4  # times more
CHUNK_LOGITS = {"cpu": 2**19, "cuda": 2**23}  # few enough to stay in a CPU's cache, enough to fill a GPU
EVALUATED_NODES = 1024  # at a time, where only their arcs are wanted
FEWEST_CHUNK_NODES = 128  # or a product of matrices is no longer fast


@dataclass(frozen=True)
class PackedIndex:
    """Where each node's inputs are.

    node_N: its number among all nodes. utterance_N: b. encoder_row_N: row of encoder_out.flatten(0, 1).
    predictor_row_N: row of predictor_out.flatten(0, 1). target_N: the label that the node's label arc emits; 0 where it
    has none.
    """

    node_N: Tensor
    utterance_N: Tensor
    encoder_row_N: Tensor
    predictor_row_N: Tensor
    target_N: Tensor

    @property
    def is_unbroken(self) -> bool:
        """Whether it is of all nodes from the first to some last one: to be asked on a CPU."""
        return not len(self.node_N) or int(self.node_N[-1]) == len(self.node_N) - 1

    def take(self, keep: Tensor) -> PackedIndex:
        """The index of the nodes `keep` alone."""
        return PackedIndex(*(values[keep] for values in vars(self).values()))


def index_nodes(nodes: Nodes, frames: int, labels_BU: Tensor) -> PackedIndex:
    """The index of `nodes` in a batch padded to `frames` frames with labels (B,U), on the device of these."""
    nodes = nodes.to(labels_BU.device)
    utterance, frame, position = nodes.coordinates()
    positions = labels_BU.shape[1] + 1
    targets = nn.functional.pad(labels_BU, (0, 1))
    has_label = position < nodes.label_lengths_B[utterance]
    target = targets[utterance, position].where(has_label, 0)
    rows = utterance * frames + frame, utterance * positions + position
    return PackedIndex(torch.arange(len(target), device=target.device), utterance, *rows, target)


@dataclass(frozen=True)
class PackedSettings:
    """How a loss over packed nodes is computed.

    chunk_nodes: nodes whose logits are held at a time; 0: all; None: as many as make `CHUNK_LOGITS` logits.
    gradient_tolerance: relative error that the gradients may have, for leaving out nodes in the backward; 0: that of
    rounding. rules: see `ArcRules`. outputs: K, of the joiner, for chunk_nodes=None. joint: what evaluates the
    joiner, see `choose_joint`. consistency: weight of the divergence (`asr.arcs.consistency`) between two views of
    each utterance, rows b and b + B/2 of the batch, which have the same nodes; 0: rows have nothing to do with
    each other.
    """

    chunk_nodes: int | None
    gradient_tolerance: float
    rules: ArcRules
    outputs: int = 500
    joint: str = "auto"
    consistency: float = 0.0

    @property
    def arcs(self) -> ArcSet:
        """What nodes are evaluated for: the arcs of `rules`, with the rest where views are compared."""
        return self.rules.arcs.with_rest() if self.consistency else self.rules.arcs

    def share(self, dtype: torch.dtype) -> float:
        """What part of an utterance's gradient, by its L1 norm, may be left out; dtype: of log-probabilities."""
        tolerance = max(self.gradient_tolerance, torch.finfo(dtype).eps / 2)
        return tolerance / (SAFETY * SAFETY_OF_VIEWS if self.consistency else SAFETY)

    def chunk_on(self, device: torch.device) -> int:
        """The number of nodes, 0 for all."""
        if self.chunk_nodes is not None:
            return self.chunk_nodes
        logits = CHUNK_LOGITS.get(device.type, CHUNK_LOGITS["cpu"])
        return max(logits // self.outputs, FEWEST_CHUNK_NODES)


class Joint(Protocol):
    """A joiner, and a way to evaluate it on packed nodes without holding all of their logits.

    It is made where the forward is, and goes by the autocast in force there: the backward runs outside of it.
    """

    def log_probs(self, index: PackedIndex, encoder_rows: Tensor, predictor_rows: Tensor) -> Tensor:
        """Log-probability of each choice (C,N) at every node."""

    def gradients(
        self, index: PackedIndex, encoder_rows: Tensor, predictor_rows: Tensor, by_CN: Tensor
    ) -> list[Tensor]:
        """Of encoder rows, predictor rows and every trained parameter, from the occupations (C,N) of the choices."""


class ChunkedJoint:
    """Any joiner, by autograd, and any arcs: each slice is a graph of its own."""

    def __init__(
        self, joiner: Joiner, settings: PackedSettings, parameters: Sequence[Tensor], device: torch.device
    ) -> None:
        self.joiner, self.arcs, self.parameters = joiner, settings.arcs, parameters
        self.chunk_nodes = settings.chunk_on(device)
        kind = device.type
        self.precision = torch.autocast(kind, torch.get_autocast_dtype(kind), enabled=torch.is_autocast_enabled(kind))

    def log_probs(self, index: PackedIndex, encoder_rows: Tensor, predictor_rows: Tensor) -> Tensor:
        """See `Joint`."""
        return evaluate(self.joiner, self.arcs, index, self.chunk_nodes, encoder_rows, predictor_rows)

    def gradients(
        self, index: PackedIndex, encoder_rows: Tensor, predictor_rows: Tensor, by_CN: Tensor
    ) -> list[Tensor]:
        """See `Joint`."""
        totals = [torch.zeros_like(values) for values in (encoder_rows, predictor_rows, *self.parameters)]
        for part in slices(len(index.utterance_N), self.chunk_nodes):
            encoder_part, predictor_part = index.encoder_row_N[part], index.predictor_row_N[part]
            inputs = [encoder_rows.index_select(0, encoder_part), predictor_rows.index_select(0, predictor_part)]
            for rows in inputs:
                rows.requires_grad_()
            with torch.enable_grad(), self.precision:
                logits = self.joiner(*inputs)
            grad = self.arcs.gradient(logits.detach(), index.target_N[part], by_CN[:, part])
            grads = torch.autograd.grad(logits, [*inputs, *self.parameters], grad, materialize_grads=True)
            totals[0].index_add_(0, encoder_part, grads[0])
            totals[1].index_add_(0, predictor_part, grads[1])
            for total, part_grad in zip(totals[2:], grads[2:]):
                total += part_grad
        return totals


def choose_joint(joiner: Joiner, settings: PackedSettings, parameters: Sequence[Tensor], device: torch.device) -> Joint:
    """What evaluates `joiner` on `device`, see `joint_on`.

    Raises InputError where what is asked for is not possible.
    """
    name = joint_on(joiner, settings, device)
    if name == "chunked":
        return ChunkedJoint(joiner, settings, parameters, device)
    linear = standard_linear(joiner, settings, name)
    if name == "numba":
        if not in_float32(linear, device):
            raise InputError("loss.joint=numba: the kernels compute in float32, on a CPU; use joint=auto")
        compiled: Joint = import_module("asr.ops.joint.cpu").CompiledJoint(linear, settings, parameters)
        return compiled
    check_triton("joint=fused", device, instead="joint=chunked")
    fused: Joint = import_module("asr.ops.joint.gpu").FusedJoint(linear, settings.chunk_nodes, parameters)
    return fused


def joint_on(joiner: Joiner, settings: PackedSettings, device: torch.device) -> str:
    """The name of what evaluates a joiner, or what "auto" stands for on a device: kernels where joiner
    (`linear_after_tanh`) and arcs are the standard ones, fused on a GPU and numba on a CPU in float32; else chunked.
    """
    if settings.joint != "auto":
        return settings.joint
    linear = linear_after_tanh(joiner)
    if linear is None or not settings.arcs.one_softmax:
        return "chunked"
    if device.type == "cuda":
        return "fused"
    return "numba" if in_float32(linear, device) else "chunked"


def in_float32(linear: nn.Linear, device: torch.device) -> bool:
    """Whether a linear map is on a CPU, and computed in float32 here and now."""
    return device.type == "cpu" and linear.weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def standard_linear(joiner: Joiner, settings: PackedSettings, name: str) -> nn.Linear:
    """The linear map of a joiner that the kernels `name` can evaluate. Raises InputError where they cannot, or it has
    not as many outputs as the arcs.
    """
    if not settings.rules.arcs.one_softmax:
        raise InputError(
            f"loss.joint={name}: the kernels know the standard arcs, and not {settings.rules.arcs.name}; use joint=auto"
        )
    if settings.consistency:
        raise InputError(
            f"loss.joint={name}: the kernels know no loss.consistency={settings.consistency:g}; use joint=auto"
        )
    linear = linear_after_tanh(joiner)
    if linear is None:
        raise InputError(
            f"loss.joint={name}: {type(joiner).__name__} is not known to be tanh(encoder + predictor) and then one "
            "linear map (asr.ops.joint.reference.linear_after_tanh); use joint=auto"
        )
    settings.rules.arcs.check_outputs(linear.bias)
    return linear


class StreamedLoss(torch.autograd.Function):
    """The loss of each utterance (B,) over a node set; see `packed_loss`."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        joiner: Joiner,
        nodes: Nodes,
        index: PackedIndex,
        settings: PackedSettings,
        encoder_rows: Tensor,
        predictor_rows: Tensor,
        watched_B: Tensor | None,
        known_CN: Tensor | None,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        joint = choose_joint(joiner, settings, parameters, encoder_rows.device)
        arcs = settings.arcs
        log_probs_CN = completed(known_CN, joint, index, encoder_rows, predictor_rows)
        log_p, by_AN = occupations(nodes, arcs.weights(log_probs_CN), settings.rules)
        by_CN = arcs.by_choice(by_AN)
        loss, diverging = -log_p, torch.zeros_like(log_p)
        if settings.consistency:
            occupation_N = by_AN.sum(0).to(log_probs_CN.dtype)
            made_CN = other_view(choices_made(arcs, log_probs_CN, occupation_N, index.target_N > 0), 1)
            diverging = sum_by_utterance(divergence(made_CN, log_probs_CN, other_view(log_probs_CN, 1)), nodes)
            loss = loss + settings.consistency * diverging
            by_CN.add_(made_CN, alpha=settings.consistency)
        known = log_probs_CN, by_CN, index.target_N > 0
        in_common = common_gradient(arcs.residuals(*known), nodes) if settings.consistency else None
        keep_N = largest(arcs.norms(*known), nodes, settings.share(log_probs_CN.dtype), in_common)
        kept, finite_B = read_once(keep_N, loss if watched_B is None else loss + watched_B)
        keep = places(keep_N, int(kept))
        index, by_CN = index.take(keep), by_CN.index_select(1, keep)
        ctx.joint, ctx.index = joint, index  # type: ignore[attr-defined]
        ctx.save_for_backward(encoder_rows, predictor_rows, by_CN.to(log_probs_CN.dtype))
        diverging = diverging.to(log_probs_CN.dtype)
        ctx.mark_non_differentiable(diverging, kept, finite_B)
        return loss.to(log_probs_CN.dtype), diverging, kept, finite_B

    @staticmethod
    @once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        joint, index = ctx.joint, ctx.index  # type: ignore[attr-defined]
        encoder_rows, predictor_rows, by_CN = ctx.saved_tensors  # type: ignore[attr-defined]
        scale_N = grad_outputs[0][index.utterance_N]
        grads = joint.gradients(index, encoder_rows, predictor_rows, scale_N * by_CN)
        return None, None, None, None, *grads[:2], None, None, *grads[2:]


def packed_loss(
    joiner: nn.Module,
    nodes: Nodes,
    encoder_out: Tensor,
    predictor_out: Tensor,
    labels: Tensor,
    settings: PackedSettings,
    watched_B: Tensor | None = None,
    known_CN: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """−log P(y|x) over the paths inside `nodes`, (B,), nats, differentiable once; the divergence from the other view,
    (B,), of which it has `settings.consistency` times as much in it; of how many nodes the gradient is evaluated; and
    whether its sum with `watched_B` is finite (B,). The last two are on the CPU, and all that is waited for on a GPU.

    encoder_out: (B,T,D); predictor_out: (B,U+1,D); labels: (B,U). joiner: (rows (N,D), rows (N,D)) →
    logits (N,K), a module, so that its parameters are known and get gradients, and without randomness, since
    it is evaluated twice. The loss is exact, and its gradient but for `settings.gradient_tolerance`. known_CN:
    log-probability of each choice at nodes where it is known already, NaN at others.
    """
    nodes = nodes.to(encoder_out.device)
    index = index_nodes(nodes, encoder_out.shape[1], labels)
    parameters = [p for p in joiner.parameters() if p.requires_grad and torch.is_grad_enabled()]
    rows = encoder_out.flatten(0, 1), predictor_out.flatten(0, 1)
    out: tuple[Tensor, Tensor, Tensor, Tensor] = StreamedLoss.apply(  # type: ignore[no-untyped-call]
        joiner, nodes, index, settings, *rows, watched_B, known_CN, *parameters
    )
    return out


def read_once(keep_N: Tensor, loss_B: Tensor) -> tuple[Tensor, Tensor]:
    """How many nodes are kept, and which losses are finite (B,); both on the CPU, by one copy."""
    read = torch.cat((keep_N.sum()[None], loss_B.isfinite().long())).cpu()
    return read[0], read[1:].bool()


def places(keep_N: Tensor, kept: int) -> Tensor:
    """The indices of the `kept` true entries, ascending, of which it waits for none to be counted."""
    return torch.nonzero_static(keep_N, size=kept)[:, 0]


def node_weights(inputs: LossInputs, nodes: Nodes, arcs: ArcSet) -> Tensor:
    """Log-weight of every arc of every node (A,N); no gradient."""
    encoded, predicted = inputs.encoder_out, inputs.predictor_out
    index = index_nodes(nodes, encoded.shape[1], inputs.labels)
    with torch.no_grad():
        rows = encoded.flatten(0, 1), predicted.flatten(0, 1)
        return arcs.weights(evaluate(inputs.joiner, arcs, index, EVALUATED_NODES, *rows))


def evaluate(
    joiner: Joiner, arcs: ArcSet, index: PackedIndex, chunk_nodes: int, encoder_rows: Tensor, predictor_rows: Tensor
) -> Tensor:
    """Log-probability of each choice (C,N) at every node."""
    size = len(index.utterance_N)
    log_probs_CN = encoder_rows.new_empty(0)
    for part in slices(size, chunk_nodes):
        logits = joiner(
            encoder_rows.index_select(0, index.encoder_row_N[part]),
            predictor_rows.index_select(0, index.predictor_row_N[part]),
        )
        log_probs = arcs.log_probs(logits, index.target_N[part])
        if not len(log_probs_CN):  # as a whole: small tensors kept from every slice would fragment the memory
            log_probs_CN = log_probs.new_empty(len(log_probs), size)
        log_probs_CN[:, part] = log_probs
    return log_probs_CN


def completed(
    known_CN: Tensor | None, joint: Joint, index: PackedIndex, encoder_rows: Tensor, predictor_rows: Tensor
) -> Tensor:
    """Log-probability of each choice (C,N) at every node, evaluated where it is not known."""
    if known_CN is None:
        return joint.log_probs(index, encoder_rows, predictor_rows)
    unknown = known_CN.isnan().any(0).nonzero()[:, 0]
    if len(unknown):
        known_CN[:, unknown] = joint.log_probs(index.take(unknown), encoder_rows, predictor_rows)
    return known_CN


def sum_by_utterance(values_N: Tensor, nodes: Nodes) -> Tensor:
    """Sum over the nodes of each utterance (B,), float64."""
    counts_B = nodes.node_offsets[nodes.row_offsets].diff()
    return torch.segment_reduce(values_N.double(), "sum", lengths=counts_B, unsafe=True)  # the others would be read


def common_gradient(residuals: Tensor, nodes: Nodes) -> Tensor:
    """L1 norm of the gradient of both views together, of every utterance and view (B,); from `ArcSet.residuals`."""
    return sum_by_utterance((residuals + other_view(residuals, 1)).abs().sum(0), nodes)


def largest(values_N: Tensor, nodes: Nodes, tolerance: float, at_most_B: Tensor | None = None) -> Tensor:
    """Whether a node (N,) is among the fewest of each utterance without which there is at most the share `tolerance`
    missing of its sum of `values_N` ≥ 0, or of `at_most_B` where that is less."""
    begin_B = nodes.node_offsets[nodes.row_offsets]
    counts_B = begin_B.diff()
    utterance_N = torch.repeat_interleave(counts_B, output_size=len(nodes))
    most = nodes.longest
    place_N = torch.arange(len(nodes), device=values_N.device) - begin_B[utterance_N] + most * utterance_N
    padded_BM = values_N.new_zeros(len(counts_B), most)
    padded_BM.view(-1)[place_N] = values_N
    ordered_BM, order_BM = padded_BM.sort(dim=1)
    total_B = ordered_BM.sum(1)
    total_B = total_B if at_most_B is None else total_B.minimum(at_most_B)
    keep_BM = ordered_BM.cumsum(1) > tolerance * total_B[:, None]
    return torch.zeros_like(keep_BM).scatter(1, order_BM, keep_BM).view(-1)[place_N]


def slices(size: int, chunk: int) -> Iterator[slice]:
    """Slices of `chunk` that cover range(size); one slice if chunk is 0."""
    step = chunk or max(size, 1)
    for begin in range(0, size, step):
        yield slice(begin, min(begin + step, size))
