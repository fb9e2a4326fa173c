"""`asr tokenizer`: train a tokenizer on the transcripts of manifests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from asr.config import TokenizerConfig
from asr.data.dataset import transcript
from asr.data.manifest import open_cuts
from asr.data.tokenizer import Tokenizer, load_tokenizer, normalised, train_tokenizer
from asr.errors import InputError


def main(config: TokenizerConfig) -> None:
    """Train and save; utterances whose text cannot be are named and left out. Raises InputError for input at fault."""
    tokenizer = train_tokenizer(usable_texts(config.cuts), config.kind, config.vocab_size)  # type: ignore[arg-type]
    refuse_other(Path(config.output), tokenizer)
    tokenizer.save(config.output)
    print(f"{config.output}: {config.kind}, {tokenizer.vocab_size} tokens, blank and <unk> included")


def refuse_other(output: Path, tokenizer: Tokenizer) -> None:
    """Raise InputError where another tokenizer is there: trainings may use it, and models know its pieces."""
    try:
        before = load_tokenizer(output)
    except InputError:  # there is none, or none that is whole
        return
    if before.pieces != tokenizer.pieces:
        what = f"holds another tokenizer, of {before.vocab_size} tokens"
        raise InputError(f"output={output}: {what}; name another directory, or remove it if no training uses it")


def usable_texts(paths: list[str]) -> Iterator[str]:
    """The transcripts of manifests; those that have a reserved symbol are named instead."""
    for cut in open_cuts(paths):
        text = transcript(cut)
        try:
            yield normalised(text) if text else ""
        except InputError as error:
            print(f"skipped {cut.id}: {error}", file=sys.stderr)
