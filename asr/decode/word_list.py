"""The words that a search is to expect: others are less likely."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from asr.data.scripts import without_blanks
from asr.data.tokenizer import UNKNOWN_ID, Tokenizer
from asr.data.words import WORD_START
from asr.decode.scorer import Tabulated
from asr.errors import InputError
from asr.files import read_lines

NAMED, SHOWN = 5, 40  # words, and characters of one, at most, in a message


def read_word_list(path: Path, tokenizer: Tokenizer) -> set[str]:
    """The words of a file, one a line, that the tokenizer can spell; a warning counts those that it cannot.

    Raises InputError for a file that cannot be read, a line of several words, a word of a script that has no blanks
    between words, and where no word is left.
    """
    words = set(_words(path))
    known = set("".join(tokenizer.pieces[UNKNOWN_ID + 1 :])) - {WORD_START}
    found = {word for word in words if known.issuperset(word)}
    lost = sorted(words - found)
    named = ", ".join(map(quoted, lost[:NAMED])) + ", …" * (len(lost) > NAMED)
    remedy = "give words as in the transcripts of the training, case included"
    if not found:
        raise InputError(f"{path}: no word that the tokenizer can spell{' among ' * bool(lost)}{named}; {remedy}")
    if lost:
        told = "%s: %d of %d words are left out, since the tokenizer cannot spell them (%s); %s"
        logging.getLogger("asr").warning(told, path, len(lost), len(words), named, remedy)
    return found


def _words(path: Path) -> Iterator[str]:
    """The words of a file, one a line; see `read_word_list`."""
    for number, line in read_lines(path):
        words, place = line.split(), f"{path}: line {number}: {quoted(line.strip())}"
        if len(words) > 1:
            raise InputError(f"{place} is more than a word; write one a line, without pronunciations")
        if without_blanks(line):
            raise InputError(
                f"{place} is of a script without blanks between words, of which a list says nothing; leave such words "
                "out, or give decode.phrases"
            )
        yield from words


def quoted(text: str) -> str:
    """A text as a message shows it: its beginning, where it is long."""
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "…")


def word_list_scorer(
    words: Collection[str], pieces: Sequence[str], penalty: float, device: torch.device
) -> Tabulated[str | None]:
    """`penalty` nats taken off for every word that is none of `words`; labels' symbols are `pieces`."""
    return Tabulated(WordList(words, pieces), penalty, device)


class WordList:
    """−1 for every word that is not listed, as an automaton; see `asr.decode.scorer.Automaton`.

    Words are what `WORD_START` separates. A word is given its −1 with the first label after which it can be none of the
    list any more, so that a search does not follow it to its end in vain; one that is but the beginning of a listed
    word, when it ends. A state is what has been said of a word, or None once it has had its −1.
    """

    start: str | None = ""

    def __init__(self, words: Collection[str], pieces: Sequence[str]) -> None:
        """`pieces`: the symbol of every id."""
        self.words, self.sorted = frozenset(words), sorted(words)
        self.pieces = list(pieces)
        self.inside: dict[str, list[int]] = {}  # pieces within a word, by their first character
        outside: dict[int, float] = {}  # those that begin a word, and what they add to it
        for id_, piece in enumerate(pieces):
            if piece.startswith(WORD_START):
                outside[id_] = -float(not self.is_beginning(piece.removeprefix(WORD_START)))
            else:
                self.inside.setdefault(piece[:1], []).append(id_)
        self.begins = torch.tensor([id_ in outside for id_ in range(len(pieces))])
        self.after_lost = torch.tensor([outside.get(id_, 0.0) for id_ in range(len(pieces))], dtype=torch.float64)
        self.lost = torch.where(self.begins, self.after_lost, -1.0)  # where no label goes on with a listed word

    def follow(self, state: str | None, label: int) -> str | None:
        """What has been said of the word that the label begins or goes on with."""
        piece = self.pieces[label]
        if piece.startswith(WORD_START):
            state, piece = "", piece.removeprefix(WORD_START)
        if state is None or not self.is_beginning(state + piece):
            return None
        return state + piece

    def weights(self, states: Sequence[str | None]) -> tuple[Tensor, Tensor]:
        """What each label adds (n,V), and the end (n,)."""
        final = torch.tensor([self.at_end(state) for state in states], dtype=torch.float64)
        rows = torch.stack([self._row(state) for state in states])
        return torch.where(self.begins, rows + final[:, None], rows), final

    def at_end(self, state: str | None) -> float:
        """What a word adds that ends: nothing where it is listed, or has been given its −1, or is none."""
        return 0.0 if not state or state in self.words else -1.0

    def is_beginning(self, text: str, first: int = 0) -> bool:
        """Whether a listed word begins with `text`, or is it; none of the first `first` does."""
        place = bisect_left(self.sorted, text, first)
        return place < len(self.sorted) and self.sorted[place].startswith(text)

    def _row(self, state: str | None) -> Tensor:
        """What each label adds (V,), but for the end of the word before."""
        if state is None:
            return self.after_lost
        row, first = self.lost.clone(), bisect_left(self.sorted, state)
        possible = [ids for character, ids in self.inside.items() if self.is_beginning(state + character, first)]
        row[[id_ for ids in possible for id_ in ids if self.is_beginning(state + self.pieces[id_], first)]] = 0.0
        return row
