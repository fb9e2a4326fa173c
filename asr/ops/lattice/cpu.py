"""Forward-backward over any node set on the CPU: numba, utterances in parallel, sums in float64."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
from collections.abc import Iterator

import numba
import numpy as np
import torch
from torch import Tensor

from asr.nodes.base import Nodes
from asr.ops.compiled import compiled, is_kept

Array = np.ndarray


@compiled()
def _logadd(a: float, b: float) -> float:
    if a < b:
        a, b = b, a
    return a if b == -math.inf else a + math.log1p(math.exp(b - a))


@compiled()
def _node(first: Array, offset: Array, row: int, position: int) -> int:
    """Index of the node at a position of a row; −1 where it is not in the set."""
    within = position - first[row]
    return offset[row] + within if 0 <= within < offset[row + 1] - offset[row] else -1


@compiled()
def _entry(frame: int, edges: float) -> float:
    """Log-weight of beginning at a frame; of frame 0 it is 0, whatever the price."""
    return -edges * frame if frame > 0 else 0.0


@compiled()
def _forward(
    first: Array, offset: Array, weights: Array, moves: Array, edges: float, rows: tuple[int, int], alpha: Array
) -> None:
    for row in range(rows[0], rows[1]):
        for n in range(offset[row], offset[row + 1]):
            position = first[row] + n - offset[row]
            a = _entry(row - rows[0], edges) if position == 0 else -math.inf
            for k in range(len(moves)):
                before = row - moves[k, 0]
                source = _node(first, offset, before, position - moves[k, 1]) if before >= rows[0] else -1
                if source >= 0:
                    a = _logadd(a, alpha[source] + weights[k, source])
            alpha[n] = a


@compiled()
def _backward(
    first: Array,
    offset: Array,
    weights: Array,
    moves: Array,
    edges: float,
    rows: tuple[int, int],
    labels: int,
    beta: Array,
    via: Array,
) -> None:
    """β of every node, and the score of the rest of the path via each of its arcs."""
    for row in range(rows[1] - 1, rows[0] - 1, -1):
        for n in range(offset[row + 1] - 1, offset[row] - 1, -1):
            position = first[row] + n - offset[row]
            beta[n] = -edges * (rows[1] - row) if position == labels else -math.inf
            for k in range(len(moves)):
                after, above = row + moves[k, 0], position + moves[k, 1]
                via[k, n] = weights[k, n] if after == rows[1] and above == labels else -math.inf
                target = _node(first, offset, after, above) if after < rows[1] else -1
                if target >= 0:
                    via[k, n] = weights[k, n] + beta[target]
                beta[n] = _logadd(beta[n], via[k, n])


@compiled()
def _total(first: Array, offset: Array, edges: float, rows: tuple[int, int], beta: Array) -> float:
    """log P: the sum over the nodes at which a path may begin."""
    total = beta[offset[rows[0]]]
    for row in range(rows[0] + 1, rows[1] if edges < math.inf else rows[0]):
        if first[row] == 0:
            total = _logadd(total, _entry(row - rows[0], edges) + beta[offset[row]])
    return total


@compiled(parallel=True)
def _forward_backward(
    row_offsets: Array, labels: Array, first: Array, offset: Array, weights: Array, moves: Array, edges: float
) -> tuple[Array, Array]:
    alpha, beta = np.empty(weights.shape[1]), np.empty(weights.shape[1])
    by_arc = np.empty_like(weights)
    total = np.empty(len(row_offsets) - 1)
    for b in numba.prange(len(total)):
        rows = (row_offsets[b], row_offsets[b + 1])
        _forward(first, offset, weights, moves, edges, rows, alpha)
        _backward(first, offset, weights, moves, edges, rows, labels[b], beta, by_arc)
        total[b] = _total(first, offset, edges, rows, beta)
        for k in range(len(moves)):
            for n in range(offset[rows[0]], offset[rows[1]]):
                by_arc[k, n] = math.exp(alpha[n] + by_arc[k, n] - total[b])
    return total, by_arc


@functools.cache
def warn_without_cache() -> None:
    """Say once, where it is so, that compiled code is not kept."""
    if not is_kept(_forward_backward):
        logging.getLogger("asr").warning(
            "numba finds no directory to keep compiled code in: every process compiles the lattice anew, some 5 s; "
            "set NUMBA_CACHE_DIR to a directory that can be written"
        )


@contextlib.contextmanager
def threads_of_torch() -> Iterator[None]:
    """Run numba in as many threads as torch, and leave torch as many as it had.

    Both share OpenMP's settings: numba's first parallel loop would give torch all cores, and torch, which rounds
    differently with another number of threads, other results from there on.
    """
    threads = torch.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def forward_backward(
    nodes: Nodes, weights_AN: Tensor, moves: tuple[tuple[int, int], ...], edges: float = math.inf
) -> tuple[Tensor, Tensor]:
    """log P (B,) and the occupations γ_a (A,N) of every node's arcs, float64.

    weights_AN: log-weight of each arc that leaves each node; those of arcs that are not in the set are not read.
    moves: where the arcs lead, (Δt,Δu); one that stays in its frame leads up. edges: price of a frame that a path
    leaves out at its beginning or end.
    """
    warn_without_cache()
    shape = (nodes.row_offsets, nodes.label_lengths_B, nodes.first_R, nodes.node_offsets)
    offsets, labels, first, offset = (array.numpy(force=True) for array in shape)
    weights = weights_AN.double().contiguous().numpy(force=True)
    with threads_of_torch():
        results = _forward_backward(offsets, labels, first, offset, weights, np.array(moves), float(edges))
    total, by_AN = (torch.from_numpy(result).to(weights_AN.device) for result in results)
    return total, by_AN
