"""Greedy search, by labels instead of frames: all utterances of a batch skip their blanks at once."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from asr.arcs.base import ArcSet, at_least_float32
from asr.arcs.standard import standard_arcs
from asr.decode.greedy_graph import Graphs
from asr.decode.scorer import LabelScorer, ScorerSum
from asr.decode.search import Hypothesis, Session, with_blank_penalty
from asr.models.transducer import Transducer

ROWS = 256  # nodes that are evaluated at a time: enough for a product of matrices to be fast, few to be in vain
MOST_AHEAD = 8  # frames of an utterance
MOST_LOGITS = 1 << 22  # of nodes whose probabilities are yet to be made: 16 MB
STEPS = 16  # after which a search waits for the GPU, to see whether there are frames left


class State(NamedTuple):
    """Where B utterances stand.

    context_BC: last labels; state_BS: the scorers' state after them, or before the last one where that is unseen_B, a
    label of which a scorer does not know yet where it leads (0: there is none). frame_B: the next node's; emitted_B:
    labels of that frame so far. joined_B: frames at which there was a node. score_B: log-probability of the path, and
    what is added.
    """

    context_BC: Tensor
    state_BS: Tensor
    unseen_B: Tensor
    frame_B: Tensor
    emitted_B: Tensor
    joined_B: Tensor
    score_B: Tensor


class Part(NamedTuple):
    """Encoder output that a session reads: rows_NJ, those of all utterances, padding included.

    start_B: the row of an utterance's frame 0, which may be long past. last_B: its last frame of which there is a row.
    end_B: how many of its frames are read with these.
    """

    rows_NJ: Tensor
    start_B: Tensor
    last_B: Tensor
    end_B: Tensor

    @classmethod
    def of(cls, encoder_out_BTJ: Tensor, begin_B: Tensor, frames_B: Tensor) -> Part:
        """`begin_B`: the number of the first frame of each utterance."""
        batch, frames, _ = encoder_out_BTJ.shape
        first_B = torch.arange(batch, device=begin_B.device) * frames
        return cls(encoder_out_BTJ.flatten(0, 1), first_B - begin_B, begin_B + frames - 1, begin_B + frames_B)

    def at(self, frame_BF: Tensor) -> Tensor:
        """The rows of frames of each utterance (B,F,J), of its last one where it has no such frame."""
        row_BF = self.start_B[:, None] + frame_BF.minimum(self.last_B[:, None])
        return self.rows_NJ.index_select(0, row_BF.flatten()).view(*frame_BF.shape, -1)


class Step(NamedTuple):
    """F nodes of each utterance that were evaluated together, and what was chosen there.

    logits_BFK; token_BF: the label of the node's label arcs; arc_BF; frame_BF; passed_BF: whether it is a node of the
    path; label_BF: whether it is the one that emitted a label.
    """

    logits_BFK: Tensor
    token_BF: Tensor
    arc_BF: Tensor
    frame_BF: Tensor
    passed_BF: Tensor
    label_BF: Tensor


class Labels(NamedTuple):
    """What N steps emitted: labels, 0 where there was none, their frames and probabilities."""

    token_BN: Tensor
    frame_BN: Tensor
    confidence_BN: Tensor


class GreedySearch:
    """Follows the likeliest arc from node to node, with at most `max_symbols_per_frame` labels a frame.

    As it is here it runs on any device and with any joiner and scorer; see `asr.decode.make` for what is faster.

    Label-looping (Xu et al., arXiv 2406.06220): until the next label the predictor's output stays what it is, so
    several frames of each utterance are evaluated ahead, up to that label. Where arcs skip frames, one frame at a time:
    the encoder's output of a frame that is skipped is never joined. All utterances of a batch take a step together,
    those that have ended or wait for a scorer in vain, so that no step waits for a device.

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
        self.device = model.joiner.output.weight.device
        self.scorer = ScorerSum(scorers, self.device)
        with torch.no_grad():
            self.by_place_CVD = model.predictor.by_place()
        frames_A, labels_A = torch.tensor(self.arcs.moves).T.contiguous()
        of_arcs = frames_A, labels_A > 0, labels_A.nonzero()[:, 0]
        self.frames_A, self.emits_A, self.label_arcs = (values.to(self.device) for values in of_arcs)
        self.most_ahead = MOST_AHEAD if max(frames for frames, _ in self.arcs.moves) == 1 else 1
        self.looks = self.device.type == "cpu"  # where it costs nothing
        # Tables of scorers do not stay where they are.
        self.graphs = Graphs() if self.device.type == "cuda" and not scorers else None

    def begin(self, batch: int) -> Session:
        """See `Search`."""
        self.scorer = self.scorer.renewed()
        return GreedySession(copy.copy(self), batch)  # which keeps this scorer

    def start(self, batch: int) -> State:
        """B utterances of which nothing has been read."""
        nothing_B = torch.zeros(batch, dtype=torch.long, device=self.device)
        return State(
            context_BC=self.model.predictor.start(batch, self.device),
            state_BS=self.scorer.start(batch),
            unseen_B=nothing_B,
            frame_B=nothing_B,
            emitted_B=nothing_B,
            joined_B=nothing_B,
            score_B=nothing_B.to(at_least_float32(self.by_place_CVD)),
        )

    def steps_for(self, frames: int) -> int:
        """How many to take before a look at a part of so many frames: as many as may be needed, `STEPS` at most. Each
        leaves a frame or emits another of its labels.
        """
        in_place = any(frames == 0 for frames, _ in self.arcs.moves)
        most = frames * self.max_symbols_per_frame if in_place else frames
        return min(1 << (most - 1).bit_length(), STEPS)  # powers of two, so that graphs are few

    def go(self, state: State, part: Part, steps: int) -> tuple[State, Labels]:
        """`walk`, by a CUDA graph where there are any."""
        if self.graphs is None:
            return self.walk(state, part, steps)
        found = self.graphs(self.walk_flat, steps, *part, *state)
        return State(*found[: len(state)]), Labels(*found[len(state) :])

    def walk_flat(self, steps: int, *given: Tensor) -> list[Tensor]:
        """`walk` as a function of tensors."""
        parts = len(Part._fields)
        state, labels = self.walk(State(*given[parts:]), Part(*given[:parts]), steps)
        return [*state, *labels]

    def walk(self, state: State, part: Part, steps: int) -> tuple[State, Labels]:
        """Go so many steps, or where it costs nothing to look until no utterance can. No shape depends on a value."""
        kept: list[Step] = []
        labels: list[Labels] = []
        for left in reversed(range(steps)):
            state, step = self.step(state, part)
            kept.append(step)
            done = not left or (self.looks and not bool((state.frame_B < frames_to_read(state, part)).any()))
            if done or len(kept) * step.logits_BFK.numel() > MOST_LOGITS:
                state, found = self.settle(state, kept)
                labels.append(found)
                kept = []
            if done:
                break
        return state, joined(labels)

    def step(self, state: State, part: Part) -> tuple[State, Step]:
        """Go over blanks to the next label of each utterance, and along its arc, if it is near."""
        ahead = min(max(ROWS // len(state.frame_B), 1), self.most_ahead)
        frame_BF = state.frame_B[:, None] + torch.arange(ahead, device=self.device)
        logits_BFK = self.joiner(part.at(frame_BF), self.predict(state.context_BC)[:, None])
        token_BF, arc_BF = self.likeliest(logits_BFK)
        inside_BF = frame_BF < frames_to_read(state, part)[:, None]
        emits_BF = self.emits_A[arc_BF] & inside_BF
        passed_BF = inside_BF & (emits_BF.cumsum(1) <= emits_BF)
        label_BF = passed_BF & emits_BF
        token_B = (token_BF * label_BF).sum(1)
        if self.scorer.scorers:
            state, token_B = self.best_scored(state, logits_BFK, label_BF)
            token_BF = token_B[:, None].where(label_BF, token_BF)
        step = Step(logits_BFK, token_BF, arc_BF, frame_BF, passed_BF, label_BF)
        return self.moved(state, step, token_B), step

    def predict(self, context_BC: Tensor) -> Tensor:
        """`Transducer.predict_next` (B,J), by a table: fewer calls."""
        rows = [by_place_VD[labels_B] for by_place_VD, labels_B in zip(self.by_place_CVD, context_BC.unbind(1))]
        return self.model.predictor_projection(functools.reduce(torch.add, rows).relu())

    def likeliest(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The likeliest label and the likeliest arc of nodes (...,), from logits (...,K)."""
        token = 1 + logits[..., 1 : self.model.vocab_size].argmax(-1)
        return token, self.arcs.weights(self.arcs.compared(logits, token)).max(0).indices

    def best_scored(self, state: State, logits_BFK: Tensor, label_BF: Tensor) -> tuple[State, Tensor]:
        """The best labels (B,) by the model and the scorers together, 0 where there is none, and what scorers add."""
        found_B, place_B = label_BF.long().max(1)
        logits_BK = logits_BFK[torch.arange(len(place_B), device=self.device), place_B]
        scores_BV = self.scorer.scores(state.state_BS)[:, 1:]
        best_B = (logits_BK[:, 1 : self.model.vocab_size] + scores_BV).argmax(1)
        added_B = scores_BV.gather(1, best_B[:, None])[:, 0].where(found_B > 0, 0)
        token_B = (1 + best_B) * found_B
        following_BS = self.scorer.following(state.state_BS, token_B)
        seen_B = (following_BS >= 0).all(1)
        state = state._replace(
            state_BS=following_BS.where(seen_B[:, None], state.state_BS),
            unseen_B=state.unseen_B.where(seen_B, token_B),
            score_B=state.score_B + added_B.to(state.score_B.dtype),
        )
        return state, token_B

    def moved(self, state: State, step: Step, token_B: Tensor) -> State:
        """Along the arcs of a step, which emitted `token_B`; at least 1 frame further from a full frame."""
        found_B = token_B > 0
        frames_BF = self.frames_A[step.arc_BF]
        by_label_B = (frames_BF * step.label_BF).sum(1)
        by_blank_B = (frames_BF * step.passed_BF).sum(1) - by_label_B
        emitted_B = state.emitted_B.where(by_blank_B == 0, 0) + found_B
        by_label_B = by_label_B.maximum((emitted_B >= self.max_symbols_per_frame).long())
        again_B = found_B & (by_label_B == 0)  # the next node is one of the same frame
        context_BC = torch.cat((state.context_BC[:, 1:], token_B[:, None]), dim=1)
        return state._replace(
            context_BC=context_BC.where(found_B[:, None], state.context_BC),
            frame_B=state.frame_B + by_blank_B + by_label_B,
            emitted_B=emitted_B.where(by_label_B == 0, 0),
            joined_B=state.joined_B + step.passed_BF.sum(1) - again_B.long(),
        )

    def settle(self, state: State, steps: Sequence[Step]) -> tuple[State, Labels]:
        """Make probabilities of the logits of steps, many at once: the score of the paths, and the labels' own."""
        logits, token, arc, frame, passed, label = (torch.stack(values, 1) for values in zip(*steps))
        weights_A = self.arcs.weights(self.arcs.log_probs(logits, token))
        path = weights_A.gather(0, arc[None])[0].where(passed, 0)
        confidence = weights_A.index_select(0, self.label_arcs).logsumexp(0).exp().clamp(max=1)
        found = (values.where(label, 0).sum(2) for values in (token, frame, confidence))
        return state._replace(score_B=state.score_B + path.flatten(1).sum(1)), Labels(*found)


class GreedySession:
    """A greedy search of B utterances under way.

    read_B: how many of their frames were read. steps: how many to take at most before the next look. labels: those of
    which nothing was made yet; found: hypotheses of those before, without scores.
    """

    def __init__(self, search: GreedySearch, batch: int) -> None:
        self.search, self.state, self.steps = search, search.start(batch), STEPS
        self.read_B = self.state.frame_B
        self.labels = [Labels(*[self.read_B.new_zeros(batch, 0)] * 3)]  # of no step
        self.found: list[Hypothesis] = [Hypothesis([], [], 0.0, []) for _ in range(batch)]

    @torch.inference_mode()
    def read(self, encoder_out_BTJ: Tensor, frames_B: Tensor) -> None:
        """See `Session`."""
        part = Part.of(encoder_out_BTJ, self.read_B, frames_B)
        self.read_B = part.end_B
        left, most = len(part.rows_NJ) > 0, self.search.steps_for(encoder_out_BTJ.shape[1])
        while left:
            self.state, labels = self.search.go(self.state, part, min(self.steps, most))
            self.labels.append(labels)
            left = self.look(part)

    def look(self, part: Part) -> bool:
        """Whether there are frames left. Scorers find out what they did not know, and while that is much, it is not
        left for long.
        """
        looked = (self.state.frame_B < part.end_B).any(), (self.state.unseen_B > 0).any()
        left, unseen = torch.stack(looked).cpu().tolist()
        self.steps = 1 if unseen else min(2 * self.steps, STEPS)
        if unseen:
            followed_BS = self.search.scorer.advance(self.state.state_BS, self.state.unseen_B)
            self.state = self.state._replace(state_BS=followed_BS, unseen_B=torch.zeros_like(self.state.unseen_B))
        return bool(left)

    def best(self) -> list[list[Hypothesis]]:
        """See `Session`."""
        state = self.state
        columns = [*joined(self.labels), (state.score_B + self.search.scorer.final(state.state_BS))[:, None]]
        table = torch.cat([values.to(state.score_B.dtype) for values in columns], dim=1).cpu()  # at once
        scores, labels_BNC = table[:, -1].tolist(), table[:, :-1].reshape(len(table), 3, -1).transpose(1, 2)
        rows, steps = labels_BNC[..., 0].nonzero(as_tuple=True)
        del self.labels[1:]
        for row, (token, frame, confidence) in zip(rows.tolist(), labels_BNC[rows, steps].tolist()):
            self.found[row].tokens.append(int(token))
            self.found[row].frames.append(int(frame))
            self.found[row].confidences.append(confidence)
        return [
            [Hypothesis([*one.tokens], [*one.frames], score, [*one.confidences])]
            for one, score in zip(self.found, scores)
        ]

    def joined(self) -> int:
        """See `Session`."""
        return int(self.state.joined_B.sum())


def frames_to_read(state: State, part: Part) -> Tensor:
    """How far utterances can go (B,): those that wait for a scorer not at all."""
    return part.end_B.where(state.unseen_B == 0, 0)


def joined(labels: Sequence[Labels]) -> Labels:
    """Labels of steps, and of those after them."""
    return Labels(*(torch.cat(values, dim=1) for values in zip(*labels)))
