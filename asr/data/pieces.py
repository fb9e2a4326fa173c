"""Pieces that are drawn: a transcript is spelled otherwise in each epoch (subword regularisation, Kudo, ACL 2018).

SentencePiece draws as well, but by a generator that nobody can set to an epoch and an utterance: a run that goes on
would see other pieces than one that was never interrupted.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from asr.data.augment import keyed_random
from asr.data.tokenizer import SPACE, Tokenizer, normalised
from asr.errors import InputError


@dataclass(frozen=True)
class Arc:
    """A piece of a word: where it starts, its id, and the log-weight of all spellings up to its end that end in it."""

    start: int
    id: int
    weight: float


class PieceSampler:
    """Spells the words of a transcript in pieces drawn from all of their spellings, by their probabilities ** `alpha`.

    So with 0 all spellings are equally likely. Every draw follows from the run's seed, the epoch and the utterance.
    frames_for: fewest frames that labels can be trained on. Raises InputError where the tokenizer's pieces have no
    probabilities.
    """

    def __init__(self, tokenizer: Tokenizer, alpha: float, seed: int, frames_for: Callable[[list[int]], int]) -> None:
        log_probs = tokenizer.log_probs
        if log_probs is None:
            raise InputError(
                f"data.sample_pieces={alpha:g}: this tokenizer's pieces have no probabilities to be drawn by: make "
                "one that has with `asr tokenizer kind=unigram`"
            )
        self.tokenizer, self.seed, self.frames_for = tokenizer, seed, frames_for
        self.known = {
            piece: (id_, alpha * log_prob)
            for id_, (piece, log_prob) in enumerate(zip(tokenizer.pieces, log_probs))
            if id_ > 1  # blank and <unk>
        }
        self.longest = max(map(len, self.known))

    def __call__(self, text: str, epoch: int, cut_id: str, frames: int) -> list[int]:
        """Ids of a transcript; the likeliest ones where those that are drawn need more frames than there are.

        Raises InputError as `Tokenizer.encode` does.
        """
        likeliest = self.tokenizer.encode(text)
        rng = keyed_random("pieces", self.seed, epoch, cut_id)
        drawn = [id_ for word in normalised(text).split(" ") for id_ in self.spell(SPACE + word, rng)]
        return drawn if self.frames_for(drawn) <= frames else likeliest

    def spell(self, word: str, rng: random.Random) -> list[int]:
        """Ids of a word that begins with SPACE: its last piece is drawn first, and then what comes before."""
        arcs, end, ids = self.arcs(word), len(word), []
        while end:
            (arc,) = rng.choices(arcs[end], shares([one.weight for one in arcs[end]]))
            ids.append(arc.id)
            end = arc.start
        return ids[::-1]

    def arcs(self, word: str) -> list[list[Arc]]:
        """The pieces that end at each place of a word and can be reached from its beginning."""
        arcs: list[list[Arc]] = [[] for _ in range(len(word) + 1)]
        total = [0.0] + [-math.inf] * len(word)
        for end in range(1, len(word) + 1):
            for start in range(max(end - self.longest, 0), end):
                found = self.known.get(word[start:end])
                if found and total[start] > -math.inf:
                    arcs[end].append(Arc(start, found[0], total[start] + found[1]))
            if arcs[end]:
                total[end] = log_sum([arc.weight for arc in arcs[end]])
        return arcs


def shares(log_weights: list[float]) -> list[float]:
    """Weights in proportion to these, the largest 1."""
    largest = max(log_weights)
    return [math.exp(weight - largest) for weight in log_weights]


def log_sum(log_weights: list[float]) -> float:
    """log Σ exp."""
    return max(log_weights) + math.log(sum(shares(log_weights)))
