"""The interface of every search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from asr.align.tokens import frame_seconds
from asr.data.batch import Batch
from asr.data.tokenizer import Tokenizer
from asr.score.wer import Utterance


@dataclass(frozen=True)
class Hypothesis:
    """One decoded utterance.

    tokens: token ids without blanks. frames: the frame, after subsampling, that emitted each.
    score: log-probability of the path, nats.
    """

    tokens: list[int]
    frames: list[int]
    score: float


class Search(Protocol):
    """Encoder output (B,T,J) and its frames (B,) → the best hypothesis of each utterance."""

    def __call__(self, encoder_out_BTJ: Tensor, frames_B: Tensor) -> list[Hypothesis]:
        """Search a batch; an utterance's result does not depend on the others."""


def recognised(batch: Batch, hypotheses: Sequence[Hypothesis], tokenizer: Tokenizer) -> Iterator[Utterance]:
    """The utterances of a batch with what was recognised, and when."""
    pieces = tokenizer.pieces
    for utterance, text, hypothesis in zip(batch.ids, batch.texts, hypotheses, strict=True):
        yield Utterance(
            utterance,
            text,
            tokenizer.decode(hypothesis.tokens),
            tuple(pieces[token] for token in hypothesis.tokens),
            tuple(round(frame_seconds(frame), 3) for frame in hypothesis.frames),
        )
