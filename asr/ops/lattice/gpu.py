"""Forward-backward over any node set on a GPU: Triton, one program per utterance, sums in float64.

A program goes through the rows (frames) of its utterance one after the other, with the positions of a row side
by side. Within a row the regular topology is a recurrence in the log semiring, x_k = logadd(x_{k−1} + a_k, b_k),
which is associative: (a₁, b₁)·(a₂, b₂) = (a₁ + a₂, logadd(b₁ + a₂, b₂)). One scan does the row.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from asr.nodes.base import Nodes, Topology


@triton.jit
def _logadd(a, b):
    high = tl.maximum(a, b)
    low = tl.minimum(a, b)
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
    row_offsets, labels, first, offset, blank, label, alpha, total, MODIFIED: tl.constexpr, BLOCK: tl.constexpr
):
    """α of every node, and log P."""
    b = tl.program_id(0)
    row = tl.load(row_offsets + b)
    end = tl.load(row_offsets + b + 1)
    k = tl.arange(0, BLOCK)
    first_before = tl.load(first + row)
    before = tl.load(offset + row)
    count_before = before - before
    while row < end:
        first_here = tl.load(first + row)
        begin = tl.load(offset + row)
        count = tl.load(offset + row + 1) - begin
        below = tl.where(k < count, first_here + k - first_before, -1)
        a = _at(alpha, before, below, count_before) + _at(blank, before, below, count_before)
        a = tl.where((count_before == 0) & (first_here + k == 0), 0.0, a)
        if MODIFIED:
            from_label = _at(alpha, before, below - 1, count_before) + _at(label, before, below - 1, count_before)
            a = _logadd(a, from_label)
        else:
            step = _at(label, begin, k - 1, count)
            _, a = tl.associative_scan((step, a), 0, _then)
        tl.store(alpha + begin + k, a, mask=k < count)
        tl.debug_barrier()  # the next row reads what other threads have written
        before = begin
        first_before = first_here
        count_before = count
        row += 1
    last = tl.load(labels + b) - first_before
    log_p = _at(alpha, before, last, count_before) + _at(blank, before, last, count_before)
    if MODIFIED:
        emitted = _at(alpha, before, last - 1, count_before) + _at(label, before, last - 1, count_before)
        log_p = _logadd(log_p, emitted)
    tl.store(total + b, log_p)


@triton.jit
def _backward(
    row_offsets, labels, first, offset, blank, label, alpha, total, beta, by_blank, by_label,
    MODIFIED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """β of every node, and the occupations of its arcs."""
    b = tl.program_id(0)
    begin_row = tl.load(row_offsets + b)
    row = tl.load(row_offsets + b + 1) - 1
    log_p = tl.load(total + b)
    labels_b = tl.load(labels + b)
    k = tl.arange(0, BLOCK)
    first_after = tl.load(first + row)
    after = tl.load(offset + row)
    count_after = after - after
    while row >= begin_row:
        first_here = tl.load(first + row)
        begin = tl.load(offset + row)
        count = tl.load(offset + row + 1) - begin
        inside = k < count
        position = first_here + k
        above = tl.where(inside, position - first_after, -2)
        blank_here = _at(blank, begin, k, count)
        label_here = tl.where(position < labels_b, _at(label, begin, k, count), -float("inf"))
        is_last = count_after == 0
        rest = _at(beta, after, above, count_after)
        via_blank = blank_here + tl.where(is_last & (position == labels_b), 0.0, rest)
        if MODIFIED:
            rest = _at(beta, after, above + 1, count_after)
            rest = tl.where(is_last & (position + 1 == labels_b), 0.0, rest)
            via_label = label_here + rest
            tl.store(beta + begin + k, _logadd(via_blank, via_label), mask=inside)
            tl.debug_barrier()
        else:
            step = tl.where(k + 1 < count, label_here, -float("inf"))
            _, here = tl.associative_scan((step, via_blank), 0, _then, reverse=True)
            tl.store(beta + begin + k, here, mask=inside)
            tl.debug_barrier()  # this row and the one before read what other threads have written
            via_label = step + _at(beta, begin, k + 1, count)
        alpha_here = _at(alpha, begin, k, count)
        tl.store(by_blank + begin + k, tl.exp(alpha_here + via_blank - log_p), mask=inside)
        tl.store(by_label + begin + k, tl.exp(alpha_here + via_label - log_p), mask=inside)
        after = begin
        first_after = first_here
        count_after = count
        row -= 1


def forward_backward(
    nodes: Nodes, blank_N: Tensor, label_N: Tensor, topology: Topology = "regular"
) -> tuple[Tensor, Tensor, Tensor]:
    """log P (B,) and the occupations γ_blank, γ_label (N,) of both arcs of every node, float64.

    blank_N, label_N: log-probability of the blank and of the label arc that leave each node; those of arcs
    that are not in the set are not read.
    """
    blank, label = blank_N.contiguous(), label_N.contiguous()
    alpha, beta, by_blank, by_label = (torch.empty_like(blank, dtype=torch.float64) for _ in range(4))
    total = alpha.new_empty(len(nodes.frames_B))
    shape = (nodes.row_offsets, nodes.label_lengths_B.contiguous(), nodes.first_R.contiguous(), nodes.node_offsets)
    options = {"MODIFIED": topology == "modified", "BLOCK": triton.next_power_of_2(int(nodes.count_R.max()))}
    grid = (len(total),)
    _forward[grid](*shape, blank, label, alpha, total, **options)
    _backward[grid](*shape, blank, label, alpha, total, beta, by_blank, by_label, **options)
    return total, by_blank, by_label
