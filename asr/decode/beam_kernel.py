"""Beam search, compiled: of several utterances at a time, but each as if it were alone.

The nodes of some readings of different utterances, `NODES` or a few more, are evaluated together, so that the joiner's
weights are read once for several. What is found does not depend on the batch to the last bit. Arrays are those of
numpy; names are as in `asr.decode.beam`, but that a hypothesis is a reading here, for short.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from asr.decode.node_kernel import (
    LANES,
    UNSEEN,
    Arcs,
    Nodes,
    Tables,
    Weights,
    added,
    evaluate,
    extended_identity,
    logadd,
    room_for_contexts,
    room_for_nodes,
)
from asr.ops.compiled import compiled

Array = np.ndarray

NODES = 24  # that are evaluated together
AT_ONCE = 32  # utterances of which these nodes are
FRAME, SYMBOLS, JOINED, WAITS, HERE, LEFT, LINKS = range(7)  # columns of an utterance
ON_ITS_WAY, AT_UNSEEN, WITHOUT_PLACE, WITHOUT_LINK = range(4)  # for what an utterance waits: scorers; room
ADDED, ALIGNED = range(2)  # columns of a reading's scores
IDENTITY, LINK, LABEL, CONTEXT = range(4)  # columns of a reading's numbers
PARENT, TOKEN, EMITTED = range(3)  # columns of a link


class Limits(NamedTuple):
    """See `BeamSearch`. stays: whether a label may stay in its frame."""

    beam: int
    margin: float
    symbols: int
    stays: bool


class State(NamedTuple):
    """Where B utterances are.

    walk_BW: frame to be read; labels of it so far; frames at which there was a node; what is waited for; how many
    readings are at the frame, how many have left it, and how many links there are.

    Of R places for readings the first `beam` are for those at the frame, as many for what becomes of them, and the
    others for those that have left it. score_BRE: what scorers add, and the log-probability of the alignments that
    stand at the frame, at the next, and so on; −inf where there is none. number_BRN: a number for the sequence of
    labels; the place of the last one's link, −1 at first; the last label if scorers have not gone on with it, else 0;
    the last labels; the state of each scorer.

    link_BLN, log_prob_BL: labels by which readings were extended: place of the one before, label, frame; its
    log-probability.
    """

    walk_BW: Array
    score_BRE: Array
    number_BRN: Array
    link_BLN: Array
    log_prob_BL: Array


class Best(NamedTuple):
    """The best labels for readings to be extended by, in order: total; node, reading and label."""

    total_K: Array
    number_KN: Array


@compiled(inline=True)
def _sum(state: State, b: int, r: int) -> float:
    """Log-probability of all alignments of a reading."""
    total = state.score_BRE[b, r, ALIGNED]
    for e in range(ALIGNED + 1, state.score_BRE.shape[2]):
        if state.score_BRE[b, r, e] > -math.inf:
            total = logadd(total, state.score_BRE[b, r, e])
    return total


@compiled(inline=True)
def _copy(state: State, b: int, r: int, to: int) -> None:
    """Put a reading in another place, too."""
    for e in range(state.score_BRE.shape[2]):
        state.score_BRE[b, to, e] = state.score_BRE[b, r, e]
    for n in range(state.number_BRN.shape[2]):
        state.number_BRN[b, to, n] = state.number_BRN[b, r, n]


@compiled(inline=True)
def _pass_on(state: State, b: int, r: int) -> None:
    """Take alignments from the frame to be read to the next; none stands in it any more."""
    last = state.score_BRE.shape[2] - 1
    for e in range(ALIGNED, last):
        state.score_BRE[b, r, e] = state.score_BRE[b, r, e + 1]
    state.score_BRE[b, r, last] = -math.inf


@compiled(inline=True)
def _best_score(state: State, b: int, first: int, count: int) -> float:
    """The score of the best alignment of some readings."""
    most = -math.inf
    for r in range(first, first + count):
        for e in range(ALIGNED, state.score_BRE.shape[2]):
            most = max(most, state.score_BRE[b, r, e] + state.score_BRE[b, r, ADDED])
    return most


@compiled(inline=True)
def _give_up(state: State, b: int, r: int, bound: float) -> bool:
    """Give up alignments that are below the bound; whether any is left."""
    left = False
    for e in range(ALIGNED, state.score_BRE.shape[2]):
        if state.score_BRE[b, r, e] + state.score_BRE[b, r, ADDED] >= bound:
            left = left or state.score_BRE[b, r, e] > -math.inf
        else:
            state.score_BRE[b, r, e] = -math.inf
    return left


@compiled(inline=True)
def _standing(state: State, b: int) -> int:
    """How many readings have a node in the frame."""
    nodes = 0
    for r in range(state.walk_BW[b, HERE]):
        nodes += state.score_BRE[b, r, ALIGNED] > -math.inf
    return nodes


@compiled(inline=True)
def _follow(tables: Tables, state: State, b: int) -> bool:
    """Take scorers over the last labels; whether all of them know where these lead."""
    first = state.number_BRN.shape[2] - len(tables)
    for r in range(state.walk_BW[b, HERE]):
        label = state.number_BRN[b, r, LABEL]
        if label > 0:
            for s in range(len(tables)):
                if tables[s][1][state.number_BRN[b, r, first + s], label] == UNSEEN:
                    return False
            for s in range(len(tables)):
                state.number_BRN[b, r, first + s] = tables[s][1][state.number_BRN[b, r, first + s], label]
            state.number_BRN[b, r, LABEL] = 0
    return True


@compiled(inline=True)
def _can_go_on(limits: Limits, tables: Tables, state: State, b: int, end: int) -> bool:
    """Whether an utterance has nodes before a frame, and can leave them. Frames at which it has none are passed."""
    walk_W = state.walk_BW[b]
    if walk_W[WAITS] != ON_ITS_WAY:
        return False
    while walk_W[FRAME] < end and _standing(state, b) == 0:
        for r in range(walk_W[HERE]):
            _pass_on(state, b, r)
        walk_W[FRAME] += 1
    if walk_W[FRAME] >= end:
        return False
    if walk_W[LEFT] + 4 * limits.beam > state.score_BRE.shape[1]:
        walk_W[WAITS] = WITHOUT_PLACE
    elif walk_W[LINKS] + limits.beam > state.log_prob_BL.shape[1]:
        walk_W[WAITS] = WITHOUT_LINK
    elif not _follow(tables, state, b):
        walk_W[WAITS] = AT_UNSEEN
    return bool(walk_W[WAITS] == ON_ITS_WAY)


@compiled(inline=True)
def _onward(arcs: Arcs, nodes: Nodes, n: int) -> float:
    """Log-weight of all arcs of a node with a label together, without the label's own."""
    total = -math.inf
    for a in range(len(arcs.emits_A)):
        if arcs.emits_A[a]:
            total = logadd(total, nodes.weight_NA[n, a])
    return total


@compiled(inline=True)
def _after_blank(arcs: Arcs, nodes: Nodes, n: int, limits: Limits, state: State, b: int) -> None:
    """Put readings, the first node of which is `n`, beyond the frame: what stands in it takes a blank."""
    place = 2 * limits.beam + state.walk_BW[b, LEFT]
    for r in range(state.walk_BW[b, HERE]):
        stands = state.score_BRE[b, r, ALIGNED]
        _copy(state, b, r, place)
        _pass_on(state, b, place)
        if stands > -math.inf:
            for a in range(len(arcs.frames_A)):
                if not arcs.emits_A[a]:
                    e = ALIGNED + arcs.frames_A[a] - 1
                    state.score_BRE[b, place, e] = logadd(state.score_BRE[b, place, e], stands + nodes.weight_NA[n, a])
            n += 1
        place += 1
    state.walk_BW[b, LEFT] += state.walk_BW[b, HERE]


@compiled(inline=True)
def _insert(best: Best, count: int, total: float, n: int, r: int, label: int) -> int:
    """Put a label among the best, the last of which goes where there is no room; how many there are then."""
    place = min(count, len(best.total_K) - 1)
    while place > 0 and best.total_K[place - 1] < total:
        best.total_K[place] = best.total_K[place - 1]
        best.number_KN[place] = best.number_KN[place - 1]
        place -= 1
    best.total_K[place] = total
    best.number_KN[place, 0], best.number_KN[place, 1], best.number_KN[place, 2] = n, r, label
    return min(count + 1, len(best.total_K))


@compiled(inline=True)
def _score_labels(tables: Tables, state: State, b: int, r: int, logits_K: Array, scored_V: Array) -> None:
    """The logit of each label, and what scorers add to it."""
    for label in range(len(scored_V)):
        scored_V[label] = logits_K[label]
    first = state.number_BRN.shape[2] - len(tables)
    for s in range(len(tables)):
        added_V = tables[s][0][state.number_BRN[b, r, first + s]]
        for label in range(len(scored_V)):
            scored_V[label] += added_V[label]


@compiled(inline=True)
def _best_labels(
    arcs: Arcs, tables: Tables, nodes: Nodes, n: int, state: State, b: int, bound: float, best: Best, scored_V: Array
) -> int:
    """The best labels for readings, the first node of which is `n`, of those that reach the bound; how many."""
    count = 0
    for r in range(state.walk_BW[b, HERE]):
        if state.score_BRE[b, r, ALIGNED] > -math.inf:
            _score_labels(tables, state, b, r, nodes.logits_NK[n], scored_V)
            before = state.score_BRE[b, r, ALIGNED] + state.score_BRE[b, r, ADDED] + _onward(arcs, nodes, n)
            for label in range(1, len(scored_V)):
                total = before + scored_V[label]
                if total >= bound:
                    count = _insert(best, count, total, n, r, label)
                    if count == len(best.total_K):
                        bound = max(bound, best.total_K[-1])
            n += 1
    return count


@compiled(inline=True)
def _extend(
    arcs: Arcs, tables: Tables, nodes: Nodes, n: int, state: State, b: int, r: int, label: int, to: int
) -> None:
    """Put a reading with one more label in another place, and keep the label. The reading's node is `n`."""
    stands, logit = state.score_BRE[b, r, ALIGNED], nodes.logits_NK[n, label]
    _copy(state, b, r, to)
    score_E, number_N = state.score_BRE[b, to], state.number_BRN[b, to]
    first = len(number_N) - len(tables)
    score_E[ADDED] += added(tables, number_N[first:], label)
    score_E[ALIGNED:] = -math.inf
    for a in range(len(arcs.frames_A)):
        if arcs.emits_A[a]:
            score_E[ALIGNED + arcs.frames_A[a]] = stands + logit + nodes.weight_NA[n, a]
    number_N[IDENTITY] = extended_identity(number_N[IDENTITY], label)
    number_N[LABEL] = label
    for c in range(CONTEXT, first - 1):
        number_N[c] = number_N[c + 1]
    number_N[first - 1] = label


@compiled(inline=True)
def _link(state: State, b: int, r: int, log_prob: float) -> None:
    """Keep the last label of a reading."""
    number_N, walk_W = state.number_BRN[b, r], state.walk_BW[b]
    link_N = state.link_BLN[b, walk_W[LINKS]]
    link_N[PARENT], link_N[TOKEN], link_N[EMITTED] = number_N[LINK], number_N[LABEL], walk_W[FRAME]
    state.log_prob_BL[b, walk_W[LINKS]] = log_prob
    number_N[LINK] = walk_W[LINKS]
    walk_W[LINKS] += 1


@compiled(inline=True)
def _extend_to(
    arcs: Arcs,
    tables: Tables,
    limits: Limits,
    nodes: Nodes,
    state: State,
    b: int,
    best: Best,
    count: int,
    first: int,
    most: float,
) -> int:
    """Put readings with the best labels in places from the `first` on, but for alignments too far below the best of
    them or `most`. How many readings these are.
    """
    for i in range(count):
        n, r, label = best.number_KN[i]
        _extend(arcs, tables, nodes, n, state, b, r, label, first + i)
    bound = max(most, _best_score(state, b, first, count)) - limits.margin
    kept = 0
    for i in range(count):
        if _give_up(state, b, first + i, bound):
            n, _, label = best.number_KN[i]
            _copy(state, b, first + i, first + kept)
            _link(state, b, first + kept, nodes.logits_NK[n, label] + _onward(arcs, nodes, n))
            kept += 1
    return kept


@compiled(inline=True)
def _join(state: State, b: int, first: int, count: int, total_R: Array) -> int:
    """Make one of readings of the same labels, with the path of the likelier. How many there are then, with totals."""
    joined = 0
    for i in range(first, first + count):
        mass, j = _sum(state, b, i), 0
        while j < joined and state.number_BRN[b, first + j, IDENTITY] != state.number_BRN[b, i, IDENTITY]:
            j += 1
        if j == joined:
            _copy(state, b, i, first + j)
            total_R[j] = mass
            joined += 1
            continue
        if mass > total_R[j]:
            state.number_BRN[b, first + j, LINK] = state.number_BRN[b, i, LINK]
            total_R[j] = mass
        for e in range(ALIGNED, state.score_BRE.shape[2]):
            state.score_BRE[b, first + j, e] = logadd(state.score_BRE[b, first + j, e], state.score_BRE[b, i, e])
    for j in range(joined):
        total_R[j] = _sum(state, b, first + j) + state.score_BRE[b, first + j, ADDED]
    return joined


@compiled(inline=True)
def _to_next_frame(limits: Limits, state: State, b: int, total_R: Array) -> None:
    """Go on with the best of the readings that have left a frame."""
    walk_W, first, taken = state.walk_BW[b], 2 * limits.beam, 0
    joined = _join(state, b, first, walk_W[LEFT], total_R)
    count = min(limits.beam, joined)
    for r in range(count):
        best = 0
        for j in range(1, joined):
            if total_R[j] > total_R[best]:
                best = j
        total_R[best] = -math.inf
        _copy(state, b, first + best, r)
    bound = _best_score(state, b, 0, count) - limits.margin
    for r in range(count):
        if _give_up(state, b, r, bound):
            _copy(state, b, r, taken)
            taken += 1
    walk_W[HERE], walk_W[LEFT], walk_W[SYMBOLS] = taken, 0, 0
    walk_W[FRAME] += 1


@compiled(inline=True)
def _step(
    arcs: Arcs,
    tables: Tables,
    limits: Limits,
    nodes: Nodes,
    n: int,
    state: State,
    b: int,
    best: Best,
    scored_V: Array,
    total_R: Array,
) -> None:
    """Leave the nodes of an utterance, the first of which is `n`."""
    walk_W, beyond = state.walk_BW[b], 2 * limits.beam
    walk_W[JOINED] += walk_W[SYMBOLS] == 0
    _after_blank(arcs, nodes, n, limits, state, b)
    if not limits.stays or walk_W[SYMBOLS] < limits.symbols:
        most = _best_score(state, b, beyond, walk_W[LEFT])
        count = _best_labels(arcs, tables, nodes, n, state, b, most - limits.margin, best, scored_V)
        first = limits.beam if limits.stays else beyond + walk_W[LEFT]
        kept = _extend_to(arcs, tables, limits, nodes, state, b, best, count, first, most) if count else 0
        for i in range(kept):
            if limits.stays:
                _copy(state, b, first + i, i)
            else:
                _pass_on(state, b, first + i)
        if limits.stays:
            walk_W[HERE] = kept
            walk_W[SYMBOLS] += 1
            if _standing(state, b) > 0:
                return
            _after_blank(arcs, nodes, n, limits, state, b)
        else:
            walk_W[LEFT] += kept
    _to_next_frame(limits, state, b, total_R)


@compiled(inline=True)
def _take_in(limits: Limits, tables: Tables, state: State, end_B: Array, at_once_U: Array, queue: Array, u: int) -> int:
    """The utterance in a place of those at once, or the next one in the queue, that can go on; or −1."""
    b = at_once_U[u]
    while b < 0 or not _can_go_on(limits, tables, state, b, end_B[b]):
        b = queue[0]
        if b >= len(end_B):
            b = -1
            break
        queue[0] += queue[1]
    at_once_U[u] = b
    return b


@compiled(inline=True)
def _add_nodes(state: State, nodes: Nodes, count: int, b: int) -> int:
    """Add the nodes of an utterance to those that are to be evaluated; how many there are then."""
    for r in range(state.walk_BW[b, HERE]):
        if state.score_BRE[b, r, ALIGNED] > -math.inf:
            nodes.row_N[count], nodes.frame_N[count] = b, state.walk_BW[b, FRAME]
            for c in range(nodes.context_NC.shape[1]):
                nodes.context_NC[count, c] = state.number_BRN[b, r, CONTEXT + c]
            count += 1
    return count


@compiled()
def search(
    weights: Weights,
    arcs: Arcs,
    tables: Tables,
    limits: Limits,
    rows_BTJ: Array,
    begin_B: Array,
    end_B: Array,
    state: State,
    first: int,
    step: int,
) -> None:
    """Follow the readings of every `step`-th utterance, from the `first` on, to its end or until it waits.

    rows_BTJ: encoder output of the frames from begin_B on, of which end_B are the ends.
    """
    context_size = state.number_BRN.shape[2] - len(tables) - CONTEXT
    most = NODES + max(limits.beam, LANES)
    contexts, nodes = room_for_contexts(weights, context_size, most), room_for_nodes(weights, arcs, context_size, most)
    best = Best(np.empty(limits.beam), np.empty((limits.beam, 3), np.int64))
    scored_V, total_R = np.empty(arcs.labels), np.empty(state.score_BRE.shape[1])
    at_once_U, first_U, queue = np.full(AT_ONCE, -1), np.full(AT_ONCE, -1), np.array([first, step])
    turn = now = 0
    while True:
        count = 0
        first_U[:] = -1
        for _ in range(AT_ONCE):
            if count >= NODES and count % LANES == 0:
                break
            b = _take_in(limits, tables, state, end_B, at_once_U, queue, turn)
            if b >= 0 and count + state.walk_BW[b, HERE] > most:
                break
            if b >= 0:
                first_U[turn] = count
                count = _add_nodes(state, nodes, count, b)
            turn = (turn + 1) % AT_ONCE
        if count == 0:
            return
        now += 1
        evaluate(weights, arcs, contexts, rows_BTJ, begin_B, nodes, count, now)
        for u in range(AT_ONCE):
            if first_U[u] >= 0:
                _step(arcs, tables, limits, nodes, first_U[u], state, at_once_U[u], best, scored_V, total_R)
