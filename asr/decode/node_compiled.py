"""Predictor, joiner, arcs and scorers as the compiled searches read them, and how these share the processors."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import torch

from asr.arcs.base import NEXT_LABEL, ArcSet, Head, Sigmoid, Softmax
from asr.decode import node_kernel as kernel
from asr.decode.scorer import ScorerSum, Tabulated
from asr.decode.search import Session
from asr.models.transducer import Transducer

Array = np.ndarray

WORTH_A_THREAD = 1 << 28  # multiplications in the joiner, some 10 ms


class CompiledSearch:
    """What compiled searches share: the weights, copied when one is made, arcs as a table, and the scorers.

    What is found in an utterance is the same to the last bit whatever it is searched beside, and in whatever parts it
    is read. Raises InputError where the joiner has other outputs than the arcs.
    """

    def __init__(
        self, model: Transducer, arcs: ArcSet, scorers: Sequence[Tabulated[Any]], blank_penalty: float
    ) -> None:
        arcs.check_outputs(model.joiner.output.bias)
        self.model, self.arcs = model, arcs
        self.scorer = ScorerSum(scorers, torch.device("cpu"))
        self.weights = weights_of(model, arcs, blank_penalty)
        self.table = table_of(arcs, len(model.joiner.output.bias), model.vocab_size)

    def session(self, batch: int) -> CompiledSession:
        """One that begins, of B utterances, with the scorers as they are."""
        raise NotImplementedError

    def compile(self) -> None:
        """Compile, or read what was compiled, now: it is not what the first utterance takes."""
        nothing = np.zeros((0, 0, self.weights.joiner_KJ.shape[1]), self.weights.joiner_KJ.dtype)
        self.session(0).go_on(nothing, np.zeros(0, np.int64))

    def begin(self, batch: int) -> CompiledSession:
        """See `Search`."""
        self.scorer = self.scorer.renewed()
        return copy.copy(self).session(batch)  # of a copy, which keeps this scorer

    @property
    def scorers(self) -> list[Tabulated[Any]]:
        """Those whose sum is `scorer`."""
        return [one for one in self.scorer.scorers if isinstance(one, Tabulated)]


class CompiledSession(Session, Protocol):
    """A session of a `CompiledSearch`."""

    def go_on(self, rows_BTJ: Array, begin_B: Array) -> None:
        """Go on through rows of the encoder's output (B,T,J), which begin at frames (B,), as far as that can be."""


def weights_of(model: Transducer, arcs: ArcSet, blank_penalty: float) -> kernel.Weights:
    """Those of predictor and joiner, with `blank_penalty` taken off blanks."""
    bias_K = model.joiner.output.bias.detach().clone()
    bias_K[list(arcs.blanks)] -= blank_penalty
    projection = model.predictor_projection
    arrays = model.predictor.by_place(), projection.weight, projection.bias, model.joiner.output.weight, bias_K
    # Copies: the storage of what numpy has seen can no longer be resized, as it is where weights are divided.
    return kernel.Weights(*(array.detach().clone(memory_format=torch.contiguous_format).numpy() for array in arrays))


def table_of(arcs: ArcSet, outputs: int, labels: int) -> kernel.Arcs:
    """Arcs as the kernel reads them. A sigmoid is a softmax of an output and of 0."""
    heads: list[tuple[int, int, bool]] = []
    choices: list[tuple[int, int]] = []
    for number, head in enumerate(arcs.heads):
        begin, end, columns = outputs_of(head, outputs)
        heads.append((begin, end, kernel.ZERO in columns))
        choices += [(column, number) for column in columns]
    most = max(len(arc.choices) for arc in arcs.arcs)
    padded = [
        [*(choices[c] for c in arc.choices), *[(kernel.NOTHING, 0)] * (most - len(arc.choices))] for arc in arcs.arcs
    ]
    column_AC, head_AC = np.moveaxis(np.array(padded), 2, 0).copy()
    begin_H, end_H, zero_H = np.array(heads).T.copy()
    frames_A, emits_A = np.array(arcs.moves).T.copy()
    return kernel.Arcs(begin_H, end_H, zero_H > 0, column_AC, head_AC, frames_A, emits_A > 0, labels)


def outputs_of(head: Head, outputs: int) -> tuple[int, int, list[int]]:
    """The outputs that a head reads, first and end, and the column of each of its choices."""
    if isinstance(head, Sigmoid):
        return head.column, head.column + 1, [head.column, kernel.ZERO]
    assert isinstance(head, Softmax)
    columns = [kernel.NEXT_LABEL if column == NEXT_LABEL else head.begin + column for column in head.columns]
    return head.begin, outputs if head.end is None else head.end, columns


def tables_of(scorers: Sequence[Tabulated[Any]], labels: int) -> kernel.Tables:
    """What scorers add, and where labels lead, as far as is known; of no scorers those of one that adds nothing."""
    known = (scorer.tables() for scorer in scorers)
    nothing = np.zeros((1, labels), np.float32), np.zeros((1, labels), np.int32)
    return tuple((scores.numpy(), following.numpy()) for scores, following in known) or (nothing,)


def in_threads(work: Callable[[int, int], None], weights: kernel.Weights, nodes: int, batch: int) -> None:
    """Do work in parts, as many as torch has threads and it is worth for so many nodes of a batch. A part is told its
    number and theirs.
    """
    worth = min(nodes * weights.joiner_KJ.size // WORTH_A_THREAD, batch // kernel.LANES)
    parts = max(min(torch.get_num_threads(), worth), 1)
    if parts == 1:
        work(0, 1)
        return
    with ThreadPoolExecutor(parts) as pool:
        list(pool.map(work, range(parts), [parts] * parts))
