"""Context biasing: phrases, such as names, that a search is to prefer."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from asr.data.scripts import begins_unit, units_of_text
from asr.data.tokenizer import Tokenizer
from asr.data.words import WORD_START
from asr.decode.scorer import Tabulated
from asr.errors import InputError
from asr.files import read_lines

_ROOT = 0


@dataclass(frozen=True)
class Phrase:
    """Token ids, one or more, and what the whole of them adds, in nats."""

    tokens: tuple[int, ...]
    bonus: float

    def loan(self, length: int) -> float:
        """What the first `length` tokens are lent, nats: each an equal share."""
        return self.bonus * length / len(self.tokens)


def read_phrases(path: Path, tokenizer: Tokenizer, boost: float) -> list[Phrase]:
    """The phrases of a file, one a line, each with a boost of its own after a tab or else with `boost` (nats a word).

    A boost means the same in letters and in words: it is that of a word, whatever the number of its pieces, or of a
    character of a script without blanks. A phrase is matched from the beginning of a word on, in the pieces that the
    tokenizer gives; in a script without blanks anywhere.

    Raises InputError for an unreadable or empty file, a phrase that the tokenizer cannot spell, and a boost that is no
    positive number.
    """
    lines = ((f"{path}: line {number}", line) for number, line in read_lines(path) if line.strip())
    phrases = [_phrase(place, line, tokenizer, boost) for place, line in lines]
    if not phrases:
        raise InputError(f"{path}: holds no phrase; write one a line, or do without the file")
    return phrases


def make_phrases(lines: Iterable[str], tokenizer: Tokenizer, boost: float) -> list[Phrase]:
    """The phrases of lines as `read_phrases` has them. Raises InputError for one that is at fault."""
    return [_phrase(f"phrases: {line!r}", line, tokenizer, boost) for line in lines]


def _phrase(place: str, line: str, tokenizer: Tokenizer, boost: float) -> Phrase:
    text, tab, own = line.partition("\t")
    try:
        bonus = len(units_of_text(text)) * (_boost(own) if tab else boost)
        return Phrase(_spelling(tokenizer, text), bonus)
    except InputError as error:
        raise InputError(f"{place}: {error}") from error


def _spelling(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    """The tokens of a phrase; in a script without blanks without the mark that only an utterance's start has."""
    tokens = tokenizer.encode(text)
    pieces = [tokenizer.pieces[token] for token in tokens[:2]]
    marked = pieces[0] == WORD_START and begins_word(pieces[1])
    return tuple(tokens[1:] if marked else tokens)


def begins_word(piece: str) -> bool:
    """Whether a word may begin with this piece."""
    return piece.startswith(WORD_START) or begins_unit(piece[0])


def _boost(text: str) -> float:
    """Nats a word. Raises InputError where it is no positive number."""
    try:
        boost = float(text)
    except ValueError:
        boost = math.nan
    if not 0 < boost < math.inf:
        raise InputError(f"{text!r} after the tab is no positive number: give a boost in nats a word, or no tab")
    return boost


def context_scorer(phrases: Iterable[Phrase], pieces: Sequence[str], device: torch.device) -> Tabulated[int]:
    """What phrases add to labels, whose symbols are `pieces`; see `ContextGraph`."""
    return Tabulated(ContextGraph(phrases, [begins_word(piece) for piece in pieces]), 1.0, device)


class ContextGraph:
    """Phrases as an automaton over token ids (Aho & Corasick, 1975); see `asr.decode.scorer.Automaton`.

    **What an utterance gets, in sum: the bonus of every occurrence of every phrase**, overlapping and nested ones
    included, in which its last word is whole. (A phrase that is given twice counts as one, with the larger bonus.)

    **When it gets it.** If a search were to wait for a phrase's last token, the hypothesis would be lost by then. So
    each token of an unfinished occurrence lends its share, which is taken back when the occurrence breaks, at the end
    of the utterance, or when it is finished and the bonus is given. Of several unfinished occurrences at a time, that
    which has most lends. A bonus is taken back when the last word goes on: ANN is not in ANNUAL. With h(s) the loan in
    state s and b(s) the bonuses of the phrases that end there:

        added by the arc s → s' = b(s') + h(s') − h(s) − b(s) if its label goes on with a word,
        final(s) = −h(s),  h(start) = 0,

    which telescopes to Σ b. Of a phrase that no other overlaps, each token so adds its share.

    Own code, since pyahocorasick matches the characters of strings, and has neither states nor fail arcs to hand out.
    """

    start = _ROOT

    def __init__(self, phrases: Iterable[Phrase], begins_word: Sequence[bool]) -> None:
        """`begins_word`: of each token id, blank included, whether a word begins with it."""
        self.inside_V = ~torch.tensor(begins_word)
        self.nodes = [_Node()]
        largest: dict[tuple[int, ...], Phrase] = {}
        for phrase in sorted(phrases, key=lambda phrase: phrase.bonus):
            largest[phrase.tokens] = phrase
        for phrase in largest.values():
            self._add(phrase)
        self._link()

    def follow(self, state: int, label: int) -> int:
        """The longest end of the labels so far that begins a phrase."""
        while state != _ROOT and label not in self.nodes[state].children:
            state = self.nodes[state].fail
        return self.nodes[state].children.get(label, _ROOT)

    def weights(self, states: Sequence[int]) -> tuple[Tensor, Tensor]:
        """What each label adds (n,V), and the end (n,)."""
        final = torch.tensor([-self.nodes[state].held for state in states], dtype=torch.float64)
        given = torch.tensor([self.nodes[state].bonus for state in states], dtype=torch.float64)
        rows = final[:, None] - given[:, None] * self.inside_V
        for row, state in zip(rows, states):
            for label, target in self._arcs(state).items():
                row[label] += self.nodes[target].bonus + self.nodes[target].held
        return rows, final

    def _arcs(self, state: int) -> dict[int, int]:
        """Where labels lead to, all others leading to the root."""
        arcs = self.nodes[state].children
        while state != _ROOT:
            state = self.nodes[state].fail
            arcs = self.nodes[state].children | arcs
        return arcs

    def _add(self, phrase: Phrase) -> None:
        """Spell a phrase into the trie, with its bonus and with what its unfinished beginnings lend."""
        state = _ROOT
        for depth, token in enumerate(phrase.tokens):
            self.nodes[state].held = max(self.nodes[state].held, phrase.loan(depth))
            if token not in self.nodes[state].children:
                self.nodes[state].children[token] = len(self.nodes)
                self.nodes.append(_Node())
            state = self.nodes[state].children[token]
        self.nodes[state].bonus = phrase.bonus

    def _link(self) -> None:
        """Find where each node fails to, breadth first, and take over what holds there."""
        queue = deque(self.nodes[_ROOT].children.values())  # these fail to the root
        while queue:
            state = queue.popleft()
            node, fail = self.nodes[state], self.nodes[self.nodes[state].fail]
            node.bonus += fail.bonus
            node.held = max(node.held, fail.held)
            for token, child in node.children.items():
                self.nodes[child].fail = self.follow(node.fail, token)
                queue.append(child)


@dataclass
class _Node:
    """A beginning of phrases.

    children: by token. fail: the longest proper end of this that begins a phrase, too. bonus: of all phrases that end
    here, nats. held: what unfinished phrases have been lent here, nats.
    """

    children: dict[int, int] = field(default_factory=dict)
    fail: int = _ROOT
    bonus: float = 0.0
    held: float = 0.0
