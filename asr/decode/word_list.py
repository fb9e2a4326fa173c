"""The words that a search is to expect: others are less likely."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import torch

from asr.data.scripts import without_blanks
from asr.data.tokenizer import Tokenizer
from asr.decode.ngram import END, UNKNOWN, NGrams
from asr.decode.scorer import Tabulated
from asr.decode.word_ngram import Spoken, find_spelled, quoted, word_ngram_scorer
from asr.errors import InputError
from asr.files import read_lines


def read_word_list(path: Path, tokenizer: Tokenizer) -> set[str]:
    """The words of a file, one a line, that the tokenizer can spell; a warning counts those that it cannot.

    Raises InputError for a file that cannot be read, a line of several words, a word of a script that has no blanks
    between words, and where no word is left.
    """
    return find_spelled(set(_words(path)), path, tokenizer)


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


def word_list_scorer(
    words: Collection[str], pieces: Sequence[str], penalty: float, device: torch.device
) -> Tabulated[Spoken]:
    """`penalty` nats taken off for every word that is none of `words`; labels' symbols are `pieces`.

    A list is a model that gives each of its words 0 nats, and all others −1: they are given it as `<unk>` is.
    """
    unigrams = {**dict.fromkeys(words, 0.0), END: 0.0, UNKNOWN: -1.0}
    return word_ngram_scorer(NGrams(1, {(): unigrams}), pieces, penalty, device)
