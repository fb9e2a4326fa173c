"""The interface of every search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


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
