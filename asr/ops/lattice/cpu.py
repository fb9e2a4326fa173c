"""Forward-backward over any node set on the CPU: numba, utterances in parallel, sums in float64."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from asr.nodes.base import Nodes, Topology

Array = np.ndarray
Results = tuple[Array, Array, Array]
Kernel = Callable[..., Any]


def compiled(parallel: bool = False) -> Callable[[Kernel], Kernel]:
    """Compile a function when it is first called, and keep the code for the next process where it can be kept.

    In a package that may not be written, for a user without a home, numba would refuse to.
    """

    njit = functools.partial(numba.njit, nogil=True, parallel=parallel, error_model="numpy")

    def decorate(function: Kernel) -> Kernel:
        try:
            kernel: Kernel = njit(cache=True)(function)
        except RuntimeError:
            kernel = njit()(function)
        return kernel

    return decorate


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
def _forward(
    first: Array, offset: Array, blank: Array, label: Array, shift: int, rows: tuple[int, int], alpha: Array
) -> None:
    for row in range(rows[0], rows[1]):
        for n in range(offset[row], offset[row + 1]):
            position = first[row] + n - offset[row]
            a = 0.0 if row == rows[0] and position == 0 else -math.inf
            source = _node(first, offset, row - 1, position) if row > rows[0] else -1
            if source >= 0:
                a = alpha[source] + blank[source]
            source = _node(first, offset, row - shift, position - 1) if row - shift >= rows[0] else -1
            if source >= 0:
                a = _logadd(a, alpha[source] + label[source])
            alpha[n] = a


@compiled()
def _backward(
    first: Array,
    offset: Array,
    blank: Array,
    label: Array,
    shift: int,
    rows: tuple[int, int],
    labels: int,
    beta: Array,
    via_blank: Array,
    via_label: Array,
) -> None:
    """β of every node, and the score of the rest of the path via each of its arcs."""
    for row in range(rows[1] - 1, rows[0] - 1, -1):
        is_last = row == rows[1] - 1
        for n in range(offset[row + 1] - 1, offset[row] - 1, -1):
            position = first[row] + n - offset[row]
            via_blank[n] = blank[n] if is_last and position == labels else -math.inf
            target = -1 if is_last else _node(first, offset, row + 1, position)
            if target >= 0:
                via_blank[n] = blank[n] + beta[target]
            via_label[n] = label[n] if is_last and shift == 1 and position == labels - 1 else -math.inf
            target = -1 if is_last and shift == 1 else _node(first, offset, row + shift, position + 1)
            if target >= 0:
                via_label[n] = label[n] + beta[target]
            beta[n] = _logadd(via_blank[n], via_label[n])


@compiled(parallel=True)
def _forward_backward(
    row_offsets: Array, labels: Array, first: Array, offset: Array, blank: Array, label: Array, shift: int
) -> Results:
    alpha, beta = np.empty_like(blank), np.empty_like(blank)
    by_blank, by_label = np.empty_like(blank), np.empty_like(blank)
    total = np.empty(len(row_offsets) - 1)
    for b in numba.prange(len(total)):
        rows = (row_offsets[b], row_offsets[b + 1])
        _forward(first, offset, blank, label, shift, rows, alpha)
        _backward(first, offset, blank, label, shift, rows, labels[b], beta, by_blank, by_label)
        total[b] = beta[offset[rows[0]]]
        for n in range(offset[rows[0]], offset[rows[1]]):
            by_blank[n] = math.exp(alpha[n] + by_blank[n] - total[b])
            by_label[n] = math.exp(alpha[n] + by_label[n] - total[b])
    return total, by_blank, by_label


@functools.cache
def warn_without_cache() -> None:
    """Say once, where it is so, that compiled code is not kept."""
    if _forward_backward.stats.cache_path is None:  # type: ignore[attr-defined]
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
    nodes: Nodes, blank_N: Tensor, label_N: Tensor, topology: Topology = "regular"
) -> tuple[Tensor, Tensor, Tensor]:
    """log P (B,) and the occupations γ_blank, γ_label (N,) of both arcs of every node, float64.

    blank_N, label_N: log-probability of the blank and of the label arc that leave each node; those of arcs
    that are not in the set are not read.
    """
    warn_without_cache()
    shape = (nodes.row_offsets, nodes.label_lengths_B, nodes.first_R, nodes.node_offsets)
    offsets, labels, first, offset = (array.numpy(force=True) for array in shape)
    blank, label = blank_N.double().numpy(force=True), label_N.double().numpy(force=True)
    with threads_of_torch():
        results = _forward_backward(offsets, labels, first, offset, blank, label, 1 if topology == "modified" else 0)
    total, by_blank, by_label = (torch.from_numpy(result).to(blank_N.device) for result in results)
    return total, by_blank, by_label
