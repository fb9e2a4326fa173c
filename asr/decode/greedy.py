"""Greedy search, by labels instead of frames: all utterances of a batch skip their blanks at once."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from asr.arcs.base import LABEL, ArcSet
from asr.arcs.standard import standard_arcs
from asr.decode.scorer import LabelScorer, ScorerSum
from asr.decode.search import Hypothesis, Session, with_blank_penalty
from asr.models.transducer import Transducer

ROWS = 256  # nodes that are evaluated at a time: enough for a product of matrices to be fast, few to be in vain
MOST_AHEAD = 8  # frames of an utterance
MOST_LOGITS = 1 << 22  # of nodes that were passed, kept for their probabilities: 16 MB


class GreedySearch:
    """Follows the likeliest arc from node to node, with at most `max_symbols_per_frame` labels a frame.

    As it is here it runs on any device and with any joiner and scorer; see `asr.decode.make` for what is faster.

    Label-looping (Xu et al., arXiv 2406.06220): until the next label the predictor's output stays what it is, so
    several frames of each utterance are evaluated ahead, up to that label, and the predictor only where there is one.
    Where arcs skip frames, one frame at a time: the encoder's output of a frame that is skipped is never joined.

    scorers: add to the log-probabilities of labels, see `asr.decode.scorer`. Where there are any, the model alone says
    whether there is a label, or blank, to which nothing is added, would take the place of labels; they say which, as in
    NGPU-LM (Bataev et al., Interspeech 2025).
    blank_penalty: see `with_blank_penalty`.
    """

    def __init__(
        self,
        model: Transducer,
        max_symbols_per_frame: int,
        arcs: ArcSet | None = None,
        scorers: Sequence[LabelScorer] = (),
        blank_penalty: float = 0.0,
    ) -> None:
        self.model, self.max_symbols_per_frame = model, max_symbols_per_frame
        self.arcs = arcs or standard_arcs()
        self.joiner = with_blank_penalty(model.joiner, self.arcs, blank_penalty)
        self.scorer = ScorerSum(scorers, model.joiner.output.weight.device)
        with torch.no_grad():
            self.by_place_CVD = model.predictor.by_place()

    def predict(self, context_NC: Tensor) -> Tensor:
        """`Transducer.predict_next` (N,J), by a table: fewer calls."""
        rows = [by_place_VD[labels_N] for by_place_VD, labels_N in zip(self.by_place_CVD, context_NC.unbind(1))]
        return self.model.predictor_projection(functools.reduce(torch.add, rows).relu())

    def begin(self, batch: int) -> Session:
        """See `Search`."""
        self.scorer = self.scorer.renewed()
        return GreedySession(self, batch)


@dataclass(frozen=True)
class Part:
    """Encoder output that a session reads: rows_NJ, those of all utterances, padding included.

    start_B: the row of an utterance's frame 0, which may be long past. last_B: its last frame of which there is a row.
    """

    rows_NJ: Tensor
    start_B: Tensor
    last_B: Tensor

    @classmethod
    def of(cls, encoder_out_BTJ: Tensor, begin_B: Tensor) -> Part:
        """`begin_B`: the number of the first frame of each utterance."""
        batch, frames, _ = encoder_out_BTJ.shape
        first_B = torch.arange(batch, device=begin_B.device) * frames
        return cls(encoder_out_BTJ.flatten(0, 1), first_B - begin_B, begin_B + frames - 1)

    def at(self, frame_B: Tensor) -> Tensor:
        """The rows of a frame of each utterance (B,J), of its last one where it has no such frame."""
        return self.rows_NJ.index_select(0, self.start_B + frame_B.minimum(self.last_B))

    def ahead(self, frame_BF: Tensor) -> Tensor:
        """The same of several frames (B,F,J)."""
        row_BF = self.start_B[:, None] + frame_BF.minimum(self.last_B[:, None])
        return self.rows_NJ.index_select(0, row_BF.flatten()).view(*frame_BF.shape, -1)


@dataclass(frozen=True)
class Step:
    """Nodes that were evaluated together, (B,F) or (B,) where one of each utterance was, and what was chosen there.

    logits (...,K); token: the label of the node's label arcs; arc, frame; passed: whether it is a node of the path.
    """

    logits: Tensor
    token: Tensor
    arc: Tensor
    frame: Tensor
    passed: Tensor


class GreedySession:
    """The state of B utterances.

    context_BC: last labels; predicted_BJ: the predictor's output for them; state_BS: the scorers' state.
    frame_B: the next node's; read_B: how many were read. emitted_B: labels of that frame so far. score_B:
    log-probability of the path. passed: nodes of all paths; again: those of them in the same frame as the one before.
    steps: those of which no probabilities were made yet; logits: how many these have. labels: row, token, frame,
    probability.
    """

    def __init__(self, search: GreedySearch, batch: int) -> None:
        self.model, self.arcs, self.limit = search.model, search.arcs, search.max_symbols_per_frame
        self.joiner, self.scorer, self.predict = search.joiner, search.scorer, search.predict
        device = self.model.joiner.output.weight.device
        self.context_BC = self.model.predictor.start(batch, device)
        self.predicted_BJ = self.predict(self.context_BC)
        self.state_BS = self.scorer.start(batch)
        self.score_B = self.predicted_BJ.new_zeros(batch)
        self.frame_B, self.read_B, self.emitted_B = torch.zeros(3, batch, dtype=torch.long, device=device).unbind()
        self.frames_A, emits_A = torch.tensor(self.arcs.moves, device=device).T.contiguous()
        self.emits_A = emits_A > 0
        self.skips, self.stays = int(self.frames_A.max()) > 1, int(self.frames_A.min()) < 1
        self.ahead_F = torch.arange(min(max(ROWS // batch, 1), MOST_AHEAD), device=device)
        self.passed, self.again = self.read_B.sum(), self.read_B.sum()
        self.steps: list[Step] = []
        self.logits = 0
        self.labels: list[tuple[Tensor, ...]] = []

    @torch.inference_mode()
    def read(self, encoder_out_BTJ: Tensor, frames_B: Tensor) -> None:
        """See `Session`."""
        part = Part.of(encoder_out_BTJ, self.read_B)
        self.read_B = self.read_B + frames_B
        go_on = self.to_next_node if self.skips else self.to_next_label
        while bool((inside_B := self.frame_B < self.read_B).any()):
            go_on(part, inside_B)
        self.settle()

    def to_next_node(self, part: Part, inside_B: Tensor) -> None:
        """Go along one arc each, those utterances of which there is a frame."""
        logits_BK = self.joiner(part.at(self.frame_B), self.predicted_BJ)
        token_B, arc_B = self.likeliest(logits_BK)
        found_B = self.emits_A.index_select(0, arc_B) & inside_B
        token_B = self.take(found_B.nonzero(as_tuple=True), logits_BK, token_B)
        self.keep(Step(logits_BK, token_B, arc_B, self.frame_B, inside_B))
        step_B = self.frames_A.index_select(0, arc_B) * inside_B
        self.frame_B = self.frame_B + (self.counted(found_B, step_B, inside_B) if self.stays else step_B)

    def to_next_label(self, part: Part, inside_B: Tensor) -> None:
        """Go over blanks to the next label of each utterance, and along its arc, if it is near."""
        frame_BF = self.frame_B[:, None] + self.ahead_F
        logits_BFK = self.joiner(part.ahead(frame_BF), self.predicted_BJ[:, None])
        token_BF, arc_BF = self.likeliest(logits_BFK)
        inside_BF = frame_BF < self.read_B[:, None]
        is_label_BF = self.emits_A[arc_BF] & inside_BF
        labels_BF = is_label_BF.cumsum(1)
        passed_BF = inside_BF & (labels_BF <= is_label_BF)
        found_B = labels_BF[:, -1] > 0
        blanks_B = passed_BF.sum(1) - found_B.long()
        (rows,) = found_B.nonzero(as_tuple=True)
        token_BF = self.take((rows, blanks_B.index_select(0, rows)), logits_BFK, token_BF)
        self.keep(Step(logits_BFK, token_BF, arc_BF, frame_BF, passed_BF))
        step_B = self.frames_A[LABEL] * found_B
        self.emitted_B = self.emitted_B.where(blanks_B == 0, 0) if self.stays else self.emitted_B
        self.frame_B = self.frame_B + blanks_B + (self.counted(found_B, step_B, inside_B) if self.stays else step_B)

    def likeliest(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The likeliest label and the likeliest arc of nodes (...,), from logits (...,K)."""
        token = 1 + logits[..., 1 : self.model.vocab_size].argmax(-1)
        return token, self.arcs.weights(self.arcs.compared(logits, token)).max(0).indices

    def take(self, at: tuple[Tensor, ...], logits: Tensor, token: Tensor) -> Tensor:
        """Emit a label at some nodes, no two of an utterance. The labels of all nodes, as scorers choose them there."""
        rows = at[0]
        if not len(rows):
            return token
        token_N = token[at]
        if self.scorer.scorers:
            token_N = self.best_scored(rows, logits[at])
            token = token.index_put(at, token_N)
        context_NC = torch.cat((self.context_BC.index_select(0, rows)[:, 1:], token_N[:, None]), dim=1)
        self.context_BC = self.context_BC.index_copy(0, rows, context_NC)
        self.predicted_BJ = self.predicted_BJ.index_copy(0, rows, self.predict(context_NC))
        return token

    def best_scored(self, rows: Tensor, logits_NK: Tensor) -> Tensor:
        """The best labels (N,) by the model and the scorers together, whose states go on with them."""
        state_NS = self.state_BS.index_select(0, rows)
        scores_NV = self.scorer.scores(state_NS)[:, 1:]
        token_N = 1 + (logits_NK[:, 1 : self.model.vocab_size] + scores_NV).argmax(1)
        added_N = scores_NV.gather(1, token_N[:, None] - 1)[:, 0].to(self.score_B.dtype)
        self.score_B = self.score_B.index_add(0, rows, added_N)
        self.state_BS = self.state_BS.index_copy(0, rows, self.scorer.advance(state_NS, token_N))
        return token_N

    def counted(self, found_B: Tensor, step_B: Tensor, inside_B: Tensor) -> Tensor:
        """How many frames further the next node is (B,), given the arc's; at least 1 from a full frame."""
        emitted_B = self.emitted_B + found_B
        step_B = step_B.maximum((emitted_B >= self.limit).long() * inside_B)
        self.emitted_B = emitted_B.where(step_B == 0, 0)
        self.again = self.again + (found_B & (step_B == 0)).sum()
        return step_B

    def keep(self, step: Step) -> None:
        """Keep the nodes of a step until `settle`."""
        self.steps.append(step)
        self.logits += step.logits.numel()
        if self.logits > MOST_LOGITS:
            self.settle()

    def settle(self) -> None:
        """Make probabilities of the logits of all nodes that were passed since the last time: many at once."""
        if not self.steps:
            return
        columns = zip(*(vars(step).values() for step in self.steps))
        logits, token, arc, frame, passed = (torch.stack(values) for values in columns)
        self.steps, self.logits = [], 0
        self.passed = self.passed + passed.sum()
        at = passed.nonzero(as_tuple=True)
        token_N, arc_N = token[at], arc[at]
        weights_AN = self.arcs.weights(self.arcs.log_probs(logits[at], token_N))
        path = torch.zeros_like(passed, dtype=weights_AN.dtype)
        path[at] = weights_AN.gather(0, arc_N[None])[0]
        self.score_B = self.score_B + path.transpose(0, 1).flatten(1).sum(1)
        is_label_N = self.emits_A[arc_N]
        confidence_N = weights_AN[self.emits_A].logsumexp(0).exp().clamp(max=1)
        columns_N = at[1], token_N, frame[at], confidence_N
        self.labels.append(tuple(values_N[is_label_N] for values_N in columns_N))

    def best(self) -> list[list[Hypothesis]]:
        """See `Session`."""
        scores = (self.score_B + self.scorer.final(self.state_BS)).tolist()
        found: list[Hypothesis] = [Hypothesis([], [], score, []) for score in scores]
        columns = [torch.cat(values).tolist() for values in zip(*self.labels)]
        for row, token, frame, confidence in zip(*columns):
            found[row].tokens.append(token)
            found[row].frames.append(frame)
            found[row].confidences.append(confidence)
        return [[hypothesis] for hypothesis in found]

    def joined(self) -> int:
        """See `Session`."""
        return int(self.passed - self.again if self.skips else self.read_B.sum())
