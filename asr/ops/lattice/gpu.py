"""Forward-backward over any node set on a GPU: Triton, one program per utterance, sums in float64.

A program goes through the rows (frames) of its utterance one after the other, with the positions of a row side
by side. Arcs that stay in a row (the labels of the regular topology) are a recurrence in the log semiring,
x_k = logadd(x_{k−1} + a_k, b_k), which is associative: (a₁, b₁)·(a₂, b₂) = (a₁ + a₂, logadd(b₁ + a₂, b₂)). One scan
does the row.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from asr.nodes.base import Nodes
from asr.ops.launch import launching


@triton.jit
def _logadd(a, b):
    # Plain maximum and minimum drop a NaN, whose utterance would get a finite loss and gradients of NaN.
    high = tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)
    low = tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)
    return tl.where(low == -float("inf"), high, high + tl.log(1.0 + tl.exp(low - high)))


@triton.jit
def _then(a1, b1, a2, b2):
    return a1 + a2, _logadd(b1 + a2, b2)


@triton.jit
def _at(values, begin, within, count):
    """Values of nodes `within` a row of `count` nodes that begins at `begin`, float64; −inf where it has none."""
    return tl.load(values + begin + within, mask=(within >= 0) & (within < count), other=-float("inf")).to(tl.float64)


@triton.jit
def _forward(
    row_offsets, labels, first, offset, weights, edges, alpha, total, nodes,
    MOVES: tl.constexpr, CLIMBS: tl.constexpr, EDGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """α of every node, and log P."""
    b = tl.program_id(0)
    begin_row = tl.load(row_offsets + b)
    end = tl.load(row_offsets + b + 1)
    row = begin_row
    labels_b = tl.load(labels + b)
    log_p = tl.full((1,), -float("inf"), tl.float64)
    k = tl.arange(0, BLOCK)
    while row < end:
        begin = tl.load(offset + row)
        count = tl.load(offset + row + 1) - begin
        position = tl.load(first + row) + k
        a = tl.where((row == begin_row) & (position == 0), 0.0, -float("inf")).to(tl.float64)
        if EDGES:
            a = tl.where(position == 0, -tl.load(edges) * (row - begin_row), a)
        for arc in tl.static_range(len(MOVES)):
            if MOVES[arc][0] > 0:
                before = row - MOVES[arc][0]
                source = tl.where(k < count, position - MOVES[arc][1], -1)
                a = _logadd(a, _arriving(first, offset, weights + arc * nodes, alpha, begin_row, before, source))
        if CLIMBS >= 0:
            step = _at(weights + CLIMBS * nodes, begin, k - 1, count)
            _, a = tl.associative_scan((step, a), 0, _then)
        if EDGES:
            at_end = tl.max(tl.where((k < count) & (position == labels_b), a, -float("inf")), 0)
            log_p = _logadd(log_p, at_end - tl.load(edges) * (end - row))
        tl.store(alpha + begin + k, a, mask=k < count)
        tl.debug_barrier()  # rows to come read what other threads have written
        row += 1
    last = labels_b + tl.zeros((1,), tl.int64)
    for arc in tl.static_range(len(MOVES)):
        if MOVES[arc][0] > 0:
            before = end - MOVES[arc][0]
            source = last - MOVES[arc][1]
            log_p = _logadd(log_p, _arriving(first, offset, weights + arc * nodes, alpha, begin_row, before, source))
    tl.store(total + b + tl.arange(0, 1), log_p)


@triton.jit
def _arriving(first, offset, weights, alpha, begin_row, row, position):
    """α + w of the nodes at some positions of a row; −inf where the row, or a node, is none."""
    is_row = row >= begin_row
    begin = tl.load(offset + row, mask=is_row, other=0)
    count = tl.load(offset + row + 1, mask=is_row, other=0) - begin
    within = position - tl.load(first + row, mask=is_row, other=0)
    return _at(alpha, begin, within, count) + _at(weights, begin, within, count)


@triton.jit
def _backward(
    row_offsets, labels, first, offset, weights, edges, alpha, total, beta, by_arc, nodes,
    MOVES: tl.constexpr, CLIMBS: tl.constexpr, EDGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """β of every node, and the occupations of its arcs."""
    b = tl.program_id(0)
    begin_row = tl.load(row_offsets + b)
    end = tl.load(row_offsets + b + 1)
    row = end - 1
    log_p = tl.load(total + b)
    labels_b = tl.load(labels + b)
    k = tl.arange(0, BLOCK)
    while row >= begin_row:
        begin = tl.load(offset + row)
        count = tl.load(offset + row + 1) - begin
        position = tl.load(first + row) + k
        inside = k < count
        alpha_here = _at(alpha, begin, k, count)
        here = tl.full((BLOCK,), -float("inf"), tl.float64)
        if EDGES:
            here = tl.where(inside & (position == labels_b), -tl.load(edges) * (end - row), here)
        for arc in tl.static_range(len(MOVES)):
            if MOVES[arc][0] > 0:
                after = row + MOVES[arc][0]
                target = tl.where(inside, position + MOVES[arc][1], -1)
                rest = _rest(first, offset, beta, after, end, target)
                rest = tl.where((after == end) & (target == labels_b), 0.0, rest)
                via = rest + tl.where(rest == -float("inf"), 0.0, _at(weights + arc * nodes, begin, k, count))
                here = _logadd(here, via)
                tl.store(by_arc + arc * nodes + begin + k, tl.exp(alpha_here + via - log_p), mask=inside)
        if CLIMBS >= 0:
            step = tl.where(k + 1 < count, _at(weights + CLIMBS * nodes, begin, k, count), -float("inf"))
            _, here = tl.associative_scan((step, here), 0, _then, reverse=True)
        tl.store(beta + begin + k, here, mask=inside)
        tl.debug_barrier()  # this row and those before read what other threads have written
        if CLIMBS >= 0:
            via = step + _at(beta, begin, k + 1, count)
            tl.store(by_arc + CLIMBS * nodes + begin + k, tl.exp(alpha_here + via - log_p), mask=inside)
        row -= 1


@triton.jit
def _rest(first, offset, beta, row, end, position):
    """β of the nodes at some positions of a row; −inf where the row, or a node, is none."""
    is_row = row < end
    begin = tl.load(offset + row, mask=is_row, other=0)
    count = tl.load(offset + row + 1, mask=is_row, other=0) - begin
    return _at(beta, begin, position - tl.load(first + row, mask=is_row, other=0), count)


def forward_backward(
    nodes: Nodes, weights_AN: Tensor, moves: tuple[tuple[int, int], ...], edges: float = math.inf
) -> tuple[Tensor, Tensor]:
    """log P (B,) and the occupations γ_a (A,N) of every node's arcs, float64.

    weights_AN: log-weight of each arc that leaves each node; those of arcs that are not in the set are not read.
    moves: where the arcs lead, (Δt,Δu); one that stays in its frame leads up. edges: price of a frame that a path
    leaves out at its beginning or end.
    """
    weights = weights_AN.contiguous()
    by_arc = torch.empty_like(weights, dtype=torch.float64)
    alpha, beta = (by_arc.new_empty(len(nodes)) for _ in range(2))
    total = alpha.new_empty(len(nodes.frames_B))
    shape = (nodes.row_offsets, nodes.label_lengths_B.contiguous(), nodes.first_R.contiguous(), nodes.node_offsets)
    climbs = next((arc for arc, (frames, _) in enumerate(moves) if frames == 0), -1)
    price = alpha.new_full((1,), edges)  # as an argument it would be float32
    options = {"MOVES": moves, "CLIMBS": climbs, "EDGES": math.isfinite(edges)}
    options["BLOCK"] = triton.next_power_of_2(nodes.widest)
    grid = (len(total),)
    with launching(total):
        _forward[grid](*shape, weights, price, alpha, total, len(nodes), **options)
        _backward[grid](*shape, weights, price, alpha, total, beta, by_arc, len(nodes), **options)
    return total, by_arc
