"""What an n-gram model is trained on: texts as the sentences of pieces or words that it predicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from asr.data.scripts import without_blanks
from asr.data.sources.text import Spelling
from asr.data.tokenizer import Tokenizer
from asr.decode.ngram import UNKNOWN
from asr.errors import InputError, naming

SHOWN = 20  # characters that are named
Texts = Iterable[tuple[str, str]]  # where a sentence is from, and the sentence
Sentences = Sequence[Sequence[str]]


def spelled(texts: Texts, tokenizer: Tokenizer, spelling: Spelling) -> list[tuple[str, str]]:
    """Texts as they are to be, blank ones left out. Raises InputError for all that the tokenizer cannot spell."""
    found = []
    for place, text in texts:
        if text.strip():
            with naming(place):
                found.append((place, spelling(text)))
    check_characters(found, set("".join(tokenizer.pieces[2:])))
    return found


def in_pieces(texts: Texts, tokenizer: Tokenizer) -> list[list[str]]:
    """Sentences as the tokenizer's pieces."""
    pieces = tokenizer.pieces
    return [[pieces[token] for token in tokenizer.encode(text)] for _, text in texts]


def in_words(texts: Texts) -> list[list[str]]:
    """Sentences as words. Raises InputError for a script that does not write blanks between them."""
    sentences = []
    for place, text in texts:
        if without_blanks(text):
            raise InputError(
                f"{place}: is of a script without blanks between words: give units=pieces, and no word_list"
            )
        sentences.append(text.split())
    return sentences


def words_of(sentences: Sentences) -> list[str]:
    """The words of sentences, each once, sorted."""
    return sorted({word for sentence in sentences for word in sentence})


def with_unknown(sentences: Sentences, vocabulary: Sequence[str]) -> tuple[list[list[str]], int]:
    """Sentences with `<unk>` in place of what is not in the vocabulary, and how often that is."""
    known = set(vocabulary)
    found = [[token if token in known else UNKNOWN for token in sentence] for sentence in sentences]
    return found, sum(token not in known for sentence in sentences for token in sentence)


@dataclass(frozen=True)
class Units:
    """What a model is of: its name in the singular, the default order, sentences in it, and all that is predicted."""

    name: str
    order: int
    divided: Callable[[Texts], list[list[str]]]
    vocabulary: Callable[[Sentences], list[str]]


def make_units(kind: str, tokenizer: Tokenizer) -> Units:
    """Those of `asr lm units=`: pieces of a tokenizer, or words."""
    if kind == "words":
        return Units("word", 3, in_words, lambda sentences: [*words_of(sentences), UNKNOWN])
    return Units("token", 6, partial(in_pieces, tokenizer=tokenizer), lambda _: tokenizer.pieces[1:])


def check_characters(texts: Texts, known: set[str]) -> None:
    """Raise InputError that names all characters that are not known: how often each comes, and where first."""
    counts, places = Counter[str](), dict[str, str]()
    for place, text in texts:
        for character in text.replace(" ", ""):
            if character not in known:
                counts[character] += 1
                places.setdefault(character, place)
    if counts:
        named = "; ".join(f"{one!r} {count} times, first in {places[one]}" for one, count in counts.most_common(SHOWN))
        more = f"; and {len(counts) - SHOWN} more" * (len(counts) > SHOWN)
        remedy = "normalise the text (case=, punctuation=remove), or train the tokenizer on text that has them"
        raise InputError(f"characters that are not in the tokenizer's vocabulary: {named}{more}: {remedy}")
