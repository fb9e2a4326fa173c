"""Back-off n-gram models of tokens: training them, and adding their log-probabilities in a search."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from asr.data.tokenizer import UNKNOWN_ID
from asr.decode.scorer import Tabulated
from asr.errors import InputError, not_installed
from asr.progress import progress

Tokens = tuple[str, ...]

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
IMPOSSIBLE = -99 * math.log(10)  # nats; ARPA's -99, which stands for log 0
NAMED = 10  # pieces at most, in a message


@dataclass
class NGrams:
    """A back-off model (Katz, 1987): log p(w|h) = arcs[h][w] if listed, else backoffs[h] + log p(w|h').

    h' is the history h without its first token. All values are nats. () has an arc for every token, and
    for the end, `</s>`.
    backoffs: of the histories that have one; 0 for all others.
    """

    order: int
    arcs: dict[Tokens, dict[str, float]] = field(default_factory=dict)
    backoffs: dict[Tokens, float] = field(default_factory=dict)

    @property
    def tokens(self) -> list[str]:
        """All that is predicted: every unigram, `</s>` included, but not `<s>`."""
        return [token for token in self.arcs[()] if token != BEGIN]

    @property
    def start(self) -> Tokens:
        """The history of a sentence's first token."""
        return self.history((BEGIN,))

    def history(self, tokens: Tokens) -> Tokens:
        """The longest end of `tokens` that the model tells from shorter ones."""
        tokens = tokens[max(0, len(tokens) - self.order + 1) :]
        while tokens and tokens not in self.arcs and tokens not in self.backoffs:
            tokens = tokens[1:]
        return tokens

    def log_prob(self, token: str, history: Tokens) -> float:
        """Nats of `token`, which must be one of `tokens`, after `history`."""
        listed = self.arcs.get(history, {})
        if token in listed or not history:
            return listed[token]
        return self.backoffs.get(history, 0.0) + self.log_prob(token, history[1:])


def train_ngrams(sentences: Sequence[Sequence[str]], vocabulary: Sequence[str], order: int) -> NGrams:
    """An interpolated Witten-Bell model (Chen & Goodman, 1999) of sequences of tokens.

    Every token of the vocabulary is counted once more than it occurs, as a unigram, so that none is impossible.

    Witten-Bell, because counts of a small vocabulary have no such regularity as Kneser-Ney's discounts rest on.
    (NLTK's Kneser-Ney also divides by zero for histories that begin a sentence, and is quadratic.)

    Raises:
        InputError: no sentence, a reserved token, NLTK is missing, or there are more n-grams than it counts.
    """
    if not sentences:
        raise InputError("no text to train a language model on: give at least one sentence")
    if {BEGIN, END} & set(vocabulary):
        raise InputError(
            f"{BEGIN} and {END} mark a sentence's ends: no piece, and no word, of it may be one; take them out"
        )
    order = min(order, max(map(len, sentences)) + len((BEGIN, END)))
    return _as_backoff(_witten_bell(sentences, [*vocabulary, END], order))


def _as_backoff(model: Any) -> NGrams:
    """What an interpolated model of NLTK's gives every n-gram that it has counted."""
    ngrams = NGrams(model.order, {(): {BEGIN: IMPOSSIBLE}})
    ngrams.arcs[()] |= {token: math.log(model.score(token)) for token in model.counts.unigrams}
    histories = [history for n in range(2, model.order + 1) for history in model.counts[n]]
    for history in progress(histories, len(histories), "smoothing", "histories"):
        seen = model.context_counts(history)
        ngrams.arcs[history] = {token: math.log(model.score(token, history)) for token in seen}
        # p(w|h) = alpha(w,h) + gamma(h) p(w|h'), and alpha is 0 where w was not seen after h: gamma is the back-off.
        ngrams.backoffs[history] = math.log(model.estimator.alpha_gamma(END, history)[1])
    return ngrams


def _witten_bell(sentences: Sequence[Sequence[str]], counted: list[str], order: int) -> Any:
    try:
        from nltk.lm import NgramCounter, Vocabulary, WittenBellInterpolated
    except ModuleNotFoundError:
        raise not_installed("NLTK", "lm") from None
    try:
        counts = NgramCounter(_observed(sentences, counted, order))
    except ValueError as error:  # NLTK counts so many n-grams and no more
        raise InputError(f"too many n-grams for NLTK ({error}): lower order, or give less text") from error
    vocabulary = Vocabulary([BEGIN, *counted], unk_label=UNKNOWN)
    return WittenBellInterpolated(order, vocabulary=vocabulary, counter=counts)


def _observed(sentences: Sequence[Sequence[str]], counted: list[str], order: int) -> Iterator[list[Tokens]]:
    """The n-grams to count, for each sentence: those of all lengths that end in a token or in the end."""
    for sentence in progress(sentences, len(sentences), "counting", "sentences"):
        padded = (BEGIN, *sentence, END)
        yield [padded[i:j] for j in range(2, len(padded) + 1) for i in range(max(0, j - order), j)]
    yield [(token,) for token in counted]


def perplexity(ngrams: NGrams, sentences: Sequence[Sequence[str]]) -> float:
    """Perplexity per token, the end of each sentence counted as one."""
    shown = progress(sentences, len(sentences), "perplexity", "sentences")
    nats = [nats for sentence in shown for nats in _log_probs(ngrams, sentence)]
    return math.exp(-math.fsum(nats) / len(nats))


def _log_probs(ngrams: NGrams, sentence: Sequence[str]) -> Iterator[float]:
    """Nats of every token of a sentence, and of its end."""
    history = ngrams.start
    for token in (*sentence, END):
        yield ngrams.log_prob(token, history)
        history = ngrams.history((*history, token))


def ngram_scorer(ngrams: NGrams, pieces: Sequence[str], weight: float, device: torch.device) -> Tabulated[Tokens]:
    """Shallow fusion: weight · log p(token | tokens before it), and of `</s>` at the end.

    A warning counts the pieces that the model does not list. Raises InputError where it lists what is not a piece.
    """
    automaton = NGramAutomaton(ngrams, pieces)
    unlisted = list_unlisted(ngrams, pieces)
    if unlisted:
        warn_of_unlisted(ngrams, unlisted, len(pieces))
    return Tabulated(automaton, weight, device)


class NGramAutomaton:
    """The histories of a model as states over the ids of a tokenizer; see `asr.decode.scorer.Automaton`.

    A piece that the model does not list is its `<unk>`, in histories, too; without `<unk>`, it is impossible.
    """

    def __init__(self, ngrams: NGrams, pieces: Sequence[str]) -> None:
        """`pieces`: the symbol of every id. Raises InputError where the model has other tokens."""
        check_tokens(ngrams, pieces)
        self.ngrams = ngrams
        self.tokens = [piece if piece in ngrams.arcs[()] else UNKNOWN for piece in pieces]  # of every id
        self.columns: dict[str, list[int]] = {END: [len(pieces)]}
        for id_, token in enumerate(self.tokens):
            self.columns.setdefault(token, []).append(id_)
        self.start = ngrams.start
        self._unigrams = self._with_arcs(torch.full((len(pieces) + 1,), IMPOSSIBLE, dtype=torch.float64), ())

    def follow(self, state: Tokens, label: int) -> Tokens:
        """The longest history that the model knows, after one more label."""
        return self.ngrams.history((*state, self.tokens[label]))

    def weights(self, states: Sequence[Tokens]) -> tuple[Tensor, Tensor]:
        """log p of every label (n,V), and of the end (n,)."""
        rows = torch.stack([self._row(state) for state in states]).clamp(min=IMPOSSIBLE)
        return rows[:, :-1], rows[:, -1]

    def _row(self, history: Tokens) -> Tensor:
        """log p of every label, and last of the end (V+1,)."""
        if not history:
            return self._unigrams
        shorter = self._row(history[1:])
        return self._with_arcs(shorter + self.ngrams.backoffs.get(history, 0.0), history)

    def _with_arcs(self, row: Tensor, history: Tokens) -> Tensor:
        """`row`, overwritten by what is listed for a history."""
        arcs = self.ngrams.arcs.get(history, {}).items()
        columns = [(column, nats) for token, nats in arcs for column in self.columns.get(token, ())]  # none of `<s>`
        if columns:
            indices, values = zip(*columns)
            row[list(indices)] = torch.tensor(values, dtype=row.dtype)
        return row


def check_tokens(ngrams: NGrams, pieces: Sequence[str]) -> None:
    """Raise InputError where a model has tokens that are not pieces of a tokenizer; it need not have all of these."""
    for token in sorted({*ngrams.tokens} - {*pieces, END, UNKNOWN}):
        raise InputError(
            f"the n-gram model's token {token!r} is not a piece of the tokenizer: this is a model of another token "
            "set; train one with `asr lm tokenizer=...` of this very tokenizer, or, if it is of words, give it as "
            "decode.word_lm"
        )


def list_unlisted(ngrams: NGrams, pieces: Sequence[str]) -> list[str]:
    """The pieces that a model does not list; not blank and `<unk>`, which no text has."""
    return [piece for piece in pieces[UNKNOWN_ID + 1 :] if piece not in ngrams.arcs[()]]


def warn_of_unlisted(ngrams: NGrams, unlisted: Sequence[str], pieces: int) -> None:
    """Say what a model does with pieces that it does not list."""
    nats = ngrams.arcs[()].get(UNKNOWN)
    logging.getLogger("asr").warning(
        "not in the n-gram model: %d of the tokenizer's %d pieces (%s); they are %s",
        len(unlisted),
        pieces,
        ", ".join(map(repr, unlisted[:NAMED])) + ", …" * (len(unlisted) > NAMED),
        "impossible, since it has no <unk>" if nats is None else f"as likely as its <unk> ({math.exp(nats):.2g})",
    )
