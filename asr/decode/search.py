"""The interface of every search, and what it finds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from asr.arcs.base import ArcSet
from asr.data.batch import Batch
from asr.data.tokenizer import Tokenizer
from asr.errors import InputError
from asr.frames import FrameTiming
from asr.score.wer import Utterance

Joint = Callable[[Tensor, Tensor], Tensor]  # rows of encoder and predictor → logits, see `asr.models.joiner`


@dataclass(frozen=True)
class Hypothesis:
    """One way to read an utterance.

    tokens: ids without blanks. frames: the frame, after subsampling, that emitted each. confidences: the
    model's probability of each in that frame. score: log-probability, nats, and what else the search adds to it.
    """

    tokens: list[int]
    frames: list[int]
    score: float
    confidences: list[float]


class Session(Protocol):
    """A search of B utterances under way."""

    def read(self, encoder_out_BTJ: Tensor, frames_B: Tensor) -> None:
        """Go on with the next frames; `frames_B` (B,) says how many of these T are each utterance's, 0 if none."""

    def best(self) -> list[list[Hypothesis]]:
        """The hypotheses of each utterance as of now, best first, at least one."""

    def joined(self) -> int:
        """Frames so far, of all utterances, at which there was a node: whose encoder output the joiner was given."""


class Search(Protocol):
    """How to find the labels of encoder output. An utterance's result does not depend on the others."""

    def begin(self, batch: int) -> Session:
        """Begin with `batch` utterances."""


def with_blank_penalty(joiner: Joint, arcs: ArcSet, nats: float) -> Joint:
    """The joiner with `nats` taken off the logits of blanks, so that the labels of a node share what these lose.

    Of paths that all have as many blanks, as those of topology=regular, some are so preferred to others, too.
    """

    def penalised(encoder_NJ: Tensor, predictor_NJ: Tensor) -> Tensor:
        logits = joiner(encoder_NJ, predictor_NJ)
        for blank in arcs.blanks:  # one by one: a list of them would be copied to a GPU, which is waited for
            logits[..., blank] -= nats
        return logits

    return penalised if nats else joiner


@torch.inference_mode()
def search_all(search: Search, encoder_out_BTJ: Tensor, frames_B: Tensor) -> list[list[Hypothesis]]:
    """The hypotheses of each of B whole utterances, best first."""
    session = search.begin(len(encoder_out_BTJ))
    session.read(encoder_out_BTJ, frames_B)
    return session.best()


def require_score(hypotheses: Sequence[Hypothesis]) -> None:
    """Raise InputError where the best hypothesis has no finite score: then its text says nothing, "" in particular."""
    if not math.isfinite(hypotheses[0].score):
        raise InputError(
            f"the score of what was recognised is {hypotheses[0].score}: the model's weights are not sound; "
            "decode with checkpoint=best, or train again with a lower optim.lr"
        )


def recognised(
    batch: Batch, found: Sequence[Sequence[Hypothesis]], tokenizer: Tokenizer, timing: FrameTiming
) -> Iterator[list[Utterance]]:
    """What was recognised of each utterance of a batch, and when: its hypotheses, best first."""
    for utterance, text, hypotheses in zip(batch.ids, batch.texts, found, strict=True):
        yield [as_utterance(utterance, text, hypothesis, tokenizer, timing) for hypothesis in hypotheses]


def as_utterance(
    id_: str, reference: str, hypothesis: Hypothesis, tokenizer: Tokenizer, timing: FrameTiming
) -> Utterance:
    """A hypothesis in words, beside what was said; a token's time is the middle of the frame that emitted it."""
    return Utterance(
        id_,
        reference,
        tokenizer.decode(hypothesis.tokens),
        tuple(tokenizer.pieces[token] for token in hypothesis.tokens),
        tuple(round(timing.middle(frame), 3) for frame in hypothesis.frames),
        tuple(round(confidence, 4) for confidence in hypothesis.confidences),
        round(hypothesis.score, 4),
    )
