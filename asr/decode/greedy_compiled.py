"""Greedy search on a CPU, compiled: of the standard predictor and joiner, in float32 or float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asr.arcs.base import ArcSet
from asr.decode import greedy_kernel as kernel
from asr.decode.node_compiled import CompiledSearch, in_threads, tables_of
from asr.decode.scorer import Tabulated
from asr.decode.search import Hypothesis
from asr.models.transducer import Transducer
from asr.ops import compiled

Array = np.ndarray


def is_kept() -> bool:
    """Whether the next process finds what this one compiles: or each would take longer than the search it is for."""
    return compiled.is_kept(kernel.search)


class CompiledGreedySearch(CompiledSearch):
    """What `GreedySearch` finds, of the same arguments, by `asr.decode.greedy_kernel`."""

    def __init__(
        self,
        model: Transducer,
        max_symbols_per_frame: int,
        arcs: ArcSet,
        scorers: Sequence[Tabulated[Any]] = (),
        blank_penalty: float = 0.0,
    ) -> None:
        super().__init__(model, arcs, scorers, blank_penalty)
        self.max_symbols_per_frame = max_symbols_per_frame
        self.compile()

    def session(self, batch: int) -> CompiledGreedySession:
        """See `CompiledSearch`."""
        return CompiledGreedySession(self, batch)


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
        given = (
            search.weights,
            search.table,
            tables_of(search.scorers, search.model.vocab_size),
            search.max_symbols_per_frame,
        )
        of_part = rows_BTJ, begin_B, self.read_B, paths, labels
        nodes = int((self.read_B - begin_B).sum())
        in_threads(lambda first, step: kernel.search(*given, *of_part, first, step), search.weights, nodes, batch)
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
