"""`asr lm`: train an n-gram language model of tokens on the transcripts of manifests, and on text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from asr.config import LmConfig
from asr.data.dataset import transcript
from asr.data.manifest import open_cuts
from asr.data.tokenizer import Tokenizer, load_tokenizer
from asr.decode.arpa import list_ngrams, write_arpa
from asr.decode.ngram import perplexity, train_ngrams
from asr.errors import InputError
from asr.files import read_lines, require_writable

Texts = Iterable[tuple[str, str]]  # where a sentence is from, and the sentence


def main(config: LmConfig) -> None:
    """Train, write an ARPA file and print perplexities. Raises InputError for input at fault."""
    if not (config.cuts or config.text):
        raise InputError("nothing to train on: give cuts=[...], text=FILE or both")
    tokenizer = load_tokenizer(config.tokenizer)
    sentences = [*tokenized(of_cuts(config.cuts), tokenizer), *tokenized(of_file(config.text), tokenizer)]
    held_out = list(tokenized(of_cuts(config.held_out), tokenizer))
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


def tokenized(texts: Texts, tokenizer: Tokenizer) -> Iterator[list[str]]:
    """Sentences as pieces, blank ones left out. Raises InputError for what the tokenizer cannot spell."""
    pieces = tokenizer.pieces
    for place, text in texts:
        if text.strip():
            try:
                yield [pieces[token] for token in tokenizer.encode(text)]
            except InputError as error:
                raise InputError(f"{place}: {error}") from error


def _size(sentences: list[list[str]]) -> str:
    return f"{len(sentences)} sentences, {sum(map(len, sentences))} tokens"
