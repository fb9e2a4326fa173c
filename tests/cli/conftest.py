"""A trained model that several modules use."""

from pathlib import Path

import pytest

from asr.cli.main import main


@pytest.fixture(scope="session")
def streaming_run(tiny_corpus, tmp_path_factory) -> Path:
    """A run whose encoder is causal and works in chunks of 4 frames, and that recognises some tones."""
    run = tmp_path_factory.mktemp("streaming") / "run"
    words = [f"run={run}", "model=debug", "data=debug", "train=debug", "optim=debug", "train.device=cpu"]
    words += [f"data.train_cuts=[{tiny_corpus.train}]", f"data.valid_cuts=[{tiny_corpus.dev}]"]
    words += [f"data.tokenizer={tiny_corpus.tokenizer}", "model.causal=true", "model.chunk_frames=[4]"]
    steps = ["optim.lr=1e-2", "train.steps=150", "train.validate_every=150", "train.save_every=150"]
    assert main(["train", *words, *steps, "model.left_context=8"]) == 0
    return run
