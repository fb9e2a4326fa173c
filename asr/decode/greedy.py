"""Greedy search, by labels instead of frames: all utterances of a batch skip their blanks at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from asr.decode.search import Hypothesis, Session
from asr.models.transducer import Transducer

ROWS = 256  # nodes that are evaluated at a time: enough for a product of matrices to be fast, few to be in vain
MOST_AHEAD = 8  # frames of an utterance


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
    labels: for each step whether there was a label (B,), and its token, frame and log-probability.
    """

    def __init__(self, model: Transducer, max_symbols_per_frame: int, batch: int) -> None:
        self.model, self.limit = model, max_symbols_per_frame
        device = model.joiner.output.weight.device
        self.context_BC = model.predictor.start(batch, device)
        self.predicted_BJ = model.predict_next(self.context_BC)
        self.score_B = self.predicted_BJ.new_zeros(batch)
        self.emitted_B = torch.zeros(batch, dtype=torch.long, device=device)
        self.read_B = torch.zeros_like(self.emitted_B)
        self.row_B1 = torch.arange(batch, device=device)[:, None]
        self.ahead_F = torch.arange(min(max(ROWS // batch, 1), MOST_AHEAD), device=device)
        self.labels: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    @torch.inference_mode()
    def read(self, encoder_out_BTJ: Tensor, frames_B: Tensor) -> None:
        """See `Session`."""
        frame_B = torch.zeros_like(frames_B)
        while bool((frame_B < frames_B).any()):
            frame_B = self.to_next_label(encoder_out_BTJ, frames_B, frame_B)
        self.read_B = self.read_B + frames_B

    def to_next_label(self, encoder_out_BTJ: Tensor, frames_B: Tensor, frame_B: Tensor) -> Tensor:
        """Go on from `frame_B`, over blanks to the next label of each utterance if it is near; the frame after (B,)."""
        frame_BF = frame_B[:, None] + self.ahead_F
        inside_BF = frame_BF < frames_B[:, None]
        encoded_BFJ = encoder_out_BTJ[self.row_B1, frame_BF.clamp(max=encoder_out_BTJ.shape[1] - 1)]
        log_prob_BF, token_BF = self.likeliest(encoded_BFJ)
        is_label_BF = (token_BF != 0) & inside_BF
        before_BF = inside_BF & (is_label_BF.cumsum(1) == 0)
        blanks_B, found_B = before_BF.sum(1), is_label_BF.any(1)
        self.score_B = self.score_B + log_prob_BF.where(before_BF, 0.0).sum(1)
        at_B1 = blanks_B[:, None].clamp(max=len(self.ahead_F) - 1)
        self.take(found_B, token_BF.gather(1, at_B1)[:, 0], frame_B + blanks_B, log_prob_BF.gather(1, at_B1)[:, 0])
        return frame_B + blanks_B + self.count(found_B, blanks_B)

    def likeliest(self, encoded_BFJ: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability and token (B,F) of the likeliest arc of some frames."""
        logits = self.model.joiner(encoded_BFJ, self.predicted_BJ[:, None])
        highest, token = logits.max(2)
        return highest - logits.logsumexp(2), token

    def take(self, found_B: Tensor, token_B: Tensor, frame_B: Tensor, log_prob_B: Tensor) -> None:
        """Emit the labels that were found."""
        if not found_B.any():
            return
        self.labels.append((found_B, token_B, self.read_B + frame_B, log_prob_B))
        self.score_B = self.score_B + log_prob_B.where(found_B, 0.0)
        extended = torch.cat((self.context_BC[:, 1:], token_B[:, None]), dim=1)
        self.context_BC = extended.where(found_B[:, None], self.context_BC)
        self.predicted_BJ = self.model.predict_next(self.context_BC)

    def count(self, found_B: Tensor, blanks_B: Tensor) -> Tensor:
        """Count the labels of the frame; 1 (B,) where it may emit no more, and the next one is due."""
        if self.limit == 1:
            return found_B.long()
        emitted_B = self.emitted_B.where(blanks_B == 0, 0) + found_B
        full_B = emitted_B == self.limit
        self.emitted_B = emitted_B.where(~full_B, 0)
        return full_B.long()

    def best(self) -> list[list[Hypothesis]]:
        """See `Session`."""
        found: list[Hypothesis] = [Hypothesis([], [], score, []) for score in self.score_B.tolist()]
        columns = [torch.stack(values, dim=1).tolist() for values in zip(*self.labels)]
        for hypothesis, *steps in zip(found, *columns):
            for is_label, token, frame, log_prob in zip(*steps):
                if is_label:
                    hypothesis.tokens.append(token)
                    hypothesis.frames.append(frame)
                    hypothesis.confidences.append(min(math.exp(log_prob), 1.0))
        return [[hypothesis] for hypothesis in found]
