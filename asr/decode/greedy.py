"""Greedy search, by labels instead of frames: all utterances of a batch skip their blanks at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from asr.decode.search import Hypothesis, Session
from asr.models.transducer import Transducer

ROWS = 128  # nodes that are evaluated at a time: enough for a product of matrices to be fast, few to be in vain


class GreedySearch:
    """Follows the likeliest arc from node to node, with at most `max_symbols_per_frame` labels a frame.

    Label-looping (Xu et al., arXiv 2406.06220): until the next label the predictor's output stays what it is, so
    several frames of each utterance are evaluated ahead, up to that label, and the predictor only where there is one.
    """

    def __init__(self, model: Transducer, max_symbols_per_frame: int) -> None:
        self.model = model
        self.max_symbols_per_frame = max_symbols_per_frame

    def begin(self, batch: int) -> Session:
        """See `Search`."""
        return GreedySession(self.model, self.max_symbols_per_frame, batch)


class GreedySession:
    """The state of B utterances.

    context_BC: last labels; predicted_BJ: the predictor's output for them. score_B: log-probability of the path.
    emitted_B: labels of the frame being read. read_B: frames that were read before this chunk.
    """

    def __init__(self, model: Transducer, max_symbols_per_frame: int, batch: int) -> None:
        self.model, self.limit = model, max_symbols_per_frame
        device = model.joiner.output.weight.device
        self.context_BC = model.predictor.start(batch, device)
        self.predicted_BJ = model.predict_next(self.context_BC)
        self.score_B = self.predicted_BJ.new_zeros(batch)
        self.emitted_B = torch.zeros(batch, dtype=torch.long, device=device)
        self.read_B = torch.zeros_like(self.emitted_B)
        self.labels: list[tuple[Tensor, ...]] = []  # row, token, frame and log-probability of those found together

    @torch.inference_mode()
    def read(self, encoder_out_BTJ: Tensor, frames_B: Tensor) -> None:
        """See `Session`."""
        frame_B = torch.zeros_like(frames_B)
        (rows,) = (frame_B < frames_B).nonzero(as_tuple=True)
        while len(rows):
            self.to_next_label(encoder_out_BTJ, frames_B, frame_B, rows)
            rows = rows[frame_B[rows] < frames_B[rows]]
        self.read_B += frames_B

    def to_next_label(self, encoder_out_BTJ: Tensor, frames_B: Tensor, frame_B: Tensor, rows: Tensor) -> None:
        """Move `frame_B` of the utterances `rows` over blanks to their next label, if it is near, and take it."""
        ahead = torch.arange(max(ROWS // len(rows), 1), device=rows.device)
        frame = frame_B[rows, None] + ahead
        inside = frame < frames_B[rows, None]
        log_prob, token = self.likeliest(encoder_out_BTJ[rows[:, None], frame.where(inside, 0)], rows)
        is_label = (token != 0) & inside
        found = is_label.any(1)
        blanks = is_label.int().argmax(1).where(found, inside.sum(1))
        self.score_B[rows] += (log_prob * (ahead < blanks[:, None])).sum(1)
        frame_B[rows] += blanks
        self.emitted_B[rows] *= blanks == 0
        rows, at = rows[found], (found.nonzero()[:, 0], blanks[found])
        self.take(rows, token[at], frame_B[rows], log_prob[at])
        full = self.emitted_B[rows] == self.limit
        frame_B[rows] += full
        self.emitted_B[rows] *= ~full

    def likeliest(self, encoder_out_AFJ: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability and token (A,F) of the likeliest arc of some frames of the utterances `rows`."""
        predicted_AFJ = self.predicted_BJ[rows, None].expand_as(encoder_out_AFJ)
        logits = self.model.joiner(encoder_out_AFJ.flatten(0, 1), predicted_AFJ.flatten(0, 1))
        highest, token = logits.max(1)
        log_prob = highest - logits.logsumexp(1)
        return log_prob.view(encoder_out_AFJ.shape[:2]), token.view(encoder_out_AFJ.shape[:2])

    def take(self, rows: Tensor, token: Tensor, frame: Tensor, log_prob: Tensor) -> None:
        """Emit a label in each of the utterances `rows`."""
        if not len(rows):
            return
        self.labels.append((rows, token, self.read_B[rows] + frame, log_prob))
        self.score_B[rows] += log_prob
        self.emitted_B[rows] += 1
        self.context_BC[rows] = torch.cat((self.context_BC[rows, 1:], token[:, None]), dim=1)
        self.predicted_BJ[rows] = self.model.predict_next(self.context_BC[rows])

    def best(self) -> list[list[Hypothesis]]:
        """See `Session`."""
        found: list[Hypothesis] = [Hypothesis([], [], score, []) for score in self.score_B.tolist()]
        for labels in self.labels:
            for row, token, frame, log_prob in zip(*(values.tolist() for values in labels)):
                found[row].tokens.append(token)
                found[row].frames.append(frame)
                found[row].confidences.append(min(math.exp(log_prob), 1.0))
        return [[hypothesis] for hypothesis in found]
