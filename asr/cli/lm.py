"""`asr lm`: train an n-gram language model of pieces or words on the transcripts of manifests, and on text."""

from __future__ import annotations

from pathlib import Path

from asr.config import LmConfig
from asr.data.dataset import transcript
from asr.data.manifest import open_cuts
from asr.data.sources.text import Spelling
from asr.data.tokenizer import load_tokenizer
from asr.decode.arpa import list_ngrams, write_arpa
from asr.decode.lm_text import Sentences, Texts, Units, in_words, make_units, spelled, with_unknown, words_of
from asr.decode.ngram import perplexity, train_ngrams
from asr.errors import InputError
from asr.files import read_lines, require_writable, write_atomically


def main(config: LmConfig) -> None:
    """Train, write an ARPA file and print perplexities. Raises InputError for input at fault."""
    if not (config.cuts or config.text):
        raise InputError("nothing to train on: give cuts=[...], text=FILE or both")
    if config.word_list and Path(config.word_list).absolute() == Path(config.output).absolute():
        raise InputError(f"word_list={config.word_list}: is the output; name another file")
    tokenizer = load_tokenizer(config.tokenizer)
    spelling = Spelling(config.case, config.punctuation)
    units = make_units(config.units, tokenizer)
    texts = spelled([*of_cuts(config.cuts), *of_file(config.text)], tokenizer, spelling)
    held_out = units.divided(spelled([*of_cuts(config.held_out)], tokenizer, spelling))
    sentences = units.divided(texts)
    vocabulary = units.vocabulary(sentences)
    listed = words_of(in_words(texts)) if config.word_list else []
    for path in filter(None, (config.output, config.word_list)):
        require_writable(Path(path))
    ngrams = train_ngrams(sentences, vocabulary, config.order or units.order)
    if config.word_list:  # before the model: where that is, so are the words
        write_atomically(Path(config.word_list), "".join(f"{word}\n" for word in listed).encode())
        print(f"{config.word_list}: {len(listed)} words")
    write_arpa(Path(config.output), ngrams)
    lengths = ", ".join(f"{len(grams)} {length}-grams" for length, grams in enumerate(list_ngrams(ngrams), 1))
    print(f"{config.output}: {lengths}")
    print(f"perplexity per {units.name}: {perplexity(ngrams, sentences):.3f} on the text ({_size(sentences, units)})")
    if held_out:
        known, lost = with_unknown(held_out, vocabulary)
        told = f", {lost} of them unlisted" * bool(lost)
        print(f"perplexity per {units.name}: {perplexity(ngrams, known):.3f} held out ({_size(known, units)}{told})")


def of_cuts(paths: list[str]) -> Texts:
    """The transcripts of manifests."""
    return ((f"utterance {cut.id}", transcript(cut)) for cut in open_cuts(paths)) if paths else ()


def of_file(path: str) -> Texts:
    """The lines of a text file."""
    return ((f"{path}: line {number}", line) for number, line in read_lines(Path(path))) if path else ()


def _size(sentences: Sentences, units: Units) -> str:
    return f"{len(sentences)} sentences, {sum(map(len, sentences))} {units.name}s"
