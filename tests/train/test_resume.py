"""A training run that is killed ends as if it had not been."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "check_resume.py"


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_run_is_bit_identical(tiny_corpus, tmp_path, workers):
    spec = importlib.util.spec_from_file_location("check_resume", SCRIPT)
    check_resume = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check_resume)
    options = [
        "model=debug",
        "model.dropout=0.1",
        "data=debug",
        "data.max_seconds=4",
        "data.spec_augment.time_masks=1",
        f"data.workers={workers}",
        f"data.train_cuts=[{tiny_corpus.train}]",
        f"data.valid_cuts=[{tiny_corpus.dev}]",
        f"data.tokenizer={tiny_corpus.tokenizer}",
        "train.steps=60",
        "train.validate_every=5",
        "train.save_every=2",
        "train.device=cpu",
    ]
    report = check_resume.check(options, kills=3, every=5, seed=0, directory=tmp_path)
    assert report.startswith("3 kills (1 at random, 1 validating, 1 saving)")
