"""The standard joiner on packed nodes of a CPU, in float32: z = W·tanh(e + p) + b, its standard arcs, and its merged
gradient.

As on a GPU (`asr.ops.joint.gpu`): products of matrices are torch's, and what lies between two of them is one pass of
numba, a row at a time, so that what it reads twice is in the nearest cache. Of n nodes at a time there are hidden
values (n,J), logits (n,V) and ∂L/∂hidden (n,J), in buffers that all slices use in turn. Where all logits are few, the
forward keeps them, as exponentials, and the backward need not multiply for them again. Threads share out nodes, or
columns where there is a sum over nodes: results do not depend on their number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from torch import Tensor, nn

from asr.ops.compiled import compiled
from asr.ops.joint.chunked import PackedIndex, PackedSettings, slices
from asr.ops.lattice.cpu import threads_of_torch

Array = np.ndarray

ALIGNMENT = 16  # floats of a cache line: rows of logits begin on one, and a vector has nothing left over
KEPT_LOGITS = 10 * 2**20  # 40 MB: about as much as the rest of a loss takes
MODERATE = np.float32(40)  # e^80 is far from where float32 ends
LOWEST_LOGIT = -1e30  # of what is no output
DENORMAL = np.float32(1e-30)  # what a product would make a denormal number of, which slows a CPU down many times

FLOATS: Any = {"dtype": torch.float32, "device": "cpu"}  # whatever torch's defaults are

_ZERO, _ONE, _TWO = np.float32(0), np.float32(1), np.float32(2)
_SHIFT = np.float32(1.5 * 2**23)  # rounds what it is added to to an integer, which is then in the lowest bits
_LOWEST = np.float32(-87)  # whose exponential is no denormal number
_LOG2_E = np.float32(1 / math.log(2))
_LN2 = np.float32(0.693359375), np.float32(math.log(2) - 0.693359375)  # the first has few bits: its multiples are exact
_TAYLOR = tuple(np.float32(1 / math.factorial(n)) for n in range(7, -1, -1))  # of e^x up to |x| = ln(2)/2: to 1e-8


@compiled(fastmath=("contract",))
def _exp(x: float) -> float:
    """e^x of x < 88, by operations of which LLVM makes vectors, as it does not of calls; of NaN it is NaN."""
    x = _LOWEST if x < _LOWEST else x
    shifted = x * _LOG2_E + _SHIFT
    whole = shifted - _SHIFT
    rest = (x - whole * _LN2[0]) - whole * _LN2[1]
    value = _TAYLOR[0]
    for coefficient in _TAYLOR[1:]:
        value = value * rest + coefficient
    return value * np.int32((np.float32(shifted).view(np.int32) + np.int32(127)) << np.int32(23)).view(np.float32)


@compiled(parallel=True)
def _prepare(rows: Array, exponentials: Array, moderate: Array) -> None:
    """exp(2x) of each row, and whether that is moderate."""
    for r in numba.prange(len(rows)):
        others = 0
        for j in range(rows.shape[1]):
            exponentials[r, j] = _exp(_TWO * rows[r, j])
            others += not abs(rows[r, j]) <= MODERATE  # NaN is none
        moderate[r] = others == 0


@compiled(parallel=True)
def _hidden(
    encoder: Array,
    encoder_exp: Array,
    encoder_moderate: Array,
    predictor: Array,
    predictor_exp: Array,
    predictor_moderate: Array,
    encoder_row: Array,
    predictor_row: Array,
    hidden: Array,
) -> None:
    """tanh(e + p) = 1 − 2/(1 + exp(2e)·exp(2p)) of each node, from the exponentials where these are moderate.

    To 2e-7, which is no small share of a hidden value that is smaller than 1e-4, and so of W's gradient by it.
    """
    for n in numba.prange(len(hidden)):
        frame, position = encoder_row[n], predictor_row[n]
        if encoder_moderate[frame] and predictor_moderate[position]:
            for j in range(hidden.shape[1]):
                hidden[n, j] = _ONE - _TWO / (_ONE + encoder_exp[frame, j] * predictor_exp[position, j])
        else:
            for j in range(hidden.shape[1]):
                hidden[n, j] = math.tanh(encoder[frame, j] + predictor[position, j])


@compiled()
def _ordered(bits: int) -> int:
    """An integer for the bits of a float, by which floats are in order, NaN above all others; and the way back."""
    return np.int32(bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@compiled()
def _highest(logits: Array, bias: Array) -> float:
    """The highest logit, found among integers: of that LLVM makes vectors, as it does not of floats."""
    highest = np.int32(-(2**31))
    for k in range(len(bias)):
        highest = max(highest, _ordered(np.float32(logits[k] + bias[k]).view(np.int32)))
    return np.int32(_ordered(highest)).view(np.float32)


@compiled(fastmath=("reassoc", "contract", "nsz"))
def _exponentiate(logits: Array, bias: Array, highest: float) -> float:
    """The sum of exp(z − highest), each in the place of its logit."""
    total = _ZERO
    for k in range(len(bias)):
        value = _exp(logits[k] + bias[k] - highest)
        logits[k] = value
        total += value
    return total


@compiled(parallel=True)
def _arcs(logits: Array, outputs: int, bias: Array, target: Array, blank: Array, label: Array, total: Array) -> None:
    """log p(blank) and log p(label) of each node; exponentials in the place of its logits, and their sum."""
    for n in numba.prange(len(logits)):
        row, k = logits[n], target[n]
        row[outputs:] = _ZERO  # what is left there may be NaN
        blank[n], label[n] = row[0] + bias[0], row[k] + bias[k]
        highest = _highest(row, bias)
        total[n] = _exponentiate(row, bias, highest)
        log_total = np.float32(math.log(total[n]))  # taken off alone: beside a high logit it would lose its last digits
        blank[n] = (blank[n] - highest) - log_total
        label[n] = (label[n] - highest) - log_total


@compiled(parallel=True)
def _merged_gradient(
    exponentials: Array, total: Array, place: Array, target: Array, by_blank: Array, by_label: Array, grads: Array
) -> None:
    """∂L/∂z of each node from its exponentials and their sum, which are at `place`."""
    for n in numba.prange(len(place)):
        row = exponentials[place[n]]
        scale = (by_blank[n] + by_label[n]) / total[place[n]]
        for k in range(len(row)):
            grad = row[k] * scale
            grads[n, k] = _ZERO if abs(grad) < DENORMAL else grad
        grads[n, 0] -= by_blank[n]
        grads[n, target[n]] -= by_label[n]


@compiled(parallel=True)
def _add_row_sums(
    encoder_row: Array,
    predictor_row: Array,
    hidden_grad: Array,
    hidden: Array,
    encoder_total: Array,
    predictor_total: Array,
    parts: int,
) -> None:
    """Add ∂L/∂(e + p) of each node to its encoder row and its predictor row."""
    width = hidden.shape[1]
    for part in numba.prange(parts):
        begin, end = width * part // parts, width * (part + 1) // parts
        for n in range(len(encoder_row)):
            of_frame = encoder_total[encoder_row[n], begin:end]
            of_position = predictor_total[predictor_row[n], begin:end]
            by_tanh, tanh = hidden_grad[n, begin:end], hidden[n, begin:end]  # from 0 on LLVM makes vectors
            for j in range(len(tanh)):
                grad = by_tanh[j] * (_ONE - tanh[j] * tanh[j])
                of_frame[j] += grad
                of_position[j] += grad


class CompiledJoint:
    """The standard joiner, see `asr.ops.joint.chunked.Joint`.

    linear: its map, W (V,J) and b (V,). parameters: those of the map that are to get a gradient. kept: what `gradients`
    then need not make anew, unless `settings.chunk_nodes` says how many logits may be held.
    """

    def __init__(self, linear: nn.Linear, settings: PackedSettings, parameters: Sequence[Tensor]) -> None:
        self.linear, self.chunk_nodes = linear, settings.chunk_on(linear.weight.device)
        self.keeps = not settings.chunk_nodes
        self.trained = [any(p is q for q in parameters) for p in (linear.weight, linear.bias)]
        self.kept: Exponentials | None = None

    def log_probs(self, index: PackedIndex, encoder_rows: Tensor, predictor_rows: Tensor) -> Tensor:
        """Log-probability of blank and of the label (2,N) at every node."""
        work = Workspace(self.linear, self.chunk_nodes, index, encoder_rows, predictor_rows)
        size, width = len(index.node_N), len(work.bias)
        keeps = self.keeps and any(self.trained) and index.is_unbroken and size * width <= KEPT_LOGITS
        self.kept = Exponentials.empty(size, width) if keeps else None
        log_probs_CN = torch.empty(2, size, **FLOATS)
        with threads_of_torch():
            for part in work.parts:
                room = work.room_for(part) if self.kept is None else self.kept.of(part)
                work.evaluate(part, work.hidden_of(part), room, log_probs_CN[:, part])
        return log_probs_CN

    def gradients(
        self, index: PackedIndex, encoder_rows: Tensor, predictor_rows: Tensor, by_CN: Tensor
    ) -> list[Tensor]:
        """The gradients of encoder rows, predictor rows, and those parameters of W and b that are trained."""
        work = Workspace(self.linear, self.chunk_nodes, index, encoder_rows, predictor_rows)
        kept, self.kept = self.kept, None
        if kept is not None and len(index.node_N) and int(index.node_N[-1]) >= len(kept.total_N):
            kept = None  # they are of some of the nodes alone
        row_grads = [torch.zeros(rows.shape, **FLOATS) for rows in (encoder_rows, predictor_rows)]
        map_grads = [torch.zeros_like(values) for values in (self.linear.weight, self.linear.bias)]
        hidden_grad = torch.empty_like(work.hidden)
        with threads_of_torch():
            for part in work.parts:
                hidden = work.hidden_of(part)
                grad = work.merged_gradient(part, hidden, kept, by_CN[:, part])
                torch.mm(grad, work.weight, out=hidden_grad[: len(grad)])
                arrays = (values.numpy() for values in (hidden_grad, hidden, *row_grads))
                _add_row_sums(*work.rows_of(part), *arrays, torch.get_num_threads())
                if self.trained[0]:
                    map_grads[0].addmm_(grad.T, hidden)
                if self.trained[1]:
                    map_grads[1] += grad.sum(0)
        return [*row_grads, *(grad for grad, trained in zip(map_grads, self.trained) if trained)]


class Exponentials(NamedTuple):
    """exp(z − its highest) of nodes (n,V′), and its sum over V (n,)."""

    values_NV: Tensor
    total_N: Tensor

    @classmethod
    def empty(cls, nodes: int, width: int) -> Exponentials:
        """Room for them."""
        values_NV = np.empty((nodes, width), np.float32)  # in huge pages, which torch's are not
        return cls(torch.from_numpy(values_NV), torch.empty(nodes, **FLOATS))

    def of(self, part: slice) -> Exponentials:
        """Those of some nodes."""
        return Exponentials(self.values_NV[part], self.total_N[part])


class Workspace:
    """The buffers that all slices use in turn, and what is the same for all.

    rows: of encoder and predictor, see `prepared`. bias: (V′,), b and lowest logits, V′ a multiple of `ALIGNMENT`.
    hidden: (n,J). room: for logits without the bias, and what is made of them.
    Raises ValueError where rows are not as wide as the map's input, or a label is none of its outputs.
    """

    def __init__(
        self, linear: nn.Linear, chunk_nodes: int, index: PackedIndex, encoder_rows: Tensor, predictor_rows: Tensor
    ) -> None:
        outputs, width = linear.weight.shape
        if not encoder_rows.shape[1] == predictor_rows.shape[1] == width:
            raise ValueError(
                f"rows of {encoder_rows.shape[1]} and {predictor_rows.shape[1]}, but the joiner takes {width}"
            )
        if (index.target_N >= outputs).any():
            raise ValueError(f"a label beyond the {outputs} outputs of the joiner")
        self.index, self.target_N = index, index.target_N.numpy()
        self.rows = *prepared(encoder_rows), *prepared(predictor_rows)
        self.weight = linear.weight.detach()
        padding = -outputs % ALIGNMENT
        self.bias = nn.functional.pad(linear.bias.detach(), (0, padding), value=LOWEST_LOGIT).numpy()
        self.parts = list(slices(len(self.target_N), chunk_nodes))
        most = max((part.stop - part.start for part in self.parts), default=0)
        self.hidden, self.room = torch.empty(most, width, **FLOATS), Exponentials.empty(most, outputs + padding)
        self.place_N = np.arange(most)

    def rows_of(self, part: slice) -> tuple[Array, Array]:
        """Encoder row and predictor row of each of the nodes `part`."""
        return self.index.encoder_row_N[part].numpy(), self.index.predictor_row_N[part].numpy()

    def room_for(self, part: slice) -> Exponentials:
        """Room for as many nodes."""
        return self.room.of(slice(part.stop - part.start))

    def hidden_of(self, part: slice) -> Tensor:
        """Hidden values (n,J) of the nodes `part`."""
        hidden = self.hidden[: part.stop - part.start]
        _hidden(*self.rows, *self.rows_of(part), hidden.numpy())
        return hidden

    def evaluate(self, part: slice, hidden: Tensor, room: Exponentials, log_probs_CN: Tensor) -> None:
        """Fill `room` and log_probs_CN (2,n) for the nodes `part`."""
        torch.mm(hidden, self.weight.T, out=room.values_NV[:, : len(self.weight)])
        exponentials, total = room.values_NV.numpy(), room.total_N.numpy()
        _arcs(exponentials, len(self.weight), self.bias, self.target_N[part], *log_probs_CN.numpy(), total)

    def merged_gradient(self, part: slice, hidden: Tensor, kept: Exponentials | None, by_CN: Tensor) -> Tensor:
        """∂L/∂z (n,V) of the nodes `part`, from exponentials of all nodes, or from hidden values (n,J)."""
        room, place_N = self.room_for(part), self.index.node_N[part].numpy()
        if kept is None:
            kept, place_N = room, self.place_N[: len(place_N)]
            self.evaluate(part, hidden, room, torch.empty_like(by_CN))
        of_nodes = self.target_N[part], *by_CN.numpy()
        _merged_gradient(kept.values_NV.numpy(), kept.total_N.numpy(), place_N, *of_nodes, room.values_NV.numpy())
        return room.values_NV[:, : len(self.weight)]


def prepared(rows: Tensor) -> tuple[Array, Array, Array]:
    """Rows e (R,J), exp(2e), and where that is moderate (R,)."""
    rows_RJ = rows.detach().float().contiguous().numpy()
    exponentials_RJ, moderate_R = np.empty_like(rows_RJ), np.empty(len(rows_RJ), np.bool_)
    with threads_of_torch():
        _prepare(rows_RJ, exponentials_RJ, moderate_R)
    return rows_RJ, exponentials_RJ, moderate_R
