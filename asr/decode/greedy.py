"""Greedy search, by labels instead of frames: all utterances of a batch skip their blanks at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from asr.arcs.base import ArcSet
from asr.arcs.standard import standard_arcs
from asr.decode.scorer import LabelScorer, ScorerSum
from asr.decode.search import Hypothesis, Session, with_blank_penalty
from asr.models.transducer import Transducer

ROWS = 256  # nodes that are evaluated at a time: enough for a product of matrices to be fast, few to be in vain
MOST_AHEAD = 8  # frames of an utterance


class GreedySearch:
    """Follows the likeliest arc from node to node, with at most `max_symbols_per_frame` labels a frame.

    Label-looping (Xu et al., arXiv 2406.06220): until the next label the predictor's output stays what it is, so
    several frames of each utterance are evaluated ahead, up to that label, and the predictor only where there is one.
    Where arcs skip frames, one frame at a time: the encoder's output of a frame that is skipped is never joined.

    scorers: add to the log-probabilities of labels, see `asr.decode.scorer`. Where there are any, the model alone says
    whether there is a label, or blank, to which nothing is added, would take the place of labels. There is one where
    all labels together are likelier than blank, as if in HAT (Variani et al., ICASSP 2020). NGPU-LM (Bataev et al.,
    Interspeech 2025) asks for a single label that is; on models of AN4 in training it gained no more.
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

    def begin(self, batch: int) -> Session:
        """See `Search`."""
        return GreedySession(self, batch)


class GreedySession:
    """The state of B utterances.

    context_BC: last labels; predicted_BJ: the predictor's output for them. score_B: log-probability of the path.
    emitted_B: labels of the frame being read. read_B: frames that were read before this chunk. skipped_B: frames of the
    next chunk that the last arc leads over. joined_B: frames at which there was a node, where arcs skip some.
    labels: for each step whether there was a label (B,), and its token, frame and log-probability.
    """

    def __init__(self, search: GreedySearch, batch: int) -> None:
        self.model, self.arcs, self.limit = search.model, search.arcs, search.max_symbols_per_frame
        self.joiner, self.scorer = search.joiner, search.scorer
        device = self.model.joiner.output.weight.device
        self.context_BC = self.model.predictor.start(batch, device)
        self.predicted_BJ = self.model.predict_next(self.context_BC)
        self.state_BS = self.scorer.start(batch)
        self.score_B = self.predicted_BJ.new_zeros(batch)
        self.emitted_B = torch.zeros(batch, dtype=torch.long, device=device)
        self.read_B, self.skipped_B, self.joined_B = (torch.zeros_like(self.emitted_B) for _ in range(3))
        self.row_B1 = torch.arange(batch, device=device)[:, None]
        self.frames_A, self.emits_A = torch.tensor(self.arcs.moves, device=device).T
        self.emits_A = self.emits_A > 0
        self.skips = int(self.frames_A.max()) > 1
        ahead = 1 if self.skips else min(max(ROWS // batch, 1), MOST_AHEAD)
        self.ahead_F = torch.arange(ahead, device=device)
        self.labels: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    @torch.inference_mode()
    def read(self, encoder_out_BTJ: Tensor, frames_B: Tensor) -> None:
        """See `Session`."""
        frame_B = self.skipped_B
        while bool((frame_B < frames_B).any()):
            frame_B = self.to_next_label(encoder_out_BTJ, frames_B, frame_B)
        self.read_B, self.skipped_B = self.read_B + frames_B, frame_B - frames_B

    def to_next_label(self, encoder_out_BTJ: Tensor, frames_B: Tensor, frame_B: Tensor) -> Tensor:
        """Go on from `frame_B`, over blanks to the next label of each utterance if it is near; the frame after (B,)."""
        frame_BF = frame_B[:, None] + self.ahead_F
        inside_BF = frame_BF < frames_B[:, None]
        if self.skips:
            self.joined_B += inside_BF[:, 0] & (self.emitted_B == 0)  # or the frame has been counted
        encoded_BFJ = encoder_out_BTJ[self.row_B1, frame_BF.clamp(max=encoder_out_BTJ.shape[1] - 1)]
        weight_BF, arc_BF, token_BF, log_prob_BF = self.likeliest(encoded_BFJ)
        is_label_BF = self.emits_A[arc_BF] & inside_BF
        before_BF = inside_BF & (is_label_BF.cumsum(1) == 0)
        blanks_B, found_B = before_BF.sum(1), is_label_BF.any(1)
        frames_BF = self.frames_A[arc_BF]
        at_B1 = blanks_B[:, None].clamp(max=len(self.ahead_F) - 1)
        token_B, log_prob_B, step_B = (values.gather(1, at_B1)[:, 0] for values in (token_BF, log_prob_BF, frames_BF))
        taken_BF = before_BF | (is_label_BF & (is_label_BF.cumsum(1) == 1))
        self.score_B = self.score_B + weight_BF.where(taken_BF, 0.0).sum(1)
        frame_B = frame_B + frames_BF.where(before_BF, 0).sum(1)
        self.take(found_B, token_B, frame_B, log_prob_B)
        return frame_B + self.count(found_B, blanks_B, step_B)

    def likeliest(self, encoded_BFJ: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of the likeliest arc of some frames: its log-weight, and which it is (B,F); and of the likeliest label: its
        token, and its log-probability by whatever arc.
        """
        logits = self.joiner(encoded_BFJ, self.predicted_BJ[:, None])
        if self.scorer.scorers:
            return self.likeliest_scored(logits)
        token = 1 + logits[..., 1 : self.model.vocab_size].argmax(2)
        weights = self.arcs.weights(self.arcs.log_probs(logits, token))
        highest, arc = weights.max(0)
        return highest, arc, token, weights[self.emits_A].logsumexp(0)

    def likeliest_scored(self, logits_BFK: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The same with scorers: first whether there is a label, by the model; then which, by the model and them."""
        labels, weights = self.arcs.by_label(logits_BFK)
        labels = labels[..., 1 : self.model.vocab_size]
        onward = weights[self.emits_A].logsumexp(0)
        is_label = labels.logsumexp(2) + onward > weights[~self.emits_A].logsumexp(0)
        best, index = (labels + self.scorer.scores(self.state_BS)[:, None, 1:]).max(2)
        weights[self.emits_A] += best
        highest, arc = weights.masked_fill(self.emits_A[:, None, None] != is_label, -math.inf).max(0)
        return highest, arc, 1 + index, labels.gather(2, index[..., None])[..., 0] + onward

    def take(self, found_B: Tensor, token_B: Tensor, frame_B: Tensor, log_prob_B: Tensor) -> None:
        """Emit the labels that were found."""
        if not found_B.any():
            return
        self.labels.append((found_B, token_B, self.read_B + frame_B, log_prob_B))
        extended = torch.cat((self.context_BC[:, 1:], token_B[:, None]), dim=1)
        self.context_BC = extended.where(found_B[:, None], self.context_BC)
        self.predicted_BJ = self.model.predict_next(self.context_BC)
        self.state_BS = self.scorer.advance(self.state_BS, token_B.where(found_B, 0))

    def count(self, found_B: Tensor, blanks_B: Tensor, step_B: Tensor) -> Tensor:
        """Count the labels of the frame; how many frames further the next node is (B,), at least 1 from a full frame.

        step_B: frames that the label's arc advances.
        """
        emitted_B = self.emitted_B.where(blanks_B == 0, 0) + found_B
        step_B = step_B.where(found_B, 0).maximum((emitted_B >= self.limit).long())
        self.emitted_B = emitted_B.where(step_B == 0, 0)
        return step_B

    def best(self) -> list[list[Hypothesis]]:
        """See `Session`."""
        scores = (self.score_B + self.scorer.final(self.state_BS)).tolist()
        found: list[Hypothesis] = [Hypothesis([], [], score, []) for score in scores]
        columns = [torch.stack(values, dim=1).tolist() for values in zip(*self.labels)]
        for hypothesis, *steps in zip(found, *columns):
            for is_label, token, frame, log_prob in zip(*steps):
                if is_label:
                    hypothesis.tokens.append(token)
                    hypothesis.frames.append(frame)
                    hypothesis.confidences.append(min(math.exp(log_prob), 1.0))
        return [[hypothesis] for hypothesis in found]

    def joined(self) -> int:
        """See `Session`."""
        return int((self.joined_B if self.skips else self.read_B).sum())
