"""Predictor, joiner and arcs, compiled: what searches have of a node.

Each sum has the same order in whatever lane and beside whatever it is made, so results do not depend on what is
evaluated together to the last bit. Arrays are those of numpy.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from asr.ops.compiled import compiled

Array = np.ndarray
Tables = tuple[tuple[Array, Array], ...]  # of each scorer: what it adds to labels, and where these lead, by state

LANES = 4  # as many rows as `linear` has sums: the weights are read once for all of them
NEXT_LABEL, ZERO, NOTHING = -1, -2, -3  # columns of an arc's choices that are none of the joiner's
CONTEXTS = 512  # of labels, of which the predictor's output is kept
UNSEEN = -1  # of a scorer's table: where a label leads is not known yet

_SHIFT = 1.5 * 2**52  # what is added to a number to round it to an integer, which is then in its lowest bits
_LN2 = math.log(2)
_TAYLOR = tuple(1 / math.factorial(n) for n in range(9, -1, -1))  # of e^x up to |x| = ln(2)/2: to 1e-11


class Weights(NamedTuple):
    """Of predictor and joiner. by_place_CVD: see `StatelessPredictor.by_place`; the others are of linear maps."""

    by_place_CVD: Array
    predictor_JD: Array
    predictor_J: Array
    joiner_KJ: Array
    joiner_K: Array


class Arcs(NamedTuple):
    """A set of arcs: which outputs each has a choice of, and of which distributions these are.

    begin_H, end_H: the outputs of each distribution, a softmax; zero_H: whether it has one more, which is always 0.
    column_AC, head_AC: output and distribution of each choice; NEXT_LABEL, ZERO, or NOTHING where there is no choice.
    frames_A, emits_A: how far each arc leads, and whether it emits a label. labels: where their outputs end.
    """

    begin_H: Array
    end_H: Array
    zero_H: Array
    column_AC: Array
    head_AC: Array
    frames_A: Array
    emits_A: Array
    labels: int


class Contexts(NamedTuple):
    """Contexts of labels, each with the predictor's output, and when it was last asked for."""

    context_PC: Array
    predicted_PJ: Array
    used_P: Array


class Nodes(NamedTuple):
    """Room for N nodes that are evaluated together, and for `LANES` rows of what is on the way there.

    row_N, frame_N, context_NC: utterance, frame and last labels of each. place_N: in `Contexts`; new_N: of those that
    are new there. logits_NK; weight_NA: log-weights of arcs, without what the label itself adds, its logit.
    embedded_LD, predicted_LJ: the predictor's output before and after its projection. hidden_LJ: the joiner's.
    """

    row_N: Array
    frame_N: Array
    context_NC: Array
    place_N: Array
    new_N: Array
    logits_NK: Array
    weight_NA: Array
    norm_H: Array
    embedded_LD: Array
    predicted_LJ: Array
    hidden_LJ: Array


@compiled(fastmath=("contract",))
def _exp(x: float) -> float:
    """e^x, to 1e-11 of it, by operations of which LLVM makes vectors, as it does not of calls."""
    x = min(max(x, -700.0), 700.0)
    shifted = x / _LN2 + _SHIFT
    rest = x - (shifted - _SHIFT) * _LN2
    value = 0.0
    for coefficient in _TAYLOR:
        value = value * rest + coefficient
    return value * np.int64((np.float64(shifted).view(np.int64) + 1023) << 52).view(np.float64)


@compiled()
def hidden(encoder_J: Array, predictor_J: Array, hidden_J: Array) -> None:
    """tanh(encoder + predictor)."""
    for j in range(len(hidden_J)):
        hidden_J[j] = 1 - 2 / (1 + _exp(2.0 * (encoder_J[j] + predictor_J[j])))


@compiled(fastmath=("reassoc", "contract", "nsz"))
def linear(rows_LI: Array, weight_OI: Array, bias_O: Array, out_LO: Array) -> None:
    """A linear map of all lanes."""
    row0, row1, row2, row3 = rows_LI[0], rows_LI[1], rows_LI[2], rows_LI[3]
    for o in range(len(bias_O)):
        weight = weight_OI[o]
        sum0 = sum1 = sum2 = sum3 = weight.dtype.type(0)
        for i in range(len(weight)):
            sum0 += weight[i] * row0[i]
            sum1 += weight[i] * row1[i]
            sum2 += weight[i] * row2[i]
            sum3 += weight[i] * row3[i]
        out_LO[0, o] = bias_O[o] + sum0
        out_LO[1, o] = bias_O[o] + sum1
        out_LO[2, o] = bias_O[o] + sum2
        out_LO[3, o] = bias_O[o] + sum3


@compiled()
def embed(by_place_CVD: Array, context_C: Array, embedded_D: Array) -> None:
    """The predictor's output before its projection."""
    for d in range(len(embedded_D)):
        value = by_place_CVD[0, context_C[0], d]
        for place in range(1, len(context_C)):
            value += by_place_CVD[place, context_C[place], d]
        embedded_D[d] = max(value, 0)


@compiled()
def normaliser(logits_K: Array, begin: int, end: int, zero: bool) -> float:
    """Logarithm of the sum of e^logit over a distribution's outputs."""
    most = logits_K[begin]
    for k in range(begin + 1, end):
        most = max(most, logits_K[k])
    if zero:
        most = max(most, 0)
    total = _exp(np.float64(-most)) if zero else 0.0
    for k in range(begin, end):
        total += _exp(np.float64(logits_K[k] - most))
    return most + math.log(total)


@compiled()
def weigh(arcs: Arcs, logits_K: Array, norm_H: Array, token: int, weight_A: Array) -> None:
    """Log-weights of the arcs of a node whose label is `token`."""
    for a in range(len(weight_A)):
        weight_A[a] = 0
        for c in range(arcs.column_AC.shape[1]):
            column = token if arcs.column_AC[a, c] == NEXT_LABEL else arcs.column_AC[a, c]
            if column != NOTHING:
                weight_A[a] += (logits_K[column] if column != ZERO else 0) - norm_H[arcs.head_AC[a, c]]


@compiled()
def added(tables: Tables, state_S: Array, label: int) -> float:
    """What scorers add to a label."""
    total = 0.0
    for s in range(len(tables)):
        total += tables[s][0][state_S[s], label]
    return total


@compiled()
def logadd(a: float, b: float) -> float:
    """log(e^a + e^b)."""
    if a < b:
        a, b = b, a
    return a if b == -math.inf else a + math.log1p(math.exp(b - a))


@compiled()
def extended_identity(identity: int, token: int) -> int:
    """As `asr.decode.beam.extended_identity`."""
    mixed = (identity ^ (identity >> 29)) * np.int64(0x1B873593CC9E2D51)
    mixed += (token + 1) * np.int64(0x2545F4914F6CDD1D)
    return mixed ^ (mixed >> 32)


@compiled()
def room_for_contexts(weights: Weights, context_size: int, nodes: int) -> Contexts:
    """Room for the last contexts of labels, for more than there are nodes at a time; a power of 2."""
    places = CONTEXTS
    while places < 4 * nodes:
        places *= 2
    predicted_PJ = np.empty((places, len(weights.predictor_J)), weights.predictor_JD.dtype)
    return Contexts(np.empty((places, context_size), np.int64), predicted_PJ, np.zeros(places, np.int64))


@compiled()
def room_for_nodes(weights: Weights, arcs: Arcs, context_size: int, nodes: int) -> Nodes:
    """Room for some nodes at least."""
    nodes = (nodes + LANES - 1) // LANES * LANES
    outputs, joiner_dim = weights.joiner_KJ.shape
    dtype = weights.joiner_KJ.dtype
    return Nodes(
        np.empty(nodes, np.int64),
        np.empty(nodes, np.int64),
        np.empty((nodes, context_size), np.int64),
        np.empty(nodes, np.int64),
        np.empty(nodes, np.int64),
        np.empty((nodes, outputs)),
        np.empty((nodes, len(arcs.frames_A))),
        np.empty(len(arcs.begin_H)),
        np.zeros((LANES, weights.predictor_JD.shape[1]), dtype),
        np.zeros((LANES, joiner_dim), dtype),
        np.zeros((LANES, joiner_dim), dtype),
    )


@compiled()
def _place_of(contexts: Contexts, context_C: Array, now: int) -> tuple[int, bool]:
    """The place of a context, and whether it is new there: in that of another, but of none that is used now, too."""
    last = len(contexts.used_P) - 1
    mixed = np.int64(0)
    for label in context_C:
        mixed = extended_identity(mixed, label)
    place = mixed & last
    while True:
        same = contexts.used_P[place] > 0
        for c in range(len(context_C)):
            same = same and contexts.context_PC[place, c] == context_C[c]
        if same or contexts.used_P[place] < now:
            contexts.used_P[place] = now
            for c in range(len(context_C)):
                contexts.context_PC[place, c] = context_C[c]
            return place, not same
        place = (place + 1) & last


@compiled()
def _predict(weights: Weights, contexts: Contexts, nodes: Nodes, count: int, now: int) -> None:
    """Find or make the predictor's output of nodes."""
    new = 0
    for n in range(count):
        nodes.place_N[n], is_new = _place_of(contexts, nodes.context_NC[n], now)
        if is_new:
            nodes.new_N[new] = nodes.place_N[n]
            new += 1
    for begin in range(0, new, LANES):
        lanes = min(LANES, new - begin)
        for lane in range(lanes):
            embed(weights.by_place_CVD, contexts.context_PC[nodes.new_N[begin + lane]], nodes.embedded_LD[lane])
        linear(nodes.embedded_LD, weights.predictor_JD, weights.predictor_J, nodes.predicted_LJ)
        for lane in range(lanes):
            contexts.predicted_PJ[nodes.new_N[begin + lane]] = nodes.predicted_LJ[lane]


@compiled()
def evaluate(
    weights: Weights,
    arcs: Arcs,
    contexts: Contexts,
    rows_BTJ: Array,
    begin_B: Array,
    nodes: Nodes,
    count: int,
    now: int,
) -> None:
    """The logits of nodes, and the log-weights of their arcs. rows_BTJ: encoder output of the frames from begin_B on.
    now: a number, greater each time.
    """
    _predict(weights, contexts, nodes, count, now)
    for begin in range(0, count, LANES):
        for n in range(begin, min(begin + LANES, count)):
            row_J = rows_BTJ[nodes.row_N[n], nodes.frame_N[n] - begin_B[nodes.row_N[n]]]
            hidden(row_J, contexts.predicted_PJ[nodes.place_N[n]], nodes.hidden_LJ[n - begin])
        linear(nodes.hidden_LJ, weights.joiner_KJ, weights.joiner_K, nodes.logits_NK[begin : begin + LANES])
    for n in range(count):
        for h in range(len(nodes.norm_H)):
            nodes.norm_H[h] = normaliser(nodes.logits_NK[n], arcs.begin_H[h], arcs.end_H[h], arcs.zero_H[h])
        weigh(arcs, nodes.logits_NK[n], nodes.norm_H, ZERO, nodes.weight_NA[n])
