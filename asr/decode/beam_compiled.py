"""Beam search on a CPU, compiled: of the standard predictor and joiner, in float32 or float64."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asr.arcs.base import ArcSet
from asr.decode import beam_kernel as kernel
from asr.decode.beam import trace
from asr.decode.node_compiled import CompiledSearch, in_threads, tables_of
from asr.decode.scorer import Tabulated
from asr.decode.search import Hypothesis
from asr.models.transducer import Transducer
from asr.ops import compiled

Array = np.ndarray

FIRST_LINKS = 64  # labels of an utterance's hypotheses that there is room for at first


def is_kept() -> bool:
    """Whether the next process finds what this one compiles."""
    return compiled.is_kept(kernel.search)


class CompiledBeamSearch(CompiledSearch):
    """What `BeamSearch` finds, of the same arguments, by `asr.decode.beam_kernel`."""

    def __init__(
        self,
        model: Transducer,
        beam: int,
        arcs: ArcSet,
        max_symbols_per_frame: int = 1,
        scorers: Sequence[Tabulated[Any]] = (),
        blank_penalty: float = 0.0,
        margin: float = math.inf,
    ) -> None:
        super().__init__(model, arcs, scorers, blank_penalty)
        self.beam = beam
        self.limits = kernel.Limits(beam, float(margin), max_symbols_per_frame, (0, 1) in arcs.moves)
        self.compile()

    def session(self, batch: int) -> CompiledBeamSession:
        """See `CompiledSearch`."""
        return CompiledBeamSession(self, batch)

    def start(self, batch: int) -> kernel.State:
        """One reading of each utterance, without labels, and room for more."""
        beam, scorers, furthest = self.beam, len(self.scorers), max(frames for frames, _ in self.arcs.moves)
        context_BC = self.model.predictor.start(batch, torch.device("cpu")).numpy()
        first = kernel.CONTEXT + context_BC.shape[1]
        score_BRE = np.full((batch, 6 * beam, kernel.ALIGNED + furthest + 1), -math.inf)
        score_BRE[:, 0, [kernel.ADDED, kernel.ALIGNED]] = 0
        number_BRN = np.zeros((batch, 6 * beam, first + max(scorers, 1)), np.int64)
        number_BRN[:, 0, kernel.LINK] = -1
        number_BRN[:, 0, kernel.CONTEXT : first] = context_BC
        number_BRN[:, 0, first : first + scorers] = self.scorer.start(batch).numpy()
        walk_BW = np.zeros((batch, 7), np.int64)
        walk_BW[:, kernel.HERE] = 1
        links = max(FIRST_LINKS, beam)
        return kernel.State(
            walk_BW, score_BRE, number_BRN, np.empty((batch, links, 3), np.int64), np.empty((batch, links))
        )


class CompiledBeamSession:
    """The state of B utterances. read_B: how many of their frames were read. state: where they are."""

    def __init__(self, search: CompiledBeamSearch, batch: int) -> None:
        self.search, self.state = search, search.start(batch)
        self.read_B = np.zeros(batch, np.int64)

    @torch.inference_mode()
    def read(self, encoder_out_BTJ: Tensor, frames_B: Tensor) -> None:
        """See `Session`."""
        begin_B = self.read_B
        self.read_B = begin_B + frames_B.numpy()
        rows_BTJ = encoder_out_BTJ.to(self.search.model.joiner.output.weight.dtype).contiguous().numpy()
        self.go_on(rows_BTJ, begin_B)
        while (waits_B := self.state.walk_BW[:, kernel.WAITS]).any():
            self.explore(waits_B == kernel.AT_UNSEEN)
            self.make_room(*((waits_B == wait).any() for wait in (kernel.WITHOUT_PLACE, kernel.WITHOUT_LINK)))
            waits_B[:] = kernel.ON_ITS_WAY
            self.go_on(rows_BTJ, begin_B)

    def go_on(self, rows_BTJ: Array, begin_B: Array) -> None:
        """Follow readings through rows, as far as there is room and scorers know where labels lead."""
        search = self.search
        given = search.weights, search.table, tables_of(search.scorers, search.model.vocab_size), search.limits
        of_part = rows_BTJ, begin_B, self.read_B, self.state
        nodes = int((self.read_B - begin_B).sum())
        in_threads(
            lambda first, step: kernel.search(*given, *of_part, first, step), search.weights, nodes, len(rows_BTJ)
        )

    def explore(self, waits_B: Array) -> None:
        """Let scorers find where the last labels of some utterances lead."""
        self.followed(self.state.number_BRN[self.taken() & waits_B[:, None]])

    def make_room(self, places: bool, links: bool) -> None:
        """Double the places for readings, for links, or both."""
        walk_BW, score_BRE, number_BRN, link_BLN, log_prob_BL = self.state
        if places:
            score_BRE, number_BRN = doubled(score_BRE), doubled(number_BRN)
        if links:
            link_BLN, log_prob_BL = doubled(link_BLN), doubled(log_prob_BL)
        self.state = kernel.State(walk_BW, score_BRE, number_BRN, link_BLN, log_prob_BL)

    def taken(self) -> Array:
        """The places of the readings at the frame (B,R)."""
        return np.arange(self.state.number_BRN.shape[1]) < self.state.walk_BW[:, kernel.HERE, None]

    def followed(self, number_NN: Array) -> Tensor:
        """The states of scorers (N,S) after the last label of readings."""
        numbers, scorer = torch.from_numpy(number_NN), self.search.scorer
        first = numbers.shape[1] - max(len(scorer.scorers), 1)
        return scorer.advance(numbers[:, first : first + len(scorer.scorers)], numbers[:, kernel.LABEL])

    def best(self) -> list[list[Hypothesis]]:
        """See `Session`."""
        rows, places = self.taken().nonzero()
        score_NE, number_NN = self.state.score_BRE[rows, places], self.state.number_BRN[rows, places]
        final_N = self.search.scorer.final(self.followed(number_NN)).numpy()
        total_N = np.logaddexp.reduce(score_NE[:, kernel.ALIGNED :], axis=1) + score_NE[:, kernel.ADDED] + final_N
        order = np.lexsort((-total_N, rows))
        found: list[list[Hypothesis]] = [[] for _ in self.read_B]
        links = [self.links(b) for b in range(len(found))]
        for b, link, total in zip(*(values[order].tolist() for values in (rows, number_NN[:, kernel.LINK], total_N))):
            found[b].append(trace(link, links[b], total))
        return [hypotheses or [Hypothesis([], [], math.nan, [])] for hypotheses in found]

    def links(self, b: int) -> list[list[float]]:
        """Parent, token, frame and log-probability of the labels of an utterance."""
        count = self.state.walk_BW[b, kernel.LINKS]
        return [*self.state.link_BLN[b, :count].T.tolist(), self.state.log_prob_BL[b, :count].tolist()]

    def joined(self) -> int:
        """See `Session`."""
        return int(self.state.walk_BW[:, kernel.JOINED].sum())


def doubled(values_BR: Array) -> Array:
    """The values of each utterance, and as many places more."""
    return np.concatenate((values_BR, values_BR), axis=1)
