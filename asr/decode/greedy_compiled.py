"""Greedy search on a CPU, compiled: of the standard predictor and joiner, in float32 or float64."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asr.arcs.base import NEXT_LABEL, ArcSet, Head, Sigmoid, Softmax
from asr.decode import greedy_kernel as kernel
from asr.decode.scorer import ScorerSum, Tabulated
from asr.decode.search import Hypothesis, Session
from asr.models.transducer import Transducer
from asr.ops import compiled

Array = np.ndarray

WORTH_A_THREAD = 1 << 28  # multiplications in the joiner, some 10 ms


def is_kept() -> bool:
    """Whether the next process finds what this one compiles: or each would take longer than the search it is for."""
    return compiled.is_kept(kernel.search)


class CompiledGreedySearch:
    """What `GreedySearch` finds, of the same arguments, by `asr.decode.greedy_kernel`.

    What is found in an utterance is the same to the last bit whatever it is searched beside, and in whatever parts it
    is read. The model's weights are copied when this is made. Raises InputError where the joiner has other outputs than
    the arcs.
    """

    def __init__(
        self,
        model: Transducer,
        max_symbols_per_frame: int,
        arcs: ArcSet,
        scorers: Sequence[Tabulated[Any]] = (),
        blank_penalty: float = 0.0,
    ) -> None:
        arcs.check_outputs(model.joiner.output.bias)
        self.model, self.max_symbols_per_frame, self.arcs = model, max_symbols_per_frame, arcs
        self.scorer = ScorerSum(scorers, torch.device("cpu"))
        self.weights = weights_of(model, arcs, blank_penalty)
        self.table = table_of(arcs, len(model.joiner.output.bias), model.vocab_size)
        self.compile()

    def compile(self) -> None:
        """Compile, or read what was compiled, now: it is not what the first utterance takes."""
        nothing = np.zeros((0, 0, self.weights.joiner_KJ.shape[1]), self.weights.joiner_KJ.dtype)
        CompiledGreedySession(self, 0).go_on(nothing, np.zeros(0, np.int64))

    def begin(self, batch: int) -> Session:
        """See `Search`."""
        self.scorer = self.scorer.renewed()
        return CompiledGreedySession(copy.copy(self), batch)  # which keeps this scorer

    @property
    def scorers(self) -> list[Tabulated[Any]]:
        """Those whose sum is `scorer`."""
        return [one for one in self.scorer.scorers if isinstance(one, Tabulated)]

    def tables(self) -> tuple[tuple[Array, Array], ...]:
        """What scorers add, and where labels lead, as far as is known; of no scorers those of one that adds nothing."""
        known = (scorer.tables() for scorer in self.scorers)
        nothing = np.zeros((1, self.model.vocab_size), np.float32), np.zeros((1, self.model.vocab_size), np.int32)
        return tuple((scores.numpy(), following.numpy()) for scores, following in known) or (nothing,)


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


class CompiledGreedySession:
    """The state of B utterances.

    read_B: how many of their frames were read. paths: where they stand. found: their labels so far.
    """

    def __init__(self, search: CompiledGreedySearch, batch: int) -> None:
        self.search = search
        self.read_B = np.zeros(batch, np.int64)
        self.found: list[Hypothesis] = [Hypothesis([], [], 0.0, []) for _ in range(batch)]
        context_BC = search.model.predictor.start(batch, torch.device("cpu")).numpy()
        state_BS = np.zeros((batch, max(len(search.scorers), 1)), np.int64)
        state_BS[:, : len(search.scorers)] = search.scorer.start(batch).numpy()
        self.paths = kernel.Paths(context_BC, state_BS, np.zeros(batch), *(np.zeros(batch, np.int64) for _ in range(5)))

    @torch.inference_mode()
    def read(self, encoder_out_BTJ: Tensor, frames_B: Tensor) -> None:
        """See `Session`."""
        begin_B = self.read_B
        self.read_B = begin_B + frames_B.numpy()
        rows_BTJ = encoder_out_BTJ.to(self.search.model.joiner.output.weight.dtype).contiguous().numpy()
        while (self.paths.frame_B < self.read_B).any():
            self.go_on(rows_BTJ, begin_B)

    def go_on(self, rows_BTJ: Array, begin_B: Array) -> None:
        """Follow paths through rows, as far as there is room for labels and scorers know where these lead."""
        search, paths, (batch, frames, _) = self.search, self.paths, rows_BTJ.shape
        labels = kernel.Labels(*(np.empty((batch, frames), kind) for kind in (np.int64, np.int64, np.float64)))
        paths.count_B[:] = paths.unseen_B[:] = 0
        given = search.weights, search.table, search.tables(), search.max_symbols_per_frame
        of_part = rows_BTJ, begin_B, self.read_B, paths, labels
        work = int((self.read_B - begin_B).sum()) * search.weights.joiner_KJ.size // WORTH_A_THREAD
        in_threads(lambda first, step: kernel.search(*given, *of_part, first, step), min(work, batch // kernel.LANES))
        for found, count, *columns in zip(self.found, paths.count_B, *labels):
            for values, column in zip((found.tokens, found.frames, found.confidences), columns):
                values += column[:count].tolist()
        self.explore()

    def explore(self) -> None:
        """Let scorers find where the labels lead of which they did not know it."""
        (rows,) = self.paths.unseen_B.nonzero()
        label_N = torch.from_numpy(self.paths.unseen_B[rows])
        for scorer, state_N in zip(self.search.scorers, self.paths.state_BS[rows].T):
            scorer.advance(torch.from_numpy(state_N), label_N)

    def best(self) -> list[list[Hypothesis]]:
        """See `Session`."""
        state_BS = torch.from_numpy(self.paths.state_BS)[:, : len(self.search.scorers)]
        scores = (self.paths.score_B + self.search.scorer.final(state_BS).numpy()).tolist()
        return [
            [Hypothesis([*one.tokens], [*one.frames], score, [*one.confidences])]
            for one, score in zip(self.found, scores)
        ]

    def joined(self) -> int:
        """See `Session`."""
        return int(self.paths.joined_B.sum())


def in_threads(work: Callable[[int, int], None], most: int) -> None:
    """Do work in parts, as many as torch has threads and at most so many. A part is told its number and theirs."""
    parts = max(min(torch.get_num_threads(), most), 1)
    if parts == 1:
        work(0, 1)
        return
    with ThreadPoolExecutor(parts) as pool:
        list(pool.map(work, range(parts), [parts] * parts))
