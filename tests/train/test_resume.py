"""A training run that is killed ends as if it had not been."""

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "check_resume.py"


def test_killed_run_is_bit_identical(tiny_corpus, tmp_path):
    """Whether data are loaded by the training itself, or by workers."""
    spec = importlib.util.spec_from_file_location("check_resume", SCRIPT)
    check_resume = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check_resume)
    options = [
        "model=debug",
        "model.dropout=0.1",
        "data=debug",
        "data.max_seconds=4",
        "data.spec_augment.time_masks=1",
        "data.workers=0",
        f"data.train_cuts=[{tiny_corpus.train}]",
        f"data.valid_cuts=[{tiny_corpus.dev}]",
        f"data.tokenizer={tiny_corpus.tokenizer}",
        "train.steps=40",
        "train.validate_every=5",
        "train.save_every=2",
        "train.device=cpu",
    ]
    varied = [["data.workers=2"], ["data.workers=0"]]
    report = check_resume.check(options, kills=4, every=5, seed=0, directory=tmp_path, varied=varied)
    assert report.startswith("4 kills (2 at random, 1 validating, 1 saving)")
