"""The path of greedy search, compiled: of several utterances at a time, but each as if it were alone.

`LANES` utterances go from node to node side by side, so that the joiner's weights are read once for all of them. What
is found does not depend on the batch to the last bit. Arrays are those of numpy; names are as in `asr.decode.greedy`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from asr.decode.node_kernel import LANES, UNSEEN, Arcs, Tables, Weights, added, embed, hidden, linear, normaliser, weigh
from asr.ops.compiled import compiled

Array = np.ndarray


class Paths(NamedTuple):
    """Where utterances stand: see `asr.decode.greedy.GreedySession`. state_BS: of each scorer.

    joined_B: frames at which there was a node. count_B: how many labels this part has given. unseen_B: the label of the
    next node, where a scorer does not know yet where it leads; else 0.
    """

    context_BC: Array
    state_BS: Array
    score_B: Array
    frame_B: Array
    emitted_B: Array
    joined_B: Array
    count_B: Array
    unseen_B: Array


class Labels(NamedTuple):
    """What this part has given: token, frame and probability."""

    token_BN: Array
    frame_BN: Array
    confidence_BN: Array


class Lanes(NamedTuple):
    """What there is of each lane: the predictor's output before and after its projection, the joiner's, the logits."""

    embedded_LD: Array
    predicted_LJ: Array
    hidden_LJ: Array
    logits_LK: Array


@compiled()
def _likeliest_arc(weight_A: Array) -> int:
    best = 0
    for a in range(1, len(weight_A)):
        if weight_A[a] > weight_A[best]:
            best = a
    return best


@compiled()
def _likeliest_label(logits_K: Array, labels: int) -> int:
    best = 1
    for k in range(2, labels):
        if logits_K[k] > logits_K[best]:
            best = k
    return best


@compiled()
def _best_scored(tables: Tables, state_S: Array, logits_K: Array, labels: int) -> int:
    """The best label by the model and the scorers together."""
    best, most = 1, logits_K[1] + added(tables, state_S, 1)
    for k in range(2, labels):
        value = logits_K[k] + added(tables, state_S, k)
        if value > most:
            best, most = k, value
    return best


@compiled()
def _follow(tables: Tables, paths: Paths, b: int, label: int) -> bool:
    """Take scorers one label further; whether all of them know where it leads, or none moves."""
    state_S = paths.state_BS[b]
    for s in range(len(tables)):
        if tables[s][1][state_S[s], label] == UNSEEN:
            paths.unseen_B[b] = label
            return False
    paths.score_B[b] += added(tables, state_S, label)
    for s in range(len(tables)):
        state_S[s] = tables[s][1][state_S[s], label]
    return True


@compiled()
def _emit(arcs: Arcs, weight_A: Array, paths: Paths, labels: Labels, b: int, label: int) -> None:
    """Keep a label, with the probability of all arcs that emit it."""
    confidence = 0.0
    for a in range(len(weight_A)):
        if arcs.emits_A[a]:
            confidence += math.exp(weight_A[a])
    n = paths.count_B[b]
    labels.token_BN[b, n] = label
    labels.frame_BN[b, n] = paths.frame_B[b]
    labels.confidence_BN[b, n] = min(confidence, 1.0)
    paths.count_B[b] = n + 1
    context_C = paths.context_BC[b]
    for place in range(len(context_C) - 1):
        context_C[place] = context_C[place + 1]
    context_C[-1] = label


@compiled()
def _step(
    arcs: Arcs,
    tables: Tables,
    limit: int,
    logits_K: Array,
    norm_H: Array,
    weight_A: Array,
    paths: Paths,
    labels: Labels,
    b: int,
) -> bool:
    """Go along the likeliest arc of a node; whether that emits a label."""
    for h in range(len(norm_H)):
        norm_H[h] = normaliser(logits_K, arcs.begin_H[h], arcs.end_H[h], arcs.zero_H[h])
    token = _likeliest_label(logits_K, arcs.labels)
    weigh(arcs, logits_K, norm_H, token, weight_A)
    arc = _likeliest_arc(weight_A)
    emits = arcs.emits_A[arc]
    if emits:
        token = _best_scored(tables, paths.state_BS[b], logits_K, arcs.labels)
        if not _follow(tables, paths, b, token):
            return False
        weigh(arcs, logits_K, norm_H, token, weight_A)
        _emit(arcs, weight_A, paths, labels, b, token)
    paths.score_B[b] += weight_A[arc]
    paths.joined_B[b] += paths.emitted_B[b] == 0
    _move(paths, b, emits, arcs.frames_A[arc], limit)
    return bool(emits)


@compiled()
def _move(paths: Paths, b: int, emits: bool, frames: int, limit: int) -> None:
    """To the next node; in a frame that is full to the next frame."""
    emitted = paths.emitted_B[b] + emits
    if emitted >= limit:
        frames = max(frames, 1)
    paths.frame_B[b] += frames
    paths.emitted_B[b] = 0 if frames else emitted


@compiled()
def _has_node(paths: Paths, room: int, end_B: Array, b: int) -> bool:
    """Whether an utterance stands at a node of this part, and can leave it."""
    return bool(paths.frame_B[b] < end_B[b] and paths.unseen_B[b] == 0 and paths.count_B[b] < room)


@compiled()
def _fill(lanes: Array, begin: int, step: int, paths: Paths, room: int, end_B: Array) -> tuple[int, bool, bool]:
    """Give lanes that have no utterance with a node one that has: every `step`-th, from `begin` on. −1: there is none.

    Which would be the next one then, whether a lane has one, and whether a lane has another one than before.
    """
    busy = changed = False
    for lane in range(LANES):
        if lanes[lane] < 0 or not _has_node(paths, room, end_B, lanes[lane]):
            while begin < len(end_B) and not _has_node(paths, room, end_B, begin):
                begin += step
            lanes[lane] = begin if begin < len(end_B) else -1
            changed = changed or begin < len(end_B)
            begin += step
        busy = busy or lanes[lane] >= 0
    return begin, busy, changed


@compiled()
def _predict(weights: Weights, paths: Paths, lanes: Array, buffers: Lanes) -> None:
    """The predictor's output of all lanes."""
    for lane in range(LANES):
        if lanes[lane] >= 0:
            embed(weights.by_place_CVD, paths.context_BC[lanes[lane]], buffers.embedded_LD[lane])
    linear(buffers.embedded_LD, weights.predictor_JD, weights.predictor_J, buffers.predicted_LJ)


@compiled()
def _join(weights: Weights, rows_BTJ: Array, begin_B: Array, paths: Paths, lanes: Array, buffers: Lanes) -> None:
    """The logits of all lanes' nodes."""
    for lane in range(LANES):
        b = lanes[lane]
        if b >= 0:
            row_J = rows_BTJ[b, paths.frame_B[b] - begin_B[b]]
            hidden(row_J, buffers.predicted_LJ[lane], buffers.hidden_LJ[lane])
    linear(buffers.hidden_LJ, weights.joiner_KJ, weights.joiner_K, buffers.logits_LK)


@compiled()
def _buffers(weights: Weights) -> Lanes:
    """Room for what there is of each lane."""
    outputs, joiner_dim = weights.joiner_KJ.shape
    dtype = weights.joiner_KJ.dtype
    return Lanes(
        np.zeros((LANES, weights.predictor_JD.shape[1]), dtype),
        np.zeros((LANES, joiner_dim), dtype),
        np.zeros((LANES, joiner_dim), dtype),
        np.zeros((LANES, outputs)),
    )


@compiled()
def search(
    weights: Weights,
    arcs: Arcs,
    tables: Tables,
    limit: int,
    rows_BTJ: Array,
    begin_B: Array,
    end_B: Array,
    paths: Paths,
    labels: Labels,
    first: int,
    step: int,
) -> None:
    """Follow the paths of every `step`-th utterance, from the `first` on: as far as there are rows and room for labels,
    or to a label of which a scorer does not know where it leads.

    rows_BTJ: encoder output of the frames from begin_B on, of which end_B are the ends. tables: what each scorer adds
    to labels, and where these lead, by state.
    """
    room = labels.token_BN.shape[1]
    buffers, lanes = _buffers(weights), np.full(LANES, -1)
    norm_H, weight_A = np.empty(len(arcs.begin_H)), np.empty(len(arcs.frames_A))
    following, busy, changed = _fill(lanes, first, step, paths, room, end_B)
    while busy:
        if changed:
            _predict(weights, paths, lanes, buffers)
        _join(weights, rows_BTJ, begin_B, paths, lanes, buffers)
        changed = False
        for lane in range(LANES):
            if lanes[lane] >= 0:
                logits_K = buffers.logits_LK[lane]
                emits = _step(arcs, tables, limit, logits_K, norm_H, weight_A, paths, labels, lanes[lane])
                changed = changed or emits
        following, busy, filled = _fill(lanes, following, step, paths, room, end_B)
        changed = changed or filled
