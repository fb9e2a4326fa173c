"""N-gram models of words in a search that goes from piece to piece."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from asr.data.scripts import without_blanks
from asr.data.tokenizer import UNKNOWN_ID, Tokenizer
from asr.data.words import WORD_START
from asr.decode.arpa import read_arpa
from asr.decode.ngram import BEGIN, END, UNKNOWN, NGrams, Tokens
from asr.decode.scorer import Tabulated
from asr.errors import InputError

Array = np.ndarray
PREFIXES = 1 << 16  # beginnings of words whose rows are kept: of 500 labels 0.3 GB
LAST_CHARACTER = chr(0x10FFFF)
NAMED, SHOWN = 5, 40  # words, and characters of one, at most, in a message


def read_word_ngrams(path: Path, tokenizer: Tokenizer) -> NGrams:
    """The model of words in an ARPA file; a warning counts those that the tokenizer cannot spell.

    Raises InputError for a file that is no ARPA, of pieces, or of a script without blanks, and where no word is left.
    """
    ngrams = read_arpa(path)
    words = {*ngrams.tokens} - {END, UNKNOWN}
    if any(word.startswith(WORD_START) for word in words):
        raise InputError(f"{path}: is of pieces, not of words: give it as decode.lm, or make another of words")
    unseparated = next(filter(without_blanks, words), None)
    if unseparated is not None:
        raise InputError(
            f"{path}: {quoted(unseparated)} is of a script without blanks between words, whose words no search tells "
            "apart; give a model of pieces, as decode.lm"
        )
    find_spelled(words, path, tokenizer)
    return ngrams


def find_spelled(words: Collection[str], path: Path, tokenizer: Tokenizer) -> set[str]:
    """The words of a file that the tokenizer can spell; a warning counts the others. Raises InputError for none."""
    known = set("".join(tokenizer.pieces[UNKNOWN_ID + 1 :])) - {WORD_START}
    found = {word for word in words if known.issuperset(word)}
    lost = sorted(set(words) - found)
    named = ", ".join(map(quoted, lost[:NAMED])) + ", …" * (len(lost) > NAMED)
    remedy = "give words as in the transcripts of the training, case included"
    if not found:
        raise InputError(f"{path}: no word that the tokenizer can spell{' among ' * bool(lost)}{named}; {remedy}")
    if lost:
        told = "%s: %d of %d words are left out, since the tokenizer cannot spell them (%s); %s"
        logging.getLogger("asr").warning(told, path, len(lost), len(words), named, remedy)
    return found


def quoted(text: str) -> str:
    """A text as a message shows it: its beginning, where it is long."""
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "…")


def word_ngram_scorer(ngrams: NGrams, pieces: Sequence[str], weight: float, device: torch.device) -> Tabulated[Spoken]:
    """Shallow fusion: weight · log p(word | words before it), and of `</s>` at the end; see `WordNGrams`."""
    return Tabulated(WordNGrams(ngrams, pieces), weight, device)


class Spoken(NamedTuple):
    """What has been said: the history of words, and what of the next word; None where that is none of the model's."""

    history: Tokens
    text: str | None


@dataclass(frozen=True)
class _Row:
    """What labels add (V,), nats, to a word that was so likely; `unlisted` ones without what `<unk>` costs."""

    nats: Array
    unlisted: Array
    ahead: float = 0.0

    def after(self, unknown: float) -> Array:
        """What they add where an unlisted word costs so many nats."""
        return np.where(self.unlisted, self.nats + unknown, self.nats)


class WordNGrams:
    """log p of words along the pieces that spell them, as an automaton; see `asr.decode.scorer.Automaton`.

    Words are what `WORD_START` separates. What has been said of a word is as likely as the likeliest word that begins
    so, by the unigrams (look-ahead: Ortmanns, Ney & Eiden, ICSLP 1996); once it ends it is as likely as the model says
    after the words before it. With the first piece after which it can be none of the model's words it is `<unk>`, so
    that a search does not follow it to its end in vain; without `<unk>`, as likely as the least likely word.
    """

    def __init__(self, ngrams: NGrams, pieces: Sequence[str]) -> None:
        """`pieces`: the symbol of every id."""
        unigrams = ngrams.arcs[()]
        words = sorted(unigrams.keys() - {BEGIN, END, UNKNOWN})
        if UNKNOWN not in unigrams:
            unigrams = {**unigrams, UNKNOWN: min(unigrams[word] for word in words)}
        self.ngrams = NGrams(ngrams.order, {**ngrams.arcs, (): unigrams}, ngrams.backoffs)
        self.words, self.listed = words, frozenset(words)
        self.nats = np.array([unigrams[word] for word in words])
        self.start = Spoken(ngrams.start, "")
        self.pieces = list(pieces)
        self.begins = np.array([piece.startswith(WORD_START) for piece in pieces])
        self.inside: dict[str, list[int]] = {}  # pieces within a word, by their first character
        for id_, piece in enumerate(pieces):
            if not piece.startswith(WORD_START):
                self.inside.setdefault(piece[:1], []).append(id_)
        first = {id_: piece.removeprefix(WORD_START) for id_, piece in enumerate(pieces) if self.begins[id_]}
        self.first = self._row({id_: self._ahead(text) for id_, text in first.items()})
        self.row_of = lru_cache(PREFIXES)(self._row_of)

    def follow(self, state: Spoken, label: int) -> Spoken:
        """What has been said with one more label."""
        piece = self.pieces[label]
        if piece.startswith(WORD_START):
            state, piece = Spoken(self._ended(state), ""), piece.removeprefix(WORD_START)
        if state.text is None:
            return state
        text = state.text + piece
        if text and not self._has(text):
            return Spoken(self._after(state.history, UNKNOWN), None)
        return Spoken(state.history, text)

    def weights(self, states: Sequence[Spoken]) -> tuple[Tensor, Tensor]:
        """What each label adds (n,V), and the end (n,)."""
        rows, ends = zip(*(self._weights(state) for state in states))
        return torch.from_numpy(np.stack(rows)), torch.tensor(ends, dtype=torch.float64)

    def _weights(self, state: Spoken) -> tuple[Array, float]:
        """What each label adds (V,), and the end."""
        history, row = self._ended(state), self.row_of(state.text)
        ended = self._likelihood(state) - row.ahead
        within = row.after(self._unknown(state.history))
        begun = ended + self.first.after(self._unknown(history))
        return np.where(self.begins, begun, within), ended + self.ngrams.log_prob(END, history)

    def _likelihood(self, state: Spoken) -> float:
        """Nats of the word if it ends; 0 of none, and of one that is `<unk>` already."""
        if not state.text:
            return 0.0
        return self.ngrams.log_prob(self._listed(state.text), state.history)

    def _ended(self, state: Spoken) -> Tokens:
        """The history once the word has ended."""
        return self._after(state.history, self._listed(state.text)) if state.text else state.history

    def _listed(self, word: str) -> str:
        """What the model has for a word."""
        return word if word in self.listed else UNKNOWN

    def _after(self, history: Tokens, word: str) -> Tokens:
        return self.ngrams.history((*history, word))

    def _unknown(self, history: Tokens) -> float:
        """Nats of an unlisted word."""
        return self.ngrams.log_prob(UNKNOWN, history)

    def _has(self, text: str, low: int = 0) -> bool:
        """Whether a word begins with `text`, or is it; none of the first `low` does."""
        place = bisect_left(self.words, text, low)
        return place < len(self.words) and self.words[place].startswith(text)

    def _ahead(self, text: str, low: int = 0) -> float | None:
        """Nats of the likeliest such word, None where there is none; 0 where nothing has been said."""
        if not text:
            return 0.0
        first = bisect_left(self.words, text, low)
        if first == len(self.words) or not self.words[first].startswith(text):
            return None
        return float(self.nats[first : bisect_left(self.words, text + LAST_CHARACTER, first)].max())

    def _row_of(self, text: str | None) -> _Row:
        """What pieces add that go on with a word; nothing to one that is `<unk>` already."""
        if text is None:
            return _Row(np.zeros(len(self.pieces)), np.zeros(len(self.pieces), dtype=bool))
        low, before = bisect_left(self.words, text), self._ahead(text)
        assert before is not None  # or it were no state's
        possible = [ids for character, ids in self.inside.items() if self._has(text + character, low)]
        return self._row({id_: self._ahead(text + self.pieces[id_], low) for ids in possible for id_ in ids}, before)

    def _row(self, ahead: Mapping[int, float | None], before: float = 0.0) -> _Row:
        """What pieces add after which a word is so likely, or, as those that lack, none of the model's."""
        nats, unlisted = np.full(len(self.pieces), -before), np.ones(len(self.pieces), dtype=bool)
        for id_, value in ahead.items():
            if value is not None:
                nats[id_] += value
                unlisted[id_] = False
        return _Row(nats, unlisted, before)
