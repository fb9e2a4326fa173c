"""`asr preflight` predicts what training needs, tries it, and prints the options that keep to it."""

import re

import pytest

from asr.cli.main import main

LONGEST = 1.35  # seconds: some utterances are longer


def test_the_largest_batch_needs_what_was_predicted(tiny_corpus, tmp_path, capsys):
    words = [
        f"run={tmp_path / 'run'}",
        "model=debug",
        "data=debug",
        "loss=full",
        "train.device=cpu",
        f"data.train_cuts=[{tiny_corpus.train}]",
        f"data.valid_cuts=[{tiny_corpus.dev}]",
        f"data.tokenizer={tiny_corpus.tokenizer}",
    ]
    assert main(["preflight", *words, f"data.max_duration={LONGEST}"]) == 0
    out, err = capsys.readouterr()
    assert re.search(rf"^skipped train-\d\d: lasts 1.\d\d s, outside 0.1 to {LONGEST} s$", err, re.MULTILINE)
    predicted, measured = map(float, re.search(r"peak predicted (\d+) MB, measured (\d+) MB", out).groups())
    assert predicted == pytest.approx(measured, rel=0.15)
    assert not (tmp_path / "run").exists()
    (options,) = re.findall(r"(data.max_memory_mb=\d+) (data.memory_weights=\S+)", out)
    assert main(["train", *words, *options, "train=debug", "optim=debug", "train.steps=2"]) == 0
