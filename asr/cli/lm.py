"""`asr lm`: train an n-gram language model of tokens on the transcripts of manifests, and on text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from asr.config import LmConfig
from asr.data.dataset import transcript
from asr.data.manifest import open_cuts
from asr.data.sources.text import Spelling
from asr.data.tokenizer import Tokenizer, load_tokenizer
from asr.decode.arpa import list_ngrams, write_arpa
from asr.decode.ngram import perplexity, train_ngrams
from asr.errors import InputError, naming
from asr.files import read_lines, require_writable

SHOWN = 20  # characters that are named
Texts = Iterable[tuple[str, str]]  # where a sentence is from, and the sentence


def main(config: LmConfig) -> None:
    """Train, write an ARPA file and print perplexities. Raises InputError for input at fault."""
    if not (config.cuts or config.text):
        raise InputError("nothing to train on: give cuts=[...], text=FILE or both")
    tokenizer = load_tokenizer(config.tokenizer)
    spelling = Spelling(config.case, config.punctuation)
    sentences = tokenized([*of_cuts(config.cuts), *of_file(config.text)], tokenizer, spelling)
    held_out = tokenized([*of_cuts(config.held_out)], tokenizer, spelling)
    require_writable(Path(config.output))
    ngrams = train_ngrams(sentences, tokenizer.pieces[1:], config.order)
    write_arpa(Path(config.output), ngrams)
    lengths = ", ".join(f"{len(grams)} {length}-grams" for length, grams in enumerate(list_ngrams(ngrams), 1))
    print(f"{config.output}: {lengths}")
    print(f"perplexity per token: {perplexity(ngrams, sentences):.3f} on the text ({_size(sentences)})")
    if held_out:
        print(f"perplexity per token: {perplexity(ngrams, held_out):.3f} held out ({_size(held_out)})")


def of_cuts(paths: list[str]) -> Texts:
    """The transcripts of manifests."""
    return ((f"utterance {cut.id}", transcript(cut)) for cut in open_cuts(paths)) if paths else ()


def of_file(path: str) -> Texts:
    """The lines of a text file."""
    return ((f"{path}: line {number}", line) for number, line in read_lines(Path(path))) if path else ()


def tokenized(texts: Texts, tokenizer: Tokenizer, spelling: Spelling) -> list[list[str]]:
    """Sentences as pieces, blank ones left out. Raises InputError for what the tokenizer cannot spell: all of it."""
    spelled = []
    for place, text in texts:
        if text.strip():
            with naming(place):
                spelled.append((place, spelling(text)))
    check_characters(spelled, set("".join(tokenizer.pieces[2:])))
    pieces = tokenizer.pieces
    return [[pieces[token] for token in tokenizer.encode(text)] for _, text in spelled]


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


def _size(sentences: list[list[str]]) -> str:
    return f"{len(sentences)} sentences, {sum(map(len, sentences))} tokens"
