"""`asr tokenizer`: train a tokenizer on the transcripts of manifests."""

from __future__ import annotations

from asr.config import TokenizerConfig
from asr.data.dataset import transcript
from asr.data.manifest import open_cuts
from asr.data.tokenizer import train_tokenizer


def main(config: TokenizerConfig) -> None:
    """Train and save; raises InputError for input at fault."""
    cuts = open_cuts(config.cuts)
    texts = (transcript(cut) for cut in cuts)
    tokenizer = train_tokenizer(texts, config.kind, config.vocab_size)  # type: ignore[arg-type]
    tokenizer.save(config.output)
    print(f"{config.output}: {config.kind}, {tokenizer.vocab_size} tokens, blank and <unk> included")
